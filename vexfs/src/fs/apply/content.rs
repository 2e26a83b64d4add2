// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations on a file's bytes that stay where they are: write, truncate, preallocate, punch, purge.

use crate::checksum::Crc;
use crate::data::compress::Algorithm;
use crate::data::row::{INLINE_BYTES, Map, Ptr, Row, Unit};
use crate::data::{CHUNK_BLOCKS, chunk_of};
use crate::error::{Damage, Errno, Error, Result};
use crate::units::{Block, FileBlock, Ino, Run, blocks_for};

use super::super::op::Op;
use super::super::record::{Inode, Orphan, Timestamp, Totals};
use super::super::state::State;
use super::super::{MAX_FILE_BLOCKS, MAX_FILE_BYTES, MAX_STEP_BLOCKS};
use super::{file, touch};

/// Changes some blocks of one chunk, frees what they were, and keeps the file's count of blocks right.
pub(super) fn change_row(
    state: &mut State,
    ino: Ino,
    inode: &mut Inode,
    chunk: u64,
    change: impl FnOnce(&mut Map) -> Vec<Ptr>,
) -> Result<()> {
    let mut map = state.map_to_change(ino, chunk)?.ok_or(Error::Posix(Errno::Invalid))?;
    let before = map.pool_block_count();
    let old = change(&mut map);
    let mut kept_promises = 0;
    for ptr in old {
        match ptr {
            Ptr::Data(block, _) | Ptr::Bare(block) => state.drop_block(block)?,
            Ptr::Promised => kept_promises += 1,
            Ptr::Hole | Ptr::Packed { .. } | Ptr::Lost => {}
        }
    }
    for unit in map.sweep() {
        drop_unit(state, &unit)?;
    }
    state.release_promise(kept_promises)?;
    recount(ino, inode, before, map.pool_block_count())?;
    state.put_row(ino, chunk, Some(Row::Map(map)));
    Ok(())
}

pub(super) fn recount(ino: Ino, inode: &mut Inode, before: u64, after: u64) -> Result<()> {
    inode.blocks = (inode.blocks + after)
        .checked_sub(before)
        .ok_or_else(|| Damage::new(ino, "counts fewer blocks than its map names"))?;
    Ok(())
}

pub(super) fn drop_unit(state: &mut State, unit: &Unit) -> Result<()> {
    for block in unit.runs.iter().flat_map(|run| run.blocks()) {
        state.drop_block(block)?;
    }
    Ok(())
}

/// Parts of a range of blocks, one per chunk: the chunk, the first index there, the number of blocks.
pub(in crate::fs) fn per_chunk(from: FileBlock, count: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = from.0;
    let end = from.0 + count;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (chunk, index) = chunk_of(FileBlock(at));
        let here = (CHUNK_BLOCKS - index as u64).min(end - at);
        at += here;
        usize::try_from(here).ok().map(|here| (chunk, index, here))
    })
}

/// A range that a file can have.
pub(super) fn check_range(from: FileBlock, count: u64, end: u64) -> Result<()> {
    let fits = from.0.checked_add(count).is_some_and(|end| end <= MAX_FILE_BLOCKS) && end <= MAX_FILE_BYTES;
    if fits { Ok(()) } else { Err(Errno::FileTooLarge.into()) }
}

pub(super) fn write(
    state: &mut State,
    ino: Ino,
    at: FileBlock,
    end: u64,
    time: Timestamp,
    runs: &[Run],
    checksums: &[Crc],
) -> Result<()> {
    let count: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    check_range(at, count, end)?;
    if count == 0 || !checksums.is_empty() && checksums.len() as u64 != count {
        return Err(Errno::Invalid.into());
    }
    let mut inode = file(state, ino)?;
    put_blocks(state, ino, &mut inode, at, count, runs, checksums)?;
    finish_write(state, ino, inode, end, time);
    Ok(())
}

