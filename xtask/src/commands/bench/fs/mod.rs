// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench fs`: our filesystem, mounted by its kernel module, against others in the same machine.
//!
//! All of them have the same disk under them: ours and its FUSE front end a pool on it; ext4, btrfs and xfs a loop device
//! over ublk by rublk, which is as far from the disk as our server is. In every round each is made anew, does all works, and
//! is unmounted before the next; a round's order is that of the last one turned by one. The programs that work run in the
//! machine and are the same for all. Cold means with the machine's caches dropped. Before each work everything is synced, in
//! nobody's time.

mod contenders;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::fio;
use lab::host::{apt, workspace};
use lab::kernel::{Kernel, modules};
use lab::vm::{Disk, Machine, Spec};
use lab_guest::work::{ARCHIVE, Work};

use self::contenders::{BTRFS, Contender, EXT4, MOUNT, OURS, OVER_FUSE, Programs};
use super::rounds::{self, Figures};
use super::row::Row;

/// A work is given up after that.
const LIMIT: Duration = Duration::from_secs(1800);
const DISK: &str = "bench";
const DISK_MIB: u64 = 4096;
const MEMORY_MIB: u64 = 3072;
/// Of the file for sequential and random access.
const LARGE_MIB: usize = 512;
/// Works on bytes, as their measures begin; all others are on names and attributes.
const DATA: [&str; 3] = ["sequential", "4 KiB random", "4 KiB append"];
/// Of the peers, and of what measures.
pub(super) const PACKAGES: &[&str] = &["e2fsprogs", "btrfs-progs", "xfsprogs", "fio", "qemu-system-x86"];
const PEERS: &[apt::Package] = &[
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("btrfs-progs", "/sbin/mkfs.btrfs"),
    ("xfsprogs", "/sbin/mkfs.xfs"),
];

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
    let is_wanted =
        |name: &str| name == OURS || plan.only.is_empty() || plan.only.iter().any(|part| name.contains(part.as_str()));
    let mut contenders: Vec<_> = Contender::ALL.into_iter().filter(|one| is_wanted(one.name())).collect();
    ensure!(contenders.len() > 1, "no contender has such a name");
    apt::ensure(apt::UBLK_BUILD)?;
    apt::ensure(PEERS)?;
    let programs = Programs::build(modules::ensure(kernel)?)?;
    let directory = workspace::machine_directory("bench-fs");
    std::fs::create_dir_all(&directory)?;
    let mut machine = Machine::boot(&Spec {
        memory: MEMORY_MIB,
        disks: vec![Disk::create(&directory, DISK, DISK_MIB)?],
        ..Spec::new(kernel, directory)
    })?;
    prepare(&mut machine, kernel, &programs, plan.files)?;
    let mut measured: BTreeMap<&'static str, Vec<Figures>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for contender in &contenders {
            eprintln!("{}: round {round} of {}: {}", kernel.id, plan.rounds, contender.name());
            let figures = one(&mut machine, *contender, &programs, plan);
            let figures = figures.with_context(|| format!("measuring {}", contender.name()))?;
            measured.entry(contender.name()).or_default().push(figures);
        }
        contenders.rotate_left(1);
    }
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

/// Drivers, a disk that was written once, and the archive to unpack.
fn prepare(machine: &mut Machine, kernel: &Kernel, programs: &Programs, files: usize) -> Result<()> {
    let disk = contenders::DISK;
    let script = format!(
        "mkdir -p /run/lock /dev/disk && modprobe -a ublk_drv fuse ext4 btrfs xfs && insmod {modules}/vexfs.ko && \
         for d in /sys/block/*; do if grep -qsx {DISK} $d/serial; then ln -s /dev/${{d##*/}} {disk}; fi; done && \
         dd if=/dev/zero of={disk} bs=1M oflag=direct count={DISK_MIB} && \
         cd {headers} && find . -type f | head -n {members} > /tmp/members && tar -cf {ARCHIVE} -T /tmp/members",
        modules = programs.modules.display(),
        headers = kernel.tree.path(&kernel.headers).display(),
        // About as many as the headers of a kernel have, of 100,000 files.
        members = files / 5,
    );
    machine.succeed(&script, LIMIT).map(drop)
}

/// All figures of one contender, made anew.
fn one(machine: &mut Machine, contender: Contender, programs: &Programs, plan: &Plan<'_>) -> Result<Figures> {
    let serving = contender.start(machine, programs)?;
    let mut bench = Bench {
        machine: &mut *machine,
        program: &programs.work,
        figures: Figures::new(),
    };
    bench.many_files(plan.files)?;
    bench.synced(plan.files)?;
    bench.data(plan.seconds)?;
    let figures = bench.figures;
    contender.stop(machine, serving, programs)?;
    Ok(figures)
}

