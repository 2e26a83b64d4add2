// SPDX-License-Identifier: MIT OR Apache-2.0

//! Plain code for machines without the instructions the others want, and the reference the others are tested against.

use super::generic::{self, Absolute, Dot, Element, Half, Norm, Plain, Single, Square};
use super::{ITEMS, Scan, Scanned, Table};

pub(super) static TABLE: Table = PLAIN;

pub(super) const PLAIN: Table = Table {
    dot_f32: generic::sum::<Plain, Single, Dot>,
    square_f32: generic::sum::<Plain, Single, Square>,
    absolute_f32: generic::sum::<Plain, Single, Absolute>,
    norm_f32: generic::sum::<Plain, Single, Norm>,
    dot_f16: generic::sum::<Plain, Half, Dot>,
    square_f16: generic::sum::<Plain, Half, Square>,
    absolute_f16: generic::sum::<Plain, Half, Absolute>,
    norm_f16: generic::sum::<Plain, Half, Norm>,
    dot_i8: generic::byte_sum::<Dot>,
    square_i8: generic::byte_sum::<Square>,
    absolute_i8: generic::byte_sum::<Absolute>,
    norm_i8: generic::byte_sum::<Norm>,
    hamming: generic::hamming,
    dot_four: generic::dot_four::<Plain>,
    hadamard: generic::hadamard,
    scan_sums,
    scan,
    nibble_dot,
    byte_dot,
};

fn scan_sums(codes: &[u8], lut: &[u8], sums: &mut [u32; ITEMS]) {
    *sums = [0; ITEMS];
    for (codes, lut) in codes.chunks_exact(16).zip(lut.chunks_exact(16)) {
        for (item, code) in codes.iter().enumerate() {
            sums[item] += u32::from(lut[usize::from(code & 15)]);
            sums[item + 16] += u32::from(lut[usize::from(code >> 4)]);
        }
    }
}

fn scan(scan: &Scan<'_>, scanned: &mut Scanned) -> u32 {
    let mut sums = [0; ITEMS];
    scan_sums(scan.codes, scan.lut, &mut sums);
    estimate(scan, &sums, scanned)
}

/// What follows from the sums of a block.
#[expect(
    clippy::cast_precision_loss,
    reason = "sums are below 2^24: at most 4,096 groups of 255"
)]
pub(super) fn estimate(scan: &Scan<'_>, sums: &[u32; ITEMS], scanned: &mut Scanned) -> u32 {
    let factor = |column: usize, item: usize| {
        let at = (column * ITEMS + item) * 4;
        Single::one(&scan.factors[at..at + 4])
    };
    let mut mask = 0;
    for (item, sum) in sums.iter().enumerate() {
        let product = *sum as f32 * scan.scale + scan.bias;
        let estimate = factor(1, item) * product + (factor(0, item) + scan.add);
        let low = estimate - factor(2, item) * scan.spread;
        scanned.estimate[item] = estimate;
        scanned.low[item] = low;
        mask |= u32::from(low < scan.limit) << item;
    }
    mask
}

fn nibble_dot(row: &[u8], query: &[i8]) -> i32 {
    let mut sum = 0;
    for (row, query) in row.chunks_exact(32).zip(query.chunks_exact(64)) {
        for (index, code) in row.iter().enumerate() {
            sum += i32::from(code & 15) * i32::from(query[index]);
            sum += i32::from(code >> 4) * i32::from(query[index + 32]);
        }
    }
    sum
}

fn byte_dot(row: &[u8], query: &[i8]) -> i32 {
    row.iter()
        .zip(query)
        .map(|(row, query)| i32::from(*row) * i32::from(*query))
        .sum()
}
