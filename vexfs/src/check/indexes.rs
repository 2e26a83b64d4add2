// SPDX-License-Identifier: MIT OR Apache-2.0

//! Indexes of spaces: each leaf is where its record says, and what is said to be in leaves is. An index that is wrong goes,
//! with everything of it; the engine builds it again.
//!
//! Kept in memory: 16 bytes a leaf, and when data is verified a bit for each vector of the space. Numbers of vectors in leaves
//! are whatever the pool says, so bits are kept only around those that were met.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::Stage;
use super::issue::Issue;
use super::records::Item;
use super::round::Round;
use super::text::RecordKind;
use super::vectors::Spaces;
use crate::error::Result;
use crate::fs::record::Bytes;
use crate::fs::vectors::leaves;
use crate::fs::vectors::record::{CentreKey, IndexKey, IndexRecord, IndexState, LeafKey, LeafRow, Vector};
use crate::meta::encode_key;
use crate::units::{BLOCK_SIZE, FileBlock, Ino};
use crate::vector::codec::block::{Identity, Layout, Leaf};
use crate::vector::index::store::decode_centre;

/// What was found of an index.
pub(super) struct Indexed {
    record: IndexRecord,
    layout: Layout,
    dimensions: usize,
    items: u64,
    vectors: u64,
    /// Stretches of the store: of leaves.
    stretches: BTreeMap<u64, u64>,
    leaves: u64,
    centres: u64,
    /// Vectors in leaves, if data is verified.
    members: Option<Members>,
    wrong: Option<String>,
}

impl Indexed {
    fn blame(&mut self, what: impl FnOnce() -> String) {
        if self.record.state == IndexState::InUse && self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    /// A vector that exists.
    pub(super) fn meet(&mut self, vector: u64, record: &Vector) {
        if !record.indexed {
            if vector < self.record.below {
                self.blame(|| format!("vector {vector} is in no leaf"));
            }
            return;
        }
        self.vectors += 1;
        let members = self.members.as_ref();
        let there = members.is_none_or(|members| u32::try_from(vector).is_ok_and(|vid| members.contains(vid)));
        if !there {
            self.blame(|| format!("vector {vector} is in no leaf, but said to be"));
        }
    }

    fn take(&mut self, vid: u32) -> bool {
        self.members.as_mut().is_none_or(|members| members.insert(vid))
    }
}

/// Numbers of vectors, a bit each, in pages for those that are near each other.
#[derive(Default)]
struct Members(FxHashMap<u32, [u64; WORDS]>);

/// Words of a page.
const WORDS: usize = 8;

impl Members {
    /// Numbers of a page.
    const PAGE: u32 = 64 * 8;

    /// Page, word in it, and bit in that.
    const fn place(vid: u32) -> (u32, usize, u64) {
        (vid / Self::PAGE, (vid / 64) as usize % WORDS, 1 << (vid % 64))
    }

    /// Whether it is new.
    fn insert(&mut self, vid: u32) -> bool {
        let (page, word, bit) = Self::place(vid);
        let page = self.0.entry(page).or_default();
        page.get_mut(word).is_some_and(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }

    fn contains(&self, vid: u32) -> bool {
        let (page, word, bit) = Self::place(vid);
        let word = self.0.get(&page).and_then(|page| page.get(word));
        word.is_some_and(|word| word & bit != 0)
    }
}

impl Round<'_, '_> {
    /// Looks at records of indexes and leaves.
    pub(super) fn indexes(&mut self, spaces: &mut Spaces) -> Result<()> {
        self.each_record(RecordKind::Index, |round, key: IndexKey, record: IndexRecord| {
            let space = key.space;
            let Some(counted) = spaces.get_mut(&space) else {
                round.issue(Issue::IndexOfNothing { space });
                round.drop_key(encode_key(&key));
                return Ok(());
            };
            let shape = counted.space.shape;
            let mut index = Indexed {
                layout: leaves::layout(shape, &record),
                record,
                dimensions: shape.dimensions as usize,
                items: 0,
                vectors: 0,
                stretches: BTreeMap::new(),
                leaves: 0,
                centres: 0,
                members: round.around.verify_data.then(Members::default),
                wrong: None,
            };
            let origin = &index.record.origin;
            if !origin.is_empty() && decode_centre(origin, index.dimensions).is_err() {
                index.blame(|| "its origin is no point".to_owned());
            }
            if round.around.rebuild_vectors {
                index.wrong = Some("it was asked for".to_owned());
            }
            counted.index = Some(index);
            Ok(())
        })?;
        let mut homeless = BTreeSet::new();
        self.leaf_rows(spaces, &mut homeless)?;
        self.each_record(RecordKind::Centre, |_, key: CentreKey, centre: Bytes| {
            match index_of(spaces, key.space) {
                Some(index) => {
                    index.centres += 1;
                    if decode_centre(&centre.0, index.dimensions).is_err() {
                        index.blame(|| format!("the centre of leaf {} is no point", key.leaf));
                    }
                }
                None => {
                    homeless.insert(key.space);
                }
            }
            Ok(())
        })?;
        for space in &homeless {
            self.issue(Issue::IndexOfNothing { space: *space });
        }
        self.drop_leaves(&homeless)
    }

