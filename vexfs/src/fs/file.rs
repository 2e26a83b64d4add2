// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading and writing file bytes.
//!
//! The lock is held to look at the map and to change it, never while bytes move. What makes that safe:
//!
//! - **Reading.** Between looking and reading, a block may be freed and even reused. Its checksum then does not
//!   match; the reader looks again, and only a block that the map still names in the same way is damage. For files without
//!   checksums the map is compared after reading.
//! - **Writing.** Blocks are taken first, filled outside the lock, then put into the map. A write that covers a block only
//!   in part fills the rest from what the file held; if that changed meanwhile, it begins again.
//!
//! Bytes of a block beyond the end of the file are zeros on disk: whoever makes a file longer need not care.

use crate::checksum::Crc;
use crate::data::compress::Algorithm;
use crate::data::row::{INLINE_BYTES, Ptr, Row, Unit};
use crate::data::{CHUNK_BLOCKS, CHUNK_LEN, chunk_of};
use crate::disk::Disk;
use crate::error::{Damage, Errno, Error, Result};
use crate::units::{BLOCK_SIZE, Block, FileBlock, Ino, Run, blocks_for};

use super::MAX_FILE_BYTES;
use super::engine::{Ask, Core, Fs};
use super::op::{Op, change};
use super::record::{FileFlags, Inode, Kind, Timestamp};

/// A write is cut into pieces of at most this many bytes, each a transaction.
const PIECE: u64 = 1 << 20;
/// How often reading or writing begins again when others change the same bytes.
const ATTEMPTS: usize = 64;
/// With more blocks than this ahead, the end of a hole is looked for instead of walked to.
const FAR: u64 = 1024;
/// Permissions that a write takes away: set-user-ID, and set-group-ID where it means executing.
const SET_IDS: u16 = 0o6000;

/// What a stretch of a file consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Zeros that nothing is stored for.
    Hole,
    /// Zeros that space is promised for.
    Promised,
    /// Bytes of the metadata, zeros following.
    Inline(Box<[u8]>),
    /// Blocks of the pool, with their checksums if the file has any.
    Blocks(Run, Option<Vec<Crc>>),
    /// Blocks of a compressed unit, from this one on.
    Packed(Unit, u8),
    /// Bytes that a check found lost.
    Lost,
}

/// A stretch of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// First block.
    pub at: FileBlock,
    /// Blocks.
    pub count: u64,
    /// What they consist of.
    pub source: Source,
}

impl Core {
    /// What a range of blocks consists of, in order, without gaps.
    pub(super) fn map(&mut self, ino: Ino, from: FileBlock, count: u64) -> Result<Vec<Extent>> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = from;
        let end = from.plus(count);
        while at < end {
            let (chunk, index) = chunk_of(at);
            let here = (CHUNK_BLOCKS - index as u64).min(end.0 - at.0);
            let indices = index..index + usize::try_from(here).unwrap_or(0);
            match self.state.row(ino, chunk)? {
                None if end.0 - at.0 > FAR => {
                    // Chunk by chunk, the hole of a sparse file of exabytes would take days.
                    let rows = self.state.rows(ino, chunk + 1, end.0.div_ceil(CHUNK_BLOCKS), 1)?;
                    let until = rows.first().map_or(end.0, |(next, _)| next * CHUNK_BLOCKS);
                    push(&mut extents, at, until - at.0, Source::Hole);
                    at = FileBlock(until);
                    continue;
                }
                None => push(&mut extents, at, here, Source::Hole),
                Some(Row::Inline(bytes)) => {
                    if index == 0 {
                        extents.push(Extent {
                            at,
                            count: 1,
                            source: Source::Inline(bytes.clone()),
                        });
                    }
                    let holes = here - u64::from(index == 0);
                    if holes > 0 {
                        push(&mut extents, FileBlock(at.0 + here - holes), holes, Source::Hole);
                    }
                }
                Some(Row::Map(map)) => {
                    for index in indices {
                        let at = FileBlock(chunk * CHUNK_BLOCKS + index as u64);
                        let source = match map.get(index) {
                            Ptr::Hole => Source::Hole,
                            Ptr::Promised => Source::Promised,
                            Ptr::Lost => Source::Lost,
                            Ptr::Data(block, crc) => {
                                // The common case grows the last extent in place.
                                if let Some(Extent {
                                    count,
                                    source: Source::Blocks(run, Some(crcs)),
                                    ..
                                }) = extents.last_mut()
                                    && run.end() == block
                                {
                                    *count += 1;
                                    run.count += 1;
                                    crcs.push(crc);
                                    continue;
                                }
                                Source::Blocks(Run::new(block, 1), Some(vec![crc]))
                            }
                            Ptr::Bare(block) => Source::Blocks(Run::new(block, 1), None),
                            Ptr::Packed { unit, index } => {
                                let unit = map.unit(unit).ok_or_else(|| Damage::new(ino, "names no such unit"))?;
                                Source::Packed(unit.clone(), index)
                            }
                        };
                        push(&mut extents, at, 1, source);
                    }
                }
            }
            at = at.plus(here);
        }
        Ok(extents)
    }

    fn regular(&mut self, ino: Ino) -> Result<Inode> {
        let inode = self.state.inode(ino)?;
        match inode.kind() {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Errno::IsDirectory.into()),
            _ => Err(Errno::Invalid.into()),
        }
    }
}

