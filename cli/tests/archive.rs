// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pools as tar archives: back into a pool, exchanged with other programs, and from hostile hands.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use std::fs;
use std::path::Path;

use common::{fails, has, host_tree, is_root, ok, pool_tree, shell, shell_output, with_input};
use tempfile::TempDir;

/// Options with which GNU tar keeps everything.
const EVERYTHING: &str = "--acls --xattrs --xattrs-include='*' --numeric-owner";

fn compare_pools(one: &Path, other: &Path, seed: u64) {
    let (mut before, mut after) = (pool_tree::tree(one, "/"), pool_tree::tree(other, "/"));
    // A pool's own root is made with the pool.
    let born = before[&Vec::new()].born;
    after.get_mut(&Vec::new()).unwrap().born = born;
    assert!(before.keys().eq(after.keys()), "seed {seed}: other names");
    while let (Some((path, before)), Some((_, after))) = (before.pop_first(), after.pop_first()) {
        let same = before == after;
        let path = String::from_utf8_lossy(&path).into_owned();
        assert!(same, "seed {seed}, {path}:\n{:?}\n{:?}", brief(before), brief(after));
    }
}

/// Without the bytes, which nobody would read.
fn brief(mut entry: pool_tree::Entry) -> pool_tree::Entry {
    entry.content.truncate(16);
    for (_, value) in &mut entry.attributes {
        value.truncate(16);
    }
    entry
}

#[test]
fn a_pool_comes_out_of_an_archive_as_it_went_in() {
    for seed in 0..4 {
        let directory = TempDir::new().unwrap();
        let here = directory.path();
        ok(here, &["mkfs", "one", "--size", "64MiB"]);
        ok(here, &["mkfs", "other", "--size", "64MiB"]);
        pool_tree::fill(&here.join("one"), seed, 100);
        ok(here, &["export", "one", "a.tar"]);
        ok(here, &["import", "a.tar", "other"]);
        compare_pools(&here.join("one"), &here.join("other"), seed);
        let spaces = pool_tree::spaces(&here.join("other"));
        assert_eq!(
            spaces,
            pool_tree::spaces(&here.join("one")),
            "also those without vectors"
        );
        ok(here, &["check", "other"]);
        // Members that come twice count as they come last.
        let mut twice = fs::read(here.join("a.tar")).unwrap();
        let end = twice
            .chunks(512)
            .rposition(|block| block.iter().any(|&byte| byte != 0))
            .unwrap();
        let whole = twice.clone();
        twice.truncate((end + 1) * 512);
        twice.extend(whole);
        fs::write(here.join("twice.tar"), twice).unwrap();
        ok(here, &["mkfs", "third", "--size", "64MiB"]);
        ok(here, &["import", "twice.tar", "third"]);
        compare_pools(&here.join("one"), &here.join("third"), seed);
        // The same again gives the same bytes, and so does the copy.
        ok(here, &["export", "one", "again.tar"]);
        ok(here, &["export", "other", "copy.tar"]);
        let read = |name| fs::read(here.join(name)).unwrap();
        assert!(read("a.tar") == read("again.tar"), "seed {seed}");
        // Only the root of the other pool was born at another time.
        assert_eq!(read("a.tar").len(), read("copy.tar").len(), "seed {seed}");
    }
}

#[test]
fn a_pool_is_copied_into_another_one_as_it_is() {
    for seed in 100..102 {
        let directory = TempDir::new().unwrap();
        let here = directory.path();
        ok(here, &["mkfs", "one", "--size", "64MiB"]);
        ok(here, &["mkfs", "other", "--size", "64MiB"]);
        ok(here, &["mkfs", "third", "--size", "64MiB"]);
        pool_tree::fill(&here.join("one"), seed, 80);
        ok(here, &["export", "one", "a.tar"]);
        ok(here, &["import", "a.tar", "other:/tree"]);
        ok(here, &["cp", "-a", "other:/tree", "third:/"]);
        let (before, after) = (
            pool_tree::tree(&here.join("other"), "/tree"),
            pool_tree::tree(&here.join("third"), "/tree"),
        );
        assert!(before == after, "seed {seed}");
    }
}

