// SPDX-License-Identifier: MIT OR Apache-2.0

//! Keeping an index up to date: growing vectors move into leaves, leaves are split, merged and written anew.
//!
//! Every step is a change of the index library (see [`crate::vector::index`]) and one transaction. Leaves are written behind
//! everything else in the store, their old blocks become holes. Without space nothing happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::memory::{Memory, Opened, enough};
use super::view::{Purpose, View, failure, is_damage};
use crate::error::{Errno, Error, Result};
use crate::fs::engine::Fs;
use crate::fs::op::Op;
use crate::fs::vectors::leaves;
use crate::fs::vectors::record::{IndexRecord, LeafRow, SpaceState, encode_leaf};
use crate::fs::write::Author;
use crate::meta::Record;
use crate::units::{BLOCK_SIZE, FileBlock, Ino};
use crate::vector::codec::block::Layout;
use crate::vector::codec::writer::LeafBytes;
use crate::vector::index::store::{Change, LeafRecord, Leaves, StoreError, encode_centre};

/// Leaves that are split, merged or written anew before somebody else gets a turn.
const STEPS: usize = 64;

/// How long who brings vectors waits for who moves them.
const PATIENCE: Duration = Duration::from_millis(2);

/// What became of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is nothing to do, or no space to do it.
    Done,
    /// There may be more.
    More,
}

