// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests end to end on a pool in memory.

mod remembered;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::binary::{Item, PutMany};
use super::transaction::Transaction;
use super::*;
use crate::disk::{Disk, MemDisk};
use crate::fs::record::{Kind, Timestamp};
use crate::fs::{Fs, MountOptions, NewFile};
use crate::pool::format::{FormatOptions, Seeds, format_disk};
use crate::pool::{Access, Host, OpenOptions, Pool};
use crate::units::Ino;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

fn mount() -> Fs {
    let disk = MemDisk::new(32 << 20);
    format_disk(&disk, &FormatOptions::default(), &Seeds::from_number(3), &Host::this()).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let pool = Pool::open_disk(disk, &OpenOptions::new(Access::ReadWrite)).unwrap();
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Fs::mount(pool, &options).unwrap()
}

fn make(fs: &Fs, path: &str, kind: Kind, permissions: u16, uid: u32) -> Ino {
    let (directory, name) = path.rsplit_once('/').unwrap();
    let new = NewFile {
        kind,
        permissions,
        uid,
        gid: uid,
        device: 0,
        target: b"",
        now: NOW,
    };
    let directory = fs.resolve(directory.as_bytes()).unwrap().ino;
    fs.create(directory, name.as_bytes(), &new).unwrap().ino
}

fn ask_as(fs: &Fs, uid: u32, request: &Value) -> Value {
    let caller = Caller::user(uid, uid, vec![]);
    serde_json::from_slice(&answer(fs, &caller, request.to_string().as_bytes(), NOW).answer).unwrap()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "so that documents are written where they are used"
)]
fn ask(fs: &Fs, request: Value) -> Value {
    let answer = ask_as(fs, 0, &request);
    assert_eq!(answer.get("error"), None, "{request}");
    answer
}

fn paths(answer: &Value) -> Vec<String> {
    let results = answer["results"][0].as_array().unwrap_or_else(|| panic!("{answer}"));
    results
        .iter()
        .map(|hit| hit["path"].as_str().unwrap().to_owned())
        .collect()
}

/// Three users' files on a line, in directories of different openness.
fn sample() -> Fs {
    let fs = mount();
    fs.set_attributes(
        Ino::ROOT,
        &crate::fs::SetAttributes {
            permissions: Some(0o755),
            now: NOW,
            ..Default::default()
        },
    )
    .unwrap();
    ask(
        &fs,
        json!({"op": "create_space", "name": "line", "dimensions": 2, "metric": "l2",
        "fields": [{"name": "user.lang", "use": "filter"}, {"name": "user.title", "use": "text"}]}),
    );
    make(&fs, "/open", Kind::Directory, 0o755, 1);
    make(&fs, "/closed", Kind::Directory, 0o700, 1);
    make(&fs, "/unlisted", Kind::Directory, 0o711, 1);
    let mut items = Vec::new();
    for (at, path, permissions) in [
        (0, "/a.txt", 0o644),
        (1, "/open/b.txt", 0o644),
        (2, "/open/private.txt", 0o600),
        (3, "/closed/c.txt", 0o644),
        (4, "/unlisted/d.md", 0o644),
        (5, "/open/e.md", 0o644),
    ] {
        let ino = make(&fs, path, Kind::File, permissions, 1);
        fs.write(ino, 0, &vec![b'x'; 100 * (at + 1)], NOW).unwrap();
        items.push(json!({"path": path, "vectors": [[at, 0]]}));
    }
    let answer = ask(&fs, json!({"op": "put", "space": "line", "items": items}));
    assert_eq!(answer["vectors"], 6);
    fs
}