#[test]
fn gnu_tar_and_import_agree() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let source = here.join("source");
    fs::create_dir(&source).unwrap();
    host_tree::make(&source);
    let before = host_tree::tree(&source);
    let formats = [
        "--format=posix --sparse",
        "--format=gnu --sparse",
        "--format=posix --sparse --sparse-version=0.1",
        "--format=posix --sparse --sparse-version=0.0",
    ];
    for (index, options) in formats.into_iter().enumerate() {
        // The older formats know no attributes and no parts of seconds: what they keep is compared by content.
        let pool = format!("pool{index}");
        let whole = index == 0;
        let keep = if whole { EVERYTHING } else { "--numeric-owner" };
        ok(here, &["mkfs", &pool, "--size", "64MiB"]);
        shell(
            here,
            &format!("tar --create {options} {keep} -C source . | vexfs-ublk import {pool}:/in"),
        );
        ok(here, &["check", &pool]);
        let out = format!("out-{pool}");
        ok(here, &["cp", "-a", &format!("{pool}:/in"), &out]);
        let after = host_tree::tree(&here.join(&out));
        if whole {
            assert_trees(&before, &after);
        } else {
            shell(
                here,
                &format!("diff -r --no-dereference -x fifo -x null -x disk source {out}"),
            );
        }
    }
}

#[test]
fn gnu_tar_reads_what_export_writes() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let source = here.join("source");
    fs::create_dir(&source).unwrap();
    host_tree::make(&source);
    let before = host_tree::tree(&source);
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    ok(here, &["cp", "-a", "source", "pool:/"]);
    fs::create_dir(here.join("out")).unwrap();
    let output = shell_output(
        here,
        &format!("vexfs-ublk export --portable pool:/source | tar --extract -p {EVERYTHING} -C out"),
    );
    assert!(output.status.success(), "{output:?}");
    // Without the records of our own, tar has nothing to say but that times are strange.
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        assert!(line.contains("time stamp"), "{line}");
    }
    assert_trees(&before, &host_tree::tree(&here.join("out")));
    // And back, byte by byte what our own copy gives.
    ok(here, &["cp", "-a", "pool:/source", "copy"]);
    assert_trees(&before, &host_tree::tree(&here.join("copy")));
}

#[test]
fn bsdtar_and_export_and_import_agree() {
    if !has("bsdtar") {
        return;
    }
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let source = here.join("source");
    fs::create_dir(&source).unwrap();
    host_tree::make(&source);
    let before = host_tree::tree(&source);
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    ok(here, &["cp", "-a", "source", "pool:/"]);
    for folder in ["out", "back"] {
        fs::create_dir(here.join(folder)).unwrap();
    }
    shell(
        here,
        "vexfs-ublk export pool:/source | LC_ALL=C.UTF-8 bsdtar -x -p --acls --xattrs --numeric-owner -f - -C out",
    );
    let after = host_tree::tree(&here.join("out"));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    shell(here, "diff -r --no-dereference -x fifo -x null -x disk source out");
    let archive = "LC_ALL=C.UTF-8 bsdtar -c --format=pax --acls --xattrs --numeric-owner -f - -C source .";
    shell(here, &format!("{archive} | vexfs-ublk import - pool:/back"));
    shell(here, "vexfs-ublk cp -a pool:/back copy");
    // bsdtar writes a time of -4.75 s as -5.25 s.
    shell(here, "touch -h -r source/none copy/none");
    assert_trees(&before, &host_tree::tree(&here.join("copy")));
}

fn assert_trees<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    before: &std::collections::BTreeMap<K, V>,
    after: &std::collections::BTreeMap<K, V>,
) {
    assert!(
        before.keys().eq(after.keys()),
        "{:?}\n{:?}",
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>()
    );
    for (path, one) in before {
        let mut shown = [format!("{one:?}"), format!("{:?}", after[path])];
        if *one != after[path] {
            for text in &mut shown {
                text.truncate(1500);
            }
            panic!("{path:?}:\n{}\n{}", shown[0], shown[1]);
        }
    }
}

/// Name, type and target of a member.
type Named<'a> = (&'a str, u8, &'a str);

