// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is known in memory of the indexes of an open pool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

use super::cache::Cache;
use super::matches::Matches;
use super::{WITHOUT, WORTH_IT};
use crate::error::{Damage, Errno, Error, Result};
use crate::fs::engine::{Core, Fs};
use crate::fs::vectors::record::{IndexRecord, IndexState, LeafRow, Place, SpaceState};
use crate::fs::vectors::space::Shape;
use crate::units::Ino;
use crate::vector::codec::block::{Layout, Leaf};
use crate::vector::codec::{Codec, CodecConfig};
use crate::vector::filter::Hints;
use crate::vector::index::store::{LeafRecord, decode_centre};
use crate::vector::index::{Index, Settings};

/// Leaves in memory, in bytes.
const LEAVES: usize = 256 << 20;
/// Vectors in memory, in bytes.
const VECTORS: usize = 64 << 20;
/// Records that are read at once.
const STEP: usize = 1024;
/// Numbers of vectors in a chunk.
const CHUNK: u64 = 1024;
/// Chunks in memory at most, of a space.
const CHUNKS: usize = 8192;

/// See the module.
pub(in crate::fs) struct Indexes {
    /// Held by who changes an index.
    pub(super) changing: Mutex<()>,
    spaces: Mutex<FxHashMap<Ino, Arc<Opened>>>,
    pub(super) leaves: Cache<Arc<Leaf>>,
    pub(super) vectors: Cache<Arc<[u8]>>,
    pub(super) matches: Matches,
}

impl Default for Indexes {
    fn default() -> Self {
        Self {
            changing: Mutex::new(()),
            spaces: Mutex::default(),
            leaves: Cache::new(LEAVES),
            vectors: Cache::new(VECTORS),
            matches: Matches::default(),
        }
    }
}

/// An open index.
pub(super) struct Opened {
    pub(super) space: Ino,
    pub(super) shape: Shape,
    pub(super) layout: Layout,
    pub(super) memory: RwLock<Memory>,
    chunks: RwLock<FxHashMap<u64, Arc<Chunk>>>,
    /// Leaves go that memory still knows: what cannot be read is to be looked for again.
    pub(super) replacing: AtomicBool,
    /// A leaf could not be read: the index is to be built again.
    pub(super) damaged: AtomicBool,
}

/// Whose the vectors of some numbers are, 0: nobody's.
pub(super) struct Chunk(Box<[AtomicU64]>);

/// The part that changes.
pub(super) struct Memory {
    pub(super) index: Index,
    /// As it is stored; none: everything is growing.
    pub(super) record: Option<IndexRecord>,
    pub(super) rows: BTreeMap<u32, LeafRow>,
    /// Vectors from this number on were not looked at.
    pub(super) next: u64,
    /// The least number of a growing vector that could not be read.
    pub(super) unreadable: u64,
    /// Dead vectors when all leaves were looked at.
    pub(super) swept: u64,
}

impl Chunk {
    /// The chunk that a number is in.
    pub(super) const fn number(vector: u64) -> u64 {
        vector / CHUNK
    }

    fn at(&self, number: u64) -> &AtomicU64 {
        let at = (number % CHUNK) as usize;
        &self.0[at]
    }

    /// Whose a vector is, if it exists.
    pub(super) fn owner(&self, number: u64) -> Option<Ino> {
        match self.at(number).load(Ordering::Relaxed) {
            0 => None,
            ino => Some(Ino(ino)),
        }
    }
}

impl Opened {
    /// What is known of some numbers.
    pub(super) fn chunk(&self, fs: &Fs, vector: u64) -> Result<Arc<Chunk>> {
        let number = Chunk::number(vector);
        if let Some(chunk) = self.chunks.read().get(&number) {
            return Ok(Arc::clone(chunk));
        }
        // Under the lock: what goes from here on is noted.
        let core = fs.core();
        let chunk = Chunk((0..CHUNK).map(|_| AtomicU64::new(0)).collect());
        for (vector, record) in core.state.vectors_from(self.space, number * CHUNK, STEP)? {
            if Chunk::number(vector) != number {
                break;
            }
            chunk.at(vector).store(record.ino.0, Ordering::Relaxed);
        }
        let chunk = Arc::new(chunk);
        let mut chunks = self.chunks.write();
        if chunks.len() >= CHUNKS {
            chunks.clear();
        }
        chunks.insert(number, Arc::clone(&chunk));
        drop(chunks);
        drop(core);
        Ok(chunk)
    }

