// SPDX-License-Identifier: MIT OR Apache-2.0

//! What holds for all commands: examples run, documents are as documented, pages are well-formed. And the small commands.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{fails, has, host_tree, ok, run_as, shell, shell_output, with_input};
use serde_json::Value;
use tempfile::TempDir;

/// What the examples of all help texts work on.
fn prepare(here: &Path) {
    fs::create_dir_all(here.join("photos")).unwrap();
    fs::create_dir_all(here.join("out")).unwrap();
    fs::write(here.join("photos/a.jpg"), vec![9; 20_000]).unwrap();
    fs::write(here.join("notes.txt"), "notes\n").unwrap();
    for pool in ["pool.img", "other.img"] {
        ok(here, &["mkfs", pool, "--size", "32MiB"]);
    }
    ok(here, &["cp", "-r", "photos", "pool.img:/"]);
    ok(here, &["cp", "notes.txt", "pool.img:/"]);
    ok(here, &["xattr", "set", "pool.img:/notes.txt", "user.comment", "good"]);
    for (space, dimensions) in [("notes", "384"), ("faces", "3")] {
        ok(
            here,
            &["space", "create", "pool.img", space, "--dimensions", dimensions],
        );
    }
    ok(here, &["export", "pool.img:/photos", "photos.tar"]);
    ok(here, &["export", "pool.img", "backup.tar"]);
    shell(here, "gzip --keep photos.tar");
}

/// The lines under "Examples:" of every help text.
fn examples() -> Vec<(String, String)> {
    let here = Path::new("/");
    let mut found = Vec::new();
    let mut take = |command: &str, help: &str| {
        let (_, lines) = help.split_once("Examples:\n").unwrap_or_default();
        for line in lines.lines() {
            found.push((command.to_owned(), line.trim().to_owned()));
        }
    };
    for name in commands() {
        take(&name, &ok(here, &[&name, "--help"]));
    }
    take("", &ok(here, &["--help"]));
    let directory = TempDir::new().unwrap();
    let help = run_as(Some("fsck.vexfs"), directory.path(), &["--help"]).stdout;
    take("fsck.vexfs", &String::from_utf8(help).unwrap());
    found
}

