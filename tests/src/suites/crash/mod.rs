// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crash loop: writers at work, the server killed at any moment, the filesystem mounted again and compared.
//!
//! The end of a process is no power loss. So more is asked than fsync promises: whatever was answered is there, and of the
//! one call that each writer waited for, all or nothing. A write may be several requests, so it may be there up to some page.
//! Then the filesystem is checked, and the next round goes on with the same tree.
//!
//! - [`model`]: what must be there.
//! - [`workload`]: the writers.
//! - [`storm`]: the same writers on a mount that outlives its servers, which they must not notice.

mod model;
#[cfg(test)]
mod planted_tests;
pub mod storm;
mod workload;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::model::State;
use self::workload::Writer;
use super::session::ROOMY;
use super::target::Target;
use super::{Case, Session};

/// The suite.
pub const CASES: &[Case] = &[Case {
    suite: "crash",
    name: "nothing_answered_is_lost_when_the_server_is_killed",
    quick: 180,
    full: 3600,
    body: nothing_answered_is_lost_when_the_server_is_killed,
}];

const WRITERS: usize = 4;
const ROUNDS: (u32, u32) = (12, 300);
/// Differences that an error shows.
const SHOWN: usize = 12;

fn nothing_answered_is_lost_when_the_server_is_killed(session: &Session) -> Result<()> {
    let mut random = session.random();
    session.with_target(ROOMY, |target| {
        let mut writers = (0..WRITERS)
            .map(|number| {
                let log = session.scratch().join(format!("writer-{number}.log"));
                Writer::new(target.directory().join(format!("w{number}")), random.fork(), &log)
            })
            .collect::<io::Result<Vec<_>>>()
            .context("preparing the writers")?;
        let rounds = session.pick(ROUNDS.0, ROUNDS.1);
        let mut interrupted = 0;
        for round in 1..=rounds {
            // Some rounds end while the first calls of a fresh mount are under way.
            let life = Duration::from_millis(if random.u8(..5) == 0 {
                random.u64(..20)
            } else {
                random.u64(20..700)
            });
            interrupted += one_round(target, &mut writers, life)
                .with_context(|| format!("round {round}, killed after {} ms", life.as_millis()))?;
        }
        let answered: u64 = writers.iter().map(|writer| writer.answered).sum();
        println!("{rounds} rounds, {answered} calls answered, {interrupted} interrupted");
        Ok(())
    })
}

/// Returns how many calls were under way when the server was killed.
fn one_round(target: &mut dyn Target, writers: &mut [Writer], life: Duration) -> Result<usize> {
    let killed = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let working: Vec<_> = writers
            .iter_mut()
            .map(|writer| scope.spawn(|| work(writer, &killed)))
            .collect();
        sleep_unless(life, || working.iter().any(thread::ScopedJoinHandle::is_finished));
        killed.store(true, Ordering::SeqCst);
        let ended = target.kill_server();
        for writer in working {
            match writer.join() {
                Ok(result) => result?,
                Err(_) => bail!("a writer panicked"),
            }
        }
        ended
    })?;
    target.remount().context("mounting after the kill")?;
    let mut interrupted = 0;
    for writer in writers.iter_mut() {
        interrupted += usize::from(writer.pending.is_some());
        settle(writer).with_context(|| format!("below {}", writer.root.display()))?;
    }
    target.unmount().context("unmounting after the comparison")?;
    target.check()?;
    target.mount()?;
    Ok(interrupted)
}

/// Works until the server is gone. An error while it is there is an error of the filesystem.
fn work(writer: &mut Writer, killed: &AtomicBool) -> Result<()> {
    let result = loop {
        if let Err(error) = writer.step() {
            break if killed.load(Ordering::SeqCst) {
                Ok(())
            } else {
                Err(error).with_context(|| format!("{:?} failed while the server lived", writer.pending))
            };
        }
        if killed.load(Ordering::SeqCst) && writer.answered.is_multiple_of(4096) {
            break Err(anyhow::anyhow!("calls are still answered after the server was killed"));
        }
    };
    writer.close();
    result
}

fn sleep_unless(life: Duration, over: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < life && !over() {
        thread::sleep(Duration::from_millis(1).min(life));
    }
}

/// Finds out which of the allowed states is there, and goes on from it.
fn settle(writer: &mut Writer) -> Result<()> {
    let found = State::read(&writer.root)?;
    let allowed = match &writer.pending {
        Some(op) => writer.state.outcomes(op),
        None => vec![writer.state.clone()],
    };
    writer.state = recognise(allowed, &found).map_err(|differences| {
        let shown = differences.get(..differences.len().min(SHOWN)).unwrap_or_default();
        anyhow::anyhow!(
            "after {} answered calls, with {:?} under way, {} names differ from the nearest allowed state:\n{}",
            writer.answered,
            writer.pending,
            differences.len(),
            shown.join("\n")
        )
    })?;
    writer.pending = None;
    Ok(())
}

/// The allowed state that is there, or how the nearest of them differs.
fn recognise(allowed: Vec<State>, found: &State) -> Result<State, Vec<String>> {
    let mut nearest: Option<Vec<String>> = None;
    for state in allowed {
        let differences = state.differences(found);
        if differences.is_empty() {
            return Ok(state);
        }
        if nearest.as_ref().is_none_or(|known| differences.len() < known.len()) {
            nearest = Some(differences);
        }
    }
    Err(nearest.unwrap_or_default())
}
