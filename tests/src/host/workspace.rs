// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where things are in this checkout.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::command;

/// The checkout's top folder.
pub fn root() -> &'static Path {
    // The crate is the folder `tests` of the workspace, so its parent is the top.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Results and logs of the lab: reports, consoles, crash records.
pub fn results() -> PathBuf {
    target().join("lab")
}

/// The files of the store, one for each run of the lab.
pub fn runs() -> PathBuf {
    results().join("runs")
}

/// The checkout's commit, with `+` where files differ from it.
pub fn revision() -> String {
    let git = |words: &[&str]| command("git").args(words).dir(root()).read();
    match git(&["rev-parse", "--short", "HEAD"]) {
        Ok(commit) => {
            let changed = git(&["status", "--porcelain"]).is_ok_and(|status| !status.trim().is_empty());
            format!("{}{}", commit.trim(), if changed { "+" } else { "" })
        }
        // Sources without a history are sources too.
        Err(_) => "unknown".to_owned(),
    }
}

/// A directory for one machine of this process: its console, its disks, what it shares with the host.
pub fn machine_directory(name: &str) -> PathBuf {
    results()
        .join("machines")
        .join(format!("{}-{name}", std::process::id()))
}

/// Removes what machines of processes that have ended left behind. Their consoles are kept until then, for a look.
pub fn sweep_machines() {
    for entry in fs::read_dir(results().join("machines")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().and_then(|number| number.parse::<u32>().ok());
        let ended = owner.is_some_and(|number| !Path::new("/proc").join(number.to_string()).exists());
        if ended {
            // Somebody else may sweep at the same time; what is left is swept next time.
            let _left = fs::remove_dir_all(entry.path());
        }
    }
}