/// The names of all commands, as the help text lists them.
fn commands() -> Vec<String> {
    let help = ok(Path::new("/"), &["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let names = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn the_examples_of_every_help_text_do_what_they_show() {
    let template = TempDir::new().unwrap();
    prepare(template.path());
    let mut run = 0;
    for (command, line) in examples() {
        // What needs a device or a mount is only parsed, in the program's own tests; doctor's code depends on the machine.
        let device_commands = ["add", "del", "features", "handover", "recover"];
        if device_commands
            .iter()
            .any(|word| line.contains(&format!("vexfs-ublk {word}")))
        {
            continue;
        }
        if line.contains("/dev/") || line.contains("mount") || line.contains("/mnt") || line.contains("doctor") {
            continue;
        }
        let directory = TempDir::new().unwrap();
        let here = directory.path();
        shell(template.path(), &format!("cp -a --sparse=always . {}", here.display()));
        // These want something that is not there yet.
        if line.contains("mkfs") && !line.contains("--force") {
            fs::remove_file(here.join("pool.img")).unwrap();
        }
        if line.contains("volume resize") || line.contains("volume rm") {
            ok(here, &["volume", "create", "pool.img", "disk", "--size", "20GiB"]);
        }
        let output = shell_output(here, &line);
        assert!(
            output.status.success(),
            "{command}: {line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        run += 1;
    }
    assert!(run > 35, "only {run} examples ran");
}

#[test]
fn documents_have_the_members_that_are_documented() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    prepare(here);
    let documented = |command: &str| -> BTreeSet<String> {
        let text = include_str!("../../docs/OPERATIONS.md");
        let row = text.lines().find(|line| {
            let names = line.strip_prefix("| ").and_then(|line| line.split(" | ").next());
            names.is_some_and(|names| names.split(", ").any(|name| name == format!("`{command}`")))
        });
        let members = row.unwrap_or_else(|| panic!("{command} is not documented"));
        let members = members.split(" | ").nth(1).unwrap();
        let members = members.split(';').next().unwrap().trim_end_matches(" |");
        let mut names: BTreeSet<String> = members
            .split(", ")
            .filter_map(|name| name.trim().split('`').nth(1))
            .map(str::to_owned)
            .collect();
        names.insert("version".into());
        names
    };
    let calls: [(&str, &[&str]); 20] = [
        ("status", &["status"]),
        ("mkfs", &["mkfs", "new.img", "--size", "16MiB"]),
        ("info POOL", &["info", "pool.img"]),
        ("info POOL:/path", &["info", "pool.img:/photos"]),
        ("check", &["check", "pool.img"]),
        ("label", &["label", "pool.img", "x"]),
        ("grow", &["grow", "pool.img", "48MiB"]),
        ("ls", &["ls", "pool.img"]),
        ("stat", &["stat", "pool.img:/notes.txt"]),
        ("cat", &["cat", "pool.img:/notes.txt"]),
        ("cp", &["cp", "-r", "photos", "pool.img:/again"]),
        ("mv", &["mv", "pool.img:/again", "pool.img:/moved"]),
        ("ln", &["ln", "-s", "x", "pool.img:/link"]),
        ("mkdir", &["mkdir", "pool.img:/d"]),
        ("snapshot", &["snapshot", "pool.img:/photos", "pool.img:/copy"]),
        ("rm", &["rm", "-r", "pool.img:/copy"]),
        ("xattr list", &["xattr", "list", "pool.img:/notes.txt"]),
        ("xattr get", &["xattr", "get", "pool.img:/notes.txt", "user.comment"]),
        ("export", &["export", "pool.img", "x.tar"]),
        ("import", &["import", "x.tar", "pool.img:/back"]),
    ];
    for (command, words) in calls {
        let printed = ok(here, &[&["--json"], words].concat());
        let document: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(document["version"], 1, "{command}");
        let members: BTreeSet<String> = document.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, documented(command), "{command}");
    }
    for words in [
        &["xattr", "set", "pool.img:/notes.txt", "user.x", "1"][..],
        &["xattr", "rm", "pool.img:/notes.txt", "user.x"],
    ] {
        let document: Value = serde_json::from_str(&ok(here, &[&["--json"], words].concat())).unwrap();
        let members: BTreeSet<String> = document.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, documented("xattr set"));
    }
    let output = run_as(None, here, &["doctor", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mountable = document["mountable"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!mountable)));
    assert!(document["parts"].as_array().unwrap().len() > 10);
    // Every command that lists itself in the help has a row.
    for name in commands() {
        let text = include_str!("../../docs/OPERATIONS.md");
        assert!(text.contains(&format!("`{name}")), "{name} has no row");
    }
}

#[test]
fn failures_are_documents_too_and_keep_their_codes() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "16MiB"]);
    for (words, code, message, hint) in [
        (&["--json", "cat", "pool:/missing"][..], 1, "no such file", "ls"),
        (&["--json", "info", "missing"], 1, "No such file", "check the path"),
        (&["--json", "check", "missing"], 1, "No such file", "check the path"),
        (&["--json", "mkfs", "pool"], 1, "data already", "--force"),
        (&["--json", "exprt", "pool"], 2, "unrecognized", "export"),
        (&["ls", "--json"], 2, "required", "--help"),
    ] {
        let output = run_as(None, here, words);
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        let document: Value = serde_json::from_slice(&output.stderr).unwrap();
        let error = &document["error"];
        assert_eq!(error["code"], code, "{words:?}");
        assert!(
            error["message"].as_str().unwrap().contains(message),
            "{words:?}: {error}"
        );
        assert!(error["hint"].as_str().unwrap().contains(hint), "{words:?}: {error}");
    }
    let output = run_as(None, here, &["exprt"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("export"),
        "no suggestion"
    );
    assert!(fails(here, &["info", "/dev/null"]).starts_with("vexfs-ublk: "));
    assert_eq!(
        run_as(Some("fsck.vexfs"), here, &["--nonsense"]).status.code(),
        Some(16)
    );
    assert_eq!(run_as(Some("fsck.vexfs"), here, &["--help"]).status.code(), Some(0));
}

