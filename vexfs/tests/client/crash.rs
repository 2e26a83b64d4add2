// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sequences of calls, posts and data, with deaths at any moment.
//!
//! - The server dies, before or after a request reached it, or while the disk is being written: the client sends the same
//!   again, and everything is there once, nothing answered is lost.
//! - The machine dies: what is there is what was there after some transaction, none older than the last flush; the session
//!   is over, and nothing of it is left but what had a name.

use std::collections::BTreeMap;

use vexfs::client::wire;
use vexfs::disk::SplitMix64;
use vexfs::fs::Patience;
use vexfs::fs::op::Op;
use vexfs::units::Ino;

use crate::bench::{Bench, NOW, create, pattern};
use crate::peer::{Ask, batch};

const FILE: u16 = 0o100_644;
const BLOCK: u64 = 4096;

/// What can be seen: names, and what they stand for.
type Tree = BTreeMap<Vec<u8>, Content>;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Content {
    ino: u64,
    bytes: Vec<u8>,
}

/// The tree as an engine shows it.
fn seen(bench: &Bench) -> Tree {
    let fs = bench.server.fs();
    let mut tree = Tree::new();
    for entry in fs.list_all(Ino::ROOT).unwrap() {
        let size = fs.attributes(entry.ino).unwrap().inode.size;
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        assert_eq!(fs.read(entry.ino, 0, &mut bytes).unwrap(), bytes.len());
        let ino = entry.ino.0;
        tree.insert(entry.name.to_vec(), Content { ino, bytes });
    }
    tree
}

/// What is done next.
#[derive(Debug, Clone)]
enum Step {
    Create(Vec<u8>, u64),
    Unlink(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    /// Whole blocks of a file, from one on, of a pattern; then the file is that long.
    Write(Vec<u8>, u64, u64, u64),
    Truncate(Vec<u8>, u64),
}

impl Step {
    fn choose(random: &mut SplitMix64, tree: &Tree, bench: &mut Bench) -> Self {
        let fresh = format!("file {}", random.next() % 1000).into_bytes();
        let there = (!tree.is_empty()).then(|| {
            let index = usize::try_from(random.below(tree.len() as u64)).unwrap();
            tree.keys().nth(index).unwrap().clone()
        });
        match (random.below(10), there) {
            (0..=2, _) | (_, None) => {
                if tree.contains_key(&fresh) {
                    Self::Unlink(fresh)
                } else {
                    Self::Create(fresh, bench.number().0)
                }
            }
            (3, Some(name)) => Self::Unlink(name),
            (4, Some(name)) => Self::Rename(name, fresh),
            (5, Some(name)) => Self::Truncate(name, random.below(5 * BLOCK)),
            (_, Some(name)) => {
                let (at, count) = (random.below(4), 1 + random.below(3));
                let most = (at + count) * BLOCK;
                Self::Write(name, at, count, most - random.below(BLOCK))
            }
        }
    }

    /// The operations of its transaction.
    fn operations(&self, tree: &Tree) -> Vec<Op<'_>> {
        let ino = |name: &Vec<u8>| Ino(tree[name].ino);
        vec![match self {
            Self::Create(name, number) => create(Ino::ROOT, Ino(*number), name, FILE),
            Self::Unlink(name) => Op::Unlink {
                parent: Ino::ROOT,
                time: NOW,
                name,
            },
            Self::Rename(name, new_name) => Op::Rename {
                from: Ino::ROOT,
                to: Ino::ROOT,
                flags: 0,
                whiteout: Ino(0),
                time: NOW,
                name,
                new_name,
            },
            Self::Write(name, _, _, size) => Op::Extend {
                ino: ino(name),
                size: *size,
                modified: NOW,
                changed: NOW,
            },
            Self::Truncate(name, size) => Op::Truncate {
                ino: ino(name),
                size: *size,
                time: NOW,
            },
        }]
    }

    /// Bytes to be stored before that, and where.
    fn data(&self, tree: &Tree) -> Option<(Ino, u64, Vec<u8>)> {
        let Self::Write(name, at, count, size) = self else {
            return None;
        };
        // As the page cache does it: zeros behind the end.
        let end = (*size).max(tree[name].bytes.len() as u64);
        let mut bytes = pattern(*size, usize::try_from(count * BLOCK).unwrap());
        let inside = usize::try_from(end.saturating_sub(at * BLOCK)).unwrap();
        if let Some(behind) = bytes.get_mut(inside..) {
            behind.fill(0);
        }
        Some((Ino(tree[name].ino), at * BLOCK, bytes))
    }

