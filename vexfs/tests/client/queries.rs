// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests about vectors, in pieces: who asks, what is changed once although servers die, and what is refused.

use nix::libc;
use serde_json::{Value, json};
use vexfs::client::addresses::QUERY_LANES;
use vexfs::client::wire::{self, Opcode};
use vexfs::fs::MAX_XATTR_VALUE;
use vexfs::units::Ino;
use zerocopy::IntoBytes;

use crate::bench::Bench;
use crate::peer::{Ask, Reply};

const FILE: u16 = 0o100_644;
const STEPS: u64 = wire::QUERY_STEPS;

/// Who asks: user, groups and flags.
type Who = (u32, Vec<u32>, u32);

fn administrator() -> Who {
    (0, Vec::new(), wire::CALLER_MAY_ALL)
}

fn step(what: u32, lane: u32, number: u64) -> wire::Query {
    wire::Query {
        number: number.into(),
        what: what.into(),
        lane: lane.into(),
        ..wire::Query::default()
    }
}

fn piece(lane: u32, number: u64, request: &[u8], from: usize, count: usize) -> Ask {
    let bytes = &request[from..from + count];
    let mut ask = Ask::new(
        Opcode::Query,
        &wire::Query {
            total: u32::try_from(request.len()).unwrap().into(),
            from: u32::try_from(from).unwrap().into(),
            count: u32::try_from(count).unwrap().into(),
            ..step(wire::QUERY_PIECE, lane, number)
        },
    );
    ask.payload.extend_from_slice(bytes);
    ask
}

fn run(lane: u32, number: u64, total: usize, who: &Who) -> Ask {
    let (user, groups, flags) = who;
    let mut ask = Ask::new(
        Opcode::Query,
        &wire::Query {
            total: u32::try_from(total).unwrap().into(),
            count: u32::try_from(groups.len()).unwrap().into(),
            flags: (*flags).into(),
            uid: (*user).into(),
            gid: (*user).into(),
            ..step(wire::QUERY_RUN, lane, number)
        },
    );
    ask.payload.extend(groups.iter().flat_map(|group| group.to_le_bytes()));
    ask
}

fn rest(lane: u32, number: u64, from: usize) -> Ask {
    let from = u32::try_from(from).unwrap().into();
    let more = step(wire::QUERY_ANSWER, lane, number);
    Ask::new(Opcode::Query, &wire::Query { from, ..more })
}

/// Sends a request in pieces of so many bytes.
fn send(bench: &mut Bench, lane: u32, number: u64, request: &[u8], pieces: usize) {
    for from in (0..request.len()).step_by(pieces) {
        let count = pieces.min(request.len() - from);
        assert_eq!(bench.call(&piece(lane, number, request, from, count)).status(), 0);
    }
}

/// The total, how many numbers of inodes it begins with, and the piece.
fn told(reply: &Reply) -> (usize, usize, Vec<u8>) {
    assert_eq!(reply.status(), 0);
    let (told, bytes) = reply.take::<wire::Queried>();
    assert_eq!(bytes.len(), told.count.get() as usize);
    (told.total.get() as usize, told.changed.get() as usize, bytes.to_vec())
}

/// Has a request answered; gives the inodes that changed.
fn ask_as(bench: &mut Bench, number: u64, who: &Who, request: &Value) -> (Vec<u64>, Value) {
    let request = request.to_string().into_bytes();
    send(bench, 0, number, &request, 50_000);
    answer(bench, number, request.len(), who, 128 << 10)
}

fn answer(bench: &mut Bench, number: u64, length: usize, who: &Who, capacity: u32) -> (Vec<u64>, Value) {
    let mut first = run(0, number, length, who);
    first.capacity = capacity;
    let (total, changed, mut bytes) = told(&bench.call(&first));
    while bytes.len() < total {
        let mut more = rest(0, number, bytes.len());
        more.capacity = capacity;
        let (again, _, piece) = told(&bench.call(&more));
        assert_eq!(again, total);
        assert!(!piece.is_empty());
        bytes.extend(piece);
    }
    assert_eq!(
        bench.call(&rest(0, number, 0)).status(),
        -libc::ESTALE,
        "what was told is kept"
    );
    let (numbers, document) = bytes.split_at(8 * changed);
    let numbers = numbers
        .as_chunks::<8>()
        .0
        .iter()
        .map(|eight| u64::from_le_bytes(*eight));
    (numbers.collect(), serde_json::from_slice(document).unwrap())
}