#[test]
fn the_nearest_come_first_by_vector_by_file_and_page_by_page() {
    let fs = sample();
    let all = paths(&ask(
        &fs,
        json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}, "k": 100}),
    ));
    assert_eq!(
        all,
        [
            "/a.txt",
            "/open/b.txt",
            "/open/private.txt",
            "/closed/c.txt",
            "/unlisted/d.md",
            "/open/e.md"
        ]
    );
    for sealed in [false, true] {
        if sealed {
            fs.seal_vectors().unwrap();
        }
        let page = json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}, "k": 2, "offset": 2});
        assert_eq!(paths(&ask(&fs, page)), all[2..4]);
        let like = json!({"op": "search", "space": "line", "query": {"like": {"path": "/open/e.md"}}, "k": 2,
            "attributes": ["size", "user.lang"]});
        let answer = ask(&fs, like);
        assert_eq!(paths(&answer), ["/open/e.md", "/unlisted/d.md"]);
        assert_eq!(
            answer["results"][0][0]["attributes"],
            json!({"size": 600, "user.lang": null})
        );
        assert_eq!(answer["results"][0][1]["distance"], 1.0);
        let near = json!({"op": "search", "space": "line", "queries": [{"vector": [0, 0]}, {"vector": [5, 0]}],
            "threshold": 1.5});
        let answer = ask(&fs, near);
        assert_eq!(answer["results"].as_array().unwrap().len(), 2);
        assert_eq!(answer["results"][1].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_search_finds_what_the_caller_could_find_by_walking() {
    let fs = sample();
    let request = json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}});
    assert_eq!(paths(&ask_as(&fs, 1, &request)).len(), 6);
    assert_eq!(
        paths(&ask_as(&fs, 2, &request)),
        ["/a.txt", "/open/b.txt", "/open/e.md"]
    );
    // Not through k, errors or counts either.
    let few = json!({"op": "search", "space": "line", "query": {"vector": [2.4, 0]}, "k": 1});
    assert_eq!(paths(&ask_as(&fs, 2, &few)), ["/open/b.txt"]);
    let there = |path: &str| {
        let like = json!({"op": "search", "space": "line", "query": {"like": {"path": path}}});
        let error = ask_as(&fs, 2, &like)["error"].clone();
        (error["errno"].clone(), error["message"].to_string().replace(path, ""))
    };
    assert_eq!(there("/closed/c.txt"), there("/closed/nothing"));
    assert_eq!(
        ask_as(&fs, 2, &json!({"op": "spaces"}))["spaces"][0].get("vectors"),
        None
    );
    assert_eq!(ask(&fs, json!({"op": "spaces"}))["spaces"][0]["vectors"], 6);
    for denied in [
        json!({"op": "create_space", "name": "mine", "dimensions": 3}),
        json!({"op": "drop_space", "name": "line"}),
        json!({"op": "alter_space", "name": "line", "rename": "x"}),
        json!({"op": "delete", "space": "line", "paths": ["/a.txt"]}),
        json!({"op": "get", "space": "line", "paths": ["/open/private.txt"]}),
    ] {
        assert!(ask_as(&fs, 2, &denied)["error"]["errno"].is_number(), "{denied}");
    }
    let put = json!({"op": "put", "space": "line", "items": [{"path": "/a.txt", "vectors": [[9, 9]]}]});
    assert_eq!(ask_as(&fs, 2, &put)["errors"][0]["errno"], Errno::Denied.number());
    // An access list opens one file.
    let list: Vec<u8> = [2, 0, 0, 0]
        .into_iter()
        .chain(
            [
                (1_u16, 6_u16, u32::MAX),
                (2, 4, 2),
                (4, 0, u32::MAX),
                (16, 4, u32::MAX),
                (32, 0, u32::MAX),
            ]
            .into_iter()
            .flat_map(|(tag, permissions, id)| {
                [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
            }),
        )
        .collect();
    let private = fs.resolve(b"/open/private.txt").unwrap().ino;
    fs.set_xattr(private, crate::acl::ACCESS, &list, 0, NOW).unwrap();
    assert_eq!(paths(&ask_as(&fs, 2, &request)).len(), 4);
    assert_eq!(paths(&ask_as(&fs, 3, &request)).len(), 3);
}

#[test]
fn filters_say_which_files() {
    let fs = sample();
    let b = fs.resolve(b"/open/b.txt").unwrap().ino;
    fs.set_xattr(b, b"user.lang", b"en", 0, NOW).unwrap();
    fs.link(b, fs.resolve(b"/closed").unwrap().ino, b"other.name", NOW)
        .unwrap();
    let found = |filter: Value| {
        let request = json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}, "filter": filter});
        paths(&ask(&fs, request)).len()
    };
    assert_eq!(found(json!({"under": "/open"})), 3);
    assert_eq!(found(json!({"under": "/closed"})), 2, "a hard link is below both");
    assert_eq!(found(json!({"under": "/"})), 6);
    assert_eq!(found(json!({"name": "*.txt"})), 4);
    assert_eq!(found(json!({"name": "other.*"})), 1);
    assert_eq!(
        found(json!({"and": [{"name": "*.md"}, {"not": {"under": "/open"}}]})),
        1
    );
    assert_eq!(
        found(json!({"or": [{"size": {"to": 100}}, {"size": {"from": 600}}]})),
        2
    );
    assert_eq!(found(json!({"xattr": {"name": "user.lang"}})), 1);
    assert_eq!(found(json!({"xattr": {"name": "user.lang", "is": "de"}})), 0);
    assert_eq!(found(json!({"mode": {"mask": 0o077, "is": 0}})), 1);
    assert_eq!(found(json!({"modified": {"from": NOW.0}})), 6);
    assert_eq!((found(json!({"owner": 1})), found(json!({"group": 7}))), (6, 0));
    // A copy of the tree is searched as it was.
    let open = fs.resolve(b"/open").unwrap().ino;
    fs.clone_tree(open, Ino::ROOT, b"snapshot", NOW).unwrap();
    ask(&fs, json!({"op": "delete", "space": "line", "paths": ["/open/b.txt"]}));
    assert_eq!(
        (found(json!({"under": "/open"})), found(json!({"under": "/snapshot"}))),
        (2, 3)
    );
}

#[test]
fn text_counts_as_much_as_is_said() {
    let fs = sample();
    let e = fs.resolve(b"/open/e.md").unwrap().ino;
    fs.set_xattr(e, b"user.title", b"The history of bridges", 0, NOW)
        .unwrap();
    let first = |hybrid: Value| {
        let request = json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}, "k": 1, "hybrid": hybrid});
        paths(&ask(&fs, request)).remove(0)
    };
    assert_eq!(
        first(json!({"text": "bridge", "field": "user.title", "weight": 0.95})),
        "/open/e.md"
    );
    assert_eq!(
        first(json!({"text": "bridge", "field": "user.title", "weight": 0.0})),
        "/a.txt"
    );
    assert_eq!(first(json!({"text": "private", "weight": 1.0})), "/open/private.txt");
}

