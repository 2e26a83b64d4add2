// SPDX-License-Identifier: MIT OR Apache-2.0

//! Random calls on two files, for what `fsx` does not know: zeroed, collapsed and inserted ranges, copies between files,
//! `O_DIRECT` beside the page cache, `O_APPEND`, seeking for data and holes. Every state is compared with plain vectors.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, copy_file_range, fallocate};
use nix::unistd::{Whence, lseek};

use super::aligned::aligned;
use super::session::ROOMY;
use super::{Case, Session};

/// The suite.
pub const CASES: &[Case] = &[Case {
    suite: "ranges",
    name: "zeroed_collapsed_inserted_and_copied_ranges_read_back",
    quick: 120,
    full: 3600,
    body,
}];

const OPERATIONS: (u32, u32) = (6_000, 500_000);
const BLOCK: u64 = 4096;
const LARGEST: u64 = 1 << 20;
/// After so many operations both files are compared as a whole.
const COMPARED: u32 = 50;
const MOUNTED_ANEW: u32 = 2_000;

#[derive(Debug, Clone, Copy)]
enum Op {
    Write {
        to: usize,
        offset: u64,
        length: u64,
        direct: bool,
    },
    Append {
        to: usize,
        length: u64,
    },
    Truncate {
        to: usize,
        length: u64,
    },
    Zero {
        to: usize,
        offset: u64,
        length: u64,
        keep: bool,
    },
    Punch {
        to: usize,
        offset: u64,
        length: u64,
    },
    Collapse {
        to: usize,
        offset: u64,
        length: u64,
    },
    Insert {
        to: usize,
        offset: u64,
        length: u64,
    },
    Allocate {
        to: usize,
        offset: u64,
        length: u64,
        keep: bool,
    },
    Copy {
        to: usize,
        from: usize,
        offset: u64,
        source: u64,
        length: u64,
    },
}

/// Both files, and what they must hold.
struct Pair {
    paths: [PathBuf; 2],
    wanted: [Vec<u8>; 2],
    refused: u32,
}

fn body(session: &Session) -> Result<()> {
    let mut random = session.random();
    session.with_target(ROOMY, |target| {
        let mut pair = Pair::new(target.directory())?;
        let operations = session.pick(OPERATIONS.0, OPERATIONS.1);
        let mut recent = Vec::new();
        for number in 1..=operations {
            let op = choose(&mut random, &pair.wanted);
            recent.push(op);
            let result = pair.perform(op, random.u64(..)).and_then(|()| {
                if number % COMPARED == 0 {
                    pair.compare()?;
                    recent.clear();
                }
                Ok(())
            });
            result.with_context(|| format!("operation {number}; since the last comparison: {recent:?}"))?;
            if number % MOUNTED_ANEW == 0 {
                target.remount()?;
                pair.compare()
                    .with_context(|| format!("mounted anew after operation {number}"))?;
            }
        }
        println!(
            "{operations} operations, {} not offered by this filesystem",
            pair.refused
        );
        Ok(())
    })
}

fn choose(random: &mut fastrand::Rng, wanted: &[Vec<u8>; 2]) -> Op {
    let to = random.usize(..2);
    let size = wanted.get(to).map_or(0, |bytes| bytes.len() as u64);
    let mut near = |unit: u64| {
        let most = if random.bool() { 20_000 } else { LARGEST / 2 };
        random.u64(..most) / unit * unit
    };
    let (offset, length) = (near(1), near(1).max(1));
    let (block, blocks) = (near(BLOCK), near(BLOCK).max(BLOCK));
    match random.u8(..20) {
        0..5 => Op::Write {
            to,
            offset,
            length,
            direct: false,
        },
        5..8 => Op::Write {
            to,
            offset: block,
            length: blocks,
            direct: true,
        },
        8 => Op::Append {
            to,
            length: length % 50_000 + 1,
        },
        9..11 => Op::Truncate { to, length: offset },
        11..13 => Op::Zero {
            to,
            offset,
            length,
            keep: random.bool(),
        },
        13..15 => Op::Punch { to, offset, length },
        15 if block + blocks < size => Op::Collapse {
            to,
            offset: block,
            length: blocks,
        },
        16 if block < size && size + blocks < 2 * LARGEST => Op::Insert {
            to,
            offset: block,
            length: blocks,
        },
        17 => Op::Allocate {
            to,
            offset,
            length,
            keep: random.bool(),
        },
        18 => Op::Copy {
            to,
            from: 1 - to,
            offset: block,
            source: offset / BLOCK * BLOCK,
            length: blocks,
        },
        _ => Op::Copy {
            to,
            from: 1 - to,
            offset,
            source: block,
            length,
        },
    }
}