/// Makes blocks the file's.
fn put_blocks(
    state: &mut State,
    ino: Ino,
    inode: &mut Inode,
    at: FileBlock,
    count: u64,
    runs: &[Run],
    checksums: &[Crc],
) -> Result<()> {
    for &run in runs {
        state.own(run)?;
    }
    let mut blocks = runs.iter().flat_map(|run| run.blocks());
    let mut checksums = checksums.iter();
    for (chunk, index, here) in per_chunk(at, count) {
        if index == 0 {
            replace_inline(state, ino, chunk)?;
        }
        let new = blocks.by_ref().take(here).map(|block| match checksums.next() {
            Some(&crc) => Ptr::Data(block, crc),
            None => Ptr::Bare(block),
        });
        change_row(state, ino, inode, chunk, |map| {
            new.enumerate()
                .map(|(offset, ptr)| map.set(index + offset, ptr))
                .collect()
        })?;
    }
    Ok(())
}

pub(super) fn store(
    state: &mut State,
    ino: Ino,
    at: FileBlock,
    reach: u64,
    runs: &[Run],
    checksums: &[Crc],
) -> Result<()> {
    let count: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    check_range(at, count, reach)?;
    let wrong_checksums = !checksums.is_empty() && checksums.len() as u64 != count;
    if count == 0 || wrong_checksums || state.session.ordinal == 0 {
        return Err(Errno::Invalid.into());
    }
    let mut inode = file(state, ino)?;
    put_blocks(state, ino, &mut inode, at, count, runs, checksums)?;
    finish_store(state, ino, inode, at, count, reach);
    Ok(())
}

/// What the client stored beyond the end stays hidden. Blocks that held the last bytes hidden so far may have been replaced.
fn finish_store(state: &mut State, ino: Ino, mut inode: Inode, at: FileBlock, count: u64, reach: u64) {
    let (start, end) = (at.byte_at(), at.plus(count).byte_at());
    let before = inode.reach();
    let kept = if before <= end { before.min(start) } else { before };
    inode.set_size(inode.size, kept.max(reach.min(end)), state.session.ordinal);
    state.put_inode(ino, Some(inode));
}

pub(super) fn extend(state: &mut State, ino: Ino, size: u64, modified: Timestamp, changed: Timestamp) -> Result<()> {
    if size > MAX_FILE_BYTES {
        return Err(Errno::FileTooLarge.into());
    }
    let mut inode = file(state, ino)?;
    inode.grow(size);
    inode.modified = modified;
    inode.changed = changed;
    state.put_inode(ino, Some(inode));
    Ok(())
}

fn finish_write(state: &mut State, ino: Ino, mut inode: Inode, end: u64, time: Timestamp) {
    inode.grow(end);
    inode.modified = time;
    inode.changed = time;
    state.put_inode(ino, Some(inode));
}

/// A write of a file's first block replaces bytes that were stored in the row: the writer has put them into the block.
pub(super) fn replace_inline(state: &mut State, ino: Ino, chunk: u64) -> Result<()> {
    if chunk == 0 && matches!(state.row(ino, 0)?, Some(Row::Inline(_))) {
        state.put_row(ino, 0, None);
    }
    Ok(())
}

pub(super) fn write_inline(state: &mut State, ino: Ino, at: u32, time: Timestamp, bytes: &[u8]) -> Result<()> {
    let inode = file(state, ino)?;
    let at = at as usize;
    let end = at.saturating_add(bytes.len());
    if bytes.is_empty() || end > INLINE_BYTES {
        return Err(Errno::Invalid.into());
    }
    let mut content = match state.row(ino, 0)? {
        None => Vec::new(),
        Some(Row::Inline(content)) => content.to_vec(),
        Some(Row::Map(_)) => return Err(Errno::Invalid.into()),
    };
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
    state.put_row(ino, 0, Some(Row::Inline(content.into())));
    finish_write(state, ino, inode, end as u64, time);
    Ok(())
}

pub(super) fn write_packed(state: &mut State, operation: &Op<'_>) -> Result<()> {
    let Op::WritePacked {
        ino,
        at,
        count,
        algorithm,
        bytes,
        checksum,
        end,
        time,
        ref runs,
    } = *operation
    else {
        return Err(Errno::Invalid.into());
    };
    check_range(at, u64::from(count), end)?;
    let mut inode = file(state, ino)?;
    let unit = unit(algorithm, count, bytes, checksum, runs)?;
    put_unit(state, ino, &mut inode, at, unit)?;
    finish_write(state, ino, inode, end, time);
    Ok(())
}