#[test]
fn what_is_wrong_is_said_and_nothing_happens() {
    let fs = sample();
    for (request, errno) in [
        (json!({"op": "nothing"}), Errno::Invalid),
        (
            json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}, "more": 1}),
            Errno::Invalid,
        ),
        (
            json!({"op": "search", "space": "none", "query": {"vector": [0, 0]}}),
            Errno::NoEntry,
        ),
        (
            json!({"op": "search", "space": "line", "query": {"vector": [0]}}),
            Errno::Invalid,
        ),
        (
            json!({"op": "search", "space": "line", "query": {"vector": [1e39, 0]}}),
            Errno::Invalid,
        ),
        (json!({"op": "search", "space": "line"}), Errno::Invalid),
        (
            json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}, "k": 0}),
            Errno::Invalid,
        ),
        (json!({"version": 2, "op": "spaces"}), Errno::NotSupported),
        (
            json!({"op": "search", "space": "line", "query": {"vector": [0, 0]}, "filter": {"xattr": {"name": "user.x"}}}),
            Errno::Invalid,
        ),
        (
            json!({"op": "create_space", "name": "line", "dimensions": 3}),
            Errno::Exists,
        ),
        (
            json!({"op": "create_space", "name": "b", "dimensions": 3, "element": "binary"}),
            Errno::Invalid,
        ),
        (
            json!({"op": "get", "space": "line", "paths": ["a.txt"]}),
            Errno::Invalid,
        ),
        (json!([]), Errno::Invalid),
    ] {
        assert_eq!(ask_as(&fs, 0, &request)["error"]["errno"], errno.number(), "{request}");
    }
    let put = json!({"op": "put", "space": "line", "items": [
        {"path": "/nothing", "vectors": [[1, 1]]}, {"path": "/a.txt", "vectors": [[7, 7]]}, {"path": "/a.txt", "vectors": [[7]]}]});
    let answer = ask(&fs, put);
    assert_eq!(
        (&answer["vectors"], answer["errors"].as_array().unwrap().len()),
        (&json!(1), 2)
    );
    let got = ask(&fs, json!({"op": "get", "space": "line", "paths": ["/a.txt"]}));
    assert_eq!(got["files"][0]["vectors"][0]["vector"], json!([7.0, 7.0]));
}

#[test]
fn a_descriptor_holds_the_request_and_then_the_answer() {
    let fs = sample();
    let caller = Caller::ADMINISTRATOR;
    let bytes = [1.0_f32, 2.0].map(f32::to_le_bytes).concat();
    let put = PutMany {
        space: "line",
        items: vec![Item {
            path: "/a.txt",
            ordinal: 3,
            whole: false,
            of: Some(5),
            bytes: &bytes,
        }],
    };
    for request in [put.encode(), br#"{"op": "spaces"}"#.to_vec()] {
        let mut one = Transaction::default();
        let (head, tail) = request.split_at(request.len() / 2);
        one.write(0, head, &caller).unwrap();
        one.settle(&fs, NOW);
        assert_eq!(one.size(), head.len() as u64, "half a request is not answered");
        one.write(head.len() as u64, tail, &caller).unwrap();
        one.settle(&fs, NOW);
        let answer: Value = serde_json::from_slice(one.read(request.len() as u64, 1 << 20)).unwrap();
        assert_eq!(answer.get("error"), None, "{answer}");
        assert!(one.write(one.size(), b"{}", &caller).is_err());
        one.clear();
        assert_eq!(one.size(), 0);
    }
    assert_eq!(
        fs.vectors_of(fs.resolve(b"/a.txt").unwrap().ino, fs.space(b"line").unwrap().id)
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_text_finds_texts_with_the_same_words_or_parts_of_them() {
    let near = |one: &str, other: &str| {
        let (one, other) = (lexical::embed(one, 384), lexical::embed(other, 384));
        one.iter().zip(&other).map(|(one, other)| one * other).sum::<f32>()
    };
    assert!((near("bridges of Paris", "Bridges of paris!") - 1.0).abs() < 1e-5);
    assert!(near("bridge", "the bridges of Paris") > near("bridge", "a recipe for soup") + 0.2);
    assert_eq!(lexical::embed("…", 8), [0.0; 8]);
    assert!(lexical::likeness("bridge", "bridges") > 0.5 && lexical::likeness("bridge", "soup") < 0.1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_request_makes_it_panic(bytes: Vec<u8>, magic: bool) {
        let fs = mount();
        let bytes = if magic { [&b"VXQ1"[..], &bytes].concat() } else { bytes };
        let answered = answer(&fs, &Caller::ADMINISTRATOR, &bytes, NOW);
        prop_assert!(serde_json::from_slice::<Value>(&answered.answer).is_ok());
    }
}
