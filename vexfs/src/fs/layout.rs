// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sizes, holes, preallocation, moved and shared ranges, as front ends ask for them.
//!
//! Operations work on whole blocks. What a caller wants of parts of blocks is done by writing these blocks anew. Work that
//! touches very many rows is done in steps, the one that callers see last: a crash in between leaves a file with more or
//! fewer holes than it had, in the range that was to change.

use std::ops::Range;

use crate::data::CHUNK_BLOCKS;
use crate::data::row::{Ptr, Row};
use crate::error::{Errno, Error, Result};
use crate::units::{BLOCK_SIZE, FileBlock, Ino, blocks_for};

use super::engine::Fs;
use super::file::{Extent, Source};
use super::namespace::STEP_ROWS;
use super::op::Op;
use super::record::{FileFlags, Kind, Timestamp};
use super::write::{Author, drop_set_ids};
use super::{MAX_FILE_BYTES, MAX_STEP_BLOCKS};

/// Modes of `fallocate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preallocation {
    /// Promise space.
    Allocate {
        /// The file does not become longer.
        keep_size: bool,
    },
    /// Make a hole.
    Punch,
    /// Make zeros that space is promised for.
    Zero {
        /// The file does not become longer.
        keep_size: bool,
    },
    /// Take a range out.
    Collapse,
    /// Put a hole in.
    Insert,
}

/// What to look for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// Bytes that are stored.
    Data,
    /// Bytes that are not.
    Hole,
}

const BLOCK: u64 = BLOCK_SIZE as u64;

impl Fs {
    /// Sets the size of a file.
    pub fn truncate(&self, ino: Ino, size: u64, now: Timestamp) -> Result<()> {
        if size > MAX_FILE_BYTES {
            return Err(Errno::FileTooLarge.into());
        }
        let old = self.changeable(ino)?;
        self.settle(ino)?;
        let cut = Op::Truncate { ino, size, time: now };
        if size < old {
            // The last step is the truncation's own.
            self.punch_all_but_last_step(ino, FileBlock(blocks_for(size)), FileBlock(super::MAX_FILE_BLOCKS), now)?;
            let tail = size % BLOCK;
            if tail != 0 && self.is_stored(ino, FileBlock::of(size))? {
                // What the last block held beyond the end must not come back when the file grows. Zeros and the new size are
                // one transaction: a crash between them would leave a file of the old size with a hole in it.
                let count = usize::try_from((BLOCK - tail).min(old - size)).unwrap_or(BLOCK_SIZE);
                let zeros = [0; BLOCK_SIZE];
                let zeros = zeros.get(..count).unwrap_or_default();
                return self.write_piece(ino, size, zeros, Author::Writer(now), &[cut]);
            }
        }
        self.change_bytes(ino, cut, now)
    }

    /// `fallocate`.
    pub fn preallocate(&self, ino: Ino, mode: Preallocation, at: u64, length: u64, now: Timestamp) -> Result<()> {
        let end = at.checked_add(length).filter(|&end| end <= MAX_FILE_BYTES);
        let end = end.ok_or(Error::Posix(Errno::FileTooLarge))?;
        if length == 0 {
            return Err(Errno::Invalid.into());
        }
        let size = self.changeable(ino)?;
        self.settle(ino)?;
        match mode {
            Preallocation::Allocate { keep_size } => self.allocate(ino, at, end, keep_size, now),
            Preallocation::Punch => {
                self.punch(ino, at, end.min(blocks_for(size) * BLOCK).max(at), now)?;
                // Promises beyond the end of the file go too.
                self.punch_blocks(ino, FileBlock(blocks_for(at.max(size))), FileBlock::of(end), now)
            }
            Preallocation::Zero { keep_size } => {
                self.punch(ino, at, end.min(size).max(at), now)?;
                self.allocate(ino, at, end, keep_size, now)
            }
            Preallocation::Collapse | Preallocation::Insert => {
                let outside = if mode == Preallocation::Collapse {
                    end >= size
                } else {
                    at >= size
                };
                if !at.is_multiple_of(BLOCK) || !length.is_multiple_of(BLOCK) || outside {
                    return Err(Errno::Invalid.into());
                }
                self.spill(ino)?;
                let (from, count) = (FileBlock::of(at), length / BLOCK);
                let operation = if mode == Preallocation::Collapse {
                    Op::Collapse {
                        ino,
                        from,
                        count,
                        time: now,
                    }
                } else {
                    Op::Insert {
                        ino,
                        from,
                        count,
                        time: now,
                    }
                };
                self.change_bytes(ino, operation, now)
            }
        }
    }

