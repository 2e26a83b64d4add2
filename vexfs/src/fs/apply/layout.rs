// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations that move or share a file's blocks: collapse, insert, clone.

use std::collections::HashMap;

use crate::data::row::{Map, Ptr, Row};
use crate::data::{CHUNK_BLOCKS, chunk_of};
use crate::error::{Damage, Errno, Error, Result};
use crate::units::{FileBlock, Ino, blocks_for};

use super::super::record::Timestamp;
use super::super::state::State;
use super::super::{MAX_FILE_BLOCKS, MAX_FILE_BYTES, MAX_MOVED_ROWS, MAX_STEP_BLOCKS};
use super::content::{change_row, check_range, finish_layout, per_chunk, replace_inline, share};
use super::file;

pub(super) fn collapse(state: &mut State, ino: Ino, from: FileBlock, count: u64, time: Timestamp) -> Result<()> {
    check_range(from, count, 0)?;
    let inode = file(state, ino)?;
    let end = from.plus(count);
    if count == 0 || end.byte_at() >= inode.size {
        return Err(Errno::Invalid.into());
    }
    super::content::punch(state, ino, from, count, time)?;
    shift(state, ino, end, |block| block - count)?;
    let mut inode = file(state, ino)?;
    inode.size -= count << 12;
    finish_layout(state, ino, &inode, time)
}

pub(super) fn insert(state: &mut State, ino: Ino, from: FileBlock, count: u64, time: Timestamp) -> Result<()> {
    check_range(from, count, 0)?;
    let inode = file(state, ino)?;
    let size = inode.size.checked_add(count << 12);
    let size = size.filter(|&size| size <= MAX_FILE_BYTES - inode.hidden);
    let size = size.ok_or(Error::Posix(Errno::FileTooLarge))?;
    if count == 0 || from.byte_at() >= inode.size {
        return Err(Errno::Invalid.into());
    }
    // Promises may lie beyond the end of the file, and must stay below the limit too.
    let top = MAX_FILE_BLOCKS - count;
    if top < blocks_for(inode.reach()) || !state.rows(ino, top / CHUNK_BLOCKS, u64::MAX, 1)?.is_empty() {
        return Err(Errno::FileTooLarge.into());
    }
    shift(state, ino, from, |block| block + count)?;
    let mut inode = file(state, ino)?;
    inode.set_size(size, size + inode.hidden, inode.hidden_in);
    finish_layout(state, ino, &inode, time)
}

/// Moves every block from `from` on to another place. What it is moved onto are holes.
fn shift(state: &mut State, ino: Ino, from: FileBlock, place: impl Fn(u64) -> u64) -> Result<()> {
    let (first, start) = chunk_of(from);
    let rows = state.rows(ino, first, u64::MAX, MAX_MOVED_ROWS + 1)?;
    if rows.len() > MAX_MOVED_ROWS {
        return Err(Errno::FileTooLarge.into());
    }
    if let Some((chunk, _)) = rows
        .last()
        .filter(|(chunk, _)| *chunk >= MAX_FILE_BLOCKS / CHUNK_BLOCKS)
    {
        return Err(Damage::new(
            ino,
            format_args!("has a row for the impossible chunk {chunk}"),
        ));
    }
    // Take everything out first, so that the new rows find only what stays.
    for (chunk, row) in &rows {
        let Row::Map(map) = row else {
            return Err(Errno::Invalid.into());
        };
        let start = if *chunk == first { start } else { 0 };
        let mut rest = map.clone();
        for index in (start..32).rev() {
            rest.set(index, Ptr::Hole);
        }
        // A unit whose blocks all move is no longer named by what stays; its blocks move along.
        rest.sweep();
        state.put_row(ino, *chunk, Some(Row::Map(rest)));
    }
    let mut inode = file(state, ino)?;
    let mut blocks = inode.blocks;
    for (chunk, row) in &rows {
        let Row::Map(map) = row else {
            continue;
        };
        let start = if *chunk == first { start } else { 0 };
        let stays = (0..start).map(|index| map.get(index));
        // A unit belongs to the row it was in before; a second row that names it refers to its blocks once more.
        let mut owned: Vec<bool> = vec![false; map.units().len()];
        for ptr in stays {
            if let Ptr::Packed { unit, .. } = ptr
                && let Some(owned) = owned.get_mut(usize::from(unit))
            {
                *owned = true;
            }
        }
        let mut targets: HashMap<(u64, u8), u8> = HashMap::new();
        for index in start..32 {
            let ptr = map.get(index);
            if ptr == Ptr::Hole {
                continue;
            }
            let (to_chunk, to_index) = chunk_of(FileBlock(place(chunk * CHUNK_BLOCKS + index as u64)));
            let mut target = state
                .map_to_change(ino, to_chunk)?
                .ok_or(Error::Posix(Errno::Invalid))?;
            let ptr = match ptr {
                Ptr::Packed { unit, index } => {
                    let new = if let Some(&new) = targets.get(&(to_chunk, unit)) {
                        new
                    } else {
                        let copy = map.unit(unit).cloned().ok_or(Error::Posix(Errno::Invalid))?;
                        let moved = owned
                            .get_mut(usize::from(unit))
                            .is_some_and(|owned| !std::mem::replace(owned, true));
                        if !moved {
                            share(state, copy.runs.iter().flat_map(|run| run.blocks()))?;
                            blocks += copy.runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
                        }
                        let new = target.add_unit(copy);
                        targets.insert((to_chunk, unit), new);
                        new
                    };
                    Ptr::Packed { unit: new, index }
                }
                other => other,
            };
            target.set(to_index, ptr);
            state.put_row(ino, to_chunk, Some(Row::Map(target)));
        }
    }
    inode.blocks = blocks;
    state.put_inode(ino, Some(inode));
    Ok(())
}