#[test]
fn pages_and_completions_of_every_command_are_well_formed() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["generate", "man", "--out", "man8"]);
    ok(here, &["generate", "completions", "--out", "shells"]);
    for name in commands() {
        let page = fs::read_to_string(here.join(format!("man8/vexfs-ublk-{name}.8"))).unwrap();
        for part in [".SH NAME", "WHAT IT CHANGES", "EXIT STATUS", ".SH EXAMPLES", "SEE ALSO"] {
            assert!(page.contains(part), "{name} lacks {part}");
        }
        let bash = fs::read_to_string(here.join("shells/bash/vexfs-ublk.bash")).unwrap();
        assert!(
            bash.contains(&format!("vexfs__ublk__{name}")) || bash.contains(&name),
            "{name}"
        );
    }
    assert!(here.join("man8/vexfs-ublk-clone.8").exists());
    let fsck = fs::read_to_string(here.join("man8/fsck.vexfs.8")).unwrap();
    assert!(fsck.contains("errors were mended"));
    if has("mandoc") {
        shell(here, "mandoc -Tlint -Wwarning man8/*.8");
    }
    if has("man") {
        let said = shell(
            here,
            "for page in man8/*.8; do LC_ALL=C.UTF-8 man --warnings -E UTF-8 -l -Tutf8 $page 2>&1 >/dev/null; done",
        );
        assert_eq!(said, "");
    }
    shell(here, "bash -n shells/bash/vexfs-ublk.bash");
    if has("zsh") {
        shell(here, "zsh -n shells/zsh/_vexfs-ublk");
    }
    if has("fish") {
        shell(here, "fish -n shells/fish/vexfs-ublk.fish");
    }
}

#[test]
fn an_archive_copy_keeps_everything_and_a_plain_one_permissions_and_times() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    let source = here.join("source");
    fs::create_dir(&source).unwrap();
    host_tree::make(&source);
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    ok(here, &["cp", "-a", "source", "pool:/"]);
    ok(here, &["cp", "-a", "pool:/source", "copy"]);
    assert!(host_tree::tree(&source) == host_tree::tree(&here.join("copy")));
    // Onto what is there.
    ok(here, &["cp", "-a", "pool:/source", "."]);
    ok(here, &["cp", "-a", "source", "pool:/"]);
    assert!(host_tree::tree(&source) == host_tree::tree(&here.join("copy")));
    // Without -a devices and pipes are named.
    let told = fails(here, &["cp", "-r", "source", "pool:/plain"]);
    assert!(told.contains("fifo") && told.contains("-a"), "{told}");
    assert!(ok(here, &["xattr", "list", "pool:/plain/small"]).is_empty());
    let listing = ok(here, &["ls", "-l", "pool:/plain"]);
    assert!(listing.contains("-rwxr-x--x"), "set-ID bits came along: {listing}");
    assert!(
        ok(here, &["--json", "stat", "pool:/plain/small"]).contains("\"links\": 2"),
        "hard links came apart"
    );
    assert!(ok(here, &["stat", "pool:/plain/sparse"]).contains("hole"));
    ok(here, &["cp", "-r", "pool:/plain", "plain"]);
    shell(here, "diff -r --no-dereference -x fifo -x null -x disk source plain");
    // Inside a pool blocks are shared.
    let used = |here: &Path| -> u64 {
        let info: Value = serde_json::from_str(&ok(here, &["--json", "info", "pool"])).unwrap();
        info["file_blocks"].as_u64().unwrap()
    };
    let before = used(here);
    ok(here, &["cp", "-r", "pool:/plain", "pool:/shared"]);
    // Small files, whose bytes were in the metadata, get a block to share.
    assert!(used(here) - before < 64 << 10);
    ok(here, &["check", "--scrub", "pool"]);
}