    /// To be called with the core locked.
    fn set_owner(&self, vector: u64, ino: Ino) {
        if let Some(chunk) = self.chunks.read().get(&Chunk::number(vector)) {
            chunk.at(vector).store(ino.0, Ordering::Relaxed);
        }
    }
}

/// What a space needs to be opened.
struct Facts {
    shape: Shape,
    record: Option<IndexRecord>,
    vectors: u64,
}

impl Core {
    fn index_facts(&mut self, space: Ino) -> Result<Facts> {
        let record = self.state.index(space)?.cloned();
        let found = self
            .state
            .space(space)?
            .filter(|space| space.state == SpaceState::Active);
        let found = found.ok_or(Error::Posix(Errno::NoEntry))?;
        Ok(Facts {
            shape: found.shape,
            record: record.filter(|record| record.state == IndexState::InUse),
            vectors: found.vectors,
        })
    }
}

impl Fs {
    /// An index, if there is one or the space is small. Nothing also while somebody changes one that was not opened yet.
    pub(super) fn index_of(&self, space: Ino) -> Result<Option<Arc<Opened>>> {
        let indexes = &self.shared.indexes;
        if let Some(opened) = indexes.spaces.lock().get(&space) {
            return Ok(Some(Arc::clone(opened)));
        }
        match indexes.changing.try_lock() {
            Some(_changing) => self.open_index(space),
            None => Ok(None),
        }
    }

    /// The same for who holds `changing`.
    pub(super) fn open_index(&self, space: Ino) -> Result<Option<Arc<Opened>>> {
        let indexes = &self.shared.indexes;
        if let Some(opened) = indexes.spaces.lock().get(&space) {
            return Ok(Some(Arc::clone(opened)));
        }
        let facts = self.core().index_facts(space)?;
        if facts.record.is_none() && facts.vectors > WITHOUT {
            return Ok(None);
        }
        let opened = match self.read_index(space, facts) {
            Err(Error::Damaged(damage)) => {
                tracing::warn!(space = space.0, %damage, "the index is to be built again");
                return Ok(None);
            }
            opened => Arc::new(opened?),
        };
        indexes.spaces.lock().insert(space, Arc::clone(&opened));
        Ok(Some(opened))
    }

