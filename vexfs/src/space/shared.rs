// SPDX-License-Identifier: MIT OR Apache-2.0

//! Blocks that more than one place refers to.
//!
//! A block in use has one reference without being told anywhere; [`References`] counts those beyond, for 32 blocks of
//! the pool. Most pools share little, so [`SharedGroups`] keeps one bit in memory per such row that may exist: dropping an
//! unshared block costs no lookup.

use crate::codec::{DecodeError, Reader, Writer};
use crate::error::Errno;
use crate::meta::Record;
use crate::units::Block;

const BLOCKS: usize = 32;

/// References beyond the first to each of 32 blocks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct References {
    /// Sorted by index; counts are not zero.
    extra: Vec<(u8, u32)>,
}

impl References {
    /// The row that tells about a block.
    pub const fn group_of(block: Block) -> u64 {
        block.0 / BLOCKS as u64
    }

    fn index_of(block: Block) -> u8 {
        u8::try_from(block.0 % BLOCKS as u64).unwrap_or(0)
    }

    /// References beyond the first.
    pub fn extra(&self, block: Block) -> u32 {
        let index = Self::index_of(block);
        let found = self.extra.iter().find(|(at, _)| *at == index);
        found.map_or(0, |(_, count)| *count)
    }

    /// One more.
    pub fn add(&mut self, block: Block) -> Result<(), Errno> {
        let index = Self::index_of(block);
        match self.extra.binary_search_by_key(&index, |(at, _)| *at) {
            Ok(place) => {
                if let Some((_, count)) = self.extra.get_mut(place) {
                    *count = count.checked_add(1).ok_or(Errno::TooManyLinks)?;
                }
            }
            Err(place) => self.extra.insert(place, (index, 1)),
        }
        Ok(())
    }

    /// One less, if there is one beyond the first.
    pub fn remove(&mut self, block: Block) {
        let index = Self::index_of(block);
        if let Ok(place) = self.extra.binary_search_by_key(&index, |(at, _)| *at)
            && let Some((_, count)) = self.extra.get_mut(place)
        {
            *count -= 1;
            if *count == 0 {
                self.extra.remove(place);
            }
        }
    }

    /// Whether nothing is shared.
    pub fn is_empty(&self) -> bool {
        self.extra.is_empty()
    }

    /// The shared blocks of a group and their references beyond the first.
    pub fn blocks(&self, group: u64) -> impl Iterator<Item = (Block, u32)> + '_ {
        let start = group.saturating_mul(BLOCKS as u64);
        self.extra
            .iter()
            .map(move |(index, count)| (Block(start.saturating_add(u64::from(*index))), *count))
    }
}

impl Record for References {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.extra.len() as u64);
        for (index, count) in &self.extra {
            out.put_u8(*index);
            out.put_varint(u64::from(*count));
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let length = reader.varint("shared blocks")?;
        if length == 0 || length > BLOCKS as u64 {
            return Err(DecodeError::invalid("shared blocks", length));
        }
        let mut extra: Vec<(u8, u32)> = Vec::new();
        for _ in 0..length {
            let index = reader.u8("index")?;
            if usize::from(index) >= BLOCKS || extra.last().is_some_and(|(before, _)| *before >= index) {
                return Err(DecodeError::invalid("index", index));
            }
            let count = reader.varint32("references")?;
            if count == 0 {
                return Err(DecodeError::invalid("references", count));
            }
            extra.push((index, count));
        }
        reader.end()?;
        Ok(Self { extra })
    }
}

/// Which groups may have shared blocks. Errs on the side of yes.
#[derive(Debug, Clone, Default)]
pub struct SharedGroups {
    bits: Vec<u64>,
}

impl SharedGroups {
    /// A group of the pool has shared blocks.
    pub fn insert_group(&mut self, group: u64) {
        let word = usize::try_from(group / 64).unwrap_or(usize::MAX);
        if word >= self.bits.len() {
            self.bits.resize(word.saturating_add(1), 0);
        }
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= 1 << (group % 64);
        }
    }

    /// A block is shared.
    pub fn insert(&mut self, block: Block) {
        self.insert_group(References::group_of(block));
    }

    /// Whether a block may be shared.
    pub fn may_contain(&self, block: Block) -> bool {
        let group = References::group_of(block);
        let word = usize::try_from(group / 64).unwrap_or(usize::MAX);
        self.bits.get(word).is_some_and(|bits| bits >> (group % 64) & 1 == 1)
    }
}