impl Pair {
    fn new(directory: &Path) -> Result<Self> {
        let paths = ["one", "other"].map(|name| directory.join(name));
        for path in &paths {
            fs::write(path, "")?;
        }
        Ok(Self {
            paths,
            wanted: [Vec::new(), Vec::new()],
            refused: 0,
        })
    }

    fn open(&self, number: usize, flags: OFlag) -> Result<File> {
        let path = self.paths.get(number).context("there are two files")?;
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(flags.bits())
            .open(path);
        file.with_context(|| format!("opening {}", path.display()))
    }

    fn perform(&mut self, op: Op, seed: u64) -> Result<()> {
        let to = match op {
            Op::Write { to, .. }
            | Op::Append { to, .. }
            | Op::Truncate { to, .. }
            | Op::Zero { to, .. }
            | Op::Punch { to, .. }
            | Op::Collapse { to, .. }
            | Op::Insert { to, .. }
            | Op::Allocate { to, .. }
            | Op::Copy { to, .. } => to,
        };
        let keep_size = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let kept = |keep: bool| if keep { keep_size } else { FallocateFlags::empty() };
        let source = self.wanted.get(1 - to).cloned().unwrap_or_default();
        match op {
            Op::Write {
                offset, length, direct, ..
            } => {
                let bytes = pattern(seed, length);
                let file = self.open(to, if direct { OFlag::O_DIRECT } else { OFlag::empty() })?;
                aligned(&bytes, |bytes| file.write_all_at(bytes, offset)).context("writing")?;
                put(self.bytes(to)?, offset, &bytes);
            }
            Op::Append { length, .. } => {
                let bytes = pattern(seed, length);
                self.open(to, OFlag::O_APPEND)?.write_all(&bytes)?;
                self.bytes(to)?.extend(bytes);
            }
            Op::Truncate { length, .. } => {
                self.open(to, OFlag::empty())?.set_len(length)?;
                self.bytes(to)?.resize(size(length), 0);
            }
            Op::Zero {
                offset, length, keep, ..
            } => {
                if self.fallocate(
                    to,
                    FallocateFlags::FALLOC_FL_ZERO_RANGE | kept(keep),
                    offset,
                    length,
                    true,
                )? {
                    fill(self.bytes(to)?, offset, length, !keep);
                }
            }
            Op::Punch { offset, length, .. } => {
                if self.fallocate(
                    to,
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep_size,
                    offset,
                    length,
                    true,
                )? {
                    fill(self.bytes(to)?, offset, length, false);
                }
            }
            Op::Allocate {
                offset, length, keep, ..
            } => {
                if self.fallocate(to, kept(keep), offset, length, true)? && !keep {
                    let bytes = self.bytes(to)?;
                    let end = bytes.len().max(size(offset + length));
                    bytes.resize(end, 0);
                }
            }
            // FUSE has no way to ask for these two.
            Op::Collapse { offset, length, .. } => {
                if self.fallocate(to, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, offset, length, false)? {
                    self.bytes(to)?.drain(size(offset)..size(offset + length));
                }
            }
            Op::Insert { offset, length, .. } => {
                if self.fallocate(to, FallocateFlags::FALLOC_FL_INSERT_RANGE, offset, length, false)? {
                    let at = size(offset);
                    self.bytes(to)?.splice(at..at, std::iter::repeat_n(0, size(length)));
                }
            }
            Op::Copy {
                from,
                offset,
                source: start,
                length,
                ..
            } => {
                let available = source.get(size(start)..).unwrap_or_default();
                let bytes = available.get(..size(length).min(available.len())).unwrap_or_default();
                let (mut into, mut out) = (i64::try_from(offset)?, i64::try_from(start)?);
                let (reader, writer) = (self.open(from, OFlag::empty())?, self.open(to, OFlag::empty())?);
                let mut left = bytes.len();
                while left > 0 {
                    let count = copy_file_range(&reader, Some(&mut out), &writer, Some(&mut into), left)?;
                    ensure!(
                        count > 0 && count <= left,
                        "copy_file_range moved {count} of {left} bytes"
                    );
                    left -= count;
                }
                put(self.bytes(to)?, offset, bytes);
            }
        }
        Ok(())
    }