    fn read_index(&self, space: Ino, facts: Facts) -> Result<Opened> {
        let Facts { shape, record, .. } = facts;
        let dimensions = shape.dimensions as usize;
        let damaged = |what: &dyn std::fmt::Display| Damage::new(format_args!("index of space {}", space.0), what);
        let mut config = CodecConfig::new(shape.space(), space.0);
        let (mut rows, mut leaves) = (BTreeMap::new(), Vec::new());
        if let Some(record) = &record {
            config.seed = record.seed;
            config.tier = record.tier;
            if !record.origin.is_empty() {
                config.origin = decode_centre(&record.origin, dimensions).map_err(|error| damaged(&error))?;
            }
            let mut from = 0;
            loop {
                let core = self.core();
                let some = core.state.leaves_in(space, from..u64::MAX, STEP)?;
                let Some((last, _)) = some.last() else { break };
                let centres = core.state.centres_in(space, from..last + 1, STEP)?;
                drop(core);
                from = last + 1;
                for ((leaf, row), (of, centre)) in some.iter().zip(&centres) {
                    let number = u32::try_from(*leaf).map_err(|error| damaged(&error))?;
                    if of != leaf {
                        return Err(damaged(&"a leaf has no centre"));
                    }
                    leaves.push(LeafRecord {
                        leaf: number,
                        generation: row.generation,
                        items: row.items,
                        stuck: row.stuck,
                        centred: row.centred,
                        radii: row.radii,
                        centre: decode_centre(centre, dimensions).map_err(|error| damaged(&error))?,
                    });
                    rows.insert(number, *row);
                }
                if centres.len() != some.len() {
                    return Err(damaged(&"leaves and centres do not go together"));
                }
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a mark in blocks")]
        let settings = Settings::new(space.0 as u32, dimensions);
        let layout = config.leaf_layout();
        let memory = Memory {
            index: Index::open(Codec::new(config), settings, leaves),
            next: record.as_ref().map_or(0, |record| record.below),
            record,
            rows,
            unreadable: u64::MAX,
            swept: 0,
        };
        Ok(Opened {
            space,
            shape,
            layout,
            memory: RwLock::new(memory),
            chunks: RwLock::default(),
            replacing: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
        })
    }

    /// Forgets an index. Who searches it meanwhile finds out when leaves are not there any more.
    pub(in crate::fs) fn close_index(&self, space: Ino) {
        let indexes = &self.shared.indexes;
        let opened = indexes.spaces.lock().remove(&space);
        if let Some(opened) = opened {
            opened.replacing.store(true, Ordering::SeqCst);
        }
        indexes.leaves.remove_space(space);
        indexes.vectors.remove_space(space);
    }

    /// Brings what is known in memory up to date: vectors that went, and those that came.
    pub(super) fn catch_up(&self, opened: &Opened) -> Result<()> {
        let next = self.hear_of_gone(opened.space)?;
        if opened.memory.read().next >= next {
            return Ok(());
        }
        let mut memory = opened.memory.write();
        let memory = &mut *memory;
        while memory.next < next {
            let (some, sealed) = self.newcomers(opened, memory)?;
            for (vector, bytes) in some {
                if let Ok(vid) = u32::try_from(vector) {
                    memory.index.add(vid, Hints::UNKNOWN, &bytes);
                }
            }
            for vector in sealed {
                match self.vector_bytes(opened.space, opened.shape, vector) {
                    Ok(Some((_, bytes))) => {
                        if let Ok(vid) = u32::try_from(vector) {
                            memory.index.add(vid, Hints::UNKNOWN, &bytes);
                        }
                    }
                    Ok(None) => {}
                    Err(error @ (Error::Damaged(_) | Error::Io(_))) => {
                        tracing::warn!(space = opened.space.0, vector, %error, "left out of the index");
                        memory.unreadable = memory.unreadable.min(vector);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Notes vectors that went, of all spaces; gives the next number of this one.
    fn hear_of_gone(&self, space: Ino) -> Result<u64> {
        let spaces = self.shared.indexes.spaces.lock();
        let mut core = self.core();
        let gone = core.state.tables.vectors.gone.take();
        for (space, vector) in gone.vectors {
            if let Some(opened) = spaces.get(&space)
                && core.state.vector(space, vector)?.is_none()
            {
                opened.set_owner(vector, Ino(0));
            }
        }
        if gone.overflowed {
            spaces.values().for_each(|opened| opened.chunks.write().clear());
        }
        let found = core
            .state
            .space(space)?
            .filter(|space| space.state == SpaceState::Active);
        Ok(found.ok_or(Error::Posix(Errno::NoEntry))?.next)
    }

    /// Some of the vectors that were not looked at: those that grow, and the numbers of those in slabs.
    fn newcomers(&self, opened: &Opened, memory: &mut Memory) -> Result<(Vec<Newcomer>, Vec<u64>)> {
        let space = opened.space;
        let mut core = self.core();
        let some = core.state.vectors_from(space, memory.next, STEP)?;
        let (mut growing, mut sealed) = (Vec::new(), Vec::new());
        for (vector, record) in &some {
            opened.set_owner(*vector, record.ino);
            if record.indexed && memory.record.is_some() {
                continue;
            }
            match record.place {
                Place::Growing => {
                    if let Some(bytes) = core.state.growing(space, *vector)? {
                        growing.push((*vector, bytes.0.clone()));
                    }
                }
                Place::Sealed(_) => sealed.push(*vector),
            }
        }
        let end = core.state.space(space)?.map_or(0, |record| record.next);
        memory.next = match some.last() {
            Some((last, _)) if some.len() == STEP => last + 1,
            _ => end,
        };
        Ok((growing, sealed))
    }
}

/// A vector, and its bytes.
type Newcomer = (u64, Box<[u8]>);

/// How many vectors outside of leaves are enough to move them there, among so many.
pub(super) fn enough(vectors: u64) -> u64 {
    (vectors / 32).clamp(WORTH_IT, 4 * WORTH_IT)
}

impl Core {
    /// Whether the index of a space is to be built or flushed, and whether it is far behind.
    pub(in crate::fs) fn index_due(&mut self, space: Ino) -> Result<(bool, bool)> {
        let facts = match self.index_facts(space) {
            Err(Error::Posix(Errno::NoEntry)) => return Ok((false, false)),
            facts => facts?,
        };
        let next = self.state.space(space)?.map_or(0, |record| record.next);
        Ok(match facts.record {
            None => (facts.vectors >= WORTH_IT, false),
            Some(record) => {
                let waiting = next.saturating_sub(record.below);
                (waiting >= enough(facts.vectors), waiting >= 8 * enough(facts.vectors))
            }
        })
    }
}