/// An archive of empty files, links and directories.
fn archive(members: &[Named<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, target) in members {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_cksum();
        bytes.extend(header.as_bytes());
    }
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn nothing_outside_the_target_is_made_or_linked_to() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "32MiB"]);
    fs::write(here.join("secret"), "secret").unwrap();
    ok(here, &["cp", "secret", "pool:/"]);
    ok(here, &["mkdir", "pool:/in"]);
    let before = pool_tree::tree(&here.join("pool"), "/secret");
    let refused: [(&[Named<'_>], &str); 8] = [
        (&[("../out", b'0', "")], "leads out"),
        (&[("a/../../out", b'0', "")], "leads out"),
        (&[("/a/..", b'5', "")], "leads out"),
        (&[("l", b'2', "/"), ("l/secret", b'0', "")], "no directory"),
        (&[("h", b'1', "../secret")], "leads out"),
        (&[("h", b'1', "/secret")], "no such file"),
        (&[("l", b'2', ".."), ("h", b'1', "l/secret")], "no directory"),
        (&[("d/", b'5', ""), ("h", b'1', "d")], "is a directory"),
    ];
    for (members, text) in refused {
        let output = with_input(here, &["import", "pool:/in"], &archive(members));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{members:?}");
        assert!(told.contains(text) && told.lines().count() == 1, "{members:?}: {told}");
        assert!(told.contains("stopped at byte"), "{told}");
    }
    // An absolute name lands below the target.
    let output = with_input(here, &["import", "pool:/in"], &archive(&[("/etc/deep/x", b'0', "")]));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ok(here, &["ls", "pool:/in/etc/deep"]), "x\n");
    assert_eq!(ok(here, &["ls", "pool:/"]), "in\nsecret\n");
    assert!(before == pool_tree::tree(&here.join("pool"), "/secret"));
    ok(here, &["check", "pool"]);
}

#[test]
fn an_import_that_stops_says_where_and_can_be_done_again() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "small", "--size", "16MiB"]);
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    fs::create_dir(here.join("d")).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(here.join("d").join(name), vec![1; 6 << 20]).unwrap();
    }
    ok(here, &["cp", "-r", "d", "pool:/"]);
    ok(here, &["export", "pool:/d", "a.tar"]);
    let told = fails(here, &["import", "a.tar", "small"]);
    assert!(
        told.contains("no space left") && told.contains("after 3 members"),
        "{told}"
    );
    assert!(told.contains("./c") && told.contains("grow"), "{told}");
    ok(here, &["check", "small"]);
    ok(here, &["grow", "small", "64MiB"]);
    ok(here, &["import", "a.tar", "small"]);
    assert_eq!(ok(here, &["cat", "small:/c"]).len(), 6 << 20);
    // Cut short, in the middle of the second file.
    let archive = fs::read(here.join("a.tar")).unwrap();
    fs::write(here.join("cut.tar"), &archive[..9 << 20]).unwrap();
    let told = fails(here, &["import", "cut.tar", "small:/cut"]);
    assert!(told.contains("cut short") && told.contains("./b"), "{told}");
    // A file in place of a directory, and the other way round, is told.
    assert!(fails(here, &["import", "cut.tar", "small:/c"]).contains("not a directory"));
}

#[test]
fn an_archive_appears_when_it_is_complete() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "32MiB"]);
    fs::write(here.join("file"), vec![5; 100_000]).unwrap();
    ok(here, &["cp", "file", "pool:/"]);
    fs::write(here.join("a.tar"), "the old one").unwrap();
    // A flipped bit in the contents stops the export.
    let pool = here.join("pool");
    let mut bytes = fs::read(&pool).unwrap();
    let at = bytes
        .chunks(4096)
        .position(|block| block.iter().all(|&byte| byte == 5))
        .unwrap();
    bytes[at * 4096] = 4;
    fs::write(&pool, bytes).unwrap();
    assert!(fails(here, &["export", "pool", "a.tar"]).contains("./file"));
    assert_eq!(fs::read_to_string(here.join("a.tar")).unwrap(), "the old one");
    let left = fs::read_dir(here).unwrap().count();
    assert_eq!(left, 3, "a draft stays");
    // A device is written to, not replaced.
    ok(here, &["rm", "pool:/file"]);
    ok(here, &["export", "pool", "/dev/null"]);
    assert!(fs::metadata("/dev/null").unwrap().len() == 0 && !Path::new("/dev/null").is_file());
    assert!(fails(here, &["--json", "export", "pool"]).contains("name a file"));
}

