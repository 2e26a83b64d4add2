// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is compared with what, at which work, and how well ours should do.

use super::contenders::Contender;

pub(super) const FILE: &str = "/mnt/file";
pub(super) const POOL: &str = "/mnt/pool";
pub(super) const VOLUME: &str = "/volume";
/// The same without checksums: what they cost depends on the processor more than anything else does.
pub(super) const BARE: &str = "/bare";
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

/// Two contenders, and what both do.
pub(super) struct Comparison {
    pub(super) what: &'static str,
    pub(super) against: &'static str,
    pub(super) ours: Contender,
    pub(super) other: Contender,
    pub(super) backing: Backing,
    /// Each with the ratio that is good enough.
    pub(super) works: Vec<(Work, f64)>,
}

impl Comparison {
    pub(super) fn name(&self) -> String {
        format!("{} against {}", self.what, self.against)
    }

    /// The name of a row.
    pub(super) fn row(&self, Work { pattern, block, depth }: Work) -> String {
        format!("{}: {pattern} {block} QD{depth}", self.name())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.works.iter().map(|&(work, _)| self.row(work)).collect()
    }

    /// With those rows alone whose names contain one of the parts, if there are parts; none if no row does.
    pub(super) fn only(mut self, parts: &[String]) -> Option<Self> {
        let works = std::mem::take(&mut self.works);
        let is_wanted = |work| parts.is_empty() || parts.iter().any(|part| self.row(work).contains(part.as_str()));
        let works: Vec<_> = works.into_iter().filter(|&(work, _)| is_wanted(work)).collect();
        (!works.is_empty()).then_some(Self { works, ..self })
    }
}

/// A volume in the pool.
pub(super) fn volume(path: &str) -> Contender {
    Contender::ours([POOL, "--volume", path])
}

/// All of them, those with the same backing together.
pub(super) fn all() -> Vec<Comparison> {
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

fn compare(backing: Backing, ((what, ours), (against, other)): Pair<'_>, works: &[(Work, f64)]) -> Comparison {
    Comparison {
        what,
        against,
        ours: ours.clone(),
        other: other.clone(),
        backing,
        works: works.to_vec(),
    }
}

/// All with the same bar.
fn each(works: &[Work], bar: f64) -> Vec<(Work, f64)> {
    works.iter().map(|&work| (work, bar)).collect()
}

/// What does not touch a disk.
fn transport() -> Vec<Comparison> {
    let works = each(&[DEEP, SINGLE].concat(), 1.0);
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
        .map(|pair| compare(Backing::Nothing, pair, &works))
        .collect();
    let memory = (("mem-user-copy", &mem("user-copy")), ("mem-copy", &mem("copy")));
    all.push(compare(Backing::Nothing, memory, &each(&DEEP, 1.0)));
    all
}

/// What has its bytes on a disk.
fn files() -> Vec<Comparison> {
    let looped = |path: &str, more: &[&'static str]| {
        let options = ["--target", "loop", path];
        Contender::ours(options.iter().chain(more).copied())
    };
    let rublk =
        |path: &str, more: &[&'static str]| Contender::rublk(["loop", "--file", path].iter().chain(more).copied());
    let both = each(&[DEEP, SINGLE].concat(), 1.0);
    let disk = format!("/dev/disk/{}", super::DISK);
    let sides = (("loop-disk", &looped(&disk, &[])), ("rublk", &rublk(&disk, &[])));
    let mut all = vec![compare(Backing::Disk, sides, &both)];
    let (ours, copied) = (looped(FILE, &[]), looped(FILE, &["--transfer", "copy"]));
    let (theirs, nbd) = (rublk(FILE, &[]), Contender::QemuNbd(FILE.to_owned()));
    let (volume, bare) = (volume(VOLUME), volume(BARE));
    let [reads, writes, sequential @ ..] = DEEP;
    let checked = [each(&[writes], 0.9), each(&[&[reads], &sequential[..]].concat(), 0.95)].concat();
    let triple = each(&DEEP, 3.0);
    let rows: [(Pair<'_>, &[(Work, f64)]); 9] = [
        ((("loop-file", &ours), ("rublk", &theirs)), &both),
        (
            (
                ("loop-file-zero-copy", &looped(FILE, &["--transfer", "zero-copy"])),
                ("rublk", &rublk(FILE, &["--zero-copy"])),
            ),
            &both,
        ),
        ((("loop-copy", &copied), ("rublk", &theirs)), &both),
        // Our own ways among themselves.
        ((("loop", &ours), ("loop-copy", &copied)), &both),
        (
            (("loop-batch", &looped(FILE, &["--batch", "yes"])), ("loop", &ours)),
            &both,
        ),
        ((("volume", &volume), ("loop", &ours)), &checked),
        ((("volume-unchecked", &bare), ("loop", &ours)), &checked),
        ((("loop-file", &ours), ("qemu-nbd", &nbd)), &triple),
        ((("volume", &volume), ("qemu-nbd", &nbd)), &triple),
    ];
    all.extend(
        rows.into_iter()
            .map(|(pair, works)| compare(Backing::File, pair, works)),
    );
    all
}