    /// A transaction on a file's bytes: like any write it takes away the permission to act as the owner.
    fn change_bytes(&self, ino: Ino, operation: Op<'_>, now: Timestamp) -> Result<()> {
        let mut core = self.shared.writable()?;
        let inode = core.state.inode(ino)?;
        match drop_set_ids(ino, &inode, now) {
            Some(drop) => core.perform(&[operation, drop])?,
            None => core.perform(&[operation])?,
        }
        self.shared.request_checkpoint(core)
    }

    fn changeable(&self, ino: Ino) -> Result<u64> {
        let mut core = self.core();
        core.check_writable()?;
        let inode = core.state.inode(ino)?;
        match inode.kind() {
            Kind::File => {}
            Kind::Directory => return Err(Errno::IsDirectory.into()),
            _ => return Err(Errno::Invalid.into()),
        }
        if inode.flags.any(FileFlags(FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0)) {
            return Err(Errno::NotPermitted.into());
        }
        Ok(inode.size)
    }

    fn allocate(&self, ino: Ino, at: u64, end: u64, keep_size: bool, now: Timestamp) -> Result<()> {
        self.spill(ino)?;
        let (mut from, until) = (FileBlock::of(at), FileBlock(blocks_for(end)));
        // Asked for in one piece first, so that steps do not find the pool full halfway.
        if until.0 - from.0 > MAX_STEP_BLOCKS && self.holes(ino, from, until)? > self.statistics().available_blocks {
            return Err(Errno::NoSpace.into());
        }
        while from < until {
            let count = (until.0 - from.0).min(MAX_STEP_BLOCKS);
            let last = from.0 + count == until.0;
            let operation = Op::Preallocate {
                ino,
                from,
                count,
                end: if last && !keep_size { end } else { 0 },
                time: now,
            };
            self.change_bytes(ino, operation, now)?;
            from = from.plus(count);
        }
        Ok(())
    }

    /// Blocks of a range that nothing is stored or promised for.
    fn holes(&self, ino: Ino, from: FileBlock, until: FileBlock) -> Result<u64> {
        let mut there = 0;
        self.visit_rows(ino, from, until, |chunk, row| {
            if let Row::Map(map) = row {
                let inside = |index: usize| (from.0..until.0).contains(&(chunk * CHUNK_BLOCKS + index as u64));
                there += map.iter().filter(|(index, _)| inside(*index)).count() as u64;
            }
        })?;
        Ok(until.0 - from.0 - there)
    }

