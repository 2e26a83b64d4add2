// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where superblocks lie, and which of them counts.
//!
//! Generation `g` is in slot `g % 2`, so a commit never touches the generation before it. Each slot exists twice, 4 MiB
//! apart, so damage to one place is survived. The highest intact generation counts.

use super::{Superblock, SuperblockError};
use crate::disk::Disk;
use crate::error::Result;
use crate::units::{BLOCK_SIZE, Block};

/// The four places: slot 0, slot 1, and their copies.
pub const PLACES: [Block; 4] = [Block(1), Block(2), Block(1025), Block(1026)];

/// What was found at a place.
#[derive(Debug)]
pub enum Condition {
    /// A superblock.
    Intact(Box<Superblock>),
    /// One that this engine is too old for.
    Unsupported {
        /// Its generation.
        generation: u64,
        /// Why.
        error: SuperblockError,
    },
    /// None, or a damaged one.
    Damaged(SuperblockError),
    /// An intact one that belongs elsewhere: another slot, another pool, or a commit that was given up.
    Misplaced,
    /// The device could not read it.
    Unreadable(crate::error::Error),
}

/// A place and its condition.
#[derive(Debug)]
pub struct Place {
    /// Where.
    pub block: Block,
    /// What.
    pub condition: Condition,
}

/// What all four places hold.
#[derive(Debug)]
pub struct Survey {
    /// In the order of [`PLACES`].
    pub places: Vec<Place>,
}

impl Survey {
    /// Reads the four places. What cannot be read counts as lost; the other places may do.
    pub fn of(disk: &dyn Disk) -> Self {
        Self::read(disk.size_bytes(), |at, into| disk.read(at, into))
    }

    /// The same by any way to the bytes.
    pub(crate) fn read(size_bytes: u64, mut read: impl FnMut(u64, &mut [u8]) -> Result<()>) -> Self {
        let places = PLACES.into_iter().enumerate().map(|(index, block)| {
            let mut bytes = [0; BLOCK_SIZE];
            let condition = if size_bytes < block.plus(1).byte_at() {
                Condition::Damaged(SuperblockError::NoMagic)
            } else {
                match read(block.byte_at(), &mut bytes) {
                    Ok(()) => Self::judge(index, &bytes),
                    Err(error) => Condition::Unreadable(error),
                }
            };
            Place { block, condition }
        });
        let mut survey = Self {
            places: places.collect(),
        };
        survey.expose_strangers();
        survey
    }

    fn judge(index: usize, bytes: &[u8; BLOCK_SIZE]) -> Condition {
        match Superblock::decode(bytes) {
            Ok(found) if found.generation % 2 != index as u64 % 2 => Condition::Misplaced,
            Ok(found) => Condition::Intact(Box::new(found)),
            Err(error) if error.is_unsupported() => Condition::Unsupported {
                generation: Superblock::generation_of(bytes),
                error,
            },
            Err(error) => Condition::Damaged(error),
        }
    }

    /// Marks what contradicts the superblock that counts: another pool's, or its own generation with other content (left
    /// by a commit that failed).
    fn expose_strangers(&mut self) {
        let Ok(newest) = self.newest().cloned() else { return };
        for place in &mut self.places {
            if let Condition::Intact(found) = &place.condition
                && (found.uuid != newest.uuid || (found.generation == newest.generation && **found != newest))
            {
                place.condition = Condition::Misplaced;
            }
        }
    }

    /// The superblock that counts, or the best reason why there is none.
    pub fn newest(&self) -> std::result::Result<&Superblock, &Condition> {
        let generation = |place: &&Place| match &place.condition {
            Condition::Intact(found) => Some(found.generation),
            Condition::Unsupported { generation, .. } => Some(*generation),
            _ => None,
        };
        // The first of equals: `max_by_key` would take the last.
        let best = self
            .places
            .iter()
            .rev()
            .filter(|place| generation(place).is_some())
            .max_by_key(generation);
        match best.map(|place| &place.condition) {
            Some(Condition::Intact(found)) => Ok(found),
            Some(unsupported) => Err(unsupported),
            None => Err(self.worst()),
        }
    }

    /// Among places without a usable superblock: the condition that tells most.
    fn worst(&self) -> &Condition {
        let tells = |condition: &&Condition| match condition {
            Condition::Damaged(SuperblockError::NoMagic) => 0,
            Condition::Unreadable(_) => 1,
            _ => 2,
        };
        self.places
            .iter()
            .map(|place| &place.condition)
            .max_by_key(tells)
            .unwrap_or(&Condition::Damaged(SuperblockError::NoMagic))
    }

    /// Places that need to be written anew. Those that a young pool never wrote do not exist: formatting writes all four.
    pub fn damaged(&self) -> impl Iterator<Item = &Place> {
        self.places
            .iter()
            .filter(|place| !matches!(place.condition, Condition::Intact(_)))
    }
}

/// Writes a superblock to both places of its slot. Durable after the next sync.
pub(in crate::pool) fn write(disk: &dyn Disk, superblock: &Superblock) -> Result<()> {
    let block = superblock.encode();
    let slot = PLACES
        .iter()
        .enumerate()
        .filter(|(index, _)| *index as u64 % 2 == superblock.generation % 2);
    for (_, place) in slot {
        disk.write(place.byte_at(), &block)?;
    }
    Ok(())
}
