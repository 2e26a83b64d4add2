// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounts a pool with nothing but the library: `mount POOL DIR [OPTIONS]`. Serves in the foreground and prints `ready` once
//! the mount answers.

use std::path::Path;
use std::process::ExitCode;

use vexfs_fuse::daemon::mount_here;
use vexfs_fuse::options::Options;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (Some(pool), Some(directory)) = (words.first(), words.get(1)) else {
        eprintln!("usage: mount POOL DIR [OPTIONS]");
        return ExitCode::from(2);
    };
    let mut options = Options::new();
    let list = words.get(2).map_or("", String::as_str);
    let mounted = options
        .apply(list, false)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            mount_here(Path::new(pool), Path::new(directory), options, || println!("ready"))
                .map_err(|error| error.to_string())
        });
    match mounted {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}
