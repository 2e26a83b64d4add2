// SPDX-License-Identifier: MIT OR Apache-2.0

//! Calls, as a client makes them when nothing goes wrong; and what may go wrong.

use nix::libc;
use vexfs::client::addresses;
use vexfs::client::wire::{self, Opcode};
use vexfs::fs::op::{Op, change};
use vexfs::fs::record::Timestamp;
use vexfs::fs::vectors::NewSpace;
use vexfs::fs::vectors::space::{Element, Metric, Shape};
use vexfs::units::{FileBlock, Ino};

use crate::bench::{Bench, NOW, create, pattern};
use crate::peer::{Ask, batch, entries};

const FILE: u16 = 0o100_644;
const FOLDER: u16 = 0o040_755;
const BLOCK: usize = 4096;

#[test]
fn a_session_begins_looks_and_ends() {
    let mut bench = Bench::new();
    let root = bench.attr(Ino::ROOT).unwrap();
    assert_eq!((root.mode.get(), root.ino.get(), root.parent.get()), (FOLDER, 1, 1));
    let folder = bench.create(Ino::ROOT, b"folder", FOLDER);
    let file = bench.create(folder, b"file", FILE);
    let found = bench.call(&Ask::named(Opcode::Lookup, folder.0, b"file"));
    let (attr, _) = found.take::<wire::Attr>();
    assert_eq!((attr.ino.get(), attr.links.get(), attr.uid.get()), (file.0, 1, 1000));
    assert_eq!(
        (Some(attr.data_base.get()), attr.data_span.get()),
        (addresses::own_window(file), addresses::SPAN)
    );
    let missing = bench.call(&Ask::named(Opcode::Lookup, folder.0, b"nobody"));
    assert_eq!(missing.status(), -libc::ENOENT);
    let parent = bench.call(&Ask::inode(Opcode::Parent, folder.0));
    let (parent, name) = parent.take::<wire::Parent>();
    assert_eq!((parent.attr.ino.get(), name), (1, &b"folder"[..]));
    assert_eq!(bench.call(&Ask::new(Opcode::Goodbye, &[0_u8; 0])).status(), 0);
    let after = bench.call(&Ask::inode(Opcode::Getattr, 1));
    assert!(after.has(wire::REPLY_NO_SESSION));
    bench.check();
}

#[test]
fn a_directory_is_listed_in_parts_with_and_without_attributes() {
    let mut bench = Bench::new();
    for number in 0..300 {
        bench.create(Ino::ROOT, format!("a name of file {number}").as_bytes(), FILE);
    }
    for attributes in [false, true] {
        for capacity in [400, 4096, 128 << 10] {
            let (mut cookie, mut names) = (0, Vec::new());
            loop {
                let mut ask = Ask::readdir(1, cookie, attributes);
                ask.capacity = capacity;
                let reply = bench.call(&ask);
                let (some, end) = entries(&reply, attributes);
                for entry in some {
                    assert_eq!(entry.attr, attributes.then_some((entry.ino, FILE)));
                    cookie = entry.cookie;
                    names.push(entry.name);
                }
                if end {
                    break;
                }
            }
            let behind = entries(&bench.call(&Ask::readdir(1, cookie, attributes)), attributes);
            assert_eq!((behind.0.len(), behind.1), (0, true));
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 300);
        }
    }
    let mut ask = Ask::readdir(1, 0, true);
    ask.capacity = 100;
    assert_eq!(bench.call(&ask).status(), -libc::ERANGE, "not even one fits");
    bench.check();
}

#[test]
fn what_a_client_may_not_send_changes_nothing() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    let ungranted = Ino(1 << 40);
    let wrong: Vec<(Op<'_>, i32)> = vec![
        (create(Ino::ROOT, ungranted, b"x", FILE), libc::EINVAL),
        (create(Ino::ROOT, file, b"x", FILE), libc::EEXIST),
        (
            Op::Write {
                ino: file,
                at: FileBlock(0),
                end: 1,
                time: NOW,
                runs: Vec::new(),
                checksums: Vec::new(),
            },
            libc::EPERM,
        ),
        (Op::Purge { ino: file, until: 7 }, libc::EINVAL),
        (Op::EndSession { session: bench.session }, libc::EPERM),
        (Op::Posted { position: 9 }, libc::EPERM),
        (Op::Grant { count: 9 }, libc::EPERM),
        (
            Op::SetAttributes {
                ino: file,
                fields: change::UID,
                mode: 0,
                uid: u32::MAX,
                gid: 0,
                flags: 0,
                accessed: NOW,
                modified: NOW,
                changed: NOW,
            },
            libc::EINVAL,
        ),
        (
            Op::SetXattr {
                ino: file,
                flags: 0,
                time: NOW,
                name: b"nobody.knows",
                value: b"",
            },
            libc::EOPNOTSUPP,
        ),
    ];
    for (operation, errno) in wrong {
        let allowed = Op::SetAttributes {
            ino: file,
            fields: change::MODIFIED,
            mode: 0,
            uid: 0,
            gid: 0,
            flags: 0,
            accessed: NOW,
            modified: Timestamp(5),
            changed: NOW,
        };
        assert_eq!(bench.apply(&[allowed, operation.clone()]), -errno, "{operation:?}");
        assert_eq!(bench.attr(file).unwrap().modified.get(), NOW.0, "all or none");
    }
    bench.check();
}

