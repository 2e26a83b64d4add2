// SPDX-License-Identifier: MIT OR Apache-2.0

//! Searching an index while it changes.
//!
//! Between a transaction that writes leaves anew and memory hearing of it, a search may look for leaves where they are not
//! any more. It then begins again; only a leaf that is missing while nothing changes is damaged.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::matches::{Accept, Passing};
use super::memory::Opened;
use super::view::{Counting, Purpose, View, failure};
use crate::error::{Errno, Error, Result};
use crate::fs::engine::Fs;
use crate::units::Ino;
use crate::vector::filter::{Plan, plan};
use crate::vector::index::effort::Effort;
use crate::vector::index::search::Request;

/// How often a search begins again for leaves that change, and how long it waits before.
const ATTEMPTS: usize = 1000;
const PAUSE: Duration = Duration::from_micros(200);
/// Questions about files, after which how many of them count says something.
const TELLING: usize = 64;

/// How a search ended.
enum Looked<'a> {
    Found(Neighbours),
    /// Which vectors pass is to be found first.
    FewPass(Accept<'a>),
    /// Leaves change just now: again.
    Moving,
}

/// What to look for.
#[derive(Clone, Copy)]
pub struct Sought<'a> {
    /// Bytes of a vector of the space.
    pub query: &'a [u8],
    /// How many.
    pub count: usize,
    /// From 1 to 100; 0: what the space says.
    pub effort: u16,
    /// Nearer than this, as the index measures distances.
    pub below: f32,
    /// Which files count; none: all.
    pub accept: Option<Accept<'a>>,
}

/// What was found, nearest first.
#[derive(Debug, Clone, Default)]
pub struct Neighbours {
    /// The vectors.
    pub found: Vec<Neighbour>,
    /// Whether everything could be read that was to be.
    pub complete: bool,
}

/// A vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// As the index measures it.
    pub distance: f32,
    /// Its number.
    pub vector: u64,
    /// The file.
    pub ino: Ino,
    /// Which of the file's.
    pub ordinal: u32,
}

/// How large an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSize {
    /// Its leaves.
    pub leaves: u64,
    /// Vectors in them, dead ones included.
    pub items: u64,
    /// Vectors in no leaf yet, dead ones included.
    pub growing: u64,
    /// Bytes in memory, without leaves and vectors that were read.
    pub bytes: u64,
}

impl Fs {
    /// How large the index of a space is; none: there is none that can be used now.
    pub fn index_size(&self, space: Ino) -> Result<Option<IndexSize>> {
        let Some(opened) = self.index_of(space)? else {
            return Ok(None);
        };
        self.catch_up(&opened)?;
        let memory = opened.memory.read();
        Ok(Some(IndexSize {
            leaves: memory.index.records().len() as u64,
            items: memory.index.sealed() as u64,
            growing: memory.index.growing().len() as u64,
            bytes: memory.index.bytes() as u64,
        }))
    }

    /// The nearest vectors of a space, as its index finds them. None: it has no index that can be used now, and everything
    /// is to be compared ([`Self::scan_vectors`]).
    pub fn nearest_vectors(&self, space: Ino, sought: &Sought<'_>) -> Result<Option<Neighbours>> {
        let effort = self.effort_of(space, sought.effort)?;
        let matches = &self.shared.indexes.matches;
        let known = sought.accept.filter(|accept| matches.knows(space, accept.name));
        let mut passing = known.map(|accept| self.passing(space, &accept)).transpose()?;
        for attempt in 1..=ATTEMPTS {
            let Some(opened) = self.index_of(space)? else {
                return Ok(None);
            };
            self.catch_up(&opened)?;
            match self.look(&opened, sought, effort, passing.as_deref(), attempt == ATTEMPTS)? {
                Looked::Found(found) => {
                    if opened.damaged.load(Ordering::SeqCst) {
                        self.discard_index(space)?;
                    }
                    return Ok(Some(found));
                }
                Looked::FewPass(accept) => passing = Some(self.passing(space, &accept)?),
                Looked::Moving => std::thread::sleep(PAUSE),
            }
        }
        Err(Errno::Busy.into())
    }

