// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands on pools that are not mounted, as a shell runs them.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::{fails, ok, run_as};
use tempfile::TempDir;

#[test]
fn a_tree_goes_into_a_pool_and_comes_out_as_it_was() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let tree = here.join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    fs::write(tree.join("small"), "small").unwrap();
    fs::write(tree.join("deep/large"), vec![7; 3_000_001]).unwrap();
    fs::write(tree.join("deep/er/empty"), "").unwrap();
    symlink("../small", tree.join("deep/link")).unwrap();
    fs::set_permissions(tree.join("small"), fs::Permissions::from_mode(0o640)).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 50 << 20).unwrap();
    ok(here, &["mkfs", "pool", "--size", "64MiB", "--label", "first"]);
    ok(here, &["cp", "-r", "tree", "pool:/"]);
    ok(here, &["snapshot", "pool:/tree", "pool:/before"]);
    ok(here, &["rm", "-r", "pool:/tree"]);
    ok(here, &["cp", "-r", "pool:/before", "out"]);
    for name in ["small", "deep/large", "deep/er/empty", "sparse"] {
        assert!(
            fs::read(tree.join(name)).unwrap() == fs::read(here.join("out").join(name)).unwrap(),
            "{name}"
        );
    }
    let (before, after) = (
        fs::metadata(tree.join("small")).unwrap(),
        fs::metadata(here.join("out/small")).unwrap(),
    );
    assert_eq!((before.mode(), before.mtime_nsec()), (after.mode(), after.mtime_nsec()));
    assert_eq!(
        fs::read_link(here.join("out/deep/link")).unwrap(),
        Path::new("../small")
    );
    assert!(
        fs::metadata(here.join("out/sparse")).unwrap().blocks() < 1000,
        "the hole was filled"
    );
    assert_eq!(ok(here, &["cat", "pool:/before/small"]), "small");
    assert_eq!(ok(here, &["ls", "pool:/before"]), "deep\nsmall\nsparse\n");
    assert!(ok(here, &["ls", "-l", "pool:/before/deep"]).contains("link -> ../small"));
    assert!(ok(here, &["stat", "pool:/before/sparse"]).contains("hole"));
    assert!(ok(here, &["check", "--scrub", "pool"]).contains("nothing is wrong"));
}

#[test]
fn a_pool_tells_about_itself_and_grows() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "16MiB", "-L", "one"]);
    assert_eq!(ok(here, &["label", "pool"]), "one\n");
    ok(here, &["label", "pool", "two"]);
    assert!(ok(here, &["--json", "info", "pool"]).contains("\"label\": \"two\""));
    assert!(ok(here, &["grow", "pool", "32MiB"]).contains("32MiB"));
    assert!(fails(here, &["grow", "pool", "16MiB"]).contains("cannot become smaller"));
    assert!(ok(here, &["info", "pool"]).contains("clean"));
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    fs::write(here.join("text"), "not a pool\n".repeat(10_000)).unwrap();
    assert!(fails(here, &["mkfs", "text", "--size", "16MiB"]).contains("--force"));
    assert!(fails(here, &["mkfs", "new"]).contains("needs a size"));
    assert!(fails(here, &["mkfs", "new", "--size", "1MiB"]).contains("16 MiB"));
    assert!(!here.join("new").exists());
    assert!(fails(here, &["info", "text"]).contains("not a VexFS pool"));
    assert!(fails(here, &["info", "missing"]).contains("No such file"));
    ok(here, &["mkfs", "pool", "--size", "16M"]);
    assert!(fails(here, &["mkfs", "pool"]).contains("--force"));
    assert!(fails(here, &["cat", "pool:/missing"]).contains("no such file"));
    assert!(fails(here, &["cat", "pool:/"]).contains("is a directory"));
    assert!(fails(here, &["cp", "text", "other"]).contains("POOL:/path"));
    ok(here, &["mkdir", "pool:/d"]);
    assert!(fails(here, &["rm", "pool:/d"]).contains("-r"));
    assert!(fails(here, &["mkdir", "pool:/d"]).contains("exists"));
    let wrong = run_as(None, here, &["mkfs", "--nonsense"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn damage_is_found_mended_and_told_in_the_codes_of_fsck() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let fsck = |words: &[&str]| run_as(Some("fsck.vexfs"), here, words).status.code();
    assert!(
        run_as(Some("mkfs.vexfs"), here, &["pool", "-s", "16MiB"])
            .status
            .success()
    );
    fs::write(here.join("file"), vec![5; 100_000]).unwrap();
    ok(here, &["cp", "file", "pool:/"]);
    assert_eq!(fsck(&["-a", "pool"]), Some(0));
    assert_eq!(fsck(&["-n", "-f", "pool"]), Some(0));
    assert_eq!(fsck(&["missing"]), Some(8));
    // A flipped bit in the contents is no matter of structure: only reading everything finds it.
    let pool = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(here.join("pool"))
        .unwrap();
    let bytes = fs::read(here.join("pool")).unwrap();
    let at = bytes
        .windows(4096)
        .position(|block| block.iter().all(|&byte| byte == 5))
        .unwrap();
    pool.write_all_at(&[4], at as u64 + 17).unwrap();
    assert_eq!(fsck(&["-n", "-f", "pool"]), Some(0));
    let found = run_as(None, here, &["check", "--scrub", "pool"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&found.stdout).contains("/file"),
        "the file is not named"
    );
    assert!(fails(here, &["cat", "pool:/file"]).contains("checksum"));
    // All copies of one superblock slot: the pool opens with the other, and mending writes them again.
    pool.write_all_at(&[0xff; 4096], 4096).unwrap();
    let code = fsck(&["-y", "-f", "pool"]);
    assert!(matches!(code, Some(0 | 1)), "{code:?}");
    assert_eq!(fsck(&["-n", "-f", "pool"]), Some(0));
}
