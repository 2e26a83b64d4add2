// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench ublk`: our block devices against others that do the same, in one machine.
//!
//! Two contenders do the same works in turn, pair by pair: one is started, does them all, and is stopped before the other
//! is started; who comes first changes from pair to pair. A row is one of the works. Both get the same options (one queue, direct I/O) and the same backing, which is written once before the first pair.
//! CPU is that of the serving process over the whole run, per request that the block layer counted; what kernel threads do
//! for a contender is not in it.

mod contenders;
mod rows;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::host::{apt, workspace};
use lab::kernel::{Kernel, modules};
use lab::vm::{Disk, Machine, Spec};
use vexfs_measure::fio;

pub(super) use self::contenders::rublk;
use self::contenders::{Programs, Serving};
use self::rows::{Backing, Comparison, Work};
use super::row::{Better, Peer, Row, Side};
use vexfs_measure::Spread;

const LIMIT: Duration = Duration::from_secs(240);
/// The disk of the machine that holds whatever is served.
const DISK: &str = "bench";
const DISK_MIB: u64 = 2048;
/// Sources of what is compared.
const PEERS: &[apt::Package] = &[("qemu-utils", "/usr/bin/qemu-nbd"), ("e2fsprogs", "/sbin/mkfs.ext4")];

/// Of the peers, and of what measures.
pub(super) const PACKAGES: &[&str] = &["qemu-utils", "e2fsprogs", "fio", "qemu-system-x86"];

/// What to measure, and for how long.
pub(super) struct Plan<'a> {
    pub(super) pairs: u32,
    /// Parts of names; all rows if empty.
    pub(super) only: &'a [String],
    /// Of each run.
    pub(super) seconds: u32,
}

/// What one contender did in one run.
struct Run {
    /// Requests per second.
    rate: f64,
    /// CPU of the server per request, in microseconds.
    cpu: f64,
    /// Microseconds.
    p50: f64,
    p99: f64,
}

pub(super) fn run(kernel: &Kernel, plan: &Plan<'_>) -> Result<Vec<Row>> {
    let comparisons: Vec<Comparison> = rows::all()
        .into_iter()
        .filter_map(|comparison| comparison.only(plan.only))
        .collect();
    ensure!(
        !comparisons.is_empty(),
        "no row has such a name; there are: {}",
        names().join(", ")
    );
    apt::ensure(apt::UBLK_BUILD)?;
    apt::ensure(PEERS)?;
    let programs = Programs::build(modules::ensure(kernel)?)?;
    let directory = workspace::machine_directory("bench-ublk");
    std::fs::create_dir_all(&directory)?;
    let mut machine = Machine::boot(&Spec {
        memory: 2048,
        disks: vec![Disk::create(&directory, DISK, DISK_MIB)?],
        ..Spec::new(kernel, directory)
    })?;
    machine.succeed(
        "mkdir -p /run/lock && modprobe ublk_drv && modprobe nbd nbds_max=1 max_part=0",
        LIMIT,
    )?;
    let mut prepared = None;
    let mut results = Vec::new();
    let features = machine.succeed(&format!("{} features", programs.cli), LIMIT)?;
    for comparison in comparisons {
        let needs = [comparison.ours.needs(), comparison.other.needs()].concat();
        if let Some(lacking) = needs.iter().find(|need| !features.lines().any(|name| name == **need)) {
            println!(
                "{:6} {}: not here: the driver lacks {lacking}",
                kernel.id,
                comparison.name()
            );
            continue;
        }
        if prepared != Some(comparison.backing) {
            prepare(&mut machine, comparison.backing, &programs)?;
            prepared = Some(comparison.backing);
        }
        results.extend(measure(&mut machine, kernel, &comparison, plan, &programs)?);
    }
    machine.shut_down()?;
    Ok(results)
}

/// The names of all rows.
fn names() -> Vec<String> {
    let names: BTreeSet<_> = rows::all().iter().flat_map(Comparison::names).collect();
    names.into_iter().collect()
}

/// What both did at one work, pair by pair.
#[derive(Default)]
struct Runs {
    ours: Vec<Run>,
    others: Vec<Run>,
}

fn measure(
    machine: &mut Machine,
    kernel: &Kernel,
    comparison: &Comparison,
    plan: &Plan<'_>,
    programs: &Programs,
) -> Result<Vec<Row>> {
    let mut all: Vec<Runs> = comparison.works.iter().map(|_| Runs::default()).collect();
    for pair in 1..=plan.pairs {
        let mut sides = [(&comparison.ours, true), (&comparison.other, false)];
        if pair % 2 == 0 {
            sides.reverse();
        }
        for (contender, is_ours) in sides {
            let serving = contender.start(machine, programs)?;
            for ((work, _), runs) in comparison.works.iter().zip(&mut all) {
                let run = load(machine, &serving, *work, plan.seconds)
                    .with_context(|| format!("{}, pair {pair}, ours: {is_ours}", comparison.row(*work)))?;
                let side = if is_ours { &mut runs.ours } else { &mut runs.others };
                side.push(run);
            }
            contender.stop(machine, serving, programs)?;
        }
    }
    let rows = comparison.works.iter().zip(&all);
    rows.map(|(&(work, bar), runs)| report(kernel, comparison, (work, bar), runs))
        .collect()
}