    fn leaf_rows(&mut self, spaces: &mut Spaces, homeless: &mut BTreeSet<Ino>) -> Result<()> {
        self.each_record(RecordKind::Leaf, |round, key: LeafKey, row: LeafRow| {
            let LeafKey { space, leaf } = key;
            let Some(counted) = spaces.get_mut(&space) else {
                homeless.insert(space);
                return Ok(());
            };
            let (slabs, size) = (&counted.slabs, counted.size);
            let Some(index) = &mut counted.index else {
                homeless.insert(space);
                return Ok(());
            };
            index.leaves += 1;
            index.items += u64::from(row.items);
            let end = row.at.saturating_add(row.blocks);
            let clear = |before: Option<(u64, u64)>| before.is_none_or(|(at, blocks)| at + blocks <= row.at);
            let slab = slabs.range(..end).next_back().map(|(at, (slab, _))| (*at, slab.blocks));
            let other = index
                .stretches
                .range(..end)
                .next_back()
                .map(|(at, blocks)| (*at, *blocks));
            let fits = u32::try_from(leaf).is_ok()
                && row.blocks == leaves::blocks(index.layout, row.items as usize)
                && end <= size.div_ceil(BLOCK_SIZE as u64)
                && clear(slab)
                && clear(other);
            if !fits {
                index.blame(|| format!("leaf {leaf} cannot be where it is said to be"));
                return Ok(());
            }
            index.stretches.insert(row.at, row.blocks);
            if round.around.verify_data && index.record.state == IndexState::InUse && index.wrong.is_none() {
                round.read_leaf(space, leaf, &row, index)?;
            }
            Ok(())
        })
    }

    /// Looks at the blocks of a leaf.
    fn read_leaf(&self, space: Ino, leaf: u64, row: &LeafRow, index: &mut Indexed) -> Result<()> {
        let mut bytes = Vec::new();
        for block in row.at..row.at + row.blocks {
            let Some(block) = self.store_block(space, FileBlock(block))? else {
                index.blame(|| format!("leaf {leaf} cannot be read"));
                return Ok(());
            };
            bytes.extend_from_slice(&block);
        }
        let items = row.items as usize;
        let (codes, rows) = index.layout.sections(items);
        let (codes, rest) = bytes.split_at_checked(codes).unwrap_or_default();
        let rows = rest.get(..rows).unwrap_or_default();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a mark in blocks; the number was looked at"
        )]
        let identity = Identity {
            space: space.0 as u32,
            leaf: leaf as u32,
            generation: row.generation,
        };
        match Leaf::open(index.layout, identity, items, codes, rows) {
            Ok(opened) => {
                for vid in opened.view().vids() {
                    if !index.take(vid) {
                        index.blame(|| format!("vector {vid} is in two places of leaves"));
                    }
                }
            }
            Err(error) => index.blame(|| error.to_string()),
        }
        Ok(())
    }

    /// Drops what is wrong, after all vectors were met.
    pub(super) fn compare_indexes(&mut self, spaces: &mut Spaces) -> Result<()> {
        let mut lost = BTreeSet::new();
        for (space, counted) in spaces {
            let Some(index) = &mut counted.index else { continue };
            if index.vectors > index.items {
                index.blame(|| "more vectors are said to be in leaves than there are items".to_owned());
            }
            if index.leaves != index.centres {
                index.blame(|| "leaves and centres do not go together".to_owned());
            }
            if let Some(what) = index.wrong.take() {
                self.issue(Issue::IndexWrong { space: *space, what });
                self.drop_key(encode_key(&IndexKey { space: *space }));
                lost.insert(*space);
            }
        }
        self.drop_leaves(&lost)
    }

    fn drop_leaves(&mut self, spaces: &BTreeSet<Ino>) -> Result<()> {
        if spaces.is_empty() {
            return Ok(());
        }
        let mut keys = Vec::new();
        let mut leaves = self.records.all::<LeafKey, LeafRow>()?;
        while let Some(item) = leaves.next()? {
            self.step(Stage::Vectors)?;
            if let Item::Good(key, _) = item
                && spaces.contains(&key.space)
            {
                keys.push(encode_key(&key));
            }
        }
        let mut centres = self.records.all::<CentreKey, Bytes>()?;
        while let Some(item) = centres.next()? {
            self.step(Stage::Vectors)?;
            if let Item::Good(key, _) = item
                && spaces.contains(&key.space)
            {
                keys.push(encode_key(&key));
            }
        }
        for key in keys {
            self.drop_key(key);
        }
        Ok(())
    }
}

fn index_of(spaces: &mut Spaces, space: Ino) -> Option<&mut Indexed> {
    spaces.get_mut(&space).and_then(|counted| counted.index.as_mut())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SplitMix64;

    #[test]
    fn members_are_a_set_whose_size_is_that_of_what_is_in_it() {
        let mut random = SplitMix64::new(1);
        let (mut members, mut set) = (Members::default(), BTreeSet::new());
        for vid in (0..5000)
            .map(|_| u32::try_from(random.below(1 << 12)).unwrap())
            .chain([u32::MAX])
        {
            assert_eq!(members.contains(vid), set.contains(&vid));
            assert_eq!(members.insert(vid), set.insert(vid));
            assert!(members.contains(vid));
        }
        assert_eq!(
            members.0.len(),
            9,
            "eight pages for the small numbers, one for the largest"
        );
    }
}
