// SPDX-License-Identifier: MIT OR Apache-2.0

//! Maintenance in bounded steps: flush, split, merge, compact.
//!
//! Each returns a change (see `store`) that touches a bounded number of leaves, and holds at most their vectors in memory.
//! All are deterministic: the same state gives the same bytes. A step that finds nothing to do returns an empty change.
//!
//! A split keeps items in their nearest leaf (as in LIRE): of the leaves around, those items move that are nearer
//! to one of the two new centres, and items of the split leaf move that are nearer to another leaf than to both.

use std::collections::{BTreeMap, HashMap};

use super::Index;
use super::build::{radii, write_leaf};
use super::store::{Change, LeafRecord, Leaves, StoreError, Vectors};
use crate::vector::cluster;
use crate::vector::codec::block::Identity;
use crate::vector::codec::query::Query;
use crate::vector::codec::writer::{Entry, LeafWriter};
use crate::vector::filter::Hints;
use crate::vector::kernels::ITEMS;
use crate::vector::sums::square_between;

/// Growing vectors on their way into leaves.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Routed {
    /// Leaf and vector, in order; those at the end go first.
    waiting: Vec<(u32, u32, Hints)>,
    /// Vectors that are gone.
    gone: Vec<u32>,
}

impl Routed {
    /// Whether all of them have arrived.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.gone.is_empty()
    }
}

/// An item with its vector.
struct Loaded {
    vid: u32,
    hints: Hints,
    point: Vec<f32>,
    row: Vec<u8>,
}

impl Index {
    /// Finds the leaves that the oldest growing vectors belong to.
    pub fn route(&self, vectors: &dyn Vectors) -> Result<Routed, StoreError> {
        let oldest = self.growing.oldest(self.settings.flush);
        let vids: Vec<u32> = oldest.iter().map(|(vid, _)| *vid).collect();
        let mut found: Vec<Option<u32>> = vec![None; vids.len()];
        vectors.read(&vids, &mut |at, row| {
            found[at] = Some(self.nearest_leaf(&self.codec.point(row)));
        })?;
        let mut routed = Routed::default();
        for ((vid, hints), leaf) in oldest.into_iter().zip(found) {
            match leaf {
                Some(leaf) => routed.waiting.push((leaf, vid, hints)),
                None => routed.gone.push(vid),
            }
        }
        routed.waiting.sort_unstable_by_key(|(leaf, vid, _)| (*leaf, *vid));
        Ok(routed)
    }

    /// Moves some of the vectors that were routed into their leaves; the same may go on after the change was applied, until
    /// nothing is left of it. Between, no other change may be.
    pub fn flush(&self, leaves: &dyn Leaves, vectors: &dyn Vectors, routed: &mut Routed) -> Result<Change, StoreError> {
        let most = self.settings.change_items;
        let mut change = Change {
            sealed: routed.gone.clone(),
            released: std::mem::take(&mut routed.gone),
            ..Change::default()
        };
        while let Some((leaf, ..)) = routed.waiting.last().copied() {
            let room = most.saturating_sub(change.placed.len());
            if room == 0 || change.bytes() >= self.settings.change_bytes {
                break;
            }
            let first = routed.waiting.partition_point(|(other, ..)| *other < leaf);
            let first = first.max(routed.waiting.len().saturating_sub(room));
            let group = routed.waiting.split_off(first);
            let group: Vec<(u32, Hints)> = group.into_iter().map(|(_, vid, hints)| (vid, hints)).collect();
            change.sealed.extend(group.iter().map(|(vid, _)| *vid));
            let loaded = self.load(vectors, &group, &mut change.released)?;
            if self.records.is_empty() {
                self.first(&loaded, &mut change);
                // There are leaves now: the others belong to them.
                routed.waiting.clear();
            } else if !loaded.is_empty() {
                self.append(leaves, leaf, &loaded, &mut change)?;
            }
        }
        Ok(change)
    }

    /// The first leaves.
    fn first(&self, loaded: &[Loaded], change: &mut Change) {
        let items = loaded.iter().map(|item| super::build::Item {
            vid: item.vid,
            hints: item.hints,
            bytes: &item.row,
        });
        let built = super::build::leaves(&self.codec, &self.settings, 1, &items.collect::<Vec<_>>());
        change.put = built.put;
        change.placed = built.placed;
    }

    /// A leaf that should be split, merged or compacted, given how many of a leaf's items are dead.
    pub fn needs_work(&self, dead: impl Fn(u32) -> u32) -> Option<u32> {
        let max = self.settings.leaf_max;
        let needs = |record: &&LeafRecord| {
            let (items, dead) = (record.items as usize, dead(record.leaf) as usize);
            let splits = items > max && items > 2 * record.stuck as usize;
            let merges = self.records.len() > 1 && items.saturating_sub(dead) < max / 8;
            splits || merges || dead * 5 > items || drifted(record)
        };
        self.records.values().find(needs).map(|record| record.leaf)
    }