impl Fs {
    /// Brings the index of a space up to date if there is enough to do; with `all`, also if there is little.
    pub(in crate::fs) fn keep_index(&self, space: Ino, all: bool) -> Result<()> {
        loop {
            // Let others in between steps.
            let _changing = self.shared.indexes.changing.lock();
            if self.core().sealing_stops {
                return Ok(());
            }
            match self.keep_step(space, all) {
                Ok(Step::More) => {}
                // Or the space went, or there is none for it.
                Ok(Step::Done) | Err(Error::Posix(Errno::NoEntry | Errno::Stale | Errno::NoSpace)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Slows down who brings vectors faster than they get into leaves: waits a little for who moves them, or takes a step.
    pub(in crate::fs) fn help_index(&self, space: Ino) -> Result<()> {
        let Some(_changing) = self.shared.indexes.changing.try_lock_for(PATIENCE) else {
            return Ok(());
        };
        match self.keep_step(space, false) {
            Ok(_) | Err(Error::Posix(Errno::NoEntry | Errno::Stale | Errno::NoSpace)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Brings the indexes of all spaces up to date, however little there is to do.
    pub fn index_vectors(&self) -> Result<()> {
        let spaces = self.core().state.spaces()?;
        let mut active = spaces
            .into_iter()
            .filter(|(_, record)| record.state == SpaceState::Active);
        active.try_for_each(|(space, _)| self.keep_index(space, true))
    }

    fn keep_step(&self, space: Ino, all: bool) -> Result<Step> {
        let (vectors, record) = {
            let mut core = self.core();
            core.check_writable()?;
            let vectors = core.state.space(space)?.ok_or(Error::Posix(Errno::NoEntry))?.vectors;
            (vectors, core.usable_index(space)?)
        };
        let Some(record) = record else {
            let worth_it = vectors >= super::WORTH_IT || all && vectors > 0;
            return if worth_it {
                self.build_index(space)
            } else {
                Ok(Step::Done)
            };
        };
        let Some(opened) = self.open_index(space)?.filter(|opened| !is_lost(opened)) else {
            return self.build_index(space);
        };
        self.catch_up(&opened)?;
        match self.flush_and_mend(&opened, record, vectors, all) {
            Err(Failure::Index(error)) => {
                tracing::warn!(space = space.0, %error, "the index is built again");
                self.build_index(space)
            }
            Err(Failure::Engine(error)) => Err(error),
            Ok(step) => Ok(step),
        }
    }

    fn flush_and_mend(
        &self,
        opened: &Arc<Opened>,
        record: IndexRecord,
        vectors: u64,
        all: bool,
    ) -> std::result::Result<Step, Failure> {
        let (growing, leaves, waiting) = {
            let memory = opened.memory.read();
            let index = &memory.index;
            (
                index.growing().len(),
                index.records().len(),
                memory.next.saturating_sub(record.below),
            )
        };
        let due = waiting >= enough(vectors) || all && growing > 0;
        if due && leaves == 0 && growing > 0 {
            return Ok(self.build_index(opened.space)?);
        }
        if due && self.flush_index(opened, record)? == Step::Done {
            return Ok(Step::Done);
        }
        for _ in 0..STEPS {
            let leaf = opened.memory.read().index.needs_work(|_| 0);
            let Some(leaf) = leaf else {
                return self.sweep(opened, vectors);
            };
            if self.mend(opened, leaf)? == Step::Done {
                return Ok(Step::Done);
            }
        }
        Ok(Step::More)
    }

    /// Moves what grows into leaves.
    fn flush_index(&self, opened: &Arc<Opened>, record: IndexRecord) -> std::result::Result<Step, Failure> {
        let routed = {
            let memory = opened.memory.read();
            let view = View::new(self, opened, &memory, Purpose::Flush);
            let routed = memory.index.route(&view);
            (routed?, view.into_notes()?.unreadable)
        };
        let (mut routed, mut unreadable) = routed;
        while !routed.is_empty() {
            let change = {
                let memory = opened.memory.read();
                let view = View::new(self, opened, &memory, Purpose::Flush);
                let change = memory.index.flush(&view, &view, &mut routed)?;
                unreadable = unreadable.into_iter().chain(view.into_notes()?.unreadable).min();
                change
            };
            let placed: Vec<u64> = change.placed.iter().map(|(vid, _)| u64::from(*vid)).collect();
            if !self.keep_change(opened, &change, &placed)? {
                return Ok(Step::Done);
            }
        }
        let below = {
            let mut memory = opened.memory.write();
            if let Some(vector) = unreadable {
                memory.unreadable = memory.unreadable.min(vector);
            }
            let growing = memory.index.growing().first().map_or(u64::MAX, u64::from);
            growing.min(memory.unreadable).min(memory.next)
        };
        if below > record.below {
            let record = IndexRecord { below, ..record };
            self.set_index(opened.space, &record)?;
            opened.memory.write().record = Some(record);
        }
        Ok(Step::More)
    }

    /// Splits, merges or rewrites a leaf. Done: there was no space.
    fn mend(&self, opened: &Arc<Opened>, leaf: u32) -> std::result::Result<Step, Failure> {
        let change = {
            let memory = opened.memory.read();
            let view = View::new(self, opened, &memory, Purpose::Rewrite);
            let change = memory.index.maintain(&view, &view, leaf)?;
            view.into_notes()?;
            change
        };
        let kept = !change.is_empty() && self.keep_change(opened, &change, &[])?;
        Ok(if kept { Step::More } else { Step::Done })
    }

    /// Looks for leaves that are mostly dead, when enough went since this was last done.
    fn sweep(&self, opened: &Arc<Opened>, vectors: u64) -> std::result::Result<Step, Failure> {
        let mut dead: HashMap<u32, u32> = HashMap::new();
        {
            let memory = opened.memory.read();
            let items = memory.index.sealed() as u64;
            let alive = vectors.saturating_sub(memory.index.growing().len() as u64);
            let gone = items.saturating_sub(alive);
            if gone * 10 <= items || gone <= memory.swept + items / 20 {
                return Ok(Step::Done);
            }
            let view = View::new(self, opened, &memory, Purpose::Flush);
            for leaf in memory.rows.keys() {
                let mut lent = Vec::with_capacity(1);
                view.leaves(&[*leaf], &mut lent);
                let lent = lent.pop().unwrap_or(Err(StoreError::NoLeaf(*leaf)))?;
                let mut core = self.core();
                let mut gone = 0;
                for vid in lent.view().vids() {
                    gone += u32::from(core.state.vector(opened.space, vid.into())?.is_none());
                }
                dead.insert(*leaf, gone);
            }
        }
        opened.memory.write().swept = dead.values().map(|gone| u64::from(*gone)).sum();
        loop {
            let count = |leaf: u32| dead.get(&leaf).copied().unwrap_or(0);
            let leaf = opened.memory.read().index.needs_work(count);
            let Some(leaf) = leaf else { break };
            if self.mend(opened, leaf)? == Step::Done {
                return Ok(Step::Done);
            }
            let gone = u64::from(dead.insert(leaf, 0).unwrap_or(0));
            let mut memory = opened.memory.write();
            memory.swept = memory.swept.saturating_sub(gone);
        }
        Ok(Step::Done)
    }

    /// Makes a change durable with the next flush, and known. False: there was no space.
    fn keep_change(&self, opened: &Opened, change: &Change, placed: &[u64]) -> Result<bool> {
        opened.replacing.store(true, Ordering::SeqCst);
        let stays = |record: &LeafRecord| {
            let memory = opened.memory.read();
            let old = memory.index.record(record.leaf);
            old.is_some_and(|old| old.centre == record.centre)
        };
        let dropped: Vec<u64> = change.dropped.iter().map(|leaf| u64::from(*leaf)).collect();
        let put = change.put.iter().map(|(record, bytes)| (record, bytes, stays(record)));
        let written = self.write_leaves(opened.space, opened.layout, put, &dropped, placed);
        let kept = match written {
            Ok(Some(rows)) => {
                let mut memory = opened.memory.write();
                let Memory { index, rows: known, .. } = &mut *memory;
                index.apply(change);
                let gone = change.dropped.iter().chain(rows.iter().map(|(leaf, _)| leaf));
                let freed: Vec<u64> = gone.filter_map(|leaf| known.remove(leaf)).map(|row| row.at).collect();
                self.shared.indexes.leaves.remove(opened.space, freed.into_iter());
                known.extend(rows);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        opened.replacing.store(false, Ordering::SeqCst);
        kept
    }

    /// Writes leaves, each with whether its centre stays as it is stored. None: there is no space.
    pub(super) fn write_leaves<'a>(
        &self,
        space: Ino,
        layout: Layout,
        put: impl Iterator<Item = (&'a LeafRecord, &'a LeafBytes, bool)>,
        dropped: &[u64],
        placed: &[u64],
    ) -> Result<Option<Vec<(u32, LeafRow)>>> {
        // The end of the store is ours.
        let _sealing = self.shared.sealing.lock();
        let inode = self.attributes(space)?.inode;
        let first = inode.size.div_ceil(BLOCK_SIZE as u64);
        let (mut bytes, mut rows, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for (record, content, stays) in put {
            let row = LeafRow {
                generation: record.generation,
                items: record.items,
                stuck: record.stuck,
                centred: record.centred,
                radii: record.radii,
                at: first + (bytes.len() / BLOCK_SIZE) as u64,
                blocks: leaves::blocks(layout, record.items as usize),
            };
            bytes.extend_from_slice(&content.codes);
            bytes.extend_from_slice(&content.rows);
            bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE), 0);
            let centre = if stays {
                Vec::new()
            } else {
                encode_centre(&record.centre)
            };
            told.push(encode_leaf(record.leaf, &row, &centre));
            rows.push((record.leaf, row));
        }
        let operation = Op::PutLeaves {
            space,
            leaves: told.iter().map(Vec::as_slice).collect(),
            dropped: dropped.to_vec(),
            placed: placed.to_vec(),
        };
        let written = if bytes.is_empty() {
            self.transact_with(&[operation], |_| Ok(()))
        } else {
            self.write_piece(
                space,
                FileBlock(first).byte_at(),
                &bytes,
                Author::Writer(inode.modified),
                &[operation],
            )
        };
        match written {
            Ok(()) => Ok(Some(rows)),
            Err(Error::Posix(Errno::NoSpace)) => {
                tracing::debug!(space = space.0, "no space for leaves: the index stays as it is");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Stores what an index is.
    pub(super) fn set_index(&self, space: Ino, record: &IndexRecord) -> Result<()> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.transact_with(&[Op::SetIndex { space, record: &bytes }], |_| Ok(()))
    }
}

fn is_lost(opened: &Arc<Opened>) -> bool {
    opened.damaged.load(Ordering::SeqCst)
}

/// What a step fails for.
enum Failure {
    /// The index is damaged.
    Index(StoreError),
    /// Anything else.
    Engine(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if is_damage(&error) {
            Self::Index(error)
        } else {
            Self::Engine(failure(error))
        }
    }
}