/// Adds a stretch, to the last one if it continues it.
fn push(extents: &mut Vec<Extent>, at: FileBlock, count: u64, source: Source) {
    if let Some(last) = extents.last_mut() {
        let continues = match (&mut last.source, &source) {
            (Source::Hole, Source::Hole) | (Source::Promised, Source::Promised) | (Source::Lost, Source::Lost) => true,
            (Source::Blocks(run, None), Source::Blocks(next, None)) if run.end() == next.start => {
                run.count += next.count;
                true
            }
            (Source::Packed(unit, first), Source::Packed(next, index)) => {
                unit == next && u64::from(*first) + last.count == u64::from(*index)
            }
            _ => false,
        };
        if continues {
            last.count += count;
            return;
        }
    }
    extents.push(Extent { at, count, source });
}

impl Fs {
    /// Reads bytes of a file; returns how many there were.
    pub fn read(&self, ino: Ino, at: u64, buffer: &mut [u8]) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            let (extents, length, first) = {
                let mut core = self.core();
                let inode = core.regular(ino)?;
                let length = inode.size.saturating_sub(at).min(buffer.len() as u64);
                if length == 0 {
                    return Ok(0);
                }
                let first = FileBlock::of(at);
                let count = blocks_for(at + length) - first.0;
                (core.map(ino, first, count)?, length, first)
            };
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some(target) = buffer.get_mut(..length) else {
                return Err(Errno::Invalid.into());
            };
            let read = self.fill(&extents, at, target);
            let blocks = extents.iter().map(|extent| extent.count).sum();
            let checked = read.is_ok() && extents.iter().all(is_checked);
            if checked || self.core().map(ino, first, blocks)? == extents {
                let meter = &self.shared.metrics.data;
                match &read {
                    Ok(()) => meter.read_bytes.add(length as u64),
                    Err(Error::Damaged(_)) => meter.damaged_reads.increment(),
                    Err(_) => {}
                }
                return read.map(|()| length).map_err(|error| in_file(ino, error));
            }
        }
        Err(Errno::Busy.into())
    }

    /// Fills a buffer from extents, the first of which contains the byte `at`.
    fn fill(&self, extents: &[Extent], at: u64, into: &mut [u8]) -> Result<()> {
        let mut rest = into;
        let mut at = at;
        for extent in extents {
            let offset = at - extent.at.byte_at();
            let bytes = (extent.count * BLOCK_SIZE as u64 - offset).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(usize::try_from(bytes).unwrap_or(usize::MAX));
            read_extent(&*self.shared.disk, extent, offset, now)?;
            if matches!(extent.source, Source::Packed(..)) {
                self.shared.metrics.data.decompressions.increment();
            }
            at += bytes;
            rest = later;
        }
        Ok(())
    }

    /// Writes bytes of a file. What was written before an error stays, and is told.
    pub fn write(&self, ino: Ino, at: u64, from: &[u8], now: Timestamp) -> Result<usize> {
        let end = at.checked_add(from.len() as u64).filter(|&end| end <= MAX_FILE_BYTES);
        if end.is_none() {
            return Err(Errno::FileTooLarge.into());
        }
        let mut written = 0;
        while written < from.len() {
            let here = at + written as u64;
            let until = (here / PIECE + 1) * PIECE;
            let count = usize::try_from(until - here)
                .unwrap_or(usize::MAX)
                .min(from.len() - written);
            let piece = from.get(written..written + count).unwrap_or_default();
            match self.write_piece(ino, here, piece, now, None) {
                Ok(()) => {
                    self.shared.metrics.data.written_bytes.add(count as u64);
                    written += count;
                }
                Err(error) if written == 0 => return Err(error),
                Err(_) => return Ok(written),
            }
        }
        Ok(written)
    }

    /// Writes what is at most one transaction. `then` becomes part of it: both are done or neither.
    pub(super) fn write_piece(
        &self,
        ino: Ino,
        at: u64,
        from: &[u8],
        now: Timestamp,
        then: Option<&Op<'_>>,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let draft = {
                let mut core = self.shared.writable()?;
                match core.draft(ino, at, from.len())? {
                    Draft::Inline(inode) => {
                        let at = u32::try_from(at).map_err(|_| Error::Posix(Errno::Invalid))?;
                        let mut operations = vec![Op::WriteInline {
                            ino,
                            at,
                            time: now,
                            bytes: from,
                        }];
                        operations.extend(drop_set_ids(ino, &inode, now));
                        operations.extend(then.cloned());
                        core.perform(&operations)?;
                        return self.shared.request_checkpoint(core);
                    }
                    Draft::Spill => None,
                    Draft::Blocks(plan) => Some(plan),
                }
            };
            let Some(plan) = draft else {
                self.spill(ino, now)?;
                continue;
            };
            if self.write_blocks(ino, at, from, now, &plan, then)? {
                return Ok(());
            }
        }
        Err(Errno::Busy.into())
    }

    /// Gives the bytes of a small file a block, if they are stored in the metadata. Nobody sees a difference.
    pub(super) fn spill(&self, ino: Ino, now: Timestamp) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let plan = {
                let mut core = self.core();
                let inode = core.regular(ino)?;
                let extent = core.map(ino, FileBlock(0), 1)?;
                if !matches!(
                    extent.as_slice(),
                    [Extent {
                        source: Source::Inline(_),
                        ..
                    }]
                ) {
                    return Ok(());
                }
                Plan {
                    inode,
                    at: FileBlock(0),
                    count: 1,
                    edges: extent,
                    goal: None,
                    covered: None,
                }
            };
            if self.write_blocks(ino, 0, &[], now, &plan, None)? {
                return Ok(());
            }
        }
        Err(Errno::Busy.into())
    }

    /// Writes whole blocks elsewhere and puts them into the map. False: the edges changed meanwhile.
    fn write_blocks(
        &self,
        ino: Ino,
        at: u64,
        from: &[u8],
        now: Timestamp,
        plan: &Plan,
        then: Option<&Op<'_>>,
    ) -> Result<bool> {
        let merged;
        let content = if from.len() as u64 == plan.count * BLOCK_SIZE as u64 {
            from
        } else {
            merged = self.merge(at, from, plan)?;
            &merged
        };
        let end = at + from.len() as u64;
        let stored = self.store(plan, content, end, now, ino)?;
        let mut operations = stored.operations;
        let result = self.shared.writable().and_then(|mut core| {
            let inode = core.state.inode(ino)?;
            if from.is_empty() {
                operations.push(keep_times(ino, &inode, now));
            } else {
                operations.extend(drop_set_ids(ino, &inode, now));
            }
            operations.extend(then.cloned());
            for edge in &plan.edges {
                if core.map(ino, edge.at, 1)?.first() != Some(edge) {
                    return Ok(false);
                }
            }
            if plan.covered.is_some() {
                core.perform_covered(&operations)?;
            } else {
                core.perform(&operations)?;
            }
            self.shared.request_checkpoint(core)?;
            Ok(true)
        });
        if !matches!(result, Ok(true)) {
            self.give_blocks_back(&stored.runs);
        }
        result
    }

    /// The content of whole blocks: the new bytes, and around them what the file holds.
    fn merge(&self, at: u64, from: &[u8], plan: &Plan) -> Result<Vec<u8>> {
        let count = usize::try_from(plan.count).unwrap_or(usize::MAX);
        let mut merged = vec![0; count * BLOCK_SIZE];
        for edge in &plan.edges {
            let offset = usize::try_from(edge.at.byte_at() - plan.at.byte_at()).unwrap_or(usize::MAX);
            if let Some(block) = merged.get_mut(offset..offset + BLOCK_SIZE) {
                read_extent(&*self.shared.disk, edge, 0, block)?;
                if matches!(edge.source, Source::Packed(..)) {
                    self.shared.metrics.data.decompressions.increment();
                }
            }
        }
        let offset = usize::try_from(at - plan.at.byte_at()).unwrap_or(usize::MAX);
        if let Some(place) = merged.get_mut(offset..offset + from.len()) {
            place.copy_from_slice(from);
        }
        Ok(merged)
    }

    /// Writes whole blocks into the pool; returns the operations that make them the file's.
    fn store(&self, plan: &Plan, content: &[u8], end: u64, now: Timestamp, ino: Ino) -> Result<Stored<'static>> {
        let mut stored = Stored {
            ino,
            end,
            now,
            runs: Vec::new(),
            operations: Vec::new(),
        };
        let result = if plan.inode.flags.has(FileFlags::COMPRESS) {
            self.store_packed(plan, content, &mut stored)
        } else {
            self.store_plain(plan, plan.at, content, &mut stored)
        };
        if let Err(error) = result {
            self.give_blocks_back(&stored.runs);
            return Err(error);
        }
        Ok(stored)
    }

    fn store_plain(&self, plan: &Plan, at: FileBlock, content: &[u8], stored: &mut Stored<'static>) -> Result<()> {
        let runs = self.store_blocks(plan, content, stored)?;
        let checksums = if plan.inode.flags.has(FileFlags::NO_CHECKSUM) {
            Vec::new()
        } else {
            content.chunks_exact(BLOCK_SIZE).map(Crc::of).collect()
        };
        stored.operations.push(Op::Write {
            ino: stored.ino,
            at,
            end: stored.end,
            time: stored.now,
            runs,
            checksums,
        });
        Ok(())
    }

    fn store_packed(&self, plan: &Plan, content: &[u8], stored: &mut Stored<'static>) -> Result<()> {
        let algorithm = if plan.inode.flags.has(FileFlags::ZSTD) {
            Algorithm::Zstd
        } else {
            Algorithm::Lz4
        };
        let mut at = plan.at;
        let mut rest = content;
        while !rest.is_empty() {
            let (_, index) = chunk_of(at);
            let room = (CHUNK_LEN - index) * BLOCK_SIZE;
            let (here, later) = rest.split_at(room.min(rest.len()));
            let count = here.len() / BLOCK_SIZE;
            let packed = if count >= 2 { algorithm.pack(here) } else { None };
            if let Some(mut packed) = packed {
                let bytes = packed.len();
                let checksum = Crc::of(&packed);
                packed.resize(bytes.div_ceil(BLOCK_SIZE) * BLOCK_SIZE, 0);
                let runs = self.store_blocks(plan, &packed, stored)?;
                self.shared.metrics.data.compressions.increment();
                stored.operations.push(Op::WritePacked {
                    ino: stored.ino,
                    at,
                    count: u8::try_from(count).unwrap_or(u8::MAX),
                    algorithm: algorithm as u8,
                    bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
                    checksum,
                    end: stored.end,
                    time: stored.now,
                    runs,
                });
            } else {
                self.store_plain(plan, at, here, stored)?;
            }
            at = at.plus(count as u64);
            rest = later;
        }
        Ok(())
    }

    /// Puts whole blocks into the pool, and notes where.
    fn store_blocks(&self, plan: &Plan, content: &[u8], stored: &mut Stored<'_>) -> Result<Vec<Run>> {
        let runs = self.take_blocks(&Ask {
            count: (content.len() / BLOCK_SIZE) as u64,
            goal: plan.goal,
            covered: plan.covered,
        })?;
        stored.runs.extend(&runs);
        self.write_runs(&runs, content)?;
        Ok(runs)
    }

    fn write_runs(&self, runs: &[Run], content: &[u8]) -> Result<()> {
        let mut rest = content;
        for run in runs {
            let (now, later) = rest.split_at(usize::try_from(run.bytes()).unwrap_or(usize::MAX).min(rest.len()));
            self.shared.disk.write(run.start.byte_at(), now)?;
            rest = later;
        }
        Ok(())
    }

    /// What a range of a file consists of, for `FIEMAP` and tests.
    pub fn extents(&self, ino: Ino, from: FileBlock, count: u64) -> Result<Vec<Extent>> {
        let mut core = self.core();
        core.regular(ino)?;
        core.map(ino, from, count)
    }
}

