// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sums over rows of floats in plain code that the compiler turns into wide instructions.

/// Terms that are added up side by side.
const LANES: usize = 16;
/// Additions in single precision before a sum goes over into double: few enough that nothing is lost.
const ADDED: usize = 64 * LANES;

/// The sums of the terms that `each` makes of the elements of two rows, `N` sums at a time.
#[inline]
pub(super) fn sums<const N: usize>(one: &[f32], other: &[f32], each: impl Fn(f32, f32) -> [f32; N]) -> [f64; N] {
    let mut totals = [0.0_f64; N];
    for (one, other) in one.chunks(ADDED).zip(other.chunks(ADDED)) {
        let mut lanes = [[0.0_f32; LANES]; N];
        let ((ones, rest), (others, other_rest)) = (one.as_chunks::<LANES>(), other.as_chunks::<LANES>());
        for (one, other) in ones.iter().zip(others) {
            for lane in 0..LANES {
                for (lanes, term) in lanes.iter_mut().zip(each(one[lane], other[lane])) {
                    lanes[lane] += term;
                }
            }
        }
        for (lane, (one, other)) in rest.iter().zip(other_rest).enumerate() {
            for (lanes, term) in lanes.iter_mut().zip(each(*one, *other)) {
                lanes[lane] += term;
            }
        }
        for (total, lanes) in totals.iter_mut().zip(&lanes) {
            *total += lanes.iter().copied().map(f64::from).sum::<f64>();
        }
    }
    totals
}

/// The square of a row's length.
#[expect(clippy::cast_possible_truncation, reason = "it was one")]
pub(super) fn square(row: &[f32]) -> f32 {
    let [sum] = sums(row, row, |one, other| [one * other]);
    sum as f32
}

/// The squared distance of two points.
#[expect(clippy::cast_possible_truncation, reason = "it was one")]
pub(super) fn square_between(one: &[f32], other: &[f32]) -> f32 {
    let [sum] = sums(one, other, |one, other| [(one - other) * (one - other)]);
    sum as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_counts_once_at_any_length() {
        for length in [0, 1, 15, 16, 17, 100, 1024, 1025, 4099] {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let row: Vec<f32> = (0..length).map(|at| (at % 7) as f32).collect();
            let expected = row.iter().fold(0.0_f32, |sum, value| sum + value * value);
            assert_eq!(square(&row).to_bits(), expected.to_bits(), "{length}");
            assert_eq!(square_between(&row, &vec![0.0; length]).to_bits(), expected.to_bits());
        }
    }
}