#[test]
fn names_links_and_attributes_are_changed_in_place() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "16MiB"]);
    fs::write(here.join("file"), "text").unwrap();
    ok(here, &["cp", "file", "pool:/a"]);
    ok(here, &["mkdir", "pool:/d"]);
    ok(here, &["mv", "pool:/a", "pool:/d"]);
    assert_eq!(ok(here, &["ls", "pool:/d"]), "a\n");
    ok(here, &["ln", "pool:/d/a", "pool:/b"]);
    ok(here, &["ln", "-s", "d/a", "pool:/c"]);
    assert!(fails(here, &["mv", "pool:/b", "pool:/c"]).contains("exists"));
    ok(here, &["mv", "--force", "pool:/b", "pool:/c"]);
    assert_eq!(ok(here, &["cat", "pool:/c"]), "text");
    assert!(fails(here, &["mv", "pool:/d", "pool:/d/e"]).contains("invalid"));
    let bytes = [0, 255, 10];
    let output = with_input(here, &["xattr", "set", "pool:/c", "user.bytes"], &bytes);
    assert!(output.status.success());
    let got = run_as(None, here, &["xattr", "get", "pool:/d/a", "user.bytes"]).stdout;
    assert_eq!(got, bytes, "both names are of one file");
    let got = ok(here, &["--json", "xattr", "get", "pool:/c", "user.bytes"]);
    assert!(got.contains("\"00ff0a\"") && got.contains("\"hex\""), "{got}");
    assert_eq!(ok(here, &["xattr", "list", "pool:/c"]), "user.bytes\n");
    ok(here, &["xattr", "rm", "pool:/c", "user.bytes"]);
    assert!(fails(here, &["xattr", "rm", "pool:/c", "user.bytes"]).contains("no such attribute"));
    assert!(fails(here, &["xattr", "set", "pool:/c", "strange.name", "x"]).contains("begin with user."));
    ok(here, &["check", "pool"]);
}

#[test]
fn udev_is_told_what_is_in_a_device_whoever_has_it() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    ok(here, &["mkfs", "pool", "--size", "64MiB", "--label", "my data"]);
    let info: Value = serde_json::from_str(&ok(here, &["info", "pool", "--json"])).unwrap();
    let uuid = info["uuid"].as_str().unwrap();
    let expected = format!(
        "ID_FS_TYPE=vexfs\nID_FS_USAGE=filesystem\nID_FS_UUID={uuid}\nID_FS_UUID_ENC={uuid}\nID_FS_LABEL=my_data\n\
         ID_FS_LABEL_ENC=my\\x20data\nID_VEXFS_LINKS=1\n"
    );
    assert_eq!(ok(here, &["identify", "pool"]), expected);
    // Opened for writing by somebody, it cannot be opened otherwise.
    let locked = vexfs::fs::Fs::open(&here.join("pool"), &vexfs::fs::MountOptions::default()).unwrap();
    assert_eq!(ok(here, &["identify", "pool"]), expected);
    locked.close().unwrap();
    std::fs::write(here.join("other"), vec![7; 1 << 20]).unwrap();
    std::fs::write(here.join("empty"), "").unwrap();
    for name in ["other", "empty"] {
        assert!(fails(here, &["identify", name]).contains("no pool"));
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let here = TempDir::new().unwrap();
    ok(here.path(), &["mkfs", "pool.img", "--size", "32MiB"]);
    for words in [["info", "pool.img"], ["--json", "doctor"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_vexfs-ublk"))
            .current_dir(here.path())
            .args(words)
            .stdout(writer)
            .output()
            .unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(128 + nix::libc::SIGPIPE),
            "{words:?}: {complaints}"
        );
        assert_eq!(complaints, "");
    }
}
