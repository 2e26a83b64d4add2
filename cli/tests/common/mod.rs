// SPDX-License-Identifier: MIT OR Apache-2.0

//! Running the program, and looking at what it made.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod host_tree;
pub(crate) mod pool_tree;

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the program in a directory; under another name if that is given.
pub(crate) fn run_as(name: Option<&str>, directory: &Path, words: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_vexfs-ublk"));
    let program = match name {
        None => program.to_owned(),
        Some(name) => {
            let link = directory.join(name);
            if !link.exists() {
                symlink(program, &link).unwrap();
            }
            link
        }
    };
    Command::new(program)
        .current_dir(directory)
        .args(words)
        .output()
        .unwrap()
}

/// What a call that must succeed prints.
pub(crate) fn ok(directory: &Path, words: &[&str]) -> String {
    let output = run_as(None, directory, words);
    assert!(
        output.status.success(),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The one line that a call that must fail says.
pub(crate) fn fails(directory: &Path, words: &[&str]) -> String {
    let output = run_as(None, directory, words);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{words:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// A line of shell, with the program in its path under all its names; it must succeed.
pub(crate) fn shell(directory: &Path, line: &str) -> String {
    let output = shell_output(directory, line);
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same, however it ends.
pub(crate) fn shell_output(directory: &Path, line: &str) -> Output {
    let names = directory.join(".bin");
    if !names.exists() {
        std::fs::create_dir(&names).unwrap();
        for name in ["vexfs-ublk", "mkfs.vexfs", "fsck.vexfs"] {
            symlink(env!("CARGO_BIN_EXE_vexfs-ublk"), names.join(name)).unwrap();
        }
    }
    let path = format!("{}:{}", names.display(), std::env::var("PATH").unwrap());
    Command::new("bash")
        .args(["-o", "pipefail", "-c", line])
        .env("PATH", path)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs the program with bytes on its standard input.
pub(crate) fn with_input(directory: &Path, words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vexfs-ublk"))
        .current_dir(directory)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Whether a program is there; a test that needs it says so and ends.
pub(crate) fn has(program: &str) -> bool {
    let there = Command::new("which")
        .arg(program)
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("SKIP: {program} is not installed");
    }
    there
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
