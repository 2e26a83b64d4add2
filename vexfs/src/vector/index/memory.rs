// SPDX-License-Identifier: MIT OR Apache-2.0

//! A store in memory: what tests and benches keep an index's bytes in.

use std::collections::{BTreeMap, HashMap};

use super::store::{Change, LeafRecord, LeafRef, Leaves, StoreError, Vectors};
use crate::vector::codec::block::{Layout, Leaf};
use crate::vector::kernels::Kernels;

/// Leaves and vectors in memory.
#[derive(Debug)]
pub struct MemoryStore {
    layout: Layout,
    row: usize,
    leaves: BTreeMap<u32, Leaf>,
    records: BTreeMap<u32, LeafRecord>,
    rows: Vec<u8>,
    live: Vec<bool>,
    places: HashMap<u32, u32>,
}

impl MemoryStore {
    /// Nothing yet; leaves have this layout, vectors so many bytes.
    pub fn new(layout: Layout, row: usize) -> Self {
        Self {
            layout,
            row,
            leaves: BTreeMap::new(),
            records: BTreeMap::new(),
            rows: Vec::new(),
            live: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Keeps a vector; ids count from 0.
    pub fn put(&mut self, bytes: &[u8]) -> u32 {
        assert_eq!(bytes.len(), self.row, "vectors of a store have one length");
        self.rows.extend_from_slice(bytes);
        self.live.push(true);
        u32::try_from(self.live.len() - 1).unwrap_or(u32::MAX)
    }

    /// A vector dies.
    pub fn kill(&mut self, vid: u32) {
        self.live[vid as usize] = false;
    }

    /// The bytes of a vector, dead or not.
    pub fn row(&self, vid: u32) -> &[u8] {
        &self.rows[vid as usize * self.row..][..self.row]
    }

    /// Ids given out so far.
    pub fn vids(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.live.len()).unwrap_or(u32::MAX)
    }

    /// The leaf a vector is in.
    pub fn place(&self, vid: u32) -> Option<u32> {
        self.places.get(&vid).copied()
    }

    /// The leaves' records.
    pub fn records(&self) -> impl Iterator<Item = &LeafRecord> {
        self.records.values()
    }

    /// Bytes of leaves.
    pub fn leaf_bytes(&self) -> usize {
        self.leaves.values().map(Leaf::bytes).sum()
    }

    /// Keeps a change. Its leaves are opened from their bytes, as any store does.
    pub fn keep(&mut self, change: &Change) -> Result<(), StoreError> {
        for (record, bytes) in &change.put {
            self.leaves.insert(record.leaf, bytes.open(self.layout)?);
            self.records.insert(record.leaf, record.clone());
        }
        for leaf in &change.dropped {
            self.leaves.remove(leaf);
            self.records.remove(leaf);
        }
        self.places.extend(change.placed.iter().copied());
        for vid in &change.released {
            self.places.remove(vid);
        }
        Ok(())
    }
}

impl Leaves for MemoryStore {
    fn leaves<'a>(&'a self, ids: &[u32], out: &mut Vec<Result<LeafRef<'a>, StoreError>>) {
        let leaf = |id: &u32| self.leaves.get(id).map(LeafRef::Lent).ok_or(StoreError::NoLeaf(*id));
        out.extend(ids.iter().map(leaf));
    }
}

impl Vectors for MemoryStore {
    fn is_live(&self, vid: u32) -> bool {
        self.live.get(vid as usize).copied().unwrap_or(false)
    }

    fn read(&self, vids: &[u32], visit: &mut dyn FnMut(usize, &[u8])) -> Result<(), StoreError> {
        for vid in vids {
            Kernels::prefetch(self.row(*vid));
        }
        for (at, vid) in vids.iter().enumerate() {
            if self.is_live(*vid) {
                visit(at, self.row(*vid));
            }
        }
        Ok(())
    }
}
