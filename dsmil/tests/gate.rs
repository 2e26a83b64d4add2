// SPDX-License-Identifier: MIT OR Apache-2.0

//! The gate in every interleaving of its threads, which loom finds. The source is the library's own; only its atomics
//! are loom's.

#![expect(unreachable_pub, reason = "public in the library whose source this is")]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};
    pub(crate) use loom::thread::yield_now as spin;
}

#[expect(dead_code, reason = "not everything of the gate takes part in every model")]
#[path = "../src/gate.rs"]
mod gate;

use loom::sync::Arc;
use loom::thread;
use sync::{AtomicU32, Ordering};

use gate::Gate;

#[test]
fn nobody_is_inside_once_it_is_shut() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let inside = Arc::new(AtomicU32::new(0));
        let commands = Arc::new(AtomicU32::new(0));
        let submitter = thread::spawn({
            let (gate, inside, commands) = (gate.clone(), inside.clone(), commands.clone());
            move || {
                for _ in 0..2 {
                    if let Some(_pass) = gate.enter() {
                        inside.fetch_add(1, Ordering::Relaxed);
                        commands.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            }
        });
        gate.shut();
        gate.drain();
        assert_eq!(inside.load(Ordering::Relaxed), 0, "somebody is inside a shut gate");
        let before = commands.load(Ordering::Relaxed);
        submitter.join().unwrap();
        assert_eq!(commands.load(Ordering::Relaxed), before, "a command passed a shut gate");
    });
}

#[test]
fn of_two_who_shut_it_one_was_first_and_both_find_it_empty() {
    loom::model(|| {
        let gate = Arc::new(Gate::new());
        let other = thread::spawn({
            let gate = gate.clone();
            move || {
                let first = gate.shut();
                gate.drain();
                first
            }
        });
        let mine = gate.shut();
        gate.drain();
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "exactly one is first");
        assert!(gate.enter().is_none());
        assert!(gate.open() && gate.enter().is_some());
    });
}
