// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which items of a block may match a filter, decided from their hints alone.
//!
//! Conservative: an item whose hints say nothing passes. What passes is checked by the store against the truth.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::Hints;
use crate::vector::codec::block::Block;
use crate::vector::kernels::ITEMS;

/// A set of small numbers, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    /// Adds a number.
    pub fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (number % 64);
    }

    /// Removes a number.
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.words.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
    }

    /// Its numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let numbers = (0..).step_by(64).zip(&self.words);
        numbers.flat_map(|(first, word)| {
            (0..64)
                .filter(move |bit| word >> bit & 1 == 1)
                .map(move |bit| first + bit)
        })
    }

    /// Whether a number is in it.
    #[inline]
    pub fn contains(&self, number: u32) -> bool {
        self.words
            .get(number as usize / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

impl FromIterator<u32> for BitSet {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut set = Self::default();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

/// A filter over hints. What is `None` lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    /// Slots of directories inside the wanted subtrees, which the caller may search.
    pub directories: Option<BitSet>,
    /// Classes of files that match owner and mode, and that the caller may read.
    pub classes: Option<BitSet>,
    /// Coarse times.
    pub times: Option<RangeInclusive<u16>>,
    /// Coarse sizes.
    pub sizes: Option<RangeInclusive<u8>>,
    /// Bits that the Bloom filter of keys must have.
    pub keys: u16,
    /// Ids whose hints are out of date: they pass.
    pub stale: HashSet<u32>,
}

impl Mask {
    /// Whether an item with these hints may match.
    pub fn admits(&self, hints: &Hints) -> bool {
        let unknown = Hints::UNKNOWN;
        let directory = hints.flags & Hints::ANYWHERE != 0
            || hints.directory == unknown.directory
            || self
                .directories
                .as_ref()
                .is_none_or(|set| set.contains(hints.directory));
        let class =
            hints.class == unknown.class || self.classes.as_ref().is_none_or(|set| set.contains(hints.class.into()));
        let time = hints.time == unknown.time || self.times.as_ref().is_none_or(|range| range.contains(&hints.time));
        let size = hints.size == unknown.size || self.sizes.as_ref().is_none_or(|range| range.contains(&hints.size));
        directory && class && time && size && hints.keys & self.keys == self.keys
    }

    /// The items of a block that may match, one bit each. Slots without an item may be set.
    pub fn of(&self, block: Block<'_>) -> u32 {
        let columns = block.hints();
        let mut mask = 0;
        for slot in 0..ITEMS {
            let passes = self.admits(&Hints::get(columns, slot)) || self.stale.contains(&block.vid(slot));
            mask |= u32::from(passes) << slot;
        }
        mask
    }
}