pub(super) fn store_packed(state: &mut State, operation: &Op<'_>) -> Result<()> {
    let Op::StorePacked {
        ino,
        at,
        count,
        algorithm,
        bytes,
        checksum,
        reach,
        ref runs,
    } = *operation
    else {
        return Err(Errno::Invalid.into());
    };
    check_range(at, u64::from(count), reach)?;
    if state.session.ordinal == 0 {
        return Err(Errno::Invalid.into());
    }
    let mut inode = file(state, ino)?;
    let unit = unit(algorithm, count, bytes, checksum, runs)?;
    put_unit(state, ino, &mut inode, at, unit)?;
    finish_store(state, ino, inode, at, u64::from(count), reach);
    Ok(())
}

fn unit(algorithm: u8, count: u8, bytes: u32, crc: Crc, runs: &[Run]) -> Result<Unit> {
    let algorithm = Algorithm::of_number(algorithm).ok_or(Error::Posix(Errno::Invalid))?;
    let blocks: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    if count < 2 || bytes == 0 || blocks >= u64::from(count) || blocks_for(u64::from(bytes)) != blocks {
        return Err(Errno::Invalid.into());
    }
    Ok(Unit {
        algorithm,
        file_blocks: count,
        bytes,
        crc,
        runs: runs.to_vec(),
    })
}

/// Makes a compressed unit the file's.
fn put_unit(state: &mut State, ino: Ino, inode: &mut Inode, at: FileBlock, unit: Unit) -> Result<()> {
    let (chunk, index) = chunk_of(at);
    let count = unit.file_blocks;
    if index + usize::from(count) > 32 {
        return Err(Errno::Invalid.into());
    }
    for &run in &unit.runs {
        state.own(run)?;
    }
    if index == 0 {
        replace_inline(state, ino, chunk)?;
    }
    change_row(state, ino, inode, chunk, |map| {
        let unit = map.add_unit(unit);
        (0..count)
            .map(|offset| map.set(index + usize::from(offset), Ptr::Packed { unit, index: offset }))
            .collect()
    })
}

pub(super) fn truncate(state: &mut State, ino: Ino, size: u64, time: Timestamp) -> Result<()> {
    if size > MAX_FILE_BYTES {
        return Err(Errno::FileTooLarge.into());
    }
    let mut inode = file(state, ino)?;
    if inode.hidden > 0 && size >= inode.size {
        // What was never revealed is not content, however long the file gets.
        let end = FileBlock(blocks_for(inode.size));
        cut(state, ino, &mut inode, end)?;
    }
    if size < inode.size {
        cut(state, ino, &mut inode, FileBlock(blocks_for(size)))?;
        let kept = usize::try_from(size).unwrap_or(usize::MAX);
        if let Some(Row::Inline(content)) = state.row(ino, 0)?
            && content.len() > kept
        {
            let content = content.get(..kept).unwrap_or_default();
            let row = (!content.is_empty()).then(|| Row::Inline(content.into()));
            state.put_row(ino, 0, row);
        }
    }
    inode.set_size(size, size, 0);
    inode.modified = time;
    inode.changed = time;
    state.put_inode(ino, Some(inode));
    Ok(())
}

/// Frees everything from a block on.
fn cut(state: &mut State, ino: Ino, inode: &mut Inode, from: FileBlock) -> Result<()> {
    let (chunk, index) = chunk_of(from);
    for (at, row) in state.rows(ino, chunk, u64::MAX, usize::MAX)? {
        if matches!(row, Row::Inline(_)) {
            continue;
        }
        let first = if at == chunk { index } else { 0 };
        change_row(state, ino, inode, at, |map| punch_row(map, first, 32 - first))?;
    }
    Ok(())
}

fn punch_row(map: &mut Map, first: usize, count: usize) -> Vec<Ptr> {
    (first..first + count)
        .rev()
        .map(|index| map.set(index, Ptr::Hole))
        .collect()
}