    fn bytes(&mut self, number: usize) -> Result<&mut Vec<u8>> {
        self.wanted.get_mut(number).context("there are two files")
    }

    /// Whether it was done. Only what need not be offered may be refused.
    fn fallocate(&mut self, to: usize, flags: FallocateFlags, offset: u64, length: u64, must: bool) -> Result<bool> {
        match fallocate(
            self.open(to, OFlag::empty())?,
            flags,
            i64::try_from(offset)?,
            i64::try_from(length)?,
        ) {
            Ok(()) => Ok(true),
            Err(Errno::EOPNOTSUPP) if !must => {
                self.refused += 1;
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("fallocate with {flags:?}")),
        }
    }

    fn compare(&self) -> Result<()> {
        for (number, wanted) in self.wanted.iter().enumerate() {
            let mut file = self.open(number, OFlag::empty())?;
            let mut found = Vec::new();
            io::Read::read_to_end(&mut file, &mut found)?;
            ensure!(
                found.len() == wanted.len(),
                "file {number} has {} bytes, not {}",
                found.len(),
                wanted.len()
            );
            let at = found.iter().zip(wanted).position(|(one, other)| one != other);
            ensure!(
                at.is_none(),
                "file {number} differs from byte {} on",
                at.unwrap_or_default()
            );
            holes_are_zeros(&file, wanted).with_context(|| format!("in file {number}"))?;
        }
        Ok(())
    }
}

/// Whatever the filesystem calls a hole must read as zeros; seeking must get from the beginning to the end.
fn holes_are_zeros(file: &File, wanted: &[u8]) -> Result<()> {
    let end = i64::try_from(wanted.len())?;
    let mut at = 0;
    while at < end {
        let data = match lseek(file, at, Whence::SeekData) {
            Ok(data) => data,
            Err(Errno::ENXIO) => end,
            Err(error) => return Err(error).context("seeking for data"),
        };
        ensure!(data >= at && data <= end, "seeking for data from {at} leads to {data}");
        let hole = wanted
            .get(usize::try_from(at)?..usize::try_from(data)?)
            .unwrap_or_default();
        ensure!(
            hole.iter().all(|byte| *byte == 0),
            "{at} to {data} is called a hole and holds data"
        );
        if data == end {
            break;
        }
        at = lseek(file, data, Whence::SeekHole).context("seeking for a hole")?;
        ensure!(at > data && at <= end, "seeking for a hole from {data} leads to {at}");
    }
    Ok(())
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (size(offset), size(offset) + bytes.len());
    if !bytes.is_empty() && content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(start..end) {
        place.copy_from_slice(bytes);
    }
}

fn fill(content: &mut Vec<u8>, offset: u64, length: u64, grow: bool) {
    let (start, end) = (size(offset), size(offset + length));
    if grow && content.len() < end {
        content.resize(end, 0);
    }
    let end = end.min(content.len());
    if let Some(range) = content.get_mut(start..end) {
        range.fill(0);
    }
}

fn pattern(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; size(length)];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

/// Files of this suite are small.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
