// SPDX-License-Identifier: MIT OR Apache-2.0

//! Proof of crash consistency: sequences of calls against a reference model, on a disk that loses power.
//!
//! | module | job |
//! |---|---|
//! | `content`, `model` | the reference: files as plain collections |
//! | `workload` | typed actions from a seed |
//! | `tree`, `consistency` | what can be seen of an engine or a model, and what must hold of it |
//! | `session` | engine and model side by side |
//! | `history` | the states passed through, and which of them a crash may leave |
//! | `disk` | keeps the disk as it was at the moments of crashes |
//! | `runner` | runs, crashes, shrinks |
//! | `regressions` | what was found on the way |
//!
//! Settings, by environment:
//!
//! - `VEXFS_SIM_SEED`: only the sequence of this seed, with every crash point.
//! - `VEXFS_SIM_SEQUENCES`: how many sequences; 500 by default.
//! - `VEXFS_SIM_CRASH_POINTS`: crash points of each besides the first and last; `all` for every one.
//! - `VEXFS_SIM_FIRST`: the seed of the first sequence; the others follow.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of a simulation are small")]
#![allow(missing_docs, unreachable_pub, reason = "a test has no users")]
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod consistency;
mod content;
mod disk;
mod history;
mod model;
mod regressions;
mod runner;
mod session;
mod tree;
mod workload;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use vexfs::disk::{Operation, SplitMix64};

use disk::Points;
use runner::{Figures, Plan, bytes_after, check, check_fault, guarded, shrink};
use session::Violation;

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    setting(name).map(|value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {value}"))
    })
}

fn points() -> Points {
    match setting("VEXFS_SIM_CRASH_POINTS").as_deref() {
        Some("all") => Points::All,
        Some(_) => Points::Some(number("VEXFS_SIM_CRASH_POINTS").unwrap_or(6) as usize),
        None => Points::Some(6),
    }
}

/// The seeds to run.
fn seeds(share: u64) -> Vec<u64> {
    if let Some(seed) = number("VEXFS_SIM_SEED") {
        return vec![seed];
    }
    let first = number("VEXFS_SIM_FIRST").unwrap_or(1);
    (first..first + number("VEXFS_SIM_SEQUENCES").unwrap_or(500) / share).collect()
}

/// Runs every seed on all processors, and stops at the first violations.
fn run(test: &str, seeds: &[u64], each: impl Fn(&Plan) -> Result<Figures, Violation> + Sync) {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let total = Mutex::new(Figures::default());
    let violations = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let plan = Plan::of(seed);
                    match guarded(|| each(&plan)) {
                        Ok(figures) => total.lock().unwrap().add(&figures),
                        Err(wrong) => violations.lock().unwrap().push((plan, wrong)),
                    }
                    if violations.lock().unwrap().len() >= 3 {
                        return;
                    }
                }
            });
        }
    });
    let violations = violations.into_inner().unwrap();
    let figures = total.into_inner().unwrap();
    let Figures {
        sequences,
        actions,
        crash_points,
        recoveries,
        faults,
    } = figures;
    println!(
        "{test}: {sequences} sequences, {actions} calls, {crash_points} crash points, {faults} faults, \
         {recoveries} recoveries, {} violations, {:.1?}",
        violations.len(),
        begin.elapsed()
    );
    for (plan, wrong) in &violations {
        let (shrunk, why) = shrink(plan, wrong.clone(), |plan| guarded(|| each(plan)).err());
        println!(
            "VEXFS_SIM_SEED={} cargo test -p vexfs --test simulation {test}\n  {wrong}",
            plan.seed
        );
        println!("shrunk, journal of {} bytes: {why}", shrunk.journal_bytes);
        for action in &shrunk.actions {
            println!("    Action::{action:?},");
        }
    }
    assert!(violations.is_empty(), "{} sequences went wrong", violations.len());
}

#[test]
fn any_sequence_does_what_the_model_does_and_survives_crashes_at_any_moment() {
    let points = if number("VEXFS_SIM_SEED").is_some() {
        Points::All
    } else {
        points()
    };
    run(
        "any_sequence_does_what_the_model_does_and_survives_crashes_at_any_moment",
        &seeds(1),
        |plan| check(plan, points),
    );
}

#[test]
fn a_failing_disk_is_told_and_takes_nothing_that_was_flushed() {
    run(
        "a_failing_disk_is_told_and_takes_nothing_that_was_flushed",
        &seeds(2),
        |plan| {
            let mut random = SplitMix64::new(plan.seed);
            let mut figures = Figures::default();
            for (kind, most) in [(Operation::Write, 80), (Operation::Sync, 5), (Operation::Read, 60)] {
                figures.add(&check_fault(plan, kind, 1 + random.below(most))?);
            }
            Ok(figures)
        },
    );
}

#[test]
fn the_same_calls_leave_the_same_bytes() {
    run("the_same_calls_leave_the_same_bytes", &seeds(10), |plan| {
        let same = bytes_after(plan)? == bytes_after(plan)?;
        same.then(|| Figures {
            sequences: 1,
            ..Figures::default()
        })
        .ok_or_else(|| "two runs leave different bytes".into())
    });
}