pub(super) fn preallocate(
    state: &mut State,
    ino: Ino,
    from: FileBlock,
    count: u64,
    end: u64,
    time: Timestamp,
) -> Result<()> {
    check_range(from, count, end)?;
    if count > MAX_STEP_BLOCKS {
        return Err(Errno::Invalid.into());
    }
    let mut inode = file(state, ino)?;
    let mut promised = 0;
    for (chunk, index, here) in per_chunk(from, count) {
        // The bytes of a small file are their own promise.
        let Some(mut map) = state.map_to_change(ino, chunk)? else {
            continue;
        };
        for index in index..index + here {
            if map.get(index) == Ptr::Hole {
                map.set(index, Ptr::Promised);
                promised += 1;
            }
        }
        state.put_row(ino, chunk, Some(Row::Map(map)));
    }
    state.promise(promised)?;
    inode.grow(end);
    inode.modified = time;
    inode.changed = time;
    state.put_inode(ino, Some(inode));
    Ok(())
}

pub(in crate::fs) fn punch(state: &mut State, ino: Ino, from: FileBlock, count: u64, time: Timestamp) -> Result<()> {
    check_range(from, count, 0)?;
    let mut inode = file(state, ino)?;
    let (first, start) = chunk_of(from);
    let end = from.plus(count);
    let (last, _) = chunk_of(FileBlock(end.0.saturating_sub(1)));
    for (chunk, row) in state.rows(ino, first, last + 1, usize::MAX)? {
        let start = if chunk == first { start } else { 0 };
        let stop = usize::try_from((end.0 - chunk * CHUNK_BLOCKS).min(CHUNK_BLOCKS)).unwrap_or(0);
        if matches!(row, Row::Inline(_)) {
            if start == 0 && stop > 0 {
                state.put_row(ino, chunk, None);
            }
            continue;
        }
        change_row(state, ino, &mut inode, chunk, |map| {
            punch_row(map, start, stop.saturating_sub(start))
        })?;
    }
    inode.modified = time;
    inode.changed = time;
    state.put_inode(ino, Some(inode));
    Ok(())
}

pub(super) fn purge(state: &mut State, ino: Ino, until: u64) -> Result<()> {
    let Some(orphan) = state.orphan(ino)? else {
        return Err(Errno::Stale.into());
    };
    let mut inode = state.inode(ino)?;
    if inode.links != 0 {
        return Err(Damage::new(ino, "is an orphan, but counts names"));
    }
    for (chunk, row) in state.rows(ino, orphan.next_chunk, until, usize::MAX)? {
        match row {
            Row::Inline(_) => state.put_row(ino, chunk, None),
            Row::Map(_) => change_row(state, ino, &mut inode, chunk, |map| punch_row(map, 0, 32))?,
        }
    }
    if until < u64::MAX {
        state.put_orphan(ino, Some(Orphan { next_chunk: until }));
        state.put_inode(ino, Some(inode));
        return Ok(());
    }
    for (key, _) in state.attributes(ino)? {
        state.put_attribute(ino, &key.name, None);
    }
    for base in state.windows.bases(ino) {
        state.put_window(base, None);
    }
    super::super::vectors::change::remove_of_file(state, ino)?;
    state.put_orphan(ino, None);
    state.put_inode(ino, None);
    let inodes = state
        .totals
        .inodes
        .checked_sub(1)
        .ok_or_else(|| Damage::new("totals", "counts fewer files than there are"))?;
    state.set_totals(Totals { inodes, ..state.totals });
    Ok(())
}

/// Blocks that a row names once more.
pub(super) fn share(state: &mut State, blocks: impl Iterator<Item = Block>) -> Result<()> {
    for block in blocks {
        state.share_block(block)?;
    }
    Ok(())
}

/// Notes that a file's layout changed, and its size with it.
pub(super) fn finish_layout(state: &mut State, ino: Ino, changed: &Inode, time: Timestamp) -> Result<()> {
    touch(state, ino, time, |inode| {
        inode.blocks = changed.blocks;
        inode.size = changed.size;
        inode.hidden = changed.hidden;
        inode.hidden_in = changed.hidden_in;
    })
}
