// SPDX-License-Identifier: MIT OR Apache-2.0

//! An application whose memory is elsewhere.
//!
//! What it does follows from a seed alone, step by step, so all that has to be remembered is how many steps each of its
//! workers was promised: that fsync, fdatasync, `O_DSYNC` or syncfs returned after them. It tells each such number on its
//! output, and who keeps them outside of the machine can take the machine's power at any moment. When it is started again
//! with these numbers it first looks whether the tree is as it must be ([`state`]), and then goes on from there.
//!
//! What must be there is more than POSIX asks: names and attributes as they were after some step, not before the last
//! promised one. Of the first step behind that which writes bytes to a file, each page may be there or not, also before
//! names and attributes that were changed earlier: a mount sends those when somebody waits for them, and bytes at once.
//!
//! - [`plan`]: the steps.
//! - [`state`]: what they make of a directory, and which states may be found.
//! - [`perform`]: doing them.

mod perform;
mod plan;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use self::perform::perform;
use self::plan::{Piece, Plan, Step};
use self::state::{Found, State};

/// How the application's lines begin; a worker and a number of steps follow.
pub const FOUND: &str = "found";
/// See [`FOUND`].
pub const PROMISED: &str = "promised";

/// Runs it for ever in `directory`, with a worker for each number of `promised`. With `only_look`, looks and ends.
/// Returns when a worker cannot go on.
pub fn run(directory: &Path, seed: u64, promised: &[u64], only_look: bool) -> Result<()> {
    let workers: Vec<Worker> = (0..)
        .zip(promised)
        .map(|(number, &promised)| Worker::found(directory, seed, number, promised))
        .collect::<Result<_>>()?;
    for worker in &workers {
        tell(FOUND, worker.number, worker.done)?;
    }
    if only_look {
        return Ok(());
    }
    // The first that ends says why; the others end with the process.
    let (tell_end, ended) = mpsc::channel();
    for mut worker in workers {
        let tell_end = tell_end.clone();
        thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| worker.work()));
            tell_end.send(result.unwrap_or_else(|_| bail!("a worker panicked")))
        });
    }
    ended.recv()?
}

/// A line on the output, whole and at once.
fn tell(what: &str, worker: u64, steps: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{what} {worker} {steps}")?;
    Ok(out.flush()?)
}

/// The first write behind a step before which nothing else is durable: what its file is called now, and its bytes.
fn write_ahead(plan: Plan, mut step: u64, state: &State) -> Option<(u8, Piece)> {
    let mut later = state.clone();
    // What files are called then, and now.
    let mut names: BTreeMap<u8, u8> = state.names().map(|name| (name, name)).collect();
    loop {
        let next = plan.step(step, &later);
        match next {
            Step::Write { name, piece, .. } => return names.get(&name).map(|&now| (now, piece)),
            Step::Rename { from, to } => {
                if let Some(now) = names.remove(&from) {
                    names.insert(to, now);
                }
            }
            Step::Remove { name } => {
                names.remove(&name);
            }
            Step::Attribute { .. } => {}
            Step::Replace { .. } | Step::Truncate { .. } | Step::SyncAll => return None,
        }
        later.apply(&next);
        step += 1;
    }
}

/// One thread, with a directory of its own.
struct Worker {
    number: u64,
    directory: PathBuf,
    plan: Plan,
    state: State,
    /// Steps that are done.
    done: u64,
}

impl Worker {
    /// Looks how far it had got.
    fn found(root: &Path, seed: u64, number: u64, promised: u64) -> Result<Self> {
        let directory = root.join(number.to_string());
        let plan = Plan::new(seed, number);
        let mut state = State::default();
        for step in 0..promised {
            state.apply(&plan.step(step, &state));
        }
        if promised == 0 {
            // Even its directory was never promised.
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        }
        let found = Found::read(&directory).with_context(|| format!("reading {}", directory.display()))?;
        let mut wrong = Vec::new();
        let mut done = promised;
        loop {
            let next = plan.step(done, &state);
            let ahead = || write_ahead(plan, done, &state).is_some_and(|write| state.accepts_ahead(&found, write));
            match state.accepts(&found, &next) {
                Err(difference) if !ahead() => wrong.push(format!("  after step {done}: {difference}")),
                _ => break,
            }
            ensure!(
                !next.is_durable(),
                "worker {number} was promised {promised} steps; what is found is none of what may be there:\n{}\n\
                 the step after that is {next:?}",
                wrong.join("\n")
            );
            state.apply(&next);
            done += 1;
        }
        Ok(Self {
            number,
            directory,
            plan,
            state,
            done,
        })
    }

    fn work(&mut self) -> Result<()> {
        loop {
            let step = self.plan.step(self.done, &self.state);
            perform(&self.directory, &step).with_context(|| format!("worker {}, {step:?}", self.number))?;
            self.state.apply(&step);
            self.done += 1;
            if step.is_durable() {
                tell(PROMISED, self.number, self.done)?;
            }
        }
    }
}