    /// What is seen after the bytes, and after all of it.
    fn apply(&self, tree: &Tree) -> (Tree, Tree) {
        let mut stored = tree.clone();
        if let (Self::Write(name, ..), Some((_, at, bytes))) = (self, self.data(tree)) {
            let there = &mut stored.get_mut(name).unwrap().bytes;
            let at = usize::try_from(at).unwrap();
            for (index, byte) in bytes.iter().enumerate() {
                if let Some(place) = there.get_mut(at + index) {
                    *place = *byte;
                }
            }
        }
        let mut done = stored.clone();
        match self {
            Self::Create(name, ino) => {
                let bytes = Vec::new();
                done.insert(name.clone(), Content { ino: *ino, bytes });
            }
            Self::Unlink(name) => drop(done.remove(name)),
            Self::Rename(name, new_name) => {
                let moved = done.remove(name).unwrap();
                done.insert(new_name.clone(), moved);
            }
            Self::Truncate(name, size) => done
                .get_mut(name)
                .unwrap()
                .bytes
                .resize(usize::try_from(*size).unwrap(), 0),
            Self::Write(name, _, _, size) => {
                let (_, at, bytes) = self.data(tree).unwrap();
                let (at, size) = (usize::try_from(at).unwrap(), usize::try_from(*size).unwrap());
                let there = &mut done.get_mut(name).unwrap().bytes;
                if there.len() < size {
                    let from = there.len();
                    there.resize(size, 0);
                    for (index, place) in there.iter_mut().enumerate().skip(from.max(at)) {
                        if let Some(byte) = bytes.get(index - at) {
                            *place = *byte;
                        }
                    }
                }
            }
        }
        (stored, done)
    }
}

/// The client's end of a run.
struct Run {
    bench: Bench,
    random: SplitMix64,
    tree: Tree,
    /// Every state there was, and the first that a flush has not promised.
    history: Vec<Tree>,
    promised: usize,
    position: u64,
    deaths: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            bench: Bench::new(),
            random: SplitMix64::new(seed),
            tree: Tree::new(),
            history: vec![Tree::new()],
            promised: 0,
            position: 0,
            deaths: 0,
        }
    }

    /// Does something that must be repeated after a death, until it succeeds.
    fn insist(&mut self, mut attempt: impl FnMut(&mut Bench, bool) -> bool) {
        // The disk may stop in the middle, or the server end before or after.
        let dies = self.random.below(4) == 0;
        if dies {
            let operations = self.bench.disk.operations() + self.random.below(6);
            self.bench.disk.stop_after(operations);
        }
        let mut retry = false;
        loop {
            let done = attempt(&mut self.bench, retry);
            let dies_after = self.random.below(12) == 0;
            if done && !dies_after {
                break;
            }
            self.deaths += 1;
            self.bench.disk.clear_faults();
            self.bench.kill();
            if done && self.random.below(2) == 0 {
                break;
            }
            retry = true;
        }
        if dies {
            // It may not have come to that: then it does now.
            self.bench.disk.clear_faults();
            self.bench.kill();
        }
    }

    fn step(&mut self) {
        let step = Step::choose(&mut self.random, &self.tree, &mut self.bench);
        let before = self.tree.clone();
        let (stored, done) = step.apply(&before);
        if let Some((ino, at, bytes)) = step.data(&before) {
            self.insist(|bench, _| bench.server.fs().store(ino, at, &bytes).is_ok());
            self.history.push(stored);
        }
        let operations = step.operations(&before);
        if self.random.below(3) == 0 {
            let bytes = batch(self.bench.session, self.position, &operations);
            self.insist(|bench, _| bench.server.post(&bytes, Patience::Wait).is_ok());
            self.position += operations.len() as u64;
        } else {
            self.bench.seq += 1;
            let (seq, session) = (self.bench.seq, self.bench.session);
            let slot = u16::try_from(self.random.below(32)).unwrap();
            let mut ask = Ask::apply(&operations, [0; 4]);
            ask.after = self.position;
            let request = ask.encode(session, slot, seq);
            self.insist(|bench, retry| {
                if retry {
                    assert!(bench.fetch(slot).has(wire::REPLY_AGAIN));
                }
                bench.send(slot, &request);
                let reply = bench.fetch(slot);
                match reply.status() {
                    0 => true,
                    status if status == -vexfs::error::Errno::Failed.number() => false,
                    status => panic!("{step:?}: {status}"),
                }
            });
        }
        self.tree = done;
        self.history.push(self.tree.clone());
        assert_eq!(seen(&self.bench), self.tree, "after {step:?}");
        if self.random.below(5) == 0 && self.bench.server.fs().flush().is_ok() {
            self.promised = self.history.len() - 1;
        }
        if self.random.below(9) == 0 {
            self.bench.server.fs().checkpoint().unwrap();
            self.promised = self.history.len() - 1;
        }
    }

    fn power_fails(mut self, seed: u64) {
        self.bench.cut_power(seed);
        let found = seen(&self.bench);
        let states = self.history.get(self.promised..).unwrap();
        assert!(states.contains(&found), "{found:?} is none of {} states", states.len());
        let session = self.bench.server.fs().session();
        assert!(!session.is_live() && session.unused.is_empty());
        self.bench.check();
    }
}

#[test]
fn what_was_answered_is_there_once_whoever_dies() {
    let mut deaths = 0;
    for seed in 0..40 {
        let mut run = Run::new(seed);
        for _ in 0..25 {
            run.step();
        }
        deaths += run.deaths;
        run.power_fails(seed);
    }
    assert!(deaths > 100, "only {deaths} servers died");
}
