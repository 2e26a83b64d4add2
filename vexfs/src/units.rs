// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers that must not be mixed up: blocks of the pool, blocks of a file, inodes, sequence numbers.
//!
//! Bytes stay `u64`; a name ending in `_at` or `_bytes` says so. Conversions are methods here and nowhere else.

use std::fmt;

/// Size of a block of the pool and of the checksum unit, in bytes.
pub const BLOCK_SIZE: usize = 4096;
/// `BLOCK_SIZE == 1 << BLOCK_SHIFT`.
pub const BLOCK_SHIFT: u32 = 12;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

number!(
    /// A block of the pool; block 0 is the pool's first. Below `2^48`.
    Block,
    "block {}"
);
number!(
    /// A block of a file: byte offset divided by [`BLOCK_SIZE`]. Below `2^51`.
    FileBlock,
    "file block {}"
);
number!(
    /// An inode number. 0 is never one; 1 is the root.
    Ino,
    "inode {}"
);
number!(
    /// Position of a transaction in the pool's one sequence of transactions. The first is 1; 0 is "before everything".
    Seq,
    "sequence {}"
);

impl Block {
    /// Blocks are below this.
    pub const LIMIT: u64 = 1 << 48;

    /// Byte offset in the pool.
    pub const fn byte_at(self) -> u64 {
        self.0 << BLOCK_SHIFT
    }

    /// The block `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl FileBlock {
    /// The block that holds a byte offset of a file.
    pub const fn of(byte_at: u64) -> Self {
        Self(byte_at >> BLOCK_SHIFT)
    }

    /// Byte offset in the file.
    pub const fn byte_at(self) -> u64 {
        self.0 << BLOCK_SHIFT
    }

    /// The block `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl Ino {
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

impl Seq {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Contiguous blocks of the pool. Never empty where it stands for something allocated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Run {
    /// First block.
    pub start: Block,
    /// Number of blocks.
    pub count: u32,
}

impl Run {
    /// `count` blocks from `start` on.
    pub const fn new(start: Block, count: u32) -> Self {
        Self { start, count }
    }

    /// First block after the run.
    pub const fn end(self) -> Block {
        Block(self.start.0 + self.count as u64)
    }

    /// Size in bytes.
    pub const fn bytes(self) -> u64 {
        (self.count as u64) << BLOCK_SHIFT
    }

    /// Whether the run lies inside a pool of `pool_blocks` blocks, without overflow and not empty. What is read from
    /// disk must pass this before it is used.
    pub const fn fits(self, pool_blocks: u64) -> bool {
        self.count > 0 && self.start.0 < pool_blocks && self.count as u64 <= pool_blocks - self.start.0
    }

    /// Every block of the run.
    pub fn blocks(self) -> impl DoubleEndedIterator<Item = Block> + ExactSizeIterator + use<> {
        (0..self.count).map(move |index| self.start.plus(u64::from(index)))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks {}+{}", self.start.0, self.count)
    }
}

/// Whole blocks that hold so many bytes.
pub const fn blocks_for(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_SIZE as u64)
}