#[test]
fn a_call_that_finds_the_pool_full_gets_the_room_of_what_was_just_removed() {
    let mut bench = Bench::new();
    let filler = bench.create(Ino::ROOT, b"filler", FILE);
    let content = pattern(1, BLOCK);
    let mut at = 0;
    while let Ok(written @ 1..) = bench.server.fs().write(filler, at, &content, NOW) {
        at += written as u64;
    }
    let truncate = Op::Truncate {
        ino: filler,
        size: 0,
        time: NOW,
    };
    assert_eq!(bench.apply(&[truncate]), 0);
    assert_eq!(
        bench.server.fs().statistics().available_blocks,
        0,
        "it is free only after a flush"
    );
    bench.create(Ino::ROOT, b"again", FILE);
    bench.check();
}

#[test]
fn bytes_beyond_the_end_are_stored_hidden_and_revealed() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    let content = pattern(1, 3 * BLOCK);
    bench.server.fs().store(file, 0, &content).unwrap();
    assert_eq!(bench.attr(file).unwrap().size.get(), 0);
    assert_eq!(
        bench.stored(file, 0, 3 * BLOCK),
        content,
        "the client reads what it stored"
    );
    let extend = |size| Op::Extend {
        ino: file,
        size,
        modified: Timestamp(7),
        changed: Timestamp(8),
    };
    assert_eq!(bench.apply(&[extend(5000)]), 0);
    let attr = bench.attr(file).unwrap();
    assert_eq!((attr.size.get(), attr.modified.get(), attr.changed.get()), (5000, 7, 8));
    // Growing with zeros: what was not revealed is gone.
    let truncate = Op::Truncate {
        ino: file,
        size: 3 * BLOCK as u64,
        time: NOW,
    };
    assert_eq!(bench.apply(&[truncate]), 0);
    let mut expected = content;
    expected[5000..].fill(0);
    assert_eq!(bench.stored(file, 0, 3 * BLOCK), expected);
    // And shrinking into a block leaves zeros behind the end.
    let truncate = |size| Op::Truncate {
        ino: file,
        size,
        time: NOW,
    };
    assert_eq!(bench.apply(&[truncate(100)]), 0);
    assert_eq!(bench.apply(&[truncate(4000)]), 0);
    expected[100..].fill(0);
    assert_eq!(bench.stored(file, 0, 3 * BLOCK), expected);
    bench.check();
}

#[test]
fn what_a_client_of_the_past_left_hidden_is_zeros() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    bench.server.fs().store(file, 0, &pattern(1, 2 * BLOCK)).unwrap();
    let extend = |size| Op::Extend {
        ino: file,
        size,
        modified: NOW,
        changed: NOW,
    };
    assert_eq!(bench.apply(&[extend(10)]), 0);
    bench.hello(2);
    assert_eq!(bench.attr(file).unwrap().size.get(), 10);
    let stored = bench.stored(file, 0, 2 * BLOCK);
    assert_eq!(stored[..10], pattern(1, 10));
    assert!(stored[10..].iter().all(|&byte| byte == 0));
    assert_eq!(bench.apply(&[extend(8000)]), 0);
    assert!(bench.stored(file, 10, 7990).iter().all(|&byte| byte == 0));
    bench.check();
}

#[test]
fn a_front_end_without_sessions_never_shows_what_a_client_left_hidden() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    bench.server.fs().store(file, 0, &pattern(1, 3 * BLOCK)).unwrap();
    let extend = Op::Extend {
        ino: file,
        size: 10,
        modified: NOW,
        changed: NOW,
    };
    assert_eq!(bench.apply(&[extend]), 0);
    // A snapshot while the client works takes nothing away from it.
    let copy = bench.server.fs().clone_tree(file, Ino::ROOT, b"copy", NOW).unwrap().ino;
    assert_eq!(bench.stored(file, 0, 3 * BLOCK), pattern(1, 3 * BLOCK));
    bench.server.fs().end_session().unwrap();
    let fs = bench.server.fs().clone();
    for ino in [file, copy] {
        fs.write(ino, 5000, b"end", NOW).unwrap();
        let mut bytes = vec![1; 6000];
        assert_eq!(fs.read(ino, 0, &mut bytes).unwrap(), 5003);
        assert_eq!(bytes[..10], pattern(1, 10));
        assert!(bytes[10..5000].iter().all(|&byte| byte == 0), "{ino}");
    }
    drop(fs);
    bench.check();
}

