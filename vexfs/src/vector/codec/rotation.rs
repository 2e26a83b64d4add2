// SPDX-License-Identifier: MIT OR Apache-2.0

//! A random rotation that needs no matrix: rounds of sign flips, Hadamard transforms and Kac butterflies, from a seed.
//!
//! Rotated vectors have no preferred axes, which is what the error bounds of the codes rest on. The same seed gives the
//! same rotation for ever: it is part of the format.

use crate::vector::kernels::Kernels;

/// Rounds.
const ROUNDS: usize = 4;

/// A rotation of `padded` dimensions, a multiple of 64. Shorter vectors are filled up with zeros.
#[derive(Clone, Debug)]
pub struct Rotation {
    padded: usize,
    kernels: Kernels,
    /// Signs of all rounds, one after the other.
    signs: Vec<f32>,
}

impl Rotation {
    /// The rotation of this seed.
    pub fn new(padded: usize, seed: u64) -> Self {
        let mut state = seed;
        let words = (padded * ROUNDS).div_ceil(64);
        let bits: Vec<u64> = (0..words).map(|_| split_mix(&mut state)).collect();
        let sign = |index: usize| {
            if bits[index / 64] >> (index % 64) & 1 == 1 {
                -1.0
            } else {
                1.0
            }
        };
        Self {
            padded,
            kernels: Kernels::best(),
            signs: (0..padded * ROUNDS).map(sign).collect(),
        }
    }

    /// Rotates in place; `values` has as many elements as the rotation has dimensions.
    pub fn apply(&self, values: &mut [f32]) {
        assert_eq!(values.len(), self.padded, "vectors are padded before they are rotated");
        let window = 1 << self.padded.ilog2();
        for (round, signs) in self.signs.chunks_exact(self.padded).enumerate() {
            for (value, sign) in values.iter_mut().zip(signs) {
                *value *= sign;
            }
            if window == self.padded {
                self.kernels.hadamard(values);
            } else {
                let start = if round % 2 == 0 { 0 } else { self.padded - window };
                self.kernels.hadamard(&mut values[start..start + window]);
                butterfly(values);
            }
        }
    }
}

/// Mixes the halves: each pair is turned by 45 degrees.
fn butterfly(values: &mut [f32]) {
    let (low, high) = values.split_at_mut(values.len() / 2);
    for (low, high) in low.iter_mut().zip(high) {
        let (sum, difference) = (*low + *high, *low - *high);
        (*low, *high) = (
            sum * std::f32::consts::FRAC_1_SQRT_2,
            difference * std::f32::consts::FRAC_1_SQRT_2,
        );
    }
}

/// The generator `SplitMix64`.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_angles_stay_and_no_axis_is_preferred() {
        let mut random = fastrand::Rng::with_seed(1);
        for padded in [64, 128, 192, 384, 768, 1088, 16384] {
            let rotation = Rotation::new(padded, 42);
            let vector = |random: &mut fastrand::Rng| -> Vec<f32> { (0..padded).map(|_| random.f32() - 0.5).collect() };
            let (mut one, mut other) = (vector(&mut random), vector(&mut random));
            let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
            let before = (dot(&one, &one), dot(&one, &other));
            rotation.apply(&mut one);
            rotation.apply(&mut other);
            let after = (dot(&one, &one), dot(&one, &other));
            assert!((before.0 - after.0).abs() < 1e-3 * before.0 && (before.1 - after.1).abs() < 1e-3 * before.0);
            let mut axis = vec![0.0; padded];
            axis[3] = 1.0;
            rotation.apply(&mut axis);
            let largest = axis.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            #[expect(clippy::cast_precision_loss, reason = "a test")]
            let even = 1.0 / (padded as f32).sqrt();
            assert!(largest < 6.0 * even, "{padded}: {largest} where {even} would be even");
        }
    }

    #[test]
    fn a_seed_means_the_same_rotation_for_ever() {
        let mut axis = vec![0.0; 64];
        axis[0] = 8.0;
        Rotation::new(64, 7).apply(&mut axis);
        let signs: String = axis.iter().map(|value| if *value < 0.0 { '-' } else { '+' }).collect();
        let crc = crate::checksum::Crc::of(signs.as_bytes());
        assert_eq!(crc, crate::checksum::Crc(GOLDEN), "{signs}");
    }

    const GOLDEN: u32 = 984_049_834;
}