    /// Splits, merges or compacts a leaf, whichever its living items ask for.
    pub fn maintain(&self, leaves: &dyn Leaves, vectors: &dyn Vectors, leaf: u32) -> Result<Change, StoreError> {
        let record = self.records.get(&leaf).ok_or(StoreError::NoLeaf(leaf))?;
        let mut change = Change::default();
        let items = self.items(leaves, vectors, leaf, &mut change.released)?;
        let whole = items.len() == record.items as usize;
        if items.len() > self.settings.leaf_max {
            match cluster::split(&points(&items), self.codec.space().dimensions(), u64::from(leaf)) {
                Some(halves) => self.split(leaves, vectors, record, items, &halves, &mut change)?,
                None if whole && record.stuck == record.items => return Ok(Change::default()),
                None => self.rewrite(record, &items, items.len(), &mut change),
            }
        } else if items.len() < self.settings.leaf_max / 8 && self.records.len() > 1 {
            self.merge(leaves, record, items, &mut change)?;
        } else if !whole || drifted(record) {
            self.rewrite(record, &items, 0, &mut change);
        }
        Ok(change)
    }

    fn split(
        &self,
        leaves: &dyn Leaves,
        vectors: &dyn Vectors,
        record: &LeafRecord,
        items: Vec<Loaded>,
        halves: &[Vec<f32>; 2],
        change: &mut Change,
    ) -> Result<(), StoreError> {
        let next = self.next_leaf();
        let targets = self.router.route(
            &Query::of_point(&self.codec, record.centre.clone()),
            self.settings.around + 1,
        );
        let around: Vec<u32> = targets
            .iter()
            .map(|target| target.leaf)
            .filter(|other| *other != record.leaf)
            .collect();
        // Centres an item may go to: the two halves, then the leaves around.
        let mut centres: Vec<(u32, &[f32])> = vec![(record.leaf, &halves[0]), (next, &halves[1])];
        centres.extend(around.iter().map(|leaf| (*leaf, self.records[leaf].centre.as_slice())));
        let flat: Vec<f32> = centres.iter().flat_map(|(_, centre)| *centre).copied().collect();
        let dimensions = self.codec.space().dimensions();
        let mut groups: HashMap<u32, Vec<Loaded>> = HashMap::new();
        let mut touched = vec![record.leaf, next];
        let nearest = cluster::assign(&points(&items), &flat, dimensions);
        for (item, (nearest, _)) in items.into_iter().zip(nearest) {
            let leaf = centres[nearest as usize].0;
            touched.push(leaf);
            groups.entry(leaf).or_default().push(item);
        }
        let two: Vec<f32> = halves.concat();
        for other in &around {
            let own = &self.records[other].centre;
            let mut released = Vec::new();
            let items = self.items(leaves, vectors, *other, &mut released)?;
            let nearest = cluster::assign(&points(&items), &two, dimensions);
            let moves = |(item, (half, square)): (&Loaded, (u32, f32))| {
                (square < square_between(&item.point, own)).then_some(if half == 0 { record.leaf } else { next })
            };
            let destinations: Vec<Option<u32>> = items.iter().zip(nearest).map(moves).collect();
            if destinations.iter().any(Option::is_some) {
                touched.push(*other);
            }
            if touched.contains(other) {
                change.released.extend(released);
                for (item, to) in items.into_iter().zip(destinations) {
                    groups.entry(to.unwrap_or(*other)).or_default().push(item);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for leaf in touched {
            let items = groups.remove(&leaf).unwrap_or_default();
            if items.is_empty() {
                if leaf != next {
                    change.dropped.push(leaf);
                }
                continue;
            }
            let generation = self.records.get(&leaf).map_or(0, |record| record.generation) + 1;
            self.write(leaf, generation, 0, &self.middle(&items), &items, change);
        }
        Ok(())
    }

    fn merge(
        &self,
        leaves: &dyn Leaves,
        record: &LeafRecord,
        items: Vec<Loaded>,
        change: &mut Change,
    ) -> Result<(), StoreError> {
        let mut groups: BTreeMap<u32, Vec<Loaded>> = BTreeMap::new();
        for item in items {
            let targets = self.router.route(&Query::of_point(&self.codec, item.point.clone()), 2);
            let other = targets
                .iter()
                .map(|target| target.leaf)
                .find(|leaf| *leaf != record.leaf);
            let other = other.ok_or(StoreError::NoLeaf(record.leaf))?;
            groups.entry(other).or_default().push(item);
        }
        for (leaf, added) in groups {
            self.append(leaves, leaf, &added, change)?;
        }
        change.dropped.push(record.leaf);
        Ok(())
    }

    fn rewrite(&self, record: &LeafRecord, items: &[Loaded], stuck: usize, change: &mut Change) {
        if items.is_empty() {
            change.dropped.push(record.leaf);
        } else {
            self.write(
                record.leaf,
                record.generation + 1,
                stuck,
                &self.middle(items),
                items,
                change,
            );
        }
    }

    /// Where a leaf that is written anew has its centre: codes are the sharper the nearer it is to the items.
    fn middle(&self, items: &[Loaded]) -> Vec<f32> {
        cluster::mean(&points(items), self.codec.space().dimensions())
    }

    fn write(&self, leaf: u32, generation: u32, stuck: usize, centre: &[f32], items: &[Loaded], change: &mut Change) {
        let identity = Identity {
            space: self.settings.space,
            leaf,
            generation,
        };
        let entries = items
            .iter()
            .map(|item| (item.vid, item.hints, item.point.as_slice(), item.row.as_slice()));
        write_leaf(&self.codec, identity, stuck, centre, entries, change);
    }

    /// Adds items to a leaf whose other items stay as they are encoded.
    fn append(&self, leaves: &dyn Leaves, leaf: u32, added: &[Loaded], change: &mut Change) -> Result<(), StoreError> {
        let record = self.records.get(&leaf).ok_or(StoreError::NoLeaf(leaf))?;
        let mut lent = Vec::new();
        leaves.leaves(&[leaf], &mut lent);
        let old = lent.pop().unwrap_or(Err(StoreError::NoLeaf(leaf)))?;
        let mut writer = LeafWriter::reopen(&self.codec, old.view(), &record.centre);
        let mut squares = Vec::new();
        for item in added {
            squares.push(square_between(&item.point, &record.centre));
            let entry = Entry {
                vid: item.vid,
                hints: item.hints,
                point: &item.point,
                row: &item.row,
            };
            writer.push(&self.codec, &entry);
            change.placed.push((item.vid, leaf));
        }
        let identity = Identity {
            space: self.settings.space,
            leaf,
            generation: record.generation + 1,
        };
        let [inner, outer] = radii(&squares);
        #[expect(clippy::cast_possible_truncation, reason = "items of a leaf")]
        let record = LeafRecord {
            generation: identity.generation,
            items: writer.len() as u32,
            radii: [record.radii[0].min(inner), record.radii[1].max(outer)],
            ..record.clone()
        };
        change.put.push((record, writer.finish(identity)));
        Ok(())
    }

    fn nearest_leaf(&self, point: &[f32]) -> u32 {
        let query = Query::of_point(&self.codec, point.to_vec());
        let targets = self.router.route(&query, 4);
        let nearest = targets.iter().min_by(|one, other| one.square.total_cmp(&other.square));
        nearest.map_or(0, |target| target.leaf)
    }

    fn next_leaf(&self) -> u32 {
        self.records.last_key_value().map_or(1, |(leaf, _)| leaf + 1)
    }

    /// The living items of a leaf; ids of dead ones go to `released`.
    fn items(
        &self,
        leaves: &dyn Leaves,
        vectors: &dyn Vectors,
        leaf: u32,
        released: &mut Vec<u32>,
    ) -> Result<Vec<Loaded>, StoreError> {
        let mut lent = Vec::new();
        leaves.leaves(&[leaf], &mut lent);
        let old = lent.pop().unwrap_or(Err(StoreError::NoLeaf(leaf)))?;
        let view = old.view();
        let hints = |item: usize| Hints::get(view.block(item / ITEMS).hints(), item % ITEMS);
        let vids: Vec<(u32, Hints)> = view.vids().enumerate().map(|(item, vid)| (vid, hints(item))).collect();
        self.load(vectors, &vids, released)
    }

    /// Reads vectors. Those that are not there any more are `released`.
    fn load(
        &self,
        vectors: &dyn Vectors,
        vids: &[(u32, Hints)],
        released: &mut Vec<u32>,
    ) -> Result<Vec<Loaded>, StoreError> {
        let ids: Vec<u32> = vids.iter().map(|(vid, _)| *vid).collect();
        let mut found: Vec<Option<Loaded>> = ids.iter().map(|_| None).collect();
        vectors.read(&ids, &mut |at, row| {
            found[at] = Some(Loaded {
                vid: vids[at].0,
                hints: vids[at].1,
                point: self.codec.point(row),
                row: row.to_vec(),
            });
        })?;
        released.extend(
            ids.iter()
                .zip(&found)
                .filter(|(_, found)| found.is_none())
                .map(|(vid, _)| *vid),
        );
        Ok(found.into_iter().flatten().collect())
    }
}

/// Whether most items came after the centre was chosen.
fn drifted(record: &LeafRecord) -> bool {
    record.items > 2 * record.centred
}

fn points(items: &[Loaded]) -> Vec<f32> {
    let rows: Vec<&[f32]> = items.iter().map(|item| item.point.as_slice()).collect();
    rows.concat()
}