pub(super) struct CloneRange {
    pub(super) from: Ino,
    pub(super) from_block: FileBlock,
    pub(super) to: Ino,
    pub(super) to_block: FileBlock,
    pub(super) count: u64,
    pub(super) end: u64,
    pub(super) time: Timestamp,
}

pub(super) fn clone(state: &mut State, what: &CloneRange) -> Result<()> {
    check_range(what.from_block, what.count, 0)?;
    check_range(what.to_block, what.count, what.end)?;
    file(state, what.from)?;
    let mut inode = file(state, what.to)?;
    let apart = what.from_block.0 + what.count <= what.to_block.0 || what.to_block.0 + what.count <= what.from_block.0;
    if what.from == what.to && !apart || what.count == 0 || what.count > MAX_STEP_BLOCKS {
        return Err(Errno::Invalid.into());
    }
    for (chunk, index, here) in per_chunk(what.to_block, what.count) {
        let offset = chunk * CHUNK_BLOCKS + index as u64 - what.to_block.0;
        let source = what.from_block.plus(offset);
        let sources = source_rows(state, what.from, source, here)?;
        // Shared before the target's old blocks are dropped: they may be the same.
        let mut ptrs = Vec::with_capacity(here);
        let mut used: Vec<(u64, u8)> = Vec::new();
        for block in source.0..source.0 + here as u64 {
            let (at, index) = chunk_of(FileBlock(block));
            let map = sources.iter().find(|(chunk, _)| *chunk == at).map(|(_, map)| map);
            let ptr = map.map_or(Ptr::Hole, |map| map.get(index));
            match ptr {
                Ptr::Data(block, _) | Ptr::Bare(block) => state.share_block(block)?,
                Ptr::Packed { unit, .. } if !used.contains(&(at, unit)) => {
                    used.push((at, unit));
                    if let Some(unit) = map.and_then(|map| map.unit(unit)) {
                        share(state, unit.runs.iter().flat_map(|run| run.blocks()))?;
                    }
                }
                Ptr::Hole | Ptr::Promised | Ptr::Packed { .. } | Ptr::Lost => {}
            }
            ptrs.push((at, if ptr == Ptr::Promised { Ptr::Hole } else { ptr }));
        }
        if index == 0 {
            replace_inline(state, what.to, chunk)?;
        }
        change_row(state, what.to, &mut inode, chunk, |map| {
            let mut targets: HashMap<(u64, u8), u8> = HashMap::new();
            for (at, unit) in used {
                let source = sources.iter().find(|(chunk, _)| *chunk == at);
                if let Some(copy) = source.and_then(|(_, map)| map.unit(unit)) {
                    targets.insert((at, unit), map.add_unit(copy.clone()));
                }
            }
            ptrs.into_iter()
                .enumerate()
                .map(|(offset, (at, ptr))| {
                    let ptr = match ptr {
                        Ptr::Packed { unit, index } => match targets.get(&(at, unit)) {
                            Some(&unit) => Ptr::Packed { unit, index },
                            None => Ptr::Hole,
                        },
                        other => other,
                    };
                    map.set(index + offset, ptr)
                })
                .collect()
        })?;
    }
    // The source's last block may hold more than the source shows.
    let source = file(state, what.from)?;
    if source.hidden > 0 && what.from_block.plus(what.count).byte_at() > source.size {
        let reach = inode.reach().max(what.to_block.plus(what.count).byte_at());
        inode.set_size(inode.size, reach.min(MAX_FILE_BYTES), source.hidden_in);
    }
    inode.grow(what.end);
    finish_layout(state, what.to, &inode, what.time)
}

/// The one or two rows that hold a source range.
fn source_rows(state: &mut State, ino: Ino, from: FileBlock, count: usize) -> Result<Vec<(u64, Map)>> {
    let mut rows = Vec::with_capacity(2);
    for (chunk, _, _) in per_chunk(from, count as u64) {
        // Bytes stored in the row have no blocks to share: the caller gives them some first.
        let map = state.map_to_change(ino, chunk)?.ok_or(Error::Posix(Errno::Invalid))?;
        rows.push((chunk, map));
    }
    Ok(rows)
}
