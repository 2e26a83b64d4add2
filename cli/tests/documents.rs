// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands of README and OPERATIONS that need no device and no kernel module: they print what the documents show.
//! Those with the prompt `#` are for a machine that has the packages.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use std::fs;
use std::path::Path;

use common::shell_output;
use lab::transcript::{Prompt, judge, script, steps};
use tempfile::TempDir;

/// Programs whose calls are examples, which have a prompt, and no mere text.
const PROGRAMS: [&str; 12] = [
    "vexfs-ublk",
    "vexfs-ublkd",
    "mkfs.vexfs",
    "fsck.vexfs",
    "mount",
    "umount",
    "systemctl",
    "curl",
    "modprobe",
    "insmod",
    "dsmild",
    "dsmilctl",
];

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

/// What the examples work on.
fn prepare(directory: &Path) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    fs::create_dir(directory.join("docs")).unwrap();
    for entry in fs::read_dir(docs).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), directory.join("docs").join(entry.file_name())).unwrap();
    }
    fs::create_dir(directory.join("photos")).unwrap();
    fs::write(directory.join("photos/a.jpg"), vec![0xd8; 300_000]).unwrap();
    fs::write(directory.join("notes.txt"), "buy milk\n").unwrap();
}

fn says_what_happens(name: &str) {
    let text = document(name);
    let (all, others) = steps(&text);
    let stray = |code: &str| {
        code.split_whitespace()
            .next()
            .is_some_and(|word| PROGRAMS.contains(&word))
    };
    for (line, code) in others {
        assert!(!stray(code), "{name}:{line}: an example without a prompt: {code}");
    }
    let ours: Vec<_> = all.into_iter().filter(|step| step.prompt == Prompt::Anybody).collect();
    assert!(ours.len() > 5, "{name} has {} examples", ours.len());
    let directory = TempDir::new().unwrap();
    prepare(directory.path());
    let output = shell_output(directory.path(), &script(&ours));
    let wrong = judge(&ours, &String::from_utf8_lossy(&output.stdout));
    assert!(wrong.is_empty(), "{name}\n{}", wrong.join("\n"));
}

#[test]
fn what_readme_shows_is_what_happens() {
    says_what_happens("README.md");
}

#[test]
fn what_operations_shows_is_what_happens() {
    says_what_happens("docs/OPERATIONS.md");
}
