// SPDX-License-Identifier: MIT OR Apache-2.0

//! A query's side of the codes: the table that one-bit scans look up, and the query in eight bits for sharper codes.

use super::block::{Block, LeafView, Rows};
use super::{Codec, Form};
use crate::vector::kernels::{Kernels, Scan, Scanned};
use crate::vector::sums::{square, square_between};

/// A query, prepared once for all leaves.
#[derive(Clone, Debug)]
pub struct Query {
    kernels: Kernels,
    form: Form,
    /// The query's point.
    pub point: Vec<f32>,
    square: f32,
    lut: Vec<u8>,
    scale: f32,
    bias: f32,
    /// The rotated query in eight bits, their unit, and their sum.
    bytes: Vec<i8>,
    unit: f32,
    sum: f32,
}

/// A query at a leaf: what all items of the leaf share.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    add: f32,
    spread: f32,
}

impl Query {
    /// Prepares a query from its bytes.
    pub fn new(codec: &Codec, bytes: &[u8]) -> Self {
        Self::of_point(codec, codec.point(bytes))
    }

    /// Prepares a query from its point.
    pub fn of_point(codec: &Codec, point: Vec<f32>) -> Self {
        let kernels = Kernels::best();
        let rotated = codec.rotate(&point);
        let mut largest = 0.0_f32;
        let (mut lowest, mut range, mut total) = (0.0_f32, 0.0_f32, 0.0_f32);
        for group in rotated.as_chunks::<4>().0 {
            let mut width = 0.0;
            for value in group {
                lowest += value.min(0.0);
                width += value.abs();
                total += value;
                largest = largest.max(value.abs());
            }
            range = range.max(width);
        }
        let step = if range > 0.0 { range / 255.0 } else { 1.0 };
        let per_step = 1.0 / step;
        let mut lut = vec![0; rotated.len() * 4];
        for (group, lut) in rotated.as_chunks::<4>().0.iter().zip(lut.as_chunks_mut::<16>().0) {
            let low: f32 = group.iter().map(|value| value.min(0.0)).sum();
            let mut sums = [0.0_f32; 16];
            for pattern in 1..16_usize {
                let lowest_bit = pattern.trailing_zeros() as usize;
                sums[pattern] = sums[pattern & (pattern - 1)] + group[lowest_bit];
            }
            for (entry, sum) in lut.iter_mut().zip(sums) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "0 to 255, and casts saturate"
                )]
                let byte = ((sum - low) * per_step + 0.5) as u8;
                *entry = byte;
            }
        }
        let unit = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let per_unit = 1.0 / unit;
        #[expect(clippy::cast_possible_truncation, reason = "-127 to 127")]
        let bytes = rotated
            .iter()
            .map(|value| (value * per_unit).round_ties_even() as i8)
            .collect();
        Self {
            kernels,
            form: codec.form(),
            square: square(&point),
            point,
            lut,
            scale: 2.0 * step,
            bias: 2.0 * lowest - total,
            bytes,
            unit,
            sum: total,
        }
    }

    /// The query's squared distance to a centre, whose bytes are `f32`.
    #[inline]
    pub fn square_to(&self, centre: &[u8]) -> f32 {
        self.kernels.square_f32(&self.point, centre)
    }

    /// The query's squared distance to a point.
    pub fn square_between(&self, point: &[f32]) -> f32 {
        square_between(&self.point, point)
    }

    /// What a centre at this squared distance counts for: the distance, or the negated product.
    #[inline]
    pub fn score(&self, square: f32, centre: &[u8]) -> f32 {
        match self.form {
            Form::Distance => square,
            Form::Product => -self.kernels.dot_f32(&self.point, centre),
        }
    }

    /// The same of a point.
    pub fn score_between(&self, point: &[f32]) -> f32 {
        match self.form {
            Form::Distance => self.square_between(point),
            Form::Product => -self
                .point
                .iter()
                .zip(point)
                .map(|(one, other)| one * other)
                .sum::<f32>(),
        }
    }

    /// What is estimated.
    pub const fn form(&self) -> Form {
        self.form
    }

    /// How a leaf with a centre at this squared distance looks from the query.
    #[inline]
    pub fn aim(&self, square: f32) -> Aim {
        let add = match self.form {
            Form::Distance => square,
            Form::Product => (square - self.square) / 2.0,
        };
        Aim {
            add,
            spread: square.sqrt(),
        }
    }

    /// Estimates the distances of a block's items. Bit `i` of the answer: item `i` may be below the limit. `doubt` is the
    /// share of the error bound that is subtracted from estimates first.
    #[inline]
    pub fn scan(&self, block: Block<'_>, aim: Aim, doubt: f32, limit: f32, scanned: &mut Scanned) -> u32 {
        let scan = Scan {
            codes: block.codes(),
            factors: block.factors(),
            lut: &self.lut,
            scale: self.scale,
            bias: self.bias,
            add: aim.add,
            spread: aim.spread * doubt,
            limit,
        };
        self.kernels.scan(&scan, scanned)
    }

    /// A sharper estimate from the item's row.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn sharpen(&self, leaf: &LeafView<'_>, item: usize, aim: Aim) -> f32 {
        let (add, factor) = leaf.row_factors(item);
        let (product, half) = match leaf.layout.rows {
            Rows::Nibble => (self.kernels.nibble_dot(leaf.row(item), &self.bytes), 7.5),
            _ => (self.kernels.byte_dot(leaf.row(item), &self.bytes), 127.5),
        };
        add + aim.add + factor * (product as f32 * self.unit - half * self.sum)
    }
}