    fn effort_of(&self, space: Ino, asked: u16) -> Result<Effort> {
        let effort = if asked > 0 {
            asked
        } else {
            let mut core = self.core();
            core.state.space(space)?.ok_or(Error::Posix(Errno::NoEntry))?.effort
        };
        Ok(match effort {
            0 => Effort::default(),
            effort => Effort::level(u8::try_from(effort).unwrap_or(100)),
        })
    }

    /// One search.
    fn look<'a>(
        &self,
        opened: &Arc<Opened>,
        sought: &Sought<'a>,
        effort: Effort,
        passing: Option<&Passing>,
        last: bool,
    ) -> Result<Looked<'a>> {
        let memory = opened.memory.read();
        let total = memory.index.sealed() + memory.index.growing().len();
        let counting = match (passing, sought.accept) {
            (Some(passing), _) => Counting::Passing(passing),
            (None, Some(accept)) => Counting::Asking(accept),
            (None, None) => Counting::All,
        };
        let view = View::new(self, opened, &memory, Purpose::Search).counting(counting);
        let request = |effort| Request {
            below: sought.below,
            ..Request::new(sought.query, sought.count, effort)
        };
        let answer = match passing.map(|passing| (plan(effort, total, passing.count), passing)) {
            Some((Plan::Among, passing)) => {
                let vids: Vec<u32> = passing.vids.iter().collect();
                memory.index.search_among(&view, &request(effort), &vids)
            }
            Some((Plan::Masked(effort), _)) => memory.index.search(&view, &view, &request(effort)),
            None => memory.index.search(&view, &view, &request(effort)),
        };
        let notes = view.into_notes()?;
        let answer = answer.map_err(failure)?;
        if passing.is_none()
            && let Some(accept) = sought.accept
            && (notes.asked >= TELLING || answer.hits.len() < sought.count)
            && plan(effort, total, total * notes.accepted / notes.asked.max(1)) != Plan::Masked(effort)
        {
            return Ok(Looked::FewPass(accept));
        }
        if !answer.lost.is_empty() {
            if !last && opened.replacing.load(Ordering::SeqCst) {
                return Ok(Looked::Moving);
            }
            if !opened.damaged.swap(true, Ordering::SeqCst) {
                tracing::warn!(space = opened.space.0, leaves = ?answer.lost, "leaves of an index are damaged");
            }
        }
        let mut core = self.core();
        let mut found = Vec::with_capacity(answer.hits.len());
        for (distance, vid) in answer.hits {
            let vector = u64::from(vid);
            if let Some(record) = core.state.vector(opened.space, vector)? {
                found.push(Neighbour {
                    distance,
                    vector,
                    ino: record.ino,
                    ordinal: record.ordinal,
                });
            }
        }
        Ok(Looked::Found(Neighbours {
            found,
            complete: answer.lost.is_empty() && notes.unreadable.is_none(),
        }))
    }
}

#[cfg(test)]
impl Fs {
    /// Byte offsets in the pool of the blocks of a leaf.
    pub(in crate::fs) fn blocks_of_leaf(&self, space: Ino, leaf: u64) -> Result<Vec<u64>> {
        use crate::fs::file::Source;
        use crate::units::{Block, FileBlock, Run};
        let mut core = self.core();
        let row = core.state.leaf(space, leaf)?.ok_or(Error::Posix(Errno::NoEntry))?;
        let extents = core.map(space, FileBlock(row.at), row.blocks)?;
        let runs = extents.into_iter().filter_map(|extent| match extent.source {
            Source::Blocks(run, _) => Some(run),
            _ => None,
        });
        Ok(runs.flat_map(Run::blocks).map(Block::byte_at).collect())
    }
}