#[test]
fn files_of_more_than_8_gib_pass_through() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    fs::File::create(here.join("huge")).unwrap().set_len(9 << 30).unwrap();
    // Given by another program with all its zeros, of which only the beginning is sent.
    let output = shell_output(
        here,
        "tar --create --format=posix huge | head -c 3000000 | vexfs-ublk import pool; exit ${PIPESTATUS[2]}",
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("cut short"), "{told}");
    shell(
        here,
        "tar --create --format=posix --sparse huge | vexfs-ublk import pool",
    );
    assert!(ok(here, &["ls", "-l", "pool:/"]).contains("9663676416"));
    let listing = shell(here, "vexfs-ublk export --portable pool:/huge | tar --list --verbose");
    assert!(listing.contains("9663676416"), "{listing}");
}

#[test]
fn vectors_that_do_not_fit_are_told() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let space = ["space", "create", "pool", "s", "--metric", "l2", "--dimensions"];
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    ok(here, &[&space[..], &["4096"]].concat());
    ok(here, &["mkdir", "pool:/a"]);
    let row = format!("[{}]", vec!["1"; 4096].join(","));
    let line = |rows: usize| {
        format!(
            "{{\"path\": \"/a\", \"vectors\": [{}]}}",
            vec![row.as_str(); rows].join(",")
        )
    };
    fs::write(here.join("lines"), line(5)).unwrap();
    ok(here, &["embed", "pool", "--space", "s", "--jsonl", "lines"]);
    // Five vectors of 16 KiB: no attribute holds them.
    let told = fails(here, &["export", "--portable", "pool", "a.tar"]);
    assert!(told.contains("vectors in the space s of ./a/"), "{told}");
    let told = fails(here, &["export", "--image", "pool", "a.sealed"]);
    assert!(told.contains("vectors") && told.contains("of 1 files"), "{told}");
    ok(here, &["check", "a.sealed"]);
    let told = fails(here, &["cp", "-a", "pool:/a", "out"]);
    assert!(told.contains("vectors in the space s of out"), "{told}");
    ok(here, &["export", "pool", "a.tar"]);

    // A space of that name, of something else.
    ok(here, &["mkfs", "other", "--size", "64MiB"]);
    ok(here, &["space", "create", "other", "s", "--dimensions", "2"]);
    for words in [
        ["import", "a.tar", "other"].as_slice(),
        &["cp", "-a", "pool:/a", "other:/"],
    ] {
        let told = fails(here, words);
        assert!(
            told.contains("2 × f32 compared by cosine, and here 4096 × f32 compared by l2"),
            "{told}"
        );
    }
    // Made elsewhere, as attributes.
    ok(here, &["mkfs", "third", "--size", "64MiB"]);
    fs::write(here.join("lines"), line(1).replace('}', ", \"whole\": true}")).unwrap();
    ok(here, &["embed", "pool", "--space", "s", "--jsonl", "lines"]);
    ok(here, &["export", "--portable", "pool", "a.tar"]);
    let told = fails(here, &["import", "a.tar", "third"]);
    assert!(
        told.contains("there is no space s") && told.contains("space create"),
        "{told}"
    );
    ok(
        here,
        &[
            "space",
            "create",
            "third",
            "s",
            "--metric",
            "l2",
            "--dimensions",
            "4096",
        ],
    );
    ok(here, &["import", "a.tar", "third"]);
    assert!(ok(here, &["space", "list", "third"]).contains("1 vectors"));
}

#[test]
fn a_small_user_can_unpack_what_root_packed() {
    if !is_root() {
        eprintln!("SKIP: only root can become another user");
        return;
    }
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "32MiB"]);
    fs::write(here.join("file"), "x").unwrap();
    ok(here, &["cp", "-a", "file", "pool:/"]);
    let told = shell(
        here,
        "chmod 777 . && chmod 644 pool && setpriv --reuid 65534 --clear-groups vexfs-ublk cp -r pool:/file out && stat -c %u out",
    );
    assert_eq!(told, "65534\n");
}
