// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench fsync`: what it costs that something is on the disk, on mounted filesystems in one machine.
//!
//! Who is compared, and how they take turns, is in `mounted`. Every operation is synced before its thread begins the next, and
//! timed. Flushes and bytes are those that the disk below the filesystem was given while the work went on: what a filesystem
//! puts off, such as emptying its journal, counts where it happens. Amplification is in bytes of the disk per byte of a file,
//! so works that write none have none.

mod cost;

use anyhow::{Context, Result};
use lab::kernel::Kernel;
use lab::vm::Machine;
use lab_guest::work::Work;

use self::cost::Cost;
use super::mounted::{self, Bench, Contender, EXT4, OURS, Programs};
use super::rounds::{self, Figures};
use super::row::Row;

/// Of the file in each place whose blocks are overwritten.
const FILE_MIB: usize = 4;
const BLOCK: f64 = 4096.0;
const APPEND: &str = "4 KiB append + fsync";

/// What to measure.
pub(super) struct Plan<'a> {
    pub(super) rounds: u32,
    /// Operations of each thread: a 200th of that.
    pub(super) files: usize,
    /// Parts of the names of contenders; all if empty. Ours is always there.
    pub(super) only: &'a [String],
}

/// One way of having something on the disk.
struct Case {
    measure: &'static str,
    work: Work,
    threads: &'static [usize],
    places: Places,
    /// Bytes of files that an operation writes.
    bytes: f64,
}

/// Where threads work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Places {
    /// Each in a directory of its own.
    Apart,
    /// Each in a directory of its own with a file of [`FILE_MIB`] in it.
    WithFiles,
    /// All in the same directory.
    Together,
}

const CASES: [Case; 4] = [
    Case {
        measure: APPEND,
        work: Work::SyncedAppends,
        threads: &[1, 4, 16],
        places: Places::Apart,
        bytes: BLOCK,
    },
    Case {
        measure: "4 KiB overwrite + fdatasync",
        work: Work::DataSyncedWrites,
        threads: &[1, 16],
        places: Places::WithFiles,
        bytes: BLOCK,
    },
    Case {
        measure: "replace a file: write, fsync, rename, fsync of the directory",
        work: Work::SyncedReplaces,
        threads: &[1, 4],
        places: Places::Apart,
        bytes: BLOCK,
    },
    Case {
        measure: "create + fsync of the directory, all in one",
        work: Work::SyncedCreates,
        threads: &[16],
        places: Places::Together,
        bytes: 0.0,
    },
];

pub(super) fn run(kernel: &Kernel, plan: &Plan<'_>) -> Result<Vec<Row>> {
    let contenders = Contender::wanted(&Contender::OF_THE_KERNEL, plan.only)?;
    let (mut machine, programs) = mounted::machine(kernel, "fsync", mounted::DISK_MIB)?;
    let measured = mounted::in_turn(kernel, plan.rounds, contenders, |contender| {
        one(&mut machine, contender, &programs, plan.files)
    })?;
    machine.shut_down()?;
    rounds::rows(&kernel.release, OURS, &measured, bar)
}

fn bar(measure: &str, peer: &str) -> Option<f64> {
    (peer == EXT4 && measure == name(APPEND, 16)).then_some(1.5)
}

fn name(measure: &str, threads: usize) -> String {
    format!("{measure}, {threads} thr")
}

/// How many operations each thread does.
pub(super) fn amount(files: usize) -> usize {
    (files / 200).clamp(20, 1000)
}

/// All figures of one contender, made anew.
fn one(machine: &mut Machine, contender: Contender, programs: &Programs, files: usize) -> Result<Figures> {
    let serving = contender.start(machine, programs)?;
    let mut bench = Bench::new(machine, programs);
    for (number, case) in CASES.iter().enumerate() {
        for &threads in case.threads {
            let measure = name(case.measure, threads);
            measure_case(&mut bench, case, &format!("case-{number}-{threads}"), threads, files).context(measure)?;
        }
    }
    let figures = bench.figures;
    contender.stop(machine, serving, programs)?;
    Ok(figures)
}

fn measure_case(bench: &mut Bench<'_>, case: &Case, directory: &str, threads: usize, files: usize) -> Result<()> {
    let places = match case.places {
        Places::Apart | Places::WithFiles => bench.places(directory, threads)?,
        Places::Together => vec![bench.places(directory, 1)?.concat(); threads],
    };
    if case.places == Places::WithFiles {
        bench.timed((Work::Write, FILE_MIB), &places, false)?;
    }
    let each = amount(files);
    let (took, traffic) = bench.timed((case.work, each), &places, false)?;
    let cost = Cost {
        operations: mounted::count(each * threads),
        took,
        traffic,
        bytes: case.bytes,
    };
    bench.figures.push(cost.figure(name(case.measure, threads))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_threads_that_append_have_a_bar_against_ext4_and_nothing_else_has() {
        let names: Vec<_> = CASES
            .iter()
            .flat_map(|case| case.threads.iter().map(|&threads| name(case.measure, threads)))
            .collect();
        assert_eq!(names.len(), 8);
        let with_bar: Vec<_> = names.iter().filter(|name| bar(name, EXT4).is_some()).collect();
        assert_eq!(with_bar, ["4 KiB append + fsync, 16 thr"]);
        assert!(names.iter().all(|name| bar(name, mounted::BTRFS).is_none()));
    }

    #[test]
    fn amounts_are_enough_for_percentiles_and_bounded() {
        assert_eq!([100, 100_000, 10_000_000].map(amount), [20, 500, 1000]);
    }
}
