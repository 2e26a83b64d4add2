// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is compared with what, at which work, and how well ours should do.

use super::contenders::Contender;

pub(super) const FILE: &str = "/mnt/file";
pub(super) const POOL: &str = "/mnt/pool";
pub(super) const VOLUME: &str = "/volume";
pub(super) const SIZE_MIB: u64 = 256;

/// What lies behind both contenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Backing {
    Nothing,
    /// The machine's disk.
    Disk,
    /// A file on ext4 on that disk, and a pool in another.
    File,
}

/// What fio does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) pattern: &'static str,
    pub(super) block: &'static str,
    pub(super) depth: u32,
}

/// One comparison.
pub(super) struct Row {
    what: &'static str,
    pub(super) against: &'static str,
    pub(super) ours: Contender,
    pub(super) other: Contender,
    pub(super) backing: Backing,
    pub(super) work: Work,
    /// The ratio that is good enough.
    pub(super) bar: f64,
}

impl Row {
    pub(super) fn name(&self) -> String {
        let Work { pattern, block, depth } = self.work;
        format!("{} against {}: {pattern} {block} QD{depth}", self.what, self.against)
    }
}

/// Our volume in the pool.
pub(super) fn volume() -> Contender {
    Contender::ours([POOL, "--volume", VOLUME])
}

/// All of them, those with the same backing together.
pub(super) fn all() -> Vec<Row> {
    let mut rows = transport();
    rows.extend(files());
    rows
}

const fn work(pattern: &'static str, block: &'static str, depth: u32) -> Work {
    Work { pattern, block, depth }
}

/// Small and large, reads and writes, many at a time.
const DEEP: [Work; 4] = [
    work("randread", "4k", 32),
    work("randwrite", "4k", 32),
    work("read", "128k", 32),
    work("write", "128k", 32),
];
/// The same one by one.
const SINGLE: [Work; 4] = [
    work("randread", "4k", 1),
    work("randwrite", "4k", 1),
    work("read", "128k", 1),
    work("write", "128k", 1),
];

/// Names of two sides, and the sides.
type Pair<'a> = ((&'static str, &'a Contender), (&'static str, &'a Contender));

fn compare(backing: Backing, ((what, ours), (against, other)): Pair<'_>, works: &[Work], bar: f64) -> Vec<Row> {
    let row = |&work: &Work| Row {
        what,
        against,
        ours: ours.clone(),
        other: other.clone(),
        backing,
        work,
        bar,
    };
    works.iter().map(row).collect()
}

/// What does not touch a disk.
fn transport() -> Vec<Row> {
    let works = [work("randread", "4k", 1), DEEP[0], DEEP[1], DEEP[2]];
    let null = |more: &[&'static str]| {
        let options = ["--target", "null", "--size", "250GiB"];
        Contender::ours(options.iter().chain(more).copied())
    };
    let rublk = |more: &[&'static str]| Contender::rublk(["null"].iter().chain(more).copied());
    let mem = |way| Contender::ours(["--target", "mem", "--size", "256MiB", "--transfer", way]);
    let copied = null(&["--transfer", "copy"]);
    let rows = [
        (("null", &copied), ("rublk", &rublk(&[]))),
        (
            ("null-zero-copy", &null(&["--transfer", "zero-copy"])),
            ("rublk", &rublk(&["--zero-copy"])),
        ),
        (
            ("null-user-copy", &null(&["--transfer", "user-copy"])),
            ("rublk", &rublk(&["--user-copy"])),
        ),
        // Our own ways among themselves.
        (("null-batch", &null(&["--batch", "yes"])), ("null", &copied)),
        (("null-threads", &null(&["--threads", "2"])), ("null", &copied)),
    ];
    let mut all: Vec<_> = rows
        .into_iter()
        .flat_map(|pair| compare(Backing::Nothing, pair, &works, 1.0))
        .collect();
    let memory = (("mem-user-copy", &mem("user-copy")), ("mem-copy", &mem("copy")));
    all.extend(compare(Backing::Nothing, memory, &DEEP, 1.0));
    all
}

/// What has its bytes on a disk.
fn files() -> Vec<Row> {
    let looped = |path: &str, more: &[&'static str]| {
        let options = ["--target", "loop", path];
        Contender::ours(options.iter().chain(more).copied())
    };
    let rublk =
        |path: &str, more: &[&'static str]| Contender::rublk(["loop", "--file", path].iter().chain(more).copied());
    let both = [DEEP, SINGLE].concat();
    let disk = format!("/dev/disk/{}", super::DISK);
    let sides = (("loop-disk", &looped(&disk, &[])), ("rublk", &rublk(&disk, &[])));
    let mut all = compare(Backing::Disk, sides, &both, 1.0);
    let (ours, copied) = (looped(FILE, &[]), looped(FILE, &["--transfer", "copy"]));
    let (theirs, nbd) = (rublk(FILE, &[]), Contender::QemuNbd(FILE.to_owned()));
    let volume = volume();
    let rows: [(Pair<'_>, &[Work], f64); 9] = [
        ((("loop-file", &ours), ("rublk", &theirs)), &both, 1.0),
        (
            (
                ("loop-file-zero-copy", &ours),
                ("rublk", &rublk(FILE, &["--zero-copy"])),
            ),
            &both,
            1.0,
        ),
        ((("loop-copy", &copied), ("rublk", &theirs)), &both, 1.0),
        // Our own ways among themselves.
        ((("loop", &ours), ("loop-copy", &copied)), &both, 1.0),
        (
            (("loop-batch", &looped(FILE, &["--batch", "yes"])), ("loop", &ours)),
            &both,
            1.0,
        ),
        ((("volume", &volume), ("loop", &ours)), &DEEP[1..2], 0.9),
        (
            (("volume", &volume), ("loop", &ours)),
            &[DEEP[0], DEEP[2], DEEP[3]],
            0.95,
        ),
        ((("loop-file", &ours), ("qemu-nbd", &nbd)), &DEEP, 3.0),
        ((("volume", &volume), ("qemu-nbd", &nbd)), &DEEP, 3.0),
    ];
    all.extend(
        rows.into_iter()
            .flat_map(|(pair, works, bar)| compare(Backing::File, pair, works, bar)),
    );
    all
}