/// Works that are done on what is mounted.
struct Bench<'a> {
    machine: &'a mut Machine,
    program: &'a str,
    figures: Figures,
}

impl Bench<'_> {
    fn many_files(&mut self, files: usize) -> Result<()> {
        for threads in [1, 4] {
            let places = self.places(&format!("files-{threads}"), threads)?;
            let share = files / threads;
            let mut measure = |what: &str, work, cold| {
                let row = (format!("{what}, {threads} thr"), "1/s");
                self.work(row, (work, share), &places, cold)
            };
            measure("create", Work::Create, false)?;
            measure("stat, warm", Work::Stat, false)?;
            measure("stat, cold", Work::Stat, true)?;
            measure("readdir, cold", Work::List, true)?;
            measure("rename", Work::Rename, false)?;
            measure("unlink", Work::UnlinkRenamed, false)?;
        }
        for (what, cold) in [("cold", true), ("warm", false)] {
            let places = self.places(&format!("untar-{what}"), 1)?;
            let row = (format!("untar, {what}"), "files/s");
            self.work(row, (Work::Untar, files / 5), &places, cold)?;
        }
        Ok(())
    }

    fn synced(&mut self, files: usize) -> Result<()> {
        let amount = (files / 500).clamp(20, 200);
        for threads in [1, 16] {
            let places = self.places(&format!("synced-{threads}"), threads)?;
            let row = (format!("4 KiB append + fsync, {threads} thr"), "1/s");
            self.work(row, (Work::SyncedAppends, amount), &places, false)?;
        }
        Ok(())
    }

    fn data(&mut self, seconds: u32) -> Result<()> {
        let places = self.places("large", 1)?;
        let row = |what: &str| (format!("{what}, buffered"), "MiB/s");
        self.work(
            row("sequential write + fsync"),
            (Work::Write, LARGE_MIB),
            &places,
            false,
        )?;
        self.work(row("sequential read, cold"), (Work::Read, LARGE_MIB), &places, true)?;
        for (what, pattern, block, depth) in [
            ("sequential write, direct", "write", "1M", 4),
            ("sequential read, direct", "read", "1M", 4),
            ("4 KiB random write, direct, QD 32", "randwrite", "4k", 32),
            ("4 KiB random read, direct, QD 32", "randread", "4k", 32),
        ] {
            let script = format!(
                "sync; cd /tmp && fio --name=load --filename={MOUNT}/large/0/large --size={LARGE_MIB}M --ioengine=io_uring \
                 --direct=1 --time_based --runtime={seconds} --ramp_time=300ms --norandommap --rw={pattern} --bs={block} \
                 --iodepth={depth} --output-format=json"
            );
            let (read, written) = fio::parse(&self.machine.succeed(&script, LIMIT)?)?;
            let figures = if read.operations > 0 { read } else { written };
            ensure!(figures.operations > 0, "fio did nothing at {what}");
            let (unit, value) = match block {
                "1M" => ("MiB/s", figures.bandwidth / f64::from(1 << 20)),
                _ => ("1/s", figures.iops),
            };
            self.figures.push((what.to_owned(), unit, value));
        }
        Ok(())
    }

    /// Directories for so many threads.
    fn places(&mut self, name: &str, threads: usize) -> Result<Vec<String>> {
        let places: Vec<_> = (0..threads).map(|number| format!("{MOUNT}/{name}/{number}")).collect();
        self.machine.succeed(&format!("mkdir -p {}", places.join(" ")), LIMIT)?;
        Ok(places)
    }

    fn work(
        &mut self,
        (what, unit): (String, &'static str),
        (work, amount): (Work, usize),
        places: &[String],
        cold: bool,
    ) -> Result<()> {
        let chill = if cold { "echo 3 > /proc/sys/vm/drop_caches;" } else { "" };
        let (program, name, list) = (self.program, work.name(), places.join(" "));
        let script = format!("sync; {chill} {program} {name} {amount} {list}");
        let output = self.machine.succeed(&script, LIMIT).with_context(|| what.clone())?;
        let seconds: f64 = output
            .trim()
            .parse()
            .with_context(|| format!("{output:?} is no time"))?;
        #[expect(clippy::cast_precision_loss, reason = "amounts of work are small")]
        let rate = (amount * places.len()) as f64 / seconds;
        self.figures.push((what, unit, rate));
        Ok(())
    }
}
