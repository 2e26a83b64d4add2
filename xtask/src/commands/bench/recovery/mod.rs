// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench recovery`: seconds until a filesystem is of use again, and seconds that looking for damage takes.
//!
//! | module | after what | against |
//! |---|---|---|
//! | `killed` | its server was killed, under a mount with changes that nobody synced | nobody: a filesystem of the kernel has no server |
//! | `cut` | the machine lost its power when journals had seen much | ext4, btrfs, xfs |
//! | `checked` | nothing: it was unmounted, with many files | their tools |
//!
//! Who is compared, and how they take turns, is in `mounted`. All clocks run in the machine, beside what they time.

mod checked;
mod cut;
mod killed;

use std::time::Duration;

use anyhow::{Context, Result};
use lab::kernel::Kernel;
use lab::runner::guest;
use lab::vm::{Ended, Machine, Stream};
use lab_guest::protocol::{Command, Exit};
use lab_guest::service::MOUNT;
use lab_guest::work::Work;
use serde::de::DeserializeOwned;

use super::mounted::{self, Contender, OURS, Programs};
use super::rounds;
use super::row::Row;

const LIMIT: Duration = Duration::from_secs(1800);
/// Threads that make files, each in a directory of its own.
const THREADS: usize = 4;

/// What to measure.
pub(super) struct Plan<'a> {
    pub(super) rounds: u32,
    /// That are made before the power is cut, and before a check.
    pub(super) files: usize,
    /// Parts of the names of contenders; all if empty. Ours is always there.
    pub(super) only: &'a [String],
}

pub(super) fn run(kernel: &Kernel, plan: &Plan<'_>) -> Result<Vec<Row>> {
    let contenders = Contender::wanted(&Contender::OF_THE_KERNEL, plan.only)?;
    let (mut machine, programs) = mounted::machine(kernel, "recovery", mounted::DISK_MIB)?;
    let killed = mounted::in_turn(kernel, plan.rounds, vec![Contender::Ours], |_| {
        killed::outages(&mut machine, &programs)
    })?;
    let mut machine = Some(machine);
    let compared = mounted::in_turn(kernel, plan.rounds, contenders, |contender| {
        let running = machine.take().context("the last machine was lost")?;
        let (mut running, mut figures) = cut::mount(running, contender, &programs, plan.files)?;
        figures.extend(checked::check(&mut running, contender, &programs, plan.files)?);
        machine = Some(running);
        Ok(figures)
    })?;
    if let Some(machine) = machine {
        machine.shut_down()?;
    }
    let mut rows = rounds::rows(&kernel.release, OURS, &killed, |_, _| None)?;
    rows.extend(rounds::rows(&kernel.release, OURS, &compared, |_, _| None)?);
    Ok(rows)
}

/// Makes so many files on what is mounted. A few are synced at last, and with them the journal that has the others.
fn make_files(machine: &mut Machine, programs: &Programs, files: usize) -> Result<()> {
    let places: Vec<_> = (0..THREADS).map(|thread| format!("{MOUNT}/files/{thread}")).collect();
    let (places, work, share) = (places.join(" "), &programs.work, files / THREADS);
    let (create, append) = (Work::Create.name(), Work::SyncedAppends.name());
    let script = format!("mkdir -p {places}; {work} {create} {share} {places}; {work} {append} 1 {places}");
    machine.succeed(&script, LIMIT).context("making files").map(drop)
}

/// Lets `lab-service` do a task, and takes what it found.
fn service<T: DeserializeOwned>(machine: &mut Machine, programs: &Programs, task: &[&str]) -> Result<T> {
    let words = [programs.service.as_str()].into_iter().chain(task.iter().copied());
    let job = machine.start(&Command {
        env: guest::environment(&programs.modules),
        ..Command::new(words)
    })?;
    let (mut printed, mut errors) = (Vec::new(), Vec::new());
    let ended = machine.wait(job, LIMIT, |stream, bytes| match stream {
        Stream::Out => printed.extend_from_slice(bytes),
        Stream::Err => errors.extend_from_slice(bytes),
    });
    let printed = String::from_utf8_lossy(&printed);
    if !matches!(ended, Ended::Exit(Exit::Code(0))) {
        anyhow::bail!("{task:?}: {ended:?}\n{printed}{}", String::from_utf8_lossy(&errors));
    }
    serde_json::from_str(&printed).with_context(|| format!("{task:?} printed {printed:?}"))
}
