// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writers on a mount that stays while its server is hurt: what they see of that, and whether their books are right.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::settle;
use super::workload::Writer;

/// Shorter calls are not remembered.
const SLOW: Duration = Duration::from_millis(100);
/// How often progress is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Writers, each with a directory and a book of its own.
#[derive(Debug)]
pub struct Load {
    writers: Vec<Writer>,
}

/// How far writers are that are working.
#[derive(Debug)]
pub struct Progress {
    over: AtomicBool,
    /// Calls of each that were answered.
    answered: Vec<AtomicU64>,
}

impl Progress {
    /// Waits until each writer was answered once more, or until `limit` is over.
    ///
    /// A server that lives shorter than a call takes never answers it: who kills servers one after the other has to leave
    /// each the time that calls take on this machine.
    pub fn of_each(&self, limit: Duration) {
        let begin = Instant::now();
        let now = || self.answered.iter().map(|calls| calls.load(Ordering::SeqCst));
        let before: Vec<_> = now().collect();
        while begin.elapsed() < limit && now().zip(&before).any(|(now, before)| now == *before) {
            thread::sleep(POLL);
        }
    }
}

/// What the writers saw for a while.
#[derive(Debug, Default)]
pub struct Seen {
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that failed; a writer stops at its first.
    pub failed: Vec<String>,
    /// Failed ones too.
    slow: Vec<Slow>,
}

/// A slow call.
#[derive(Debug)]
struct Slow {
    begin: Instant,
    end: Instant,
    what: String,
}

impl Slow {
    fn length(&self) -> Duration {
        self.end - self.begin
    }
}

impl Seen {
    /// The longest call that was under way at this moment, or began soon after.
    pub fn stall(&self, moment: Instant) -> Duration {
        let spans = |call: &&Slow| call.begin <= moment + SLOW && call.end > moment;
        let found = self.slow.iter().filter(spans).map(Slow::length);
        found.max().unwrap_or_default()
    }

    /// The longest call.
    pub fn longest(&self) -> Duration {
        self.slow.iter().map(Slow::length).max().unwrap_or_default()
    }

    /// The longest call, in words.
    pub fn slowest(&self) -> String {
        let slowest = self.slow.iter().max_by_key(|call| call.length());
        slowest.map_or_else(String::new, |call| format!("{} took {:?}", call.what, call.length()))
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed.extend(other.failed);
        self.slow.extend(other.slow);
    }
}

impl Load {
    /// Writers that begin with empty directories below `directory`; `scratch` is for their logs.
    pub fn new(directory: &Path, scratch: &Path, writers: usize, seed: u64) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let writer = |number| {
            let log = scratch.join(format!("writer-{number}.log"));
            Writer::new(directory.join(format!("w{number}")), random.fork(), &log)
        };
        let writers = (0..writers).map(writer).collect::<Result<_, _>>();
        Ok(Self {
            writers: writers.context("preparing the writers")?,
        })
    }

    /// Works for as long as `hurt` takes.
    pub fn work(&mut self, hurt: impl FnOnce(&Progress) -> Result<()>) -> Result<Seen> {
        let progress = Progress {
            over: AtomicBool::new(false),
            answered: self.writers.iter().map(|_| AtomicU64::new(0)).collect(),
        };
        thread::scope(|scope| {
            let working: Vec<_> = self
                .writers
                .iter_mut()
                .zip(&progress.answered)
                .map(|(writer, answered)| scope.spawn(|| work(writer, answered, &progress.over)))
                .collect();
            let hurt = hurt(&progress);
            progress.over.store(true, Ordering::SeqCst);
            let mut seen = Seen::default();
            for writer in working {
                match writer.join() {
                    Ok(part) => seen.add(part),
                    Err(_) => bail!("a writer panicked"),
                }
            }
            hurt.map(|()| seen)
        })
    }

    /// Compares what is there with the books. Of a call that failed nobody knows whether it was done; this finds out.
    pub fn compare(&mut self) -> Result<()> {
        for writer in &mut self.writers {
            settle(writer).with_context(|| format!("below {}", writer.root.display()))?;
        }
        Ok(())
    }
}

fn work(writer: &mut Writer, answered: &AtomicU64, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let before = writer.answered;
    while !over.load(Ordering::SeqCst) {
        let begin = Instant::now();
        let result = writer.step();
        let end = Instant::now();
        if end - begin > SLOW {
            seen.slow.push(Slow {
                begin,
                end,
                what: format!("{:?}", writer.latest),
            });
        }
        if let Err(error) = result {
            seen.failed.push(format!("{:?}: {error}", writer.pending));
            break;
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
    writer.close();
    seen.answered = writer.answered - before;
    seen
}
