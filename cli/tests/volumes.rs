// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes and devices as far as a machine without the ublk driver goes. The rest is in `tests/vm`.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{fails, ok};
use serde_json::Value;
use tempfile::TempDir;

fn json(directory: &Path, words: &[&str]) -> Value {
    let words = [words, &["--json"]].concat();
    serde_json::from_str(&ok(directory, &words)).unwrap()
}

#[test]
fn volumes_of_a_pool_that_nobody_serves_are_made_listed_resized_and_removed() {
    let scratch = TempDir::new().unwrap();
    let at = scratch.path();
    ok(at, &["mkfs", "pool", "--size", "64MiB"]);
    assert_eq!(
        json(at, &["volume", "list", "pool"])["volumes"],
        Value::Array(Vec::new())
    );
    ok(at, &["volume", "create", "pool", "disk", "--size", "1GiB"]);
    ok(
        at,
        &["volume", "create", "pool", "/kept", "--size", "8MiB", "--preallocate"],
    );
    let list = json(at, &["volume", "list", "pool"]);
    assert_eq!(list["volumes"][0]["path"], "/volumes/disk");
    assert_eq!(list["volumes"][0]["bytes"], 1 << 30);
    assert_eq!(list["volumes"][1], Value::Null, "a file elsewhere is not listed");
    assert!(ok(at, &["stat", "pool:/kept"]).contains("8388608"));

    let text = fails(at, &["volume", "resize", "pool", "disk", "1MiB"]);
    assert!(text.contains("hint: add --force"), "{text}");
    ok(at, &["volume", "resize", "pool", "disk", "1MiB", "--force"]);
    ok(at, &["volume", "resize", "pool", "disk", "2MiB"]);
    for wrong in [
        &["volume", "create", "pool", "disk", "--size", "1MiB"][..],
        &["volume", "create", "pool", "odd", "--size", "1000"],
        &["volume", "create", "pool", "huge", "--size", "1GiB", "--preallocate"],
        &["volume", "rm", "pool", "nothing"],
        &["volume", "rm", "pool", "/volumes"],
    ] {
        fails(at, wrong);
    }
    ok(at, &["volume", "rm", "pool", "disk"]);
    ok(at, &["check", "pool"]);
}

#[test]
fn without_a_driver_nothing_is_made_and_nothing_is_left() {
    let daemon = Path::new(env!("CARGO_BIN_EXE_vexfs-ublk")).with_file_name("vexfs-ublkd");
    if Path::new("/dev/ublk-control").exists() || !daemon.exists() {
        eprintln!("SKIP: this machine has the driver, or the daemon is not built");
        return;
    }
    let scratch = TempDir::new().unwrap();
    let at = scratch.path();
    ok(at, &["mkfs", "pool", "--size", "64MiB"]);
    ok(at, &["volume", "create", "pool", "disk", "--size", "8MiB"]);
    let runtime = at.join("run");
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vexfs-ublk"));
        command.current_dir(at).env("VEXFS_RUNTIME_DIR", &runtime).args(words);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    for words in [
        &["add", "pool"][..],
        &["add", "pool", "--volume", "disk"],
        &["add", "mem"],
    ] {
        let (code, text) = run(words);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{words:?}: {text}");
        assert!(text.contains("modprobe ublk_drv"), "{words:?}: {text}");
    }
    assert_eq!(run(&["list"]), (Some(0), String::new()));
    assert_eq!(run(&["recover"]), (Some(0), String::new()));
    let (code, text) = run(&["del", "7"]);
    assert!(code == Some(1) && text.contains("modprobe"), "{text}");

    let left: Vec<_> = std::fs::read_dir(runtime.join("devices"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".lock"]);
    // The pool belongs to nobody, and is as clean as it was.
    assert_eq!(json(at, &["info", "pool"])["state"], "clean");
}