/// A space of two numbers, made by the request with the number of [`STEPS`].
fn with_space(bench: &mut Bench) {
    let create = json!({"op": "create_space", "name": "s", "dimensions": 2, "metric": "l2"});
    let (_, made) = ask_as(bench, STEPS, &administrator(), &create);
    assert!(made["id"].is_u64(), "{made}");
}

fn paths(answer: &Value) -> Vec<&str> {
    let hits = answer["results"][0].as_array().unwrap();
    hits.iter().map(|hit| hit["path"].as_str().unwrap()).collect()
}

#[test]
fn a_request_comes_in_pieces_and_its_answer_goes_in_pieces() {
    let mut bench = Bench::new();
    with_space(&mut bench);
    let names: Vec<String> = (0..20).map(|number| format!("file{number}")).collect();
    let files: Vec<Ino> = names
        .iter()
        .map(|name| bench.create(Ino::ROOT, name.as_bytes(), FILE))
        .collect();
    let items: Vec<Value> = names
        .iter()
        .enumerate()
        .map(|(at, name)| json!({"path": format!("/{name}"), "vectors": [[at, 1]]}))
        .collect();
    let put = json!({"op": "put", "space": "s", "items": items})
        .to_string()
        .into_bytes();
    send(&mut bench, 0, 2 * STEPS, &put, 7);
    let (mut changed, put) = answer(&mut bench, 2 * STEPS, put.len(), &administrator(), 4096);
    changed.sort_unstable();
    assert_eq!(changed, files.iter().map(|ino| ino.0).collect::<Vec<_>>());
    assert_eq!(put, json!({"vectors": 20, "errors": [], "version": 1}));

    // A piece that comes twice, and replies in which hardly anything fits.
    let search = json!({"op": "search", "space": "s", "query": {"vector": [7.2, 1]}, "k": 20});
    let search = search.to_string().into_bytes();
    send(&mut bench, 0, 3 * STEPS, &search, 30);
    assert_eq!(bench.call(&piece(0, 3 * STEPS, &search, 10, 9)).status(), 0);
    let (changed, found) = answer(&mut bench, 3 * STEPS, search.len(), &administrator(), 150);
    assert!(changed.is_empty());
    assert_eq!(paths(&found)[..2], ["/file7", "/file8"]);
    assert_eq!(paths(&found).len(), 20);
    bench.check();
}

#[test]
fn a_search_finds_what_the_caller_could_find() {
    let mut bench = Bench::new();
    with_space(&mut bench);
    // Of user 1000 and group 100.
    let mut number = STEPS;
    for (name, mode) in [("of all", 0o100_644), ("of one", 0o100_600), ("of group", 0o100_640)] {
        bench.create(Ino::ROOT, name.as_bytes(), mode);
        number += STEPS;
        let item = json!({"path": format!("/{name}"), "vectors": [[mode, 1]]});
        let put = json!({"op": "put", "space": "s", "items": [item]});
        let (_, put) = ask_as(&mut bench, number, &administrator(), &put);
        assert_eq!(put["vectors"], 1, "{put}");
    }
    let search = json!({"op": "search", "space": "s", "query": {"vector": [0, 1]}});
    for (who, expected) in [
        ((5, vec![], 0), 1),
        ((5, vec![7, 100], 0), 2),
        ((1000, vec![], 0), 3),
        // The owner of what the pool calls 0, and no administrator.
        ((0, vec![], 0), 1),
        ((u32::MAX, vec![], 0), 1),
        (administrator(), 3),
    ] {
        number += STEPS;
        let (_, found) = ask_as(&mut bench, number, &who, &search);
        assert_eq!(paths(&found).len(), expected, "{who:?}: {found}");
    }
    let create = json!({"op": "create_space", "name": "other", "dimensions": 2});
    let (_, refused) = ask_as(&mut bench, number + STEPS, &(5, vec![], 0), &create);
    assert_eq!(refused["error"]["name"], "EPERM");
    bench.check();
}

