// SPDX-License-Identifier: MIT OR Apache-2.0

//! The index of one space: leaves of similar vectors, the centres that lead to them, and the growing segment.
//!
//! # Contract
//!
//! - The index does no I/O, has no thread and no clock. What it needs it reads through [`store::Leaves`] and
//!   [`store::Vectors`]; what it changes it returns as a [`store::Change`].
//! - Order of a step of maintenance: ask for a change, keep it as one transaction, then [`Index::apply`] it. Until then, and if
//!   the transaction fails, nothing has happened. Searches go on meanwhile. Two changes must not be under way at once.
//! - A vector that was added is in the growing segment, and so found, until a flush moved it into a leaf. A vector that
//!   died is found no more at once, because its store says so; its item goes when its leaf is next written.
//! - Everything here can be made again from the exact vectors.
//!
//! | module | what |
//! |---|---|
//! | `store` | traits of the one who keeps the bytes; changes |
//! | `memory` | a store in memory, for tests and benches |
//! | `router` | centres, and the way from a query to leaves |
//! | `growing` | what was not flushed yet |
//! | `search`, `effort`, `nearest` | searching |
//! | `maintain` | flush, split, merge, compact |
//! | `build` | many vectors at once, in bounded memory |

pub mod build;
pub mod effort;
pub mod growing;
pub mod maintain;
pub mod memory;
mod nearest;
pub mod router;
pub mod search;
pub mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::codec::Codec;
use growing::Growing;
use router::{Centre, Router};
use store::{Change, LeafRecord};

/// Limits of an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Number of the space, which its blocks carry.
    pub space: u32,
    /// Items above which a leaf is split.
    pub leaf_max: usize,
    /// Leaves around one that is split whose items may move.
    pub around: usize,
    /// Leaves up to which routing looks at all centres.
    pub flat: usize,
    /// Growing vectors that are routed together.
    pub flush: usize,
    /// Growing vectors that one change moves at most.
    pub change_items: usize,
    /// Bytes of leaves after which a change of a flush is long enough.
    pub change_bytes: usize,
}

impl Settings {
    /// The usual limits for vectors of so many dimensions. The longer they are, the fewer a step of maintenance takes: it
    /// holds all of them, and its change carries a centre of two bytes a dimension for each leaf.
    pub fn new(space: u32, dimensions: usize) -> Self {
        let leaf_max = match dimensions {
            ..=2048 => 256,
            2049..=8192 => 128,
            _ => 64,
        };
        Self {
            space,
            leaf_max,
            around: (CENTRE_BYTES / (2 * dimensions)).saturating_sub(2).min(16),
            flat: router::FLAT,
            flush: 16_384,
            change_items: 4096,
            change_bytes: 8 << 20,
        }
    }
}

/// Centres that one change may carry.
const CENTRE_BYTES: usize = 64 << 10;

/// The index of one space.
#[derive(Debug)]
pub struct Index {
    codec: Codec,
    settings: Settings,
    records: BTreeMap<u32, LeafRecord>,
    router: Router,
    growing: Growing,
}

impl Index {
    /// The index of these leaves, with nothing growing.
    pub fn open(codec: Codec, settings: Settings, records: impl IntoIterator<Item = LeafRecord>) -> Self {
        let records: BTreeMap<u32, LeafRecord> = records.into_iter().map(|record| (record.leaf, record)).collect();
        let centres: Vec<Centre<'_>> = records.values().map(centre).collect();
        Self {
            router: Router::of(&codec, settings.flat, &centres),
            growing: Growing::new(&codec),
            codec,
            settings,
            records,
        }
    }

    /// Its codec.
    pub const fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Its limits.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A leaf.
    pub fn record(&self, leaf: u32) -> Option<&LeafRecord> {
        self.records.get(&leaf)
    }

    /// Its leaves.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &LeafRecord> {
        self.records.values()
    }

    /// What was not flushed yet.
    pub const fn growing(&self) -> &Growing {
        &self.growing
    }

    /// Items in leaves, dead ones included.
    pub fn sealed(&self) -> usize {
        self.records.values().map(|record| record.items as usize).sum()
    }

    /// Bytes in memory, without leaves.
    pub fn bytes(&self) -> usize {
        let record = size_of::<LeafRecord>() + self.codec.space().dimensions() * 4;
        self.router.bytes() + self.growing.bytes() + self.records.len() * record
    }

    /// Takes up a vector. Its bytes must have passed the space's check.
    pub fn add(&mut self, vid: u32, hints: super::filter::Hints, bytes: &[u8]) {
        self.growing.push(&self.codec, vid, hints, bytes);
    }

    /// Makes a change that was kept the state of the index.
    pub fn apply(&mut self, change: &Change) {
        let mut put = Vec::new();
        for (record, _) in &change.put {
            let stays = self
                .records
                .get(&record.leaf)
                .is_some_and(|old| old.centre == record.centre);
            if stays {
                self.router.set_radii(record.leaf, record.radii);
            } else {
                put.push(centre(record));
            }
        }
        self.router.update(&self.codec, &change.dropped, &put);
        for leaf in &change.dropped {
            self.records.remove(leaf);
        }
        for (record, _) in &change.put {
            self.records.insert(record.leaf, record.clone());
        }
        self.growing.remove(&self.codec, &change.sealed);
    }
}

fn centre(record: &LeafRecord) -> Centre<'_> {
    (record.leaf, record.radii, &record.centre)
}
