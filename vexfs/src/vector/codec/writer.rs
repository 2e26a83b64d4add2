// SPDX-License-Identifier: MIT OR Apache-2.0

//! Filling leaves: items are encoded relative to the leaf's centre and appended block by block.

use super::Codec;
use super::bits::Residual;
use super::block::{CODES, FACTORS, HEADER, HINTS, Identity, Layout, Leaf, LeafError, LeafView, Rows, VIDS, seal};
use crate::vector::filter::Hints;
use crate::vector::kernels::ITEMS;
use crate::vector::sums::square;

/// The bytes of a leaf as they are stored.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeafBytes {
    /// Which leaf.
    pub identity: Identity,
    /// Items.
    pub items: usize,
    /// The code section.
    pub codes: Vec<u8>,
    /// The row section.
    pub rows: Vec<u8>,
}

impl LeafBytes {
    /// Checks them, for searching.
    pub fn open(&self, layout: Layout) -> Result<Leaf, LeafError> {
        Leaf::open(layout, self.identity, self.items, &self.codes, &self.rows)
    }
}

/// A leaf that items are added to.
#[derive(Clone, Debug)]
pub struct LeafWriter {
    layout: Layout,
    /// `P(c - origin)`; empty if the leaf has no codes.
    centre: Vec<f32>,
    items: usize,
    codes: Vec<u8>,
    rows: Vec<u8>,
    scratch: Vec<u8>,
}

/// An item to add.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub vid: u32,
    /// What filters look at first.
    pub hints: Hints,
    /// Its point.
    pub point: &'a [f32],
    /// What the row section holds if it holds exact rows; else unused.
    pub row: &'a [u8],
}

impl LeafWriter {
    /// An empty leaf with its centre, a point.
    pub fn new(codec: &Codec, layout: Layout, centre: &[f32]) -> Self {
        Self {
            layout,
            centre: if layout.padded > 0 {
                codec.rotate(centre)
            } else {
                Vec::new()
            },
            items: 0,
            codes: Vec::new(),
            rows: Vec::new(),
            scratch: vec![0; layout.padded],
        }
    }

    /// Goes on with a leaf that was written, with the same centre.
    pub fn reopen(codec: &Codec, leaf: LeafView<'_>, centre: &[f32]) -> Self {
        Self {
            items: leaf.items,
            codes: leaf.codes.to_vec(),
            rows: leaf.rows.to_vec(),
            ..Self::new(codec, leaf.layout, centre)
        }
    }

    /// Items so far.
    pub const fn len(&self) -> usize {
        self.items
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.rows.len()
    }