#[test]
fn what_a_request_changes_is_changed_once_although_its_server_dies() {
    let mut bench = Bench::new();
    bench.create(Ino::ROOT, b"file", FILE);
    let requests = [
        json!({"op": "create_space", "name": "s", "dimensions": 2, "metric": "l2"}),
        json!({"op": "alter_space", "name": "s", "rename": "t"}),
        json!({"op": "put", "space": "t", "items": [{"path": "/file", "vectors": [[1, 2], [3, 4]]}]}),
        json!({"op": "delete", "space": "t", "paths": ["/file"], "ordinal": 1}),
        json!({"op": "drop_space", "name": "t"}),
    ];
    for (request, number) in requests.iter().zip((1..).map(|count| count * STEPS)) {
        let (changed, first) = ask_as(&mut bench, number, &administrator(), request);
        assert_eq!(first.get("error"), None, "{first}");
        // Nobody heard of it.
        bench.kill();
        let length = request.to_string().len();
        let lost = bench.call(&run(0, number, length, &administrator()));
        assert_eq!(lost.status(), -libc::ESTALE);
        let again = ask_as(&mut bench, number, &administrator(), request);
        assert_eq!(again, (changed, first));
    }
    assert!(bench.server.fs().spaces().unwrap().is_empty());
    bench.check();
}

#[test]
fn a_request_that_was_carried_out_in_part_goes_on_where_it_ended() {
    let mut bench = Bench::new();
    with_space(&mut bench);
    for name in ["a", "b", "c", "d"] {
        bench.create(Ino::ROOT, name.as_bytes(), FILE);
    }
    let item = |name: &str, number: u32| json!({"path": name, "whole": true, "vectors": [[number, number]]});
    let put = |items: &[Value]| json!({"op": "put", "space": "s", "items": items});
    let items = [
        item("/a", 1),
        item("/b", 2),
        item("/none", 3),
        item("/c", 4),
        item("/d", 5),
    ];
    // As if the server had died after the first two.
    let (_, first) = ask_as(&mut bench, 2 * STEPS, &administrator(), &put(&items[..2]));
    assert_eq!(first["vectors"], 2);
    bench.kill();
    let other = put(&[item("/a", 9)]).to_string().into_bytes();
    send(&mut bench, 1, STEPS, &other, 1000);
    told(&bench.call(&run(1, STEPS, other.len(), &administrator())));
    let (changed, whole) = ask_as(&mut bench, 2 * STEPS, &administrator(), &put(&items));
    assert_eq!((whole["vectors"].clone(), changed.len()), (json!(3), 3), "{whole}");
    let errors = whole["errors"].as_array().unwrap();
    let failed: Vec<(u64, i64)> = errors
        .iter()
        .map(|one| (one["item"].as_u64().unwrap(), one["errno"].as_i64().unwrap()))
        .collect();
    // What another put since stays, and this one is told so.
    assert_eq!(
        failed,
        [(0, i64::from(libc::EIO)), (2, i64::from(libc::ENOENT))],
        "{whole}"
    );
    let get = json!({"op": "get", "space": "s", "paths": ["/a", "/b", "/c", "/d"]});
    let (_, got) = ask_as(&mut bench, 3 * STEPS, &administrator(), &get);
    let first_of = |file: &Value| file["vectors"][0]["vector"][0].as_f64().unwrap();
    let got: Vec<f64> = got["files"].as_array().unwrap().iter().map(first_of).collect();
    assert_eq!(got, [9.0, 2.0, 4.0, 5.0]);
    bench.check();
}

/// More of a file than one transaction takes: parts are counted too.
#[test]
fn a_long_item_counts_as_often_as_it_has_parts() {
    let mut bench = Bench::new();
    with_space(&mut bench);
    bench.create(Ino::ROOT, b"long", FILE);
    bench.create(Ino::ROOT, b"last", FILE);
    let count = MAX_XATTR_VALUE / 8 * 2 + 1;
    let rows: Vec<[usize; 2]> = (0..count).map(|at| [at, 1]).collect();
    let long = json!({"path": "/long", "whole": true, "vectors": rows});
    let last = json!({"path": "/last", "vectors": [[1, 1]]});
    let part = json!({"op": "put", "space": "s", "items": [long]});
    let all = json!({"op": "put", "space": "s", "items": [long, last]});
    let (_, first) = ask_as(&mut bench, 2 * STEPS, &administrator(), &part);
    assert_eq!(first["vectors"], count);
    bench.kill();
    let (_, whole) = ask_as(&mut bench, 2 * STEPS, &administrator(), &all);
    assert_eq!(whole, json!({"vectors": count + 1, "errors": [], "version": 1}));
    bench.check();
}