    /// The ranges of a file, in bytes, that space is promised for, in order; beyond its end too.
    pub fn promised_ranges(&self, ino: Ino) -> Result<Vec<Range<u64>>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        self.visit_rows(ino, FileBlock(0), FileBlock(super::MAX_FILE_BLOCKS), |chunk, row| {
            let Row::Map(map) = row else {
                return;
            };
            for (index, _) in map.iter().filter(|(_, ptr)| *ptr == Ptr::Promised) {
                let start = FileBlock(chunk * CHUNK_BLOCKS + index as u64).byte_at();
                match ranges.last_mut() {
                    Some(last) if last.end == start => last.end += BLOCK,
                    _ => ranges.push(start..start + BLOCK),
                }
            }
        })?;
        Ok(ranges)
    }

    fn visit_rows(&self, ino: Ino, from: FileBlock, until: FileBlock, mut each: impl FnMut(u64, &Row)) -> Result<()> {
        let mut chunk = from.0 / CHUNK_BLOCKS;
        let end = until.0.div_ceil(CHUNK_BLOCKS);
        while chunk < end {
            let rows = self.core().state.rows(ino, chunk, end, STEP_ROWS)?;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            chunk = last + 1;
            for (chunk, row) in &rows {
                each(*chunk, row);
            }
        }
        Ok(())
    }

    /// Makes a hole, and zeros where it does not cover whole blocks.
    fn punch(&self, ino: Ino, at: u64, end: u64, now: Timestamp) -> Result<()> {
        let (first, last) = (blocks_for(at) * BLOCK, end - end % BLOCK);
        if first >= last {
            return self.zero(ino, at, end, now);
        }
        self.zero(ino, at, first, now)?;
        self.zero(ino, last, end, now)?;
        self.punch_blocks(ino, FileBlock::of(first), FileBlock::of(last), now)
    }

    /// Zeros in a part of one or two blocks, if anything is stored there.
    fn zero(&self, ino: Ino, at: u64, end: u64, now: Timestamp) -> Result<()> {
        let mut at = at;
        while at < end {
            let until = end.min((at / BLOCK + 1) * BLOCK);
            let size = self.core().state.inode(ino)?.size;
            let stored = self.is_stored(ino, FileBlock::of(at))?;
            let until_size = until.min(size);
            if stored && at < until_size {
                let zeros = [0; BLOCK_SIZE];
                let count = usize::try_from(until_size - at).unwrap_or(BLOCK_SIZE).min(BLOCK_SIZE);
                self.write(ino, at, zeros.get(..count).unwrap_or_default(), now)?;
            }
            at = until;
        }
        Ok(())
    }

    /// Whether a block of a file holds bytes.
    fn is_stored(&self, ino: Ino, block: FileBlock) -> Result<bool> {
        let map = self.core().map(ino, block, 1)?;
        Ok(!map
            .iter()
            .all(|extent| matches!(extent.source, Source::Hole | Source::Promised)))
    }

    /// Makes a hole of whole blocks, in steps. One of no blocks notes that the file was changed.
    fn punch_blocks(&self, ino: Ino, from: FileBlock, until: FileBlock, now: Timestamp) -> Result<()> {
        let until = until.max(from);
        let from = self.punch_all_but_last_step(ino, from, until, now)?;
        self.punch_step(ino, from, until, now)
    }

    /// Makes holes until what is left is one step's work; returns where that begins.
    fn punch_all_but_last_step(
        &self,
        ino: Ino,
        mut from: FileBlock,
        until: FileBlock,
        now: Timestamp,
    ) -> Result<FileBlock> {
        loop {
            let end = self.step_end(ino, from, until)?;
            if end >= until {
                return Ok(from);
            }
            self.punch_step(ino, from, end, now)?;
            from = end;
        }
    }

    /// Makes holes from a block on, as far as steps other than the last are needed, and does `then` with each; returns where
    /// the last begins.
    pub(super) fn punch_quietly(&self, ino: Ino, mut from: FileBlock, then: &Op<'_>) -> Result<FileBlock> {
        let until = FileBlock(super::MAX_FILE_BLOCKS);
        loop {
            let end = self.step_end(ino, from, until)?;
            if end >= until {
                return Ok(from);
            }
            let count = end.0 - from.0;
            let time = Timestamp(0);
            let mut core = self.shared.writable()?;
            core.perform(&[Op::Punch { ino, from, count, time }, then.clone()])?;
            self.shared.request_checkpoint(core)?;
            from = end;
        }
    }

    /// Whether making a hole of everything from a block on is one step.
    pub(super) fn is_one_step(&self, ino: Ino, from: FileBlock) -> Result<bool> {
        let until = FileBlock(super::MAX_FILE_BLOCKS);
        Ok(self.step_end(ino, from, until)? >= until)
    }

    /// Whether a block of a file is stored in blocks of the pool.
    pub(super) fn has_blocks(&self, ino: Ino, block: FileBlock) -> Result<bool> {
        let map = self.core().map(ino, block, 1)?;
        Ok(map
            .iter()
            .any(|extent| matches!(extent.source, Source::Blocks(..) | Source::Packed(..))))
    }

    fn punch_step(&self, ino: Ino, from: FileBlock, until: FileBlock, now: Timestamp) -> Result<()> {
        let operation = Op::Punch {
            ino,
            from,
            count: until.0 - from.0,
            time: now,
        };
        self.change_bytes(ino, operation, now)
    }

    /// Where a step that begins at a block ends: it touches at most so many rows.
    fn step_end(&self, ino: Ino, from: FileBlock, until: FileBlock) -> Result<FileBlock> {
        let core = self.core();
        let (first, end) = (from.0 / CHUNK_BLOCKS, until.0.div_ceil(CHUNK_BLOCKS));
        let rows = core.state.rows(ino, first, end, STEP_ROWS + 1)?;
        Ok(rows
            .get(STEP_ROWS)
            .map_or(until, |(chunk, _)| FileBlock(chunk * CHUNK_BLOCKS)))
    }

    /// Makes a range of one file the content of a range of another, without copying. Offsets are multiples of the block
    /// size; so is the length, or the range ends where the source ends.
    pub fn clone_range(&self, from: Ino, at: u64, to: Ino, to_at: u64, length: u64, now: Timestamp) -> Result<()> {
        let source_size = {
            let mut core = self.core();
            let inode = core.state.inode(from)?;
            match inode.kind() {
                Kind::File => inode.size,
                Kind::Directory => return Err(Errno::IsDirectory.into()),
                _ => return Err(Errno::Invalid.into()),
            }
        };
        let target_size = self.changeable(to)?;
        let length = if length == 0 {
            source_size.saturating_sub(at)
        } else {
            length
        };
        let (Some(end), Some(to_end)) = (at.checked_add(length), to_at.checked_add(length)) else {
            return Err(Errno::FileTooLarge.into());
        };
        let whole = length % BLOCK == 0 || end == source_size && to_end >= target_size;
        if !at.is_multiple_of(BLOCK) || !to_at.is_multiple_of(BLOCK) || end > source_size || !whole {
            return Err(Errno::Invalid.into());
        }
        if length == 0 {
            return Ok(());
        }
        if from == to && at < to_end && to_at < end {
            return Err(Errno::Invalid.into());
        }
        self.spill(from)?;
        self.settle(to)?;
        self.spill(to)?;
        let blocks = blocks_for(length);
        let mut done = 0;
        while done < blocks {
            // Where both have holes there is nothing to do, except that the last block tells the size.
            let hole = self.hole_at(from, at / BLOCK + done, blocks - done)?.min(self.hole_at(
                to,
                to_at / BLOCK + done,
                blocks - done,
            )?);
            done = (done + hole).min(blocks - 1);
            let count = (blocks - done).min(MAX_STEP_BLOCKS);
            let reached = (to_at + (done + count) * BLOCK).min(to_end);
            let operation = Op::Clone {
                from,
                from_block: FileBlock(at / BLOCK + done),
                to,
                to_block: FileBlock(to_at / BLOCK + done),
                count,
                end: reached,
                time: now,
            };
            self.change_bytes(to, operation, now)?;
            done += count;
        }
        Ok(())
    }

    /// How many of the next `count` blocks belong to chunks that nothing is known of.
    fn hole_at(&self, ino: Ino, block: u64, count: u64) -> Result<u64> {
        let end = (block + count).div_ceil(CHUNK_BLOCKS);
        let rows = self.core().state.rows(ino, block / CHUNK_BLOCKS, end, 1)?;
        let next = rows.first().map_or(u64::MAX, |(chunk, _)| chunk * CHUNK_BLOCKS);
        Ok(next.saturating_sub(block).min(count))
    }

    /// The next place from a byte on that holds data, or does not. The end of the file counts as a hole.
    pub fn seek(&self, ino: Ino, at: u64, what: Seek) -> Result<u64> {
        let mut core = self.core();
        let inode = core.state.inode(ino)?;
        if inode.kind() != Kind::File {
            return Err(Errno::Invalid.into());
        }
        if at >= inode.size {
            return Err(Errno::NoSuchRange.into());
        }
        let end = FileBlock(blocks_for(inode.size));
        let mut block = FileBlock::of(at);
        while block < end {
            // Chunks without a row are skipped by asking for the next row there is.
            let chunk = block.0 / CHUNK_BLOCKS;
            if core.state.row(ino, chunk)?.is_none() {
                if what == Seek::Hole {
                    return Ok(at.max(block.byte_at()));
                }
                // From the next chunk on: a damaged filter may deny a row that the scan finds.
                let rows = core.state.rows(ino, chunk + 1, end.0.div_ceil(CHUNK_BLOCKS), 1)?;
                match rows.first() {
                    Some((chunk, _)) => block = FileBlock(chunk * CHUNK_BLOCKS),
                    None => return Err(Errno::NoSuchRange.into()),
                }
                continue;
            }
            let count = ((chunk + 1) * CHUNK_BLOCKS - block.0).min(end.0 - block.0);
            for Extent { at: start, source, .. } in core.map(ino, block, count)? {
                let hole = matches!(source, Source::Hole | Source::Promised);
                if hole == (what == Seek::Hole) {
                    return Ok(at.max(start.byte_at()));
                }
            }
            block = block.plus(count);
        }
        match what {
            Seek::Hole => Ok(inode.size),
            Seek::Data => Err(Errno::NoSuchRange.into()),
        }
    }
}