#[test]
fn files_without_names_stay_until_they_are_released() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    bench.server.fs().store(file, 0, &pattern(1, BLOCK)).unwrap();
    let unlink = Op::Unlink {
        parent: Ino::ROOT,
        time: NOW,
        name: b"file",
    };
    assert_eq!(bench.apply(&[unlink]), 0);
    assert_eq!(bench.attr(file).unwrap().links.get(), 0);
    bench.kill();
    assert_eq!(
        bench.stored(file, 0, BLOCK),
        pattern(1, BLOCK),
        "its server died, its client did not"
    );
    for _ in 0..2 {
        assert_eq!(bench.call(&Ask::inode(Opcode::Release, file.0)).status(), 0);
    }
    assert_eq!(bench.attr(file).unwrap_err(), -libc::ESTALE);
    let unnamed = bench.number();
    assert_eq!(bench.apply(&[create(Ino(0), unnamed, b"", FILE)]), 0);
    bench.hello(2);
    assert_eq!(
        bench.attr(unnamed).unwrap_err(),
        -libc::ESTALE,
        "it went with its session"
    );
    bench.check();
}

#[test]
fn attributes_say_what_a_file_has() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    let hints = |bench: &mut Bench| bench.attr(file).unwrap().hints.get();
    let set = |name| Op::SetXattr {
        ino: file,
        flags: 0,
        time: NOW,
        name,
        value: b"value",
    };
    let remove = |name| Op::RemoveXattr {
        ino: file,
        time: NOW,
        name,
    };
    assert_eq!(hints(&mut bench), 0);
    assert_eq!(bench.apply(&[set(b"user.one")]), 0);
    assert_eq!(hints(&mut bench), wire::HINT_XATTRS);
    assert_eq!(
        bench.apply(&[set(b"system.posix_acl_access"), set(b"security.selinux")]),
        0
    );
    assert_eq!(
        hints(&mut bench),
        wire::HINT_XATTRS | wire::HINT_ACL | wire::HINT_SECURITY
    );
    let value = bench.call(&Ask::named(Opcode::Getxattr, file.0, b"user.one"));
    assert_eq!(value.payload, b"value");
    let list = bench.call(&Ask::inode(Opcode::Listxattr, file.0));
    assert_eq!(list.payload, b"security.selinux\0system.posix_acl_access\0user.one\0");
    assert_eq!(bench.apply(&[remove(b"user.one"), remove(b"security.selinux")]), 0);
    assert_eq!(hints(&mut bench), wire::HINT_XATTRS | wire::HINT_ACL);
    assert_eq!(bench.apply(&[remove(b"system.posix_acl_access")]), 0);
    assert_eq!(hints(&mut bench), 0);
    bench.check();
}

#[test]
fn a_long_file_gets_a_window_that_outlives_the_server() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    let map = |bytes: u64| {
        Ask::new(
            Opcode::Map,
            &wire::Map {
                ino: file.0.into(),
                bytes: bytes.into(),
            },
        )
    };
    let mapped = |reply: &crate::peer::Reply| {
        let (mapped, _) = reply.take::<wire::Mapped>();
        (mapped.base.get(), mapped.span.get())
    };
    let small = mapped(&bench.call(&map(1 << 30)));
    assert_eq!((Some(small.0), small.1), (addresses::own_window(file), addresses::SPAN));
    let large = mapped(&bench.call(&map(1 << 40)));
    assert!(addresses::MAPPED.contains(&large.0) && large.1 >= 1 << 40);
    assert_eq!(mapped(&bench.call(&map(1 << 39))), large);
    bench.kill();
    assert_eq!(mapped(&bench.call(&map(1 << 40))), large);
    assert_eq!(bench.server.fs().window_at(large.0 + 4096).unwrap().1.ino, file);
    let attr = bench.attr(file).unwrap();
    assert_eq!((attr.data_base.get(), attr.data_span.get()), large);
    assert_eq!(bench.call(&map(1 << 61)).status(), -libc::EFBIG);
    assert_eq!(bench.call(&Ask::inode(Opcode::Release, file.0)).status(), 0);
    assert!(bench.server.fs().window_at(large.0).is_none());
    bench.check();
}

