// SPDX-License-Identifier: MIT OR Apache-2.0

//! Coarse attributes of an item's file, stored in its block so that a scan can pass over items without random access.
//!
//! A hint is conservative: it may let an item pass that the filter then refuses, but never drops one that matches. So
//! every hint has a value that says nothing ([`Hints::UNKNOWN`]).

use crate::vector::kernels::ITEMS;

/// What is known of an item's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hints {
    /// Slot of the parent directory.
    pub directory: u32,
    /// Class of owner, group, mode and ACL.
    pub class: u16,
    /// Coarse time of the last change.
    pub time: u16,
    /// Coarse size.
    pub size: u8,
    /// [`Hints::ANYWHERE`].
    pub flags: u8,
    /// Bloom filter of declared keys and values.
    pub keys: u16,
}

impl Hints {
    /// Nothing is known; passes every filter.
    pub const UNKNOWN: Self = Self {
        directory: u32::MAX,
        class: u16::MAX,
        time: u16::MAX,
        size: u8::MAX,
        flags: Self::ANYWHERE,
        keys: u16::MAX,
    };
    /// Flag: the file has several names, or its directory is unknown.
    pub const ANYWHERE: u8 = 1;

    /// Offsets of the columns in a block's hints.
    pub(super) const CLASSES: usize = 4 * ITEMS;
    pub(super) const TIMES: usize = 6 * ITEMS;
    pub(super) const SIZES: usize = 8 * ITEMS;
    pub(super) const FLAGS: usize = 9 * ITEMS;
    pub(super) const KEYS: usize = 10 * ITEMS;

    /// Writes into the columns.
    pub(in crate::vector) fn put(&self, columns: &mut [u8], slot: usize) {
        columns[slot * 4..][..4].copy_from_slice(&self.directory.to_le_bytes());
        columns[Self::CLASSES + slot * 2..][..2].copy_from_slice(&self.class.to_le_bytes());
        columns[Self::TIMES + slot * 2..][..2].copy_from_slice(&self.time.to_le_bytes());
        columns[Self::SIZES + slot] = self.size;
        columns[Self::FLAGS + slot] = self.flags;
        columns[Self::KEYS + slot * 2..][..2].copy_from_slice(&self.keys.to_le_bytes());
    }

    /// Reads from the columns.
    pub fn get(columns: &[u8], slot: usize) -> Self {
        let word = |at: usize| u16::from_le_bytes([columns[at + slot * 2], columns[at + slot * 2 + 1]]);
        let at = slot * 4;
        Self {
            directory: u32::from_le_bytes([columns[at], columns[at + 1], columns[at + 2], columns[at + 3]]),
            class: word(Self::CLASSES),
            time: word(Self::TIMES),
            size: columns[Self::SIZES + slot],
            flags: columns[Self::FLAGS + slot],
            keys: word(Self::KEYS),
        }
    }
}
