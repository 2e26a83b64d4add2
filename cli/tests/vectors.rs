// SPDX-License-Identifier: MIT OR Apache-2.0

//! Spaces, vectors and searches from the command line.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod common;

use std::fs;
use std::path::Path;

use common::{fails, ok};
use serde_json::Value;
use tempfile::TempDir;

/// A pool with three texts and a space for them.
fn pool(here: &Path) {
    fs::create_dir_all(here.join("texts/more")).unwrap();
    for (name, text) in [
        ("bridges.txt", "The bridges of Paris cross the river Seine."),
        ("more/soup.txt", "A recipe for onion soup with bread and cheese."),
        ("more/rivers.txt", "Rivers of France: the Seine, the Loire, the Rhone."),
    ] {
        fs::write(here.join("texts").join(name), text).unwrap();
    }
    fs::write(here.join("texts/data"), [0, 1, 2]).unwrap();
    ok(here, &["mkfs", "pool", "--size", "64MiB"]);
    ok(here, &["cp", "-r", "texts", "pool:/"]);
    ok(here, &["space", "create", "pool", "text", "--dimensions", "256"]);
}

fn first(here: &Path, words: &[&str]) -> String {
    let all = [words, &["--json"]].concat();
    let found: Value = serde_json::from_str(&ok(here, &all)).unwrap();
    found["results"][0]["path"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn texts_are_embedded_once_and_found_by_their_words() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    pool(here);
    let embed = ["embed", "pool:/texts", "--space", "text"];
    assert_eq!(
        ok(here, &embed),
        "3 vectors of 3 files; 0 unchanged, 1 without a vector\n"
    );
    assert_eq!(
        ok(here, &embed),
        "0 vectors of 0 files; 3 unchanged, 1 without a vector\n"
    );
    fs::write(here.join("new"), "Bread and butter.").unwrap();
    ok(here, &["cp", "new", "pool:/texts/more/soup.txt"]);
    assert_eq!(
        ok(here, &embed),
        "1 vectors of 1 files; 2 unchanged, 1 without a vector\n"
    );
    let search = |text| first(here, &["search", "pool", "--space", "text", text]);
    assert_eq!(search("bridge"), "/texts/bridges.txt");
    assert_eq!(search("bread"), "/texts/more/soup.txt");
    assert_eq!(
        first(
            here,
            &["search", "pool:/texts/more", "--space", "text", "bridges of paris"]
        ),
        "/texts/more/rivers.txt"
    );
    let like = [
        "search",
        "pool",
        "--space",
        "text",
        "--like",
        "/texts/bridges.txt",
        "-k",
        "2",
    ];
    let lines = ok(here, &like);
    assert!(
        lines.lines().next().unwrap().contains("0.0000") && lines.lines().count() == 2,
        "{lines}"
    );
    let how = |words: &[&str]| {
        let all = [&["search", "pool", "--space", "text", "bread", "--json"], words].concat();
        let answer: Value = serde_json::from_str(&ok(here, &all)).unwrap();
        (answer["exact"].clone(), answer["results"][0]["path"].clone())
    };
    let soup = Value::from("/texts/more/soup.txt");
    assert_eq!(how(&["--exact"]), (true.into(), soup.clone()));
    assert_eq!(how(&["--effort", "100"]), (false.into(), soup));
    assert!(ok(here, &["space", "list", "pool"]).contains("3 vectors"));
    ok(here, &["space", "rename", "pool", "text", "words"]);
    assert!(fails(here, &["search", "pool", "--space", "text", "bread"]).contains("no such file"));
    ok(here, &["space", "drop", "pool", "words"]);
    assert_eq!(ok(here, &["space", "list", "pool"]), "");
    assert!(ok(here, &["check", "--scrub", "pool"]).contains("nothing is wrong"));
}

#[test]
fn vectors_come_from_commands_lines_and_arrays() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    pool(here);
    ok(
        here,
        &["space", "create", "pool", "two", "--dimensions", "2", "--metric", "l2"],
    );
    let command = "printf '[[%s, 0], [0, 1]]' $(wc -c)";
    ok(here, &["embed", "pool:/texts", "--space", "two", "--cmd", command]);
    assert_eq!(
        first(here, &["search", "pool", "--space", "two", "--vector", "[3, 0]"]),
        "/texts/data"
    );
    let lines = "{\"path\": \"/texts/bridges.txt\", \"vectors\": [[7, 7]], \"whole\": true}\n";
    fs::write(here.join("lines"), lines).unwrap();
    ok(here, &["embed", "pool", "--space", "two", "--jsonl", "lines"]);
    assert_eq!(
        first(here, &["search", "pool", "--space", "two", "--vector", "[7, 7]"]),
        "/texts/bridges.txt"
    );
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    array.extend(header.as_bytes());
    array.extend([9.0_f32, 9.0].map(f32::to_le_bytes).concat());
    fs::write(here.join("array.npy"), array).unwrap();
    fs::write(here.join("paths"), "/texts/more/soup.txt\n").unwrap();
    ok(
        here,
        &[
            "embed",
            "pool",
            "--space",
            "two",
            "--npy",
            "array.npy",
            "--paths",
            "paths",
        ],
    );
    assert_eq!(
        first(here, &["search", "pool", "--space", "two", "--vector", "[9, 9]"]),
        "/texts/more/soup.txt"
    );
    let wrong = fails(
        here,
        &["embed", "pool:/texts", "--space", "two", "--cmd", "echo '[1]'", "--all"],
    );
    assert!(wrong.contains("1 numbers are no vector of 2 dimensions"), "{wrong}");
    assert!(fails(here, &["embed", "pool", "--space", "none"]).contains("space create"));
}