#[test]
fn a_call_comes_back_however_often_it_is_sent_and_is_carried_out_once() {
    let mut bench = Bench::new();
    let file = bench.number();
    bench.seq += 1;
    let ask = Ask::apply(&[create(Ino::ROOT, file, b"file", FILE)], [file.0, 0, 0, 0]);
    for _ in 0..3 {
        let reply = bench.call_as(3, bench.seq, &ask);
        assert_eq!((reply.status(), reply.take::<wire::Attr>().0.ino.get()), (0, file.0));
    }
    bench.kill();
    let again = bench.fetch(3);
    assert!(
        again.has(wire::REPLY_AGAIN),
        "the new server knows nothing of the request"
    );
    let reply = bench.call_as(3, bench.seq, &ask);
    assert_eq!((reply.status(), reply.take::<wire::Attr>().0.ino.get()), (0, file.0));
    let older = bench.call_as(3, bench.seq - 1, &ask);
    assert!(older.has(wire::REPLY_AGAIN), "a leftover is forgotten");
    bench.check();
}

#[test]
fn batches_are_applied_in_order_and_each_operation_once() {
    let mut bench = Bench::new();
    let numbers: Vec<Ino> = (0..6).map(|_| bench.number()).collect();
    let names: Vec<String> = (0..6).map(|index| format!("file {index}")).collect();
    let operations: Vec<Op<'_>> = numbers
        .iter()
        .zip(&names)
        .map(|(&ino, name)| create(Ino::ROOT, ino, name.as_bytes(), FILE))
        .collect();
    let mut later = Ask::named(Opcode::Lookup, 1, b"file 5");
    later.after = 6;
    bench.seq += 1;
    bench.send(4, &later.encode(bench.session, 4, bench.seq));
    let post = |bench: &Bench, from: usize, to: usize| {
        let bytes = batch(bench.session, from as u64, &operations[from..to]);
        bench.server.post(&bytes, vexfs::fs::Patience::Wait)
    };
    let early = post(&bench, 3, 6).unwrap_err();
    assert_eq!(early.errno(), libc::ETIMEDOUT, "{early}: nothing before it came");
    post(&bench, 0, 3).unwrap();
    post(&bench, 0, 4).unwrap();
    post(&bench, 3, 6).unwrap();
    post(&bench, 0, 6).unwrap();
    while let Some(request) = bench.server.ready() {
        bench.server.run(&request, vexfs::fs::Patience::Wait);
    }
    let reply = bench.fetch(4);
    assert_eq!((reply.status(), reply.fixed.applied.get()), (0, 6));
    assert_eq!(reply.take::<wire::Attr>().0.ino.get(), numbers[5].0);
    // What cannot be applied ends the session.
    let wrong = batch(bench.session, 6, &operations[..1]);
    bench.server.post(&wrong, vexfs::fs::Patience::Wait).unwrap_err();
    assert!(bench.call(&Ask::inode(Opcode::Getattr, 1)).has(wire::REPLY_NO_SESSION));
    bench.check();
}

/// A file of so many pieces is taken apart in several transactions, each under the engine's lock.
#[test]
fn a_large_file_that_lost_its_name_goes_with_a_posted_operation() {
    const PIECES: u64 = 600;
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    for piece in 0..PIECES {
        bench
            .server
            .fs()
            .store(file, piece << 20, &pattern(piece, BLOCK))
            .unwrap();
    }
    let free = bench.server.fs().statistics().free_blocks;
    let unlink = Op::Unlink {
        parent: Ino::ROOT,
        time: NOW,
        name: b"file",
    };
    let purge = Op::Purge {
        ino: file,
        until: u64::MAX,
    };
    let bytes = batch(bench.session, 0, &[unlink, purge]);
    let refused = bench.server.post(&bytes, vexfs::fs::Patience::Refuse).unwrap();
    assert_eq!(refused, vexfs::client::Handled::Wait, "it takes its time");
    let (done, ended) = std::sync::mpsc::channel();
    let watch = std::thread::spawn(move || {
        let limit = std::time::Duration::from_secs(60);
        if ended.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            eprintln!("a posted operation hangs");
            std::process::abort();
        }
    });
    bench.server.post(&bytes, vexfs::fs::Patience::Wait).unwrap();
    done.send(()).unwrap();
    watch.join().unwrap();
    bench.server.fs().flush().unwrap();
    assert_eq!(bench.attr(file).unwrap_err(), -libc::ESTALE);
    assert!(bench.server.fs().statistics().free_blocks >= free);
    bench.check();
}

