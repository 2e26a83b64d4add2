// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every set of instructions this machine has, against plain code.

#![expect(clippy::cast_precision_loss, reason = "small numbers of a test")]

use proptest::prelude::*;

use super::*;

const DIMENSIONS: [usize; 11] = [1, 2, 63, 64, 65, 100, 384, 768, 1025, 4097, 16384];

fn others() -> Vec<Kernels> {
    let found: Vec<_> = Isa::ALL.into_iter().skip(1).filter_map(Kernels::of).collect();
    assert!(
        !found.is_empty() || Kernels::best().isa() == Isa::Scalar,
        "the best is one of those found"
    );
    found
}

fn plain() -> Kernels {
    Kernels::of(Isa::Scalar).unwrap()
}

fn floats(random: &mut fastrand::Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn halves_of(values: &[f32]) -> Vec<u8> {
    let halves = values.iter().map(|value| half::f16::from_f32(*value));
    halves.flat_map(half::f16::to_le_bytes).collect()
}

/// A distance between floats and a row.
type Of = fn(&Kernels, &[f32], &[u8]) -> f32;

/// Equal but for the order of additions: relative to the sum of what was added.
#[track_caller]
fn close(one: f32, other: f32, size: f32) {
    assert!((one - other).abs() <= 1e-4 * size.max(1e-6), "{one} is not {other}");
}

#[test]
fn exact_distances_are_those_of_plain_code() {
    let mut random = fastrand::Rng::with_seed(1);
    for kernels in others() {
        for dimension in DIMENSIONS {
            let (query, row) = (floats(&mut random, dimension), floats(&mut random, dimension));
            let size: f32 = query.iter().zip(&row).map(|(one, other)| (one * other).abs()).sum();
            let (single, half) = (bytes_of(&row), halves_of(&row));
            close(kernels.dot_f32(&query, &single), plain().dot_f32(&query, &single), size);
            close(kernels.dot_f16(&query, &half), plain().dot_f16(&query, &half), size);
            let positive: [(Of, &[u8]); 6] = [
                (Kernels::square_f32, &single),
                (Kernels::absolute_f32, &single),
                (Kernels::norm_f32, &single),
                (Kernels::square_f16, &half),
                (Kernels::absolute_f16, &half),
                (Kernels::norm_f16, &half),
            ];
            for (of, row) in positive {
                let expected = of(&plain(), &query, row);
                close(of(&kernels, &query, row), expected, expected);
            }
        }
    }
}

#[test]
fn plain_code_computes_what_the_names_say() {
    let (query, row) = ([1.0, -2.0, 3.0], bytes_of(&[4.0, 5.0, -6.0]));
    let halves = halves_of(&[4.0, 5.0, -6.0]);
    let kernels = plain();
    let all = [
        (kernels.dot_f32(&query, &row), kernels.dot_f16(&query, &halves), -24.0),
        (
            kernels.square_f32(&query, &row),
            kernels.square_f16(&query, &halves),
            139.0,
        ),
        (
            kernels.absolute_f32(&query, &row),
            kernels.absolute_f16(&query, &halves),
            19.0,
        ),
        (kernels.norm_f32(&query, &row), kernels.norm_f16(&query, &halves), 77.0),
    ];
    for (single, half, expected) in all {
        close(single, expected, 1e-3);
        close(half, expected, 1e-3);
    }
    let (query, row) = ([1_i8, -128, 127], [4_u8, 127, 128]);
    assert_eq!(kernels.dot_i8(&query, &row), 4 - 128 * 127 - 127 * 128);
    assert_eq!(kernels.square_i8(&query, &row), 9 + 255 * 255 * 2);
    assert_eq!(kernels.absolute_i8(&query, &row), 3 + 255 * 2);
    assert_eq!(kernels.norm_i8(&query, &row), 16 + 127 * 127 + 128 * 128);
    assert_eq!(kernels.hamming(&[0b1010, 0xff], &[0b0110, 0x0f]), 6);
}

#[test]
fn every_finite_half_is_read_as_it_is() {
    for bits in 0..=u16::MAX {
        let half = half::f16::from_bits(bits);
        if half.is_finite() {
            for kernels in others().into_iter().chain([plain()]) {
                assert_eq!(
                    kernels.dot_f16(&[1.0; 1], &half.to_le_bytes()).to_bits() << 1,
                    half.to_f32().to_bits() << 1
                );
            }
        }
    }
}

#[test]
fn sums_of_bytes_are_bit_equal() {
    let mut random = fastrand::Rng::with_seed(2);
    for kernels in others() {
        for dimension in DIMENSIONS {
            for extreme in [false, true] {
                let mut draw = || if extreme { -128 } else { random.i8(..) };
                let query: Vec<i8> = (0..dimension).map(|_| draw()).collect();
                let row: Vec<u8> = (0..dimension).map(|_| draw().cast_unsigned()).collect();
                assert_eq!(kernels.dot_i8(&query, &row), plain().dot_i8(&query, &row));
                assert_eq!(kernels.square_i8(&query, &row), plain().square_i8(&query, &row));
                assert_eq!(kernels.absolute_i8(&query, &row), plain().absolute_i8(&query, &row));
                assert_eq!(kernels.norm_i8(&query, &row), plain().norm_i8(&query, &row));
                let bits: Vec<u8> = query.iter().map(|value| value.cast_unsigned()).collect();
                assert_eq!(kernels.hamming(&bits, &row), plain().hamming(&bits, &row));
            }
        }
    }
}

#[test]
fn products_with_codes_are_bit_equal_also_at_the_extremes() {
    let mut random = fastrand::Rng::with_seed(3);
    for kernels in others() {
        for padded in [64, 128, 192, 384, 1088, 4160, 16384] {
            for (code, value) in [
                (None, None),
                (Some(255), Some(-128)),
                (Some(255), Some(127)),
                (Some(0), None),
            ] {
                let query: Vec<i8> = (0..padded).map(|_| value.unwrap_or_else(|| random.i8(..))).collect();
                let row: Vec<u8> = (0..padded).map(|_| code.unwrap_or_else(|| random.u8(..))).collect();
                assert_eq!(kernels.byte_dot(&row, &query), plain().byte_dot(&row, &query));
                assert_eq!(
                    kernels.nibble_dot(&row[..padded / 2], &query),
                    plain().nibble_dot(&row[..padded / 2], &query)
                );
            }
        }
    }
}

#[test]
fn scans_are_bit_equal_in_their_sums_and_close_in_their_estimates() {
    let mut random = fastrand::Rng::with_seed(4);
    for kernels in others() {
        for padded in [64, 128, 192, 384, 768, 1024, 1088, 2048, 4160, 16384] {
            for full in [false, true] {
                let bytes = padded * 4;
                let codes: Vec<u8> = (0..bytes).map(|_| random.u8(..)).collect();
                let lut: Vec<u8> = (0..bytes).map(|_| if full { 255 } else { random.u8(..) }).collect();
                let factors = bytes_of(&floats(&mut random, 3 * ITEMS));
                let (mut one, mut other) = ([7; ITEMS], [9; ITEMS]);
                kernels.scan_sums(&codes, &lut, &mut one);
                plain().scan_sums(&codes, &lut, &mut other);
                assert_eq!(one, other, "{kernels:?}, {padded} dimensions");
                assert!(!full || one.iter().all(|sum| *sum as usize == padded / 4 * 255));
                let scan = Scan {
                    codes: &codes,
                    factors: &factors,
                    lut: &lut,
                    scale: 0.01,
                    bias: -3.0,
                    add: 2.0,
                    spread: 0.5,
                    limit: 1.0,
                };
                let (mut one, mut other) = (Scanned::default(), Scanned::default());
                let (mask, expected) = (kernels.scan(&scan, &mut one), plain().scan(&scan, &mut other));
                for item in 0..ITEMS {
                    let size = 10.0 + other.estimate[item].abs();
                    close(one.estimate[item], other.estimate[item], size);
                    close(one.low[item], other.low[item], size);
                    let certain = (other.low[item] - scan.limit).abs() > 1e-3 * size;
                    assert!(!certain || (mask ^ expected) >> item & 1 == 0, "item {item}");
                    assert_eq!(mask >> item & 1 == 1, one.low[item] < scan.limit);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn four_products_at_once_are_four_products(seed: u64, dimension in 1_usize..600) {
        let mut random = fastrand::Rng::with_seed(seed);
        let rows: Vec<_> = (0..5).map(|_| floats(&mut random, dimension)).collect();
        let one = bytes_of(&rows[4]);
        for kernels in others() {
            let sums = kernels.dot_four([&rows[0], &rows[1], &rows[2], &rows[3]], &rows[4]);
            for (sum, row) in sums.iter().zip(&rows) {
                close(*sum, plain().dot_f32(row, &one), 1.0 + dimension as f32 / 3.0);
            }
        }
    }
}

#[test]
fn the_hadamard_transform_keeps_lengths_and_undoes_itself() {
    let mut random = fastrand::Rng::with_seed(5);
    for kernels in others().into_iter().chain([plain()]) {
        for count in [1, 2, 64, 256, 16384] {
            let before = floats(&mut random, count);
            let mut values = before.clone();
            kernels.hadamard(&mut values);
            let length = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>();
            close(length(&values), length(&before), length(&before));
            kernels.hadamard(&mut values);
            for (value, before) in values.iter().zip(&before) {
                assert!((value - before).abs() < 1e-4);
            }
        }
    }
}

#[test]
#[should_panic(expected = "as many elements")]
fn rows_of_another_length_are_refused() {
    Kernels::best().dot_f32(&[0.0; 4], &[0; 12]);
}
