// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench fs`: our filesystem, mounted by its kernel module, against others in the same machine.
//!
//! Who is compared, and how they take turns, is in `mounted`. Cold means with the machine's caches dropped. Before each work
//! everything is synced, in nobody's time.

use std::time::Duration;

use anyhow::Result;
use lab::kernel::Kernel;
use lab::vm::Machine;
use lab_guest::service::MOUNT;
use lab_guest::work::{ARCHIVE, Work};

use super::mounted::{self, BTRFS, Bench, Contender, EXT4, OURS, OVER_FUSE, Programs};
use super::rounds::{self, Figure, Figures};
use super::row::Row;

/// Making the archive is given up after that.
const LIMIT: Duration = Duration::from_secs(1800);
/// Of the file for sequential and random access.
const LARGE_MIB: usize = 512;
/// Works on bytes, as their measures begin; all others are on names and attributes.
const DATA: [&str; 3] = ["sequential", "4 KiB random", "4 KiB append"];

/// What to measure.
pub(super) struct Plan<'a> {
    pub(super) rounds: u32,
    /// Of the works on many files: how many.
    pub(super) files: usize,
    /// Of the works that go on for a time.
    pub(super) seconds: u32,
    /// Parts of the names of contenders; all if empty. Ours is always there.
    pub(super) only: &'a [String],
}

pub(super) fn run(kernel: &Kernel, plan: &Plan<'_>) -> Result<Vec<Row>> {
    let contenders = Contender::wanted(&Contender::ALL, plan.only)?;
    let (mut machine, programs) = mounted::machine(kernel, "fs", mounted::DISK_MIB)?;
    make_archive(&mut machine, kernel, plan.files)?;
    let measured = mounted::in_turn(kernel, plan.rounds, contenders, |contender| {
        one(&mut machine, contender, &programs, plan)
    })?;
    machine.shut_down()?;
    rounds::rows(&kernel.release, OURS, &measured, bar)
}

/// What the ratio to a contender should be.
fn bar(measure: &str, peer: &str) -> Option<f64> {
    let data = DATA.iter().any(|work| measure.starts_with(work));
    match peer {
        BTRFS => Some(1.2),
        OVER_FUSE => (!data).then_some(3.0),
        EXT4 if measure.starts_with("4 KiB append + fsync, 16") => Some(1.5),
        EXT4 if measure.starts_with("stat, cold") => Some(0.8),
        EXT4 if measure.starts_with("4 KiB random") => Some(0.9),
        EXT4 if measure.starts_with("sequential") => Some(0.95),
        EXT4 => Some(1.0),
        _ => None,
    }
}

/// The archive to unpack.
fn make_archive(machine: &mut Machine, kernel: &Kernel, files: usize) -> Result<()> {
    let script = format!(
        "cd {headers} && find . -type f | head -n {members} > /tmp/members && tar -cf {ARCHIVE} -T /tmp/members",
        headers = kernel.tree.path(&kernel.headers).display(),
        // About as many as the headers of a kernel have, of 100,000 files.
        members = files / 5,
    );
    machine.succeed(&script, LIMIT).map(drop)
}

/// All figures of one contender, made anew.
fn one(machine: &mut Machine, contender: Contender, programs: &Programs, plan: &Plan<'_>) -> Result<Figures> {
    let serving = contender.start(machine, programs)?;
    let mut bench = Bench::new(machine, programs);
    many_files(&mut bench, plan.files)?;
    synced(&mut bench, plan.files)?;
    data(&mut bench, plan.seconds)?;
    let figures = bench.figures;
    contender.stop(machine, serving, programs)?;
    Ok(figures)
}

fn many_files(bench: &mut Bench<'_>, files: usize) -> Result<()> {
    for threads in [1, 4] {
        let places = bench.places(&format!("files-{threads}"), threads)?;
        let share = files / threads;
        let mut measure = |what: &str, work, cold| {
            let row = (format!("{what}, {threads} thr"), "1/s");
            bench.work(row, (work, share), &places, cold)
        };
        measure("create", Work::Create, false)?;
        measure("stat, warm", Work::Stat, false)?;
        measure("stat, cold", Work::Stat, true)?;
        measure("readdir, cold", Work::List, true)?;
        measure("rename", Work::Rename, false)?;
        measure("unlink", Work::UnlinkRenamed, false)?;
    }
    for (what, cold) in [("cold", true), ("warm", false)] {
        let places = bench.places(&format!("untar-{what}"), 1)?;
        let row = (format!("untar, {what}"), "files/s");
        bench.work(row, (Work::Untar, files / 5), &places, cold)?;
    }
    Ok(())
}

fn synced(bench: &mut Bench<'_>, files: usize) -> Result<()> {
    let amount = (files / 500).clamp(20, 200);
    for threads in [1, 16] {
        let places = bench.places(&format!("synced-{threads}"), threads)?;
        let row = (format!("4 KiB append + fsync, {threads} thr"), "1/s");
        bench.work(row, (Work::SyncedAppends, amount), &places, false)?;
    }
    Ok(())
}

fn data(bench: &mut Bench<'_>, seconds: u32) -> Result<()> {
    let places = bench.places("large", 1)?;
    let row = |what: &str| (format!("{what}, buffered"), "MiB/s");
    bench.work(
        row("sequential write + fsync"),
        (Work::Write, LARGE_MIB),
        &places,
        false,
    )?;
    bench.work(row("sequential read, cold"), (Work::Read, LARGE_MIB), &places, true)?;
    for (what, pattern, block, depth) in [
        ("sequential write, direct", "write", "1M", 4),
        ("sequential read, direct", "read", "1M", 4),
        ("4 KiB random write, direct, QD 32", "randwrite", "4k", 32),
        ("4 KiB random read, direct, QD 32", "randread", "4k", 32),
    ] {
        let path = format!("{MOUNT}/large/0/large");
        let figures = bench.fio(&path, (pattern, block, depth), (LARGE_MIB, seconds))?;
        let (unit, value) = match block {
            "1M" => ("MiB/s", figures.bandwidth / f64::from(1 << 20)),
            _ => ("1/s", figures.iops),
        };
        bench.figures.push(Figure::more(what, unit, value));
    }
    Ok(())
}
