// SPDX-License-Identifier: MIT OR Apache-2.0

//! What one client still has under way when the next one begins.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use vexfs::client::wire::{REPLY_AGAIN, REPLY_NO_SESSION};
use vexfs::fs::Patience;
use vexfs::fs::op::Op;
use vexfs::units::Ino;

use crate::bench::{Bench, NOW};
use crate::peer::{Ask, batch};

const FILE: u16 = 0o100_644;
/// Operations at once: so many that somebody comes in between.
const STEPS: u64 = 500;

/// The new client comes at another moment each time.
const TRIES: u32 = 20;

/// Ever larger sizes of a file. Posted, each is a transaction of its own.
fn truncates(ino: Ino, from: u64) -> Vec<Op<'static>> {
    let sizes = from + 1..=from + STEPS;
    sizes.map(|size| Op::Truncate { ino, size, time: NOW }).collect()
}

/// A client works, round after round until it is refused, and is replaced meanwhile. `round` gets its session, and how often
/// it was called before; it gives whether there was no refusal.
fn replaced_while(round: impl Fn(&Bench, Ino, u64) -> bool + Sync) -> Bench {
    let mut bench = Bench::new();
    let file = bench.create(Ino::ROOT, b"file", FILE);
    let rounds = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while round(&bench, file, rounds.load(Ordering::SeqCst)) {
                rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        while rounds.load(Ordering::SeqCst) < 3 {
            thread::yield_now();
        }
        bench.send(1, &Ask::hello(2).encode(0, 1, 1));
        assert_eq!(bench.fetch(1).status(), 0);
    });
    bench
}

#[test]
fn what_an_old_client_posted_is_not_counted_as_the_new_ones() {
    for _ in 0..TRIES {
        let bench = replaced_while(|bench, file, round| {
            let position = round * STEPS;
            let bytes = batch(bench.session, position, &truncates(file, position));
            bench.server.post(&bytes, Patience::Wait).is_ok()
        });
        let session = bench.server.fs().session();
        assert_eq!((session.hello, session.posted), (2, 0));
        bench.check();
    }
}

#[test]
fn what_an_old_client_called_for_is_not_counted_as_the_new_ones() {
    for _ in 0..TRIES {
        let bench = replaced_while(|bench, file, round| {
            let seq = bench.seq + 1 + round;
            let operations = truncates(file, round * STEPS);
            bench.send(0, &Ask::apply(&operations, [0; 4]).encode(bench.session, 0, seq));
            let reply = bench.fetch(0);
            reply.status() == 0 && !reply.has(REPLY_NO_SESSION) && !reply.has(REPLY_AGAIN)
        });
        let session = bench.server.fs().session();
        assert_eq!((session.hello, session.answered[0]), (2, 0));
        bench.check();
    }
}