/// What a write found.
enum Draft {
    /// The bytes go into the metadata.
    Inline(Inode),
    /// The file's bytes are in the metadata and must get a block first.
    Spill,
    /// Whole blocks.
    Blocks(Plan),
}

/// Whole blocks to write.
struct Plan {
    inode: Inode,
    at: FileBlock,
    count: u64,
    /// The first or last block, if only a part of it is written and it holds something.
    edges: Vec<Extent>,
    goal: Option<Block>,
    covered: Option<u64>,
}

/// Blocks that were written, and the operations that will own them.
struct Stored<'a> {
    ino: Ino,
    /// The byte after the last one written.
    end: u64,
    now: Timestamp,
    runs: Vec<Run>,
    operations: Vec<Op<'a>>,
}

impl Core {
    fn draft(&mut self, ino: Ino, at: u64, length: usize) -> Result<Draft> {
        let inode = self.regular(ino)?;
        if inode.flags.has(FileFlags::IMMUTABLE) || inode.flags.has(FileFlags::APPEND) && at < inode.size {
            return Err(Errno::NotPermitted.into());
        }
        let end = at + length as u64;
        let (first, last) = (FileBlock::of(at), FileBlock(blocks_for(end) - 1));
        if first.0 < CHUNK_BLOCKS {
            let row = self.state.row(ino, 0)?;
            if end.max(inode.size) <= INLINE_BYTES as u64 && !matches!(row, Some(Row::Map(_))) {
                return Ok(Draft::Inline(inode));
            }
            if matches!(row, Some(Row::Inline(_))) && first.0 > 0 {
                return Ok(Draft::Spill);
            }
        }
        let count = last.0 - first.0 + 1;
        let mut edges = Vec::new();
        let starts_inside = !at.is_multiple_of(BLOCK_SIZE as u64);
        // A last block that is written up to the end of the file is zeros beyond.
        let ends_inside = !end.is_multiple_of(BLOCK_SIZE as u64) && end < inode.size;
        for (wanted, block) in [
            (starts_inside || count == 1 && ends_inside, first),
            (count > 1 && ends_inside, last),
        ] {
            if wanted {
                edges.extend(self.map(ino, block, 1)?);
            }
        }
        let goal = match first.0.checked_sub(1) {
            Some(before) => self.last_pool_block(ino, FileBlock(before))?.map(|block| block.plus(1)),
            None => None,
        };
        let covered = self.covered(ino, first, count)?;
        Ok(Draft::Blocks(Plan {
            inode,
            at: first,
            count,
            edges,
            goal,
            covered,
        }))
    }

