// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading file bytes.
//!
//! 1. [`Fs::plan_read`] looks at the map, under the lock.
//! 2. The caller reads the blocks, by system calls ([`Fs::read`]) or in its own way.
//! 3. [`Fs::finish_read`] verifies them.
//!
//! Between the first two steps a block may be freed and even reused. Its checksum then does not match; the reader begins
//! again, and only a block that the map still names in the same way is damage. For files without checksums the map is
//! compared after reading.

use std::ops::Range;

use crate::checksum::Crc;
use crate::data::row::Unit;
use crate::disk::{AlignedBytes, Disk};
use crate::error::{Damage, Errno, Error, Result};
use crate::units::{BLOCK_SIZE, Block, FileBlock, Ino, blocks_for};

use super::engine::Fs;
use super::file::{ATTEMPTS, Extent, Source};

const BLOCK: u64 = BLOCK_SIZE as u64;

/// How far a read goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To the end of the file at most.
    End,
    /// As far as asked for: what lies beyond the end is what a client stored there, or zeros.
    Asked,
}

/// A read that was looked up and waits for its blocks.
#[derive(Debug)]
pub struct ReadPlan {
    ino: Ino,
    length: usize,
    pieces: Pieces,
}

impl ReadPlan {
    /// How many bytes there are to read: fewer than asked for at the end of the file.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// What to read: byte offsets in the pool, and where the bytes go. The buffer has [`Self::length`] bytes, and is the
    /// one given to [`Fs::finish_read`].
    pub fn transfers<'a>(&'a mut self, buffer: &'a mut [u8]) -> impl Iterator<Item = (u64, &'a mut [u8])> {
        self.pieces.transfers(buffer)
    }
}

/// Where bytes come from that are read without the engine seeing them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// A byte offset in the pool; none if they are zeros.
    pub at: Option<u64>,
    /// Which bytes of the read.
    pub range: Range<usize>,
}

impl ReadPlan {
    /// What to read into memory that the engine cannot look at. None if it would have to: for the sake of checksums, or
    /// because what is stored is not what is read. To be followed by [`Fs::finish_unseen_read`].
    pub fn placements(&self) -> Option<impl Iterator<Item = Placement>> {
        let pieces = &self.pieces;
        let is_plain = |(extent, share): (&Extent, Share)| match &extent.source {
            Source::Hole | Source::Promised => true,
            Source::Blocks(_, None) => share.is_whole_blocks(),
            Source::Blocks(_, Some(_)) | Source::Packed(..) | Source::Inline(_) | Source::Lost => false,
        };
        if !shares(&pieces.extents, pieces.at, self.length).all(is_plain) {
            return None;
        }
        let placements = shares(&pieces.extents, pieces.at, self.length).map(|(extent, share)| {
            let at = match &extent.source {
                Source::Blocks(run, _) => Some(run.start.plus(share.blocks().0).byte_at()),
                _ => None,
            };
            let range = share.start..share.start + share.length;
            Placement { at, range }
        });
        Some(placements.filter(|placement| !placement.range.is_empty()))
    }
}

/// Extents, and the blocks that have to be read to know what they hold.
#[derive(Debug)]
struct Pieces {
    /// First byte of the file; it is in the first extent.
    at: u64,
    extents: Vec<Extent>,
    fetches: Vec<Fetch>,
    /// Blocks that are needed in part, or hold something compressed.
    aside: AlignedBytes,
}

/// Blocks that lie side by side in the pool.
#[derive(Debug)]
struct Fetch {
    at: u64,
    length: usize,
    /// Where in the caller's buffer, if the blocks go there as they are.
    into: Option<usize>,
}

/// The share of an extent in a read.
struct Share {
    /// First byte, within the extent.
    offset: u64,
    /// First byte, in the caller's buffer.
    start: usize,
    length: usize,
}

impl Share {
    /// Blocks around it: the first, and how many.
    fn blocks(&self) -> (u64, u64) {
        let first = self.offset / BLOCK;
        (first, blocks_for(self.offset + self.length as u64) - first)
    }

    fn is_whole_blocks(&self) -> bool {
        self.offset.is_multiple_of(BLOCK) && self.length.is_multiple_of(BLOCK_SIZE)
    }
}

/// What each extent contributes to `length` bytes from `at`.
fn shares(extents: &[Extent], at: u64, length: usize) -> impl Iterator<Item = (&Extent, Share)> {
    let mut start = 0;
    extents.iter().map(move |extent| {
        let offset = (at + start as u64).saturating_sub(extent.at.byte_at());
        let there = (extent.count * BLOCK).saturating_sub(offset);
        let share = Share {
            offset,
            start,
            length: usize::try_from(there).unwrap_or(usize::MAX).min(length - start),
        };
        start += share.length;
        (extent, share)
    })
}

