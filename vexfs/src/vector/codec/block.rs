// SPDX-License-Identifier: MIT OR Apache-2.0

//! The bytes of a leaf: blocks of 32 items, in two sections that are stored and read apart.
//!
//! All numbers are little-endian. A leaf has `ceil(n / 32)` blocks in each section; only the last may be partly filled.
//! With `p` the padded dimension (0 where the leaf holds exact vectors instead of codes), a block of the **code section**:
//!
//! ```text
//!   0    64   header
//!  64   128   vid[32]                          u32
//! 192   384   add[32], factor[32], error[32]   f32   (see `bits`)
//! 576   384   hints: directory u32[32], class u16[32], time u16[32], size u8[32], flags u8[32], keys u16[32]
//! 960    4p   one-bit codes: p/4 groups of 16 bytes; low nibble of byte i is item i, high nibble item i + 16;
//!             bit k of a nibble is dimension 4 * group + k
//! ```
//!
//! and of the **row section**, which leaves of [`Rows::None`] do not have:
//!
//! ```text
//!   0    64   header
//!  64   256   add[32], factor[32]              f32   (coded rows only)
//!   …         row[32], then zeros up to a multiple of 64
//! ```
//!
//! The header:
//!
//! ```text
//!   0   4   magic: "VXA1" code section, "VXE1" row section
//!   4   4   space
//!   8   4   leaf
//!  12   4   generation of the leaf
//!  16   2   index of the block in its section
//!  18   1   items in the block, 1 to 32
//!  19   1   rows: 0 none, 1 four-bit codes, 2 eight-bit codes, 3 exact
//!  20   4   p
//!  24   4   bytes of a row
//!  28  32   zero
//!  60   4   CRC32C of the block without this field
//! ```

use crate::checksum::Crc;
use crate::vector::kernels::{FACTOR_BYTES, ITEMS};

/// Bytes of a header.
pub const HEADER: usize = 64;
pub(super) const VIDS: usize = 64;
pub(super) const FACTORS: usize = 192;
pub(super) const HINTS: usize = 576;
pub(super) const CODES: usize = 960;
const MAGIC_CODES: u32 = u32::from_le_bytes(*b"VXA1");
const MAGIC_ROWS: u32 = u32::from_le_bytes(*b"VXE1");
const CRC_AT: usize = 60;
/// Factors in front of coded rows.
pub(super) const ROW_FACTORS: usize = 2 * 4 * ITEMS;
/// Most items of one leaf: block indices have 16 bits.
pub const MAX_ITEMS: usize = ITEMS * 65_535;

/// What a leaf holds of its items besides one-bit codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rows {
    /// Nothing.
    None,
    /// Four-bit codes.
    Nibble,
    /// Eight-bit codes.
    Byte,
    /// The vectors themselves, of so many bytes.
    Exact(usize),
}

/// How the blocks of a leaf are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Padded dimension of the one-bit codes; 0 for none.
    pub padded: usize,
    /// The row section.
    pub rows: Rows,
}

impl Layout {
    /// Bytes of a block of the code section.
    pub const fn code_block(&self) -> usize {
        CODES + self.padded * 4
    }

    /// Bytes of a row.
    pub const fn row(&self) -> usize {
        match self.rows {
            Rows::None => 0,
            Rows::Nibble => self.padded / 2,
            Rows::Byte => self.padded,
            Rows::Exact(bytes) => bytes,
        }
    }

    /// Where the rows begin in a block of the row section.
    pub const fn rows_at(&self) -> usize {
        match self.rows {
            Rows::Nibble | Rows::Byte => HEADER + ROW_FACTORS,
            Rows::None | Rows::Exact(_) => HEADER,
        }
    }

    /// Bytes of a block of the row section; 0 if there is none.
    pub const fn row_block(&self) -> usize {
        match self.rows {
            Rows::None => 0,
            _ => (self.rows_at() + ITEMS * self.row()).next_multiple_of(64),
        }
    }

    /// Bytes of the sections of a leaf of so many items.
    pub const fn sections(&self, items: usize) -> (usize, usize) {
        let blocks = items.div_ceil(ITEMS);
        (blocks * self.code_block(), blocks * self.row_block())
    }

    const fn kind(&self) -> u8 {
        match self.rows {
            Rows::None => 0,
            Rows::Nibble => 1,
            Rows::Byte => 2,
            Rows::Exact(_) => 3,
        }
    }
}

/// Which leaf a block belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The space.
    pub space: u32,
    /// The leaf.
    pub leaf: u32,
    /// Counts the times the leaf was written.
    pub generation: u32,
}