    /// The pool's block of a file block.
    fn last_pool_block(&mut self, ino: Ino, at: FileBlock) -> Result<Option<Block>> {
        let (chunk, index) = chunk_of(at);
        Ok(match self.state.row(ino, chunk)? {
            Some(Row::Map(map)) => match map.get(index) {
                Ptr::Data(block, _) | Ptr::Bare(block) => Some(block),
                Ptr::Packed { unit, .. } => {
                    let last = map.unit(unit).and_then(|unit| unit.runs.last());
                    last.map(|run| Block(run.end().0 - 1))
                }
                Ptr::Hole | Ptr::Promised | Ptr::Lost => None,
            },
            _ => None,
        })
    }

    /// If each block replaces one or was promised: how many were promised.
    fn covered(&mut self, ino: Ino, from: FileBlock, count: u64) -> Result<Option<u64>> {
        let mut promised = 0;
        for (chunk, index, here) in super::apply::per_chunk(from, count) {
            let Some(Row::Map(map)) = self.state.row(ino, chunk)? else {
                return Ok(None);
            };
            for index in index..index + here {
                match map.get(index) {
                    Ptr::Hole | Ptr::Lost => return Ok(None),
                    Ptr::Promised => promised += 1,
                    Ptr::Data(..) | Ptr::Bare(_) | Ptr::Packed { .. } => {}
                }
            }
        }
        Ok(Some(promised))
    }
}