impl Pieces {
    fn of(extents: Vec<Extent>, at: u64, length: usize) -> Self {
        let mut fetches = Vec::with_capacity(extents.len());
        let mut aside = 0;
        for (extent, share) in shares(&extents, at, length) {
            match &extent.source {
                Source::Blocks(run, _) => {
                    let (first, count) = share.blocks();
                    let whole = share.is_whole_blocks();
                    let bytes = if whole { share.length } else { bytes_of(count) };
                    aside += if whole { 0 } else { bytes };
                    fetches.push(Fetch {
                        at: run.start.plus(first).byte_at(),
                        length: bytes,
                        into: whole.then_some(share.start),
                    });
                }
                Source::Packed(unit, _) => {
                    aside += packed_bytes(unit);
                    fetches.extend(unit.runs.iter().map(|run| Fetch {
                        at: run.start.byte_at(),
                        length: bytes_of(u64::from(run.count)),
                        into: None,
                    }));
                }
                Source::Hole | Source::Promised | Source::Inline(_) | Source::Lost => {}
            }
        }
        Self {
            at,
            extents,
            fetches,
            aside: AlignedBytes::zeroed(aside),
        }
    }

    fn transfers<'a>(&'a mut self, buffer: &'a mut [u8]) -> impl Iterator<Item = (u64, &'a mut [u8])> {
        let mut aside = self.aside.bytes_mut();
        let (mut buffer, mut passed) = (buffer, 0);
        self.fetches.iter().map(move |fetch| {
            let from = match fetch.into {
                None => &mut aside,
                Some(start) => {
                    // What lies before is filled from elsewhere.
                    let _ = buffer.split_off_mut(..start - passed);
                    passed = start + fetch.length;
                    &mut buffer
                }
            };
            (fetch.at, from.split_off_mut(..fetch.length).unwrap_or_default())
        })
    }

    /// Reads what has to be read.
    fn fetch(&mut self, disk: &dyn Disk, buffer: &mut [u8]) -> Result<()> {
        self.transfers(buffer).try_for_each(|(at, bytes)| disk.read(at, bytes))
    }

    /// Verifies what was read, and makes it the bytes of the file.
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        let mut aside = self.aside.bytes();
        let mut from_aside = |bytes: usize| {
            let (now, later) = aside.split_at(bytes.min(aside.len()));
            aside = later;
            now
        };
        for (extent, share) in shares(&self.extents, self.at, buffer.len()) {
            let into = buffer.get_mut(share.start..share.start + share.length);
            let into = into.unwrap_or_default();
            match &extent.source {
                Source::Hole | Source::Promised => into.fill(0),
                Source::Inline(bytes) => copy_padded(bytes, share.offset, into),
                Source::Lost => return Err(Damage::new(extent.at, "its bytes were lost")),
                Source::Blocks(run, checksums) => {
                    let (first, count) = share.blocks();
                    let start = run.start.plus(first);
                    if share.is_whole_blocks() {
                        verify(start, checksums.as_deref(), first, into)?;
                    } else {
                        let blocks = from_aside(bytes_of(count));
                        verify(start, checksums.as_deref(), first, blocks)?;
                        copy_padded(blocks, share.offset % BLOCK, into);
                    }
                }
                Source::Packed(unit, index) => {
                    let unpacked = open_unit(unit, from_aside(packed_bytes(unit)))?;
                    copy_padded(&unpacked, u64::from(*index) * BLOCK + share.offset, into);
                }
            }
        }
        Ok(())
    }
}

fn bytes_of(blocks: u64) -> usize {
    usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(BLOCK_SIZE)
}

fn packed_bytes(unit: &Unit) -> usize {
    unit.runs.iter().map(|run| bytes_of(u64::from(run.count))).sum()
}