    /// What there is so far, for scanning; without headers.
    pub fn view(&self) -> LeafView<'_> {
        LeafView {
            layout: self.layout,
            items: self.items,
            codes: &self.codes,
            rows: &self.rows,
        }
    }

    /// Appends an item.
    pub fn push(&mut self, codec: &Codec, entry: &Entry<'_>) {
        if self.layout.padded == 0 {
            self.place(entry);
            return;
        }
        let rotated = codec.rotate(entry.point);
        self.place(entry);
        self.encode(codec, entry.point, rotated);
    }

    /// Appends an item of another leaf with the same layout and centre, as it is encoded there.
    pub fn copy(&mut self, from: LeafView<'_>, item: usize) {
        let (block, slot) = (from.block(item / ITEMS), item % ITEMS);
        let entry = Entry {
            vid: block.vid(slot),
            hints: Hints::get(block.hints(), slot),
            point: &[],
            row: if matches!(self.layout.rows, Rows::Exact(_)) {
                from.row(item)
            } else {
                &[]
            },
        };
        self.place(&entry);
        let to = (self.items - 1) % ITEMS;
        let start = self.codes.len() - self.layout.code_block();
        let target = &mut self.codes[start..];
        for column in 0..3 {
            let at = FACTORS + column * ITEMS * 4;
            target[at + to * 4..][..4].copy_from_slice(&block.0[at + slot * 4..][..4]);
        }
        for group in 0..self.layout.padded / 4 {
            let at = CODES + group * 16;
            let byte = block.0[at + slot % 16];
            let nibble = if slot < 16 { byte & 15 } else { byte >> 4 };
            target[at + to % 16] |= if to < 16 { nibble } else { nibble << 4 };
        }
        if matches!(self.layout.rows, Rows::Nibble | Rows::Byte) {
            let start = self.rows.len() - self.layout.row_block();
            let target = &mut self.rows[start..];
            let (add, factor) = from.row_factors(item);
            target[HEADER + to * 4..][..4].copy_from_slice(&add.to_le_bytes());
            target[HEADER + (ITEMS + to) * 4..][..4].copy_from_slice(&factor.to_le_bytes());
            target[self.layout.rows_at() + to * self.layout.row()..][..self.layout.row()]
                .copy_from_slice(from.row(item));
        }
    }

    /// Makes room and fills in everything but codes.
    fn place(&mut self, entry: &Entry<'_>) {
        let slot = self.items % ITEMS;
        if slot == 0 {
            self.codes.resize(self.codes.len() + self.layout.code_block(), 0);
            self.rows.resize(self.rows.len() + self.layout.row_block(), 0);
        }
        let start = self.codes.len() - self.layout.code_block();
        let block = &mut self.codes[start..];
        block[VIDS + slot * 4..][..4].copy_from_slice(&entry.vid.to_le_bytes());
        entry.hints.put(&mut block[HINTS..CODES], slot);
        if let Rows::Exact(bytes) = self.layout.rows {
            let at = self.rows.len() - self.layout.row_block() + self.layout.rows_at() + slot * bytes;
            self.rows[at..at + bytes].copy_from_slice(entry.row);
        }
        self.items += 1;
    }

    /// Encodes the last item.
    fn encode(&mut self, codec: &Codec, point: &[f32], mut rotated: Vec<f32>) {
        let slot = (self.items - 1) % ITEMS;
        for (value, centre) in rotated.iter_mut().zip(&self.centre) {
            *value -= centre;
        }
        let residual = Residual {
            residual: &rotated,
            centre: &self.centre,
            square: square(point),
            form: codec.form(),
        };
        let padded = self.layout.padded;
        let start = self.codes.len() - self.layout.code_block();
        let block = &mut self.codes[start..];
        let signs = &mut self.scratch[..padded / 8];
        let factors = residual.signs(signs);
        for (column, value) in [factors.add, factors.factor, factors.error].into_iter().enumerate() {
            block[FACTORS + (column * ITEMS + slot) * 4..][..4].copy_from_slice(&value.to_le_bytes());
        }
        for (byte, signs) in signs.iter().enumerate() {
            for (half, nibble) in [signs & 15, signs >> 4].into_iter().enumerate() {
                let at = CODES + (byte * 2 + half) * 16 + slot % 16;
                block[at] |= if slot < 16 { nibble } else { nibble << 4 };
            }
        }
        let levels = match self.layout.rows {
            Rows::Nibble => 8,
            Rows::Byte => 128,
            Rows::None | Rows::Exact(_) => return,
        };
        let values = &mut self.scratch[..padded];
        let factors = residual.levels(levels, values);
        let start = self.rows.len() - self.layout.row_block();
        let block = &mut self.rows[start..];
        block[HEADER + slot * 4..][..4].copy_from_slice(&factors.add.to_le_bytes());
        block[HEADER + (ITEMS + slot) * 4..][..4].copy_from_slice(&factors.factor.to_le_bytes());
        let row = &mut block[self.layout.rows_at() + slot * self.layout.row()..][..self.layout.row()];
        if levels == 128 {
            row.copy_from_slice(values);
        } else {
            for (row, values) in row.as_chunks_mut::<32>().0.iter_mut().zip(values.as_chunks::<64>().0) {
                for (at, byte) in row.iter_mut().enumerate() {
                    *byte = values[at] | values[at + 32] << 4;
                }
            }
        }
    }

    /// The finished leaf.
    pub fn finish(mut self, identity: Identity) -> LeafBytes {
        seal(&self.layout, identity, self.items, &mut self.codes, &mut self.rows);
        LeafBytes {
            identity,
            items: self.items,
            codes: self.codes,
            rows: self.rows,
        }
    }
}