/// After bytes only moved from the metadata to a block: nothing was modified.
fn keep_times(ino: Ino, inode: &Inode, now: Timestamp) -> Op<'static> {
    Op::SetAttributes {
        ino,
        fields: change::MODIFIED | change::CHANGED,
        mode: 0,
        uid: 0,
        gid: 0,
        flags: 0,
        accessed: now,
        modified: inode.modified,
        changed: inode.changed,
    }
}

/// A write by anybody takes away the permission to act as the owner.
pub(super) fn drop_set_ids(ino: Ino, inode: &Inode, now: Timestamp) -> Option<Op<'static>> {
    let executes_as_group = inode.mode & 0o2010 == 0o2010;
    if inode.mode & 0o4000 == 0 && !executes_as_group {
        return None;
    }
    let drop = if executes_as_group { SET_IDS } else { 0o4000 };
    Some(Op::SetAttributes {
        ino,
        fields: change::MODE | change::CHANGED,
        mode: inode.mode & 0o7777 & !drop,
        uid: 0,
        gid: 0,
        flags: 0,
        accessed: now,
        modified: now,
        changed: now,
    })
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

/// Reads bytes of an extent from an offset in it, and verifies every block it reads.
pub(super) fn read_extent(disk: &dyn Disk, extent: &Extent, offset: u64, into: &mut [u8]) -> Result<()> {
    match &extent.source {
        Source::Hole | Source::Promised => {
            into.fill(0);
            Ok(())
        }
        Source::Inline(bytes) => {
            let bytes = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
            copy_padded(bytes.unwrap_or_default(), into);
            Ok(())
        }
        Source::Lost => Err(Damage::new(extent.at, "its bytes were lost")),
        Source::Blocks(run, checksums) => read_blocks(disk, *run, checksums.as_deref(), offset, into),
        Source::Packed(unit, index) => {
            let unpacked = unpack(disk, unit)?;
            let offset = usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .saturating_add(usize::from(*index) * BLOCK_SIZE);
            copy_padded(unpacked.get(offset..).unwrap_or_default(), into);
            Ok(())
        }
    }
}