#[test]
fn a_client_that_claims_every_block_does_not_keep_the_pool_from_its_checkpoints() {
    let mut bench = Bench::new();
    let all = bench.server.fs().statistics().total_blocks;
    let claim = wire::Resume {
        session: bench.session.into(),
        credits: all.into(),
        ..wire::Resume::default()
    };
    assert_eq!(bench.call(&Ask::new(Opcode::Resume, &claim)).status(), 0);
    for number in 0..10 {
        bench.create(Ino::ROOT, format!("{number}").as_bytes(), FILE);
        bench.server.fs().checkpoint().unwrap();
    }
    assert!(!bench.server.fs().has_failed());
    // The next client gets what there is.
    bench.hello(7);
    assert!(bench.call(&Ask::grant(1, 100, 0, 0)).fixed.credits.get() > 0);
    bench.check();
}

#[test]
fn credits_keep_space_for_dirty_pages() {
    let mut bench = Bench::new();
    let available = bench.server.fs().statistics().available_blocks;
    let reply = bench.call(&Ask::grant(0, 1000, 100, 0));
    assert_eq!((reply.fixed.credits.get(), reply.fixed.meta_credits.get()), (1000, 100));
    let left = bench.server.fs().statistics().available_blocks;
    assert!(available - left >= 1000);
    // A part of what is left each time; in the end nearly all there is.
    let mut granted = 1000;
    loop {
        let reply = bench.call(&Ask::grant(0, u64::MAX, 0, 0));
        let more = reply.fixed.credits.get() - granted;
        granted += more;
        assert!(more <= (left / 8).max(64), "{more} of {left} at once");
        if more == 0 {
            break;
        }
    }
    assert!(granted <= 1000 + left && granted + 100 > left, "{granted} of {left}");
    let file = bench.create(Ino::ROOT, b"file", FILE);
    bench.server.fs().store(file, 0, &pattern(1, 50 * BLOCK)).unwrap();
    bench.call(&Ask::grant(0, 0, 0, granted));
    assert!(bench.server.fs().statistics().available_blocks + 200 > available);
    bench.check();
}

#[test]
fn vectors_are_attributes_to_a_client_too() {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    let hints = |bench: &mut Bench| bench.attr(file).unwrap().hints.get();
    let name: &[u8] = b"user.vexfs.vec.places";
    let value = [1.0_f32, 0.5].map(f32::to_le_bytes).concat();
    let set = |value| Op::SetXattr {
        ino: file,
        flags: 0,
        time: NOW,
        name,
        value,
    };
    assert_eq!(bench.apply(&[set(&value)]), -libc::EOPNOTSUPP, "there is no such space");
    let space = NewSpace {
        name: b"places",
        shape: Shape::new(2, Element::F32, Metric::L2).unwrap(),
        effort: 0,
        fields: &[],
        now: NOW,
    };
    bench.server.fs().create_space(&space).unwrap();
    assert_eq!(hints(&mut bench), 0);
    assert_eq!(
        bench.apply(&[set(&value[..7])]),
        -libc::EINVAL,
        "no vector of two numbers"
    );
    assert_eq!(bench.apply(&[set(&value)]), 0);
    assert_eq!(hints(&mut bench), wire::HINT_XATTRS);
    bench.kill();
    let found = bench.call(&Ask::named(Opcode::Getxattr, file.0, name));
    assert_eq!(found.payload, value);
    let list = bench.call(&Ask::inode(Opcode::Listxattr, file.0));
    assert_eq!(list.payload, [name, b"\0"].concat());
    let time = NOW;
    assert_eq!(bench.apply(&[Op::RemoveXattr { ino: file, time, name }]), 0);
    assert_eq!(hints(&mut bench), 0);
    // With its last vectors a file goes as any other does.
    assert_eq!(bench.apply(&[set(&value)]), 0);
    let unlink = Op::Unlink {
        parent: Ino::ROOT,
        time,
        name: b"file",
    };
    assert_eq!(bench.apply(&[unlink]), 0);
    assert_eq!(bench.call(&Ask::inode(Opcode::Release, file.0)).status(), 0);
    assert_eq!(bench.server.fs().spaces().unwrap()[0].space.vectors, 0);
    bench.check();
}

#[test]
fn the_same_hello_again_begins_nothing_new() {
    let mut bench = Bench::new();
    let first = bench.hello(77).session.get();
    assert_eq!(bench.hello(77).session.get(), first);
    bench.kill();
    assert_eq!(bench.hello(77).session.get(), first);
    assert_ne!(bench.hello(78).session.get(), first);
    bench.check();
}
