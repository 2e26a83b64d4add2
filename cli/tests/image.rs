// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sealed images from the command line. What is in one is compared with its pool by the engine's tests.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use std::fs;

use common::{fails, ok, pool_tree, run_as};
use tempfile::TempDir;

#[test]
fn a_pool_becomes_an_image_that_check_and_info_know() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "64MiB", "--label", "of the pool"]);
    pool_tree::fill(&here.join("pool"), 3, 150);
    // Files have more vectors in it than an attribute holds.
    ok(here, &["space", "drop", "pool", "wide"]);
    let told = ok(here, &["--json", "export", "--image", "pool", "one.sealed"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["bytes"], fs::metadata(here.join("one.sealed")).unwrap().len());
    assert_eq!(ok(here, &["check", "one.sealed"]), "nothing is wrong\n");
    let about: serde_json::Value = serde_json::from_str(&ok(here, &["--json", "info", "one.sealed"])).unwrap();
    assert_eq!(about["label"], "of the pool");
    assert_eq!(about["uuid"], told["uuid"]);
    assert_eq!(about["files"], told["inodes"]);
    assert_eq!(about["checksums"], true);

    // The same files, the same bytes; another label is another image.
    ok(here, &["export", "--image", "pool", "two.sealed"]);
    let one = fs::read(here.join("one.sealed")).unwrap();
    assert!(one == fs::read(here.join("two.sealed")).unwrap());
    ok(
        here,
        &[
            "export",
            "--image",
            "--no-checksums",
            "--label",
            "x",
            "pool",
            "two.sealed",
        ],
    );
    assert_eq!(ok(here, &["check", "two.sealed"]), "nothing is wrong\n");
    assert!(one != fs::read(here.join("two.sealed")).unwrap());
    let left: Vec<_> = fs::read_dir(here)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 3, "drafts stay behind: {left:?}");
}

#[test]
fn what_is_no_whole_image_is_said_to_be_none() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    fs::write(here.join("file"), vec![7; 100_000]).unwrap();
    ok(here, &["cp", "file", "pool:/file"]);
    let said = fails(here, &["export", "--image", "pool:/file", "i.sealed"]);
    assert!(said.contains("directory"), "{said}");
    let said = fails(here, &["export", "--image", "pool"]);
    assert!(said.contains("name one"), "{said}");
    assert!(!here.join("i.sealed").exists());

    ok(here, &["export", "--image", "pool", "i.sealed"]);
    let said = fails(here, &["check", "--repair", "i.sealed"]);
    assert!(said.contains("sealed image"), "{said}");
    let whole = fs::read(here.join("i.sealed")).unwrap();
    let mut damaged = whole.clone();
    damaged[5000] ^= 1;
    fs::write(here.join("i.sealed"), &damaged).unwrap();
    let output = run_as(None, here, &["check", "i.sealed"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("does not match its checksum"), "{said}");
    fs::write(here.join("i.sealed"), &whole[..whole.len() - 4096]).unwrap();
    let said = fails(here, &["check", "i.sealed"]);
    assert!(said.contains("lost its end"), "{said}");
    let said = fails(here, &["mount", "--fuse", "i.sealed", "."]);
    assert!(said.contains("sealed image"), "{said}");
}