#[test]
fn what_only_looks_may_and_nothing_else_where_nothing_may_be_changed() {
    let mut bench = Bench::new();
    with_space(&mut bench);
    bench.create(Ino::ROOT, b"file", FILE);
    let looks = (0, vec![], wire::CALLER_MAY_ALL | wire::CALLER_LOOKS);
    let put = json!({"op": "put", "space": "s", "items": [{"path": "/file", "vectors": [[1, 1]]}]});
    let (changed, refused) = ask_as(&mut bench, 2 * STEPS, &looks, &put);
    assert!(changed.is_empty());
    assert_eq!(refused["error"]["name"], "EROFS");
    for (request, number) in [json!({"op": "spaces"}), json!({"op": "flush"})].iter().zip(3..) {
        let (_, told) = ask_as(&mut bench, number * STEPS, &looks, request);
        assert_eq!(told.get("error"), None, "{told}");
    }
    assert_eq!(bench.server.fs().spaces().unwrap()[0].space.vectors, 0);
    bench.check();
}

#[test]
fn a_request_that_is_wrong_in_itself_is_refused() {
    let mut bench = Bench::new();
    let who = administrator();
    let request = br#"{"op": "spaces"}"#;
    let status = |bench: &mut Bench, ask: &Ask| bench.call(ask).status();
    let longer = wire::Query {
        total: (wire::QUERY_REQUEST_BYTES + 1).into(),
        ..step(wire::QUERY_PIECE, 0, STEPS)
    };
    assert_eq!(status(&mut bench, &Ask::new(Opcode::Query, &longer)), -libc::E2BIG);
    for (wrong, ask) in [
        ("a number between", piece(0, STEPS + 1, request, 0, 4)),
        ("no number", piece(0, 0, request, 0, 4)),
        ("a lane too many", piece(u32::from(QUERY_LANES), STEPS, request, 0, 4)),
        ("no step", Ask::new(Opcode::Query, &step(9, 0, STEPS))),
        (
            "half a step",
            Ask {
                payload: vec![0; 39],
                ..piece(0, STEPS, request, 0, 4)
            },
        ),
    ] {
        assert_eq!(status(&mut bench, &ask), -libc::EINVAL, "{wrong}");
    }
    assert_eq!(
        status(&mut bench, &piece(0, STEPS, request, 4, 4)),
        -libc::ESTALE,
        "a gap"
    );
    assert_eq!(status(&mut bench, &run(0, STEPS, request.len(), &who)), -libc::ESTALE);
    assert_eq!(status(&mut bench, &rest(0, STEPS, 0)), -libc::ESTALE);

    send(&mut bench, 0, 2 * STEPS, request, 5);
    let mut behind = piece(0, 2 * STEPS, request, 0, request.len());
    let query = wire::Query {
        total: u32::try_from(request.len()).unwrap().into(),
        from: 1.into(),
        count: u32::try_from(request.len()).unwrap().into(),
        ..step(wire::QUERY_PIECE, 0, 2 * STEPS)
    };
    behind.payload[..40].copy_from_slice(query.as_bytes());
    assert_eq!(status(&mut bench, &behind), -libc::EINVAL, "behind its end");
    assert_eq!(
        status(&mut bench, &piece(0, STEPS, request, 0, 4)),
        -libc::EINVAL,
        "an older one"
    );
    let mut lacks = run(0, 2 * STEPS, request.len(), &(0, vec![1, 2], 0));
    lacks.payload.pop();
    assert_eq!(status(&mut bench, &lacks), -libc::EINVAL, "half a group");
    let mut small = run(0, 2 * STEPS, request.len(), &who);
    small.capacity = 104;
    assert_eq!(
        status(&mut bench, &small),
        -libc::ERANGE,
        "a reply that nothing fits in"
    );
    // It was carried out, and its answer is there.
    let (_, spaces) = answer(&mut bench, 2 * STEPS, request.len(), &who, 4096);
    assert_eq!(spaces["spaces"], json!([]));

    let half = br#"{"op": "#;
    send(&mut bench, 0, 3 * STEPS, half, 100);
    let (total, ..) = told(&bench.call(&run(0, 3 * STEPS, half.len(), &who)));
    assert_eq!(total, 0, "it is not complete");
    bench.check();
}

#[test]
fn a_request_is_of_its_session() {
    let mut bench = Bench::new();
    let request = br#"{"op": "spaces"}"#;
    send(&mut bench, 0, 9 * STEPS, request, 100);
    let before = bench.session;
    bench.hello(2);
    let lost = bench.call(&run(0, 9 * STEPS, request.len(), &administrator()));
    assert_eq!(lost.status(), -libc::ESTALE);
    // Numbers begin anew.
    with_space(&mut bench);
    let session = bench.session;
    bench.session = before;
    assert!(bench.call(&rest(0, STEPS, 0)).has(wire::REPLY_NO_SESSION));
    bench.session = session;
    bench.check();
}
