// SPDX-License-Identifier: MIT OR Apache-2.0

//! The device's 360 MiB as 90 chunks of 4 MiB, mapped on first use.
//!
//! [`Region::chunk`] hands out chunks that stay where they are while somebody holds them. At most `cap` are mapped at a
//! time: when another is needed, the one that was used longest ago and that nobody holds is unmapped.

mod chunk;
mod mapping;

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;

pub use chunk::{Bound, Chunk, Register};
pub use mapping::{Mapping, Word};

use crate::error::{Error, Result};
use crate::layout::{CHUNK_SIZE, CHUNKS};

/// What can map a chunk of the region.
pub trait Source: Send + Sync {
    /// Maps a chunk; `index` is below [`CHUNKS`].
    fn map(&self, index: usize) -> io::Result<Mapping>;
}

/// See the module.
pub struct Region {
    source: Box<dyn Source>,
    cap: usize,
    table: Mutex<Table>,
}

struct Table {
    mapped: [Option<Pin<Arc<Mapping>>>; CHUNKS],
    /// When each was used last, in uses.
    used: [u64; CHUNKS],
    clock: u64,
    count: usize,
    figures: Figures,
}

/// What mapping and unmapping has happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Chunks mapped now.
    pub mapped: usize,
    /// Chunks mapped since the beginning.
    pub maps: u64,
    /// Of those, how many replaced another one.
    pub evictions: u64,
}

impl Region {
    /// A region of which at most `cap` chunks are mapped at a time; 0 means one, more than all means all.
    pub fn new(source: Box<dyn Source>, cap: usize) -> Self {
        Self {
            source,
            cap: cap.clamp(1, CHUNKS),
            table: Mutex::new(Table {
                mapped: [const { None }; CHUNKS],
                used: [0; CHUNKS],
                clock: 0,
                count: 0,
                figures: Figures::default(),
            }),
        }
    }

    /// The chunk of this number, mapped if it was not.
    pub fn chunk(&self, index: usize) -> Result<Chunk> {
        let mut table = self.table.lock();
        let table = &mut *table;
        table.clock += 1;
        let (Some(slot), Some(used)) = (table.mapped.get_mut(index), table.used.get_mut(index)) else {
            return Err(Error::NoSuchChunk(index));
        };
        *used = table.clock;
        if let Some(mapping) = slot {
            return Ok(Chunk::new(index, Pin::clone(mapping)));
        }
        if table.count == self.cap {
            table.evict().ok_or(Error::MapCap(self.cap))?;
        }
        let mapping = self
            .source
            .map(index)
            .map_err(|error| Error::system("mapping a chunk of", "the device", &error))?;
        if mapping.length() < CHUNK_SIZE {
            return Err(Error::NotOurs(format!("chunk {index} is not of 4 MiB")));
        }
        let mapping = Arc::pin(mapping);
        if let Some(slot) = table.mapped.get_mut(index) {
            *slot = Some(Pin::clone(&mapping));
        }
        table.count += 1;
        table.figures.maps += 1;
        Ok(Chunk::new(index, mapping))
    }

    /// Unmaps what nobody holds.
    pub fn trim(&self) {
        let mut table = self.table.lock();
        while table.evict().is_some() {}
    }

    /// What has happened so far.
    pub fn figures(&self) -> Figures {
        let table = self.table.lock();
        Figures {
            mapped: table.count,
            ..table.figures
        }
    }
}

impl Table {
    /// Unmaps the chunk that was used longest ago of those nobody holds, if there is one.
    fn evict(&mut self) -> Option<()> {
        let used = &self.used;
        // The table's own pin is the only one. Others are made from it under the lock that the caller holds, so the
        // count cannot grow meanwhile.
        let (slot, _) = self
            .mapped
            .iter_mut()
            .zip(used)
            .filter(|(slot, _)| slot.as_ref().is_some_and(is_unheld))
            .min_by_key(|(_, used)| **used)?;
        *slot = None;
        self.count -= 1;
        self.figures.evictions += 1;
        Some(())
    }
}

fn is_unheld(pin: &Pin<Arc<Mapping>>) -> bool {
    // `Pin` shows no count; a second pin's pointer, which is dropped at once, does.
    Arc::strong_count(&Pin::into_inner(Pin::clone(pin))) == 2
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region")
            .field("cap", &self.cap)
            .field("figures", &self.figures())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
