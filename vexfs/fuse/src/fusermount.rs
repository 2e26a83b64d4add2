// SPDX-License-Identifier: MIT OR Apache-2.0

//! `fusermount3`, which mounts and unmounts for users who may not do so themselves.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::guardian::{self, Task};
use crate::options::Audience;

const PROGRAM: &str = "fusermount3";

fn not_there(error: &std::io::Error) -> String {
    format!("only root may mount without {PROGRAM} ({error}); install the package fuse3, or mount as root")
}

/// Mounts; returns the device.
pub(crate) fn mount(task: &Task) -> Result<OwnedFd, String> {
    let (mine, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    let pool = task.pool.to_string_lossy().replace('\\', "\\\\").replace(',', "\\,");
    let mut words = vec![format!("fsname={pool}"), "subtype=vexfs,default_permissions".into()];
    if task.options.audience != Audience::Owner {
        words.push("allow_other".into());
    }
    words.extend(task.options.flag_words().into_iter().map(String::from));
    // The program sends the device over the descriptor that this variable names: here its standard input.
    let child = Command::new(PROGRAM)
        .args(["-o", &words.join(","), "--"])
        .arg(&task.directory)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_there(&error))?;
    let device = guardian::receive_device(&OwnedFd::from(mine));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match device {
        Ok(Some(device)) if output.status.success() => Ok(device),
        _ => Err(complaint(&output.stderr)),
    }
}

/// Unmounts; `lazily`: whoever uses it.
pub(crate) fn unmount(directory: &Path, lazily: bool) -> Result<(), String> {
    let mut command = Command::new(PROGRAM);
    command.arg("-u").args(lazily.then_some("-z")).arg("--").arg(directory);
    let output = command.output().map_err(|error| not_there(&error))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(complaint(&output.stderr))
    }
}

/// What the program said, as one line.
fn complaint(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().find(|line| !line.trim().is_empty());
    line.map_or_else(
        || format!("{PROGRAM} failed without a word"),
        |line| line.trim().to_owned(),
    )
}