fn report(kernel: &Kernel, comparison: &Comparison, (work, bar): (Work, f64), runs: &Runs) -> Result<Row> {
    let Runs { ours, others } = runs;
    let ratios = ours.iter().zip(others).map(|(ours, other)| ours.rate / other.rate);
    Ok(Row {
        place: kernel.release.clone(),
        measure: comparison.row(work),
        unit: "1/s".to_owned(),
        better: Better::More,
        ours: side(comparison.what, ours)?,
        peers: vec![Peer {
            side: side(comparison.against, others)?,
            ratio: Spread::of(ratios.collect())?,
            bar: Some(bar),
        }],
        curves: None,
        run: super::row::Run::default(),
    })
}

fn side(name: &str, runs: &[Run]) -> Result<Side> {
    let spread = |of: fn(&Run) -> f64| Spread::of(runs.iter().map(of).collect());
    Ok(Side {
        name: name.to_owned(),
        value: spread(|run| run.rate)?,
        costs: vec![
            ("CPU, µs".to_owned(), spread(|run| run.cpu)?),
            ("p50, µs".to_owned(), spread(|run| run.p50)?),
            ("p99, µs".to_owned(), spread(|run| run.p99)?),
        ],
    })
}

/// Lets fio at the device of a contender that serves.
fn load(machine: &mut Machine, serving: &Serving, work: Work, seconds: u32) -> Result<Run> {
    let device = serving.device.trim_start_matches("/dev/");
    // What the server has used, in ticks, and what the block layer has counted, each before and after.
    let numbers = format!(
        "awk '{{print $14+$15}}' /proc/$(pgrep -o -x {})/stat; awk '{{print $1+$5}}' /sys/block/{device}/stat",
        serving.process
    );
    let script = format!(
        "cd /tmp; {numbers}; fio --name=load --filename={} --ioengine=io_uring --direct=1 --time_based --runtime={seconds} \
         --ramp_time=300ms --norandommap --rw={} --bs={} --iodepth={} --output-format=json > load.json; {numbers}; cat load.json",
        serving.device, work.pattern, work.block, work.depth
    );
    let output = machine.succeed(&script, LIMIT)?;
    let mut lines = output.lines();
    let mut number = || -> Result<f64> {
        let line = lines.next().context("the counters are missing")?;
        line.trim().parse().with_context(|| format!("{line:?} is no number"))
    };
    let (ticks, requests) = (number()?, number()?);
    let (ticks, requests) = (number()? - ticks, number()? - requests);
    let done = fio::parse(&output)?;
    let figures = done.only()?;
    ensure!(requests > 0.0, "the server did nothing: {output}");
    Ok(Run {
        rate: figures.iops,
        // A tick is 10 ms.
        cpu: ticks * 10_000.0 / requests,
        p50: figures.p50.as_secs_f64() * 1e6,
        p99: figures.p99.as_secs_f64() * 1e6,
    })
}

/// Makes the backing anew, and writes all of it, so that nobody measures allocation.
fn prepare(machine: &mut Machine, backing: Backing, programs: &Programs) -> Result<()> {
    let disk = disk(machine)?;
    machine.succeed(&format!("mkdir -p /dev/disk; ln -sf {disk} /dev/disk/{DISK}"), LIMIT)?;
    machine.succeed(
        "umount /mnt 2>/dev/null || test -z \"$(grep ' /mnt ' /proc/mounts)\"",
        LIMIT,
    )?;
    match backing {
        Backing::Nothing => {}
        Backing::Disk => {
            machine.succeed(
                &format!("dd if=/dev/zero of={disk} bs=1M count=512 oflag=direct"),
                LIMIT,
            )?;
        }
        Backing::File => {
            let script = format!(
                "mkfs.ext4 -q -F {disk} && mount {disk} /mnt && \
                 dd if=/dev/urandom of={file} bs=1M count={size} oflag=direct && {cli} mkfs --size {pool_size}MiB {pool} && \
                 {cli} volume create {pool} {volume} --size {size}MiB && \
                 {cli} volume create {pool} {bare} --size {size}MiB --no-checksums",
                file = rows::FILE,
                size = rows::SIZE_MIB,
                pool = rows::POOL,
                pool_size = rows::SIZE_MIB * 5,
                volume = rows::VOLUME,
                bare = rows::BARE,
                cli = programs.cli,
            );
            machine.succeed(&script, LIMIT)?;
            for volume in [rows::VOLUME, rows::BARE].map(rows::volume) {
                // A volume's blocks are its own from the first write on.
                let serving = volume.start(machine, programs)?;
                let (device, size) = (&serving.device, rows::SIZE_MIB);
                let written = machine.succeed(
                    &format!("dd if=/dev/urandom of={device} bs=1M count={size} oflag=direct"),
                    LIMIT,
                );
                volume.stop(machine, serving, programs)?;
                written?;
            }
        }
    }
    Ok(())
}

/// Where the machine has its disk.
fn disk(machine: &mut Machine) -> Result<String> {
    let script =
        format!("for d in /sys/block/*; do if grep -qsx {DISK} $d/serial; then echo /dev/${{d##*/}}; fi; done");
    let path = machine.succeed(&script, LIMIT)?.trim().to_owned();
    ensure!(path.starts_with("/dev/"), "the machine has no disk called {DISK}");
    Ok(path)
}