/// What is wrong with a leaf's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeafError {
    /// A section does not have the length its items need.
    #[error("a section of leaf {leaf} has {found} bytes where its items need {expected}")]
    Length {
        /// The leaf.
        leaf: u32,
        /// What it needs.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// A block's checksum is wrong.
    #[error("block {index} of leaf {leaf} is damaged")]
    Checksum {
        /// The leaf.
        leaf: u32,
        /// The block.
        index: usize,
    },
    /// A block is whole, but of another leaf, another time or another layout.
    #[error("block {index} of leaf {leaf} belongs elsewhere: its {field} does not fit")]
    Foreign {
        /// The leaf.
        leaf: u32,
        /// The block.
        index: usize,
        /// What does not fit.
        field: &'static str,
    },
    /// A factor is not a finite number.
    #[error("block {index} of leaf {leaf} holds factors that are no numbers")]
    Factors {
        /// The leaf.
        leaf: u32,
        /// The block.
        index: usize,
    },
    /// More items than a leaf may have.
    #[error("leaf {leaf} claims {items} items")]
    Items {
        /// The leaf.
        leaf: u32,
        /// Their number.
        items: usize,
    },
}

/// Writes headers and checksums into the filled blocks of both sections.
pub(super) fn seal(layout: &Layout, identity: Identity, items: usize, codes: &mut [u8], rows: &mut [u8]) {
    let sections = [
        (codes, layout.code_block(), MAGIC_CODES),
        (rows, layout.row_block(), MAGIC_ROWS),
    ];
    for (bytes, size, magic) in sections {
        if size == 0 {
            continue;
        }
        for (index, block) in bytes.chunks_exact_mut(size).enumerate() {
            let header = header(layout, identity, items, index, magic);
            block[..HEADER].copy_from_slice(&header);
            let crc = checksum(block);
            block[CRC_AT..HEADER].copy_from_slice(&crc.0.to_le_bytes());
        }
    }
}

fn checksum(block: &[u8]) -> Crc {
    Crc::of_all([&block[..CRC_AT], &block[HEADER..]])
}

/// A header but for its checksum.
#[expect(
    clippy::cast_possible_truncation,
    reason = "at most 65,535 blocks, rows of at most 65,536 bytes"
)]
fn header(layout: &Layout, identity: Identity, items: usize, index: usize, magic: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &magic.to_le_bytes());
    put(4, &identity.space.to_le_bytes());
    put(8, &identity.leaf.to_le_bytes());
    put(12, &identity.generation.to_le_bytes());
    put(16, &(index as u16).to_le_bytes());
    put(18, &[(items - index * ITEMS).min(ITEMS) as u8, layout.kind()]);
    put(20, &(layout.padded as u32).to_le_bytes());
    put(24, &(layout.row() as u32).to_le_bytes());
    header
}

/// Bytes that begin at a multiple of 64, as scans like them.
#[derive(Clone, Default)]
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn new(pieces: [&[u8]; 2]) -> Self {
        let length = pieces[0].len() + pieces[1].len();
        let mut bytes = vec![0; length + 63];
        let start = bytes.as_ptr().align_offset(64).min(63);
        bytes[start..start + pieces[0].len()].copy_from_slice(pieces[0]);
        bytes[start + pieces[0].len()..start + length].copy_from_slice(pieces[1]);
        Self { bytes, start, length }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

/// A leaf in memory, checked: every block is whole, belongs here, and its factors are numbers.
#[derive(Clone)]
pub struct Leaf {
    layout: Layout,
    identity: Identity,
    items: usize,
    bytes: Aligned,
    rows_from: usize,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {} items", self.identity, self.items)
    }
}

impl Leaf {
    /// Checks the bytes of a leaf that has so many items.
    pub fn open(
        layout: Layout,
        identity: Identity,
        items: usize,
        codes: &[u8],
        rows: &[u8],
    ) -> Result<Self, LeafError> {
        let leaf = identity.leaf;
        if items > MAX_ITEMS {
            return Err(LeafError::Items { leaf, items });
        }
        let blocks = items.div_ceil(ITEMS);
        let sections = [
            (codes, layout.code_block(), MAGIC_CODES),
            (rows, layout.row_block(), MAGIC_ROWS),
        ];
        for (bytes, size, magic) in sections {
            if bytes.len() != blocks * size {
                return Err(LeafError::Length {
                    leaf,
                    expected: blocks * size,
                    found: bytes.len(),
                });
            }
            if size == 0 {
                continue;
            }
            for (index, block) in bytes.chunks_exact(size).enumerate() {
                check(&layout, identity, items, index, magic, block)?;
            }
        }
        Ok(Self {
            layout,
            identity,
            items,
            rows_from: codes.len(),
            bytes: Aligned::new([codes, rows]),
        })
    }