fn copy_padded(from: &[u8], into: &mut [u8]) {
    let count = from.len().min(into.len());
    let (head, tail) = into.split_at_mut(count);
    head.copy_from_slice(from.get(..count).unwrap_or_default());
    tail.fill(0);
}

fn read_blocks(disk: &dyn Disk, run: Run, checksums: Option<&[Crc]>, offset: u64, into: &mut [u8]) -> Result<()> {
    let block_size = BLOCK_SIZE as u64;
    let first = offset / block_size;
    let whole = offset.is_multiple_of(block_size) && into.len().is_multiple_of(BLOCK_SIZE);
    let start = run.start.plus(first);
    if whole {
        disk.read(start.byte_at(), into)?;
        return verify(start, checksums, first, into);
    }
    let count = blocks_for(offset + into.len() as u64) - first;
    let mut blocks = vec![0; usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(BLOCK_SIZE)];
    disk.read(start.byte_at(), &mut blocks)?;
    verify(start, checksums, first, &blocks)?;
    let inside = usize::try_from(offset % block_size).unwrap_or(0);
    copy_padded(blocks.get(inside..).unwrap_or_default(), into);
    Ok(())
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
    let mut packed = Vec::new();
    for run in &unit.runs {
        let mut bytes = vec![0; usize::try_from(run.bytes()).unwrap_or(usize::MAX)];
        disk.read(run.start.byte_at(), &mut bytes)?;
        packed.append(&mut bytes);
    }
    packed.truncate(unit.bytes as usize);
    let start = unit.runs.first().map_or(Block(0), |run| run.start);
    if Crc::of(&packed) != unit.crc {
        return Err(Damage::new(start, "the checksum of a compressed unit does not match"));
    }
    unit.algorithm
        .unpack(&packed, usize::from(unit.file_blocks) * BLOCK_SIZE)
}