impl Fs {
    /// Reads bytes of a file; returns how many there were.
    pub fn read(&self, ino: Ino, at: u64, buffer: &mut [u8]) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let mut plan = self.plan_read(ino, at, buffer.len(), Until::End)?;
            let Some(target) = buffer.get_mut(..plan.length) else {
                return Err(Errno::Invalid.into());
            };
            let fetched = plan.pieces.fetch(&*self.shared.disk, target);
            if self.finish_read(&plan, target, fetched)? {
                return Ok(plan.length);
            }
        }
        Err(Errno::Busy.into())
    }

    /// Looks up what a range of a file consists of.
    pub fn plan_read(&self, ino: Ino, at: u64, length: usize, until: Until) -> Result<ReadPlan> {
        let mut core = self.core();
        let inode = core.regular(ino)?;
        let length = match until {
            Until::End => inode.size.saturating_sub(at).min(length as u64),
            Until::Asked => length as u64,
        };
        let first = FileBlock::of(at);
        let extents = if length == 0 {
            Vec::new()
        } else {
            core.map(ino, first, blocks_for(at + length) - first.0)?
        };
        drop(core);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Ok(ReadPlan {
            ino,
            length,
            pieces: Pieces::of(extents, at, length),
        })
    }

    /// Verifies what was read according to a plan; `fetched` is how that went. False: the file was changed meanwhile, so
    /// the read must be planned again.
    pub fn finish_read(&self, plan: &ReadPlan, buffer: &mut [u8], fetched: Result<()>) -> Result<bool> {
        let read = fetched.and_then(|()| plan.pieces.fill(buffer));
        self.finish(plan, read)
    }

    /// The same for bytes that the engine has not seen.
    pub fn finish_unseen_read(&self, plan: &ReadPlan, fetched: Result<()>) -> Result<bool> {
        self.finish(plan, fetched)
    }

    fn finish(&self, plan: &ReadPlan, read: Result<()>) -> Result<bool> {
        let extents = &plan.pieces.extents;
        let Some(first) = extents.first() else {
            return Ok(true);
        };
        let checked = read.is_ok() && extents.iter().all(is_checked);
        if !checked {
            let blocks = extents.iter().map(|extent| extent.count).sum();
            if self.core().map(plan.ino, first.at, blocks)? != *extents {
                return Ok(false);
            }
        }
        let meter = &self.shared.metrics.data;
        match &read {
            Ok(()) => {
                meter.read_bytes.add(plan.length as u64);
                let packed = extents
                    .iter()
                    .filter(|extent| matches!(extent.source, Source::Packed(..)));
                meter.decompressions.add(packed.count() as u64);
            }
            Err(Error::Damaged(_)) => meter.damaged_reads.increment(),
            Err(_) => {}
        }
        read.map(|()| true).map_err(|error| in_file(plan.ino, error))
    }
}

/// Whether reading the extent proves that it was what the map named.
fn is_checked(extent: &Extent) -> bool {
    !matches!(extent.source, Source::Blocks(_, None))
}

fn in_file(ino: Ino, error: Error) -> Error {
    match error {
        Error::Damaged(damage) => Damage::new(format_args!("{ino}: {}", damage.place), &damage.what),
        other => other,
    }
}

/// Reads all bytes of an extent, and verifies them.
pub(crate) fn read_extent(disk: &dyn Disk, extent: &Extent, into: &mut [u8]) -> Result<()> {
    let mut pieces = Pieces::of(vec![extent.clone()], extent.at.byte_at(), into.len());
    pieces.fetch(disk, into)?;
    pieces.fill(into)
}

/// Copies from an offset on; what is missing is zeros.
fn copy_padded(from: &[u8], offset: u64, into: &mut [u8]) {
    let from = usize::try_from(offset).ok().and_then(|offset| from.get(offset..));
    let from = from.unwrap_or_default();
    let count = from.len().min(into.len());
    let (head, tail) = into.split_at_mut(count);
    head.copy_from_slice(from.get(..count).unwrap_or_default());
    tail.fill(0);
}

fn verify(start: Block, checksums: Option<&[Crc]>, first: u64, blocks: &[u8]) -> Result<()> {
    let Some(checksums) = checksums else {
        return Ok(());
    };
    let checksums = usize::try_from(first)
        .ok()
        .and_then(|first| checksums.get(first..))
        .unwrap_or_default();
    for (index, (block, crc)) in blocks.chunks_exact(BLOCK_SIZE).zip(checksums).enumerate() {
        let found = Crc::of(block);
        if found != *crc {
            return Err(Damage::new(
                start.plus(index as u64),
                format_args!("its checksum is {:08x} instead of {:08x}", found.0, crc.0),
            ));
        }
    }
    Ok(())
}

/// The content of a compressed unit.
pub(crate) fn unpack(disk: &dyn Disk, unit: &Unit) -> Result<Vec<u8>> {
    let mut packed = vec![0; packed_bytes(unit)];
    let mut rest = packed.as_mut_slice();
    for run in &unit.runs {
        let bytes = rest.split_off_mut(..bytes_of(u64::from(run.count)));
        disk.read(run.start.byte_at(), bytes.unwrap_or_default())?;
    }
    open_unit(unit, &packed)
}

/// The content of a compressed unit whose blocks were read.
fn open_unit(unit: &Unit, blocks: &[u8]) -> Result<Vec<u8>> {
    let packed = blocks.get(..unit.bytes as usize).unwrap_or(blocks);
    let start = unit.runs.first().map_or(Block(0), |run| run.start);
    if Crc::of(packed) != unit.crc {
        return Err(Damage::new(start, "the checksum of a compressed unit does not match"));
    }
    unit.algorithm
        .unpack(packed, usize::from(unit.file_blocks) * BLOCK_SIZE)
}