    /// Which leaf this is.
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// What it consists of.
    pub fn view(&self) -> LeafView<'_> {
        let (codes, rows) = self.bytes.get().split_at(self.rows_from);
        LeafView {
            layout: self.layout,
            items: self.items,
            codes,
            rows,
        }
    }

    /// Bytes in memory.
    pub const fn bytes(&self) -> usize {
        self.bytes.length
    }
}

fn check(
    layout: &Layout,
    identity: Identity,
    items: usize,
    index: usize,
    magic: u32,
    block: &[u8],
) -> Result<(), LeafError> {
    let leaf = identity.leaf;
    if block[CRC_AT..HEADER] != checksum(block).0.to_le_bytes() {
        return Err(LeafError::Checksum { leaf, index });
    }
    let expected = header(layout, identity, items, index, magic);
    let fields = [
        (0..4, "magic"),
        (4..8, "space"),
        (8..12, "number"),
        (12..16, "generation"),
        (16..18, "index"),
        (18..19, "number of items"),
        (19..CRC_AT, "layout"),
    ];
    for (range, field) in fields {
        if block[range.clone()] != expected[range] {
            return Err(LeafError::Foreign { leaf, index, field });
        }
    }
    let factors = if magic == MAGIC_CODES {
        &block[FACTORS..FACTORS + FACTOR_BYTES]
    } else {
        &block[HEADER..layout.rows_at()]
    };
    let finite = factors
        .as_chunks()
        .0
        .iter()
        .all(|bytes| f32::from_le_bytes(*bytes).is_finite());
    if finite {
        Ok(())
    } else {
        Err(LeafError::Factors { leaf, index })
    }
}

/// The blocks of a leaf, for scanning.
#[derive(Clone, Copy, Debug)]
pub struct LeafView<'a> {
    /// How they are laid out.
    pub layout: Layout,
    /// Items in them.
    pub items: usize,
    pub(super) codes: &'a [u8],
    pub(super) rows: &'a [u8],
}

impl<'a> LeafView<'a> {
    /// Number of blocks.
    pub const fn blocks(&self) -> usize {
        self.items.div_ceil(ITEMS)
    }

    /// A block of the code section.
    #[inline]
    pub fn block(&self, index: usize) -> Block<'a> {
        let size = self.layout.code_block();
        Block(&self.codes[index * size..(index + 1) * size])
    }

    /// Which items of a block there are.
    #[inline]
    pub const fn mask(&self, index: usize) -> u32 {
        let there = self.items - index * ITEMS;
        if there >= ITEMS { u32::MAX } else { (1 << there) - 1 }
    }

    /// An item's row.
    #[inline]
    pub fn row(&self, item: usize) -> &'a [u8] {
        let start = item / ITEMS * self.layout.row_block() + self.layout.rows_at() + item % ITEMS * self.layout.row();
        &self.rows[start..start + self.layout.row()]
    }

    /// The factors of an item's coded row.
    #[inline]
    pub fn row_factors(&self, item: usize) -> (f32, f32) {
        let start = item / ITEMS * self.layout.row_block() + HEADER + item % ITEMS * 4;
        (float(self.rows, start), float(self.rows, start + ITEMS * 4))
    }

    /// The id of an item.
    #[inline]
    pub fn vid(&self, item: usize) -> u32 {
        self.block(item / ITEMS).vid(item % ITEMS)
    }

    /// All ids.
    pub fn vids(self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        (0..self.items).map(move |item| self.vid(item))
    }

    /// Asks for the beginning of the code section.
    pub fn prefetch(&self) {
        let bytes = self.codes.len().min(1024);
        crate::vector::kernels::Kernels::prefetch(&self.codes[..bytes]);
    }
}

/// A block of the code section.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a>(pub(super) &'a [u8]);

impl<'a> Block<'a> {
    /// The id of an item.
    #[inline]
    pub fn vid(&self, item: usize) -> u32 {
        let at = VIDS + item * 4;
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// The factors, as a scan wants them.
    #[inline]
    pub fn factors(&self) -> &'a [u8] {
        &self.0[FACTORS..FACTORS + FACTOR_BYTES]
    }

    /// The one-bit codes.
    #[inline]
    pub fn codes(&self) -> &'a [u8] {
        &self.0[CODES..]
    }

    /// The hints; see `filter::hints`.
    #[inline]
    pub fn hints(&self) -> &'a [u8] {
        &self.0[HINTS..CODES]
    }
}

#[inline]
fn float(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
