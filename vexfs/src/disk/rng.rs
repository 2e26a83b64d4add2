// SPDX-License-Identifier: MIT OR Apache-2.0

//! A small generator of numbers that look random and repeat for a seed. For simulations and tests; never for secrets.

/// `SplitMix64` (Steele, Lea, Flood 2014): every seed gives a sequence of its own, also 0 and 1.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts the sequence of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next number below `limit`, which is not 0. Slightly favours small numbers where `limit` is huge.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Fills a buffer.
    pub fn fill(&mut self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}

/// The number that belongs to three others: a decision that does not depend on the order in which decisions are taken.
pub(super) const fn decide(seed: u64, first: u64, second: u64) -> u64 {
    mix(mix(mix(seed ^ 0x5851_f42d_4c95_7f2d) ^ first).wrapping_add(0x9e37_79b9_7f4a_7c15) ^ second)
}

const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut numbers = SplitMix64::new(1_234_567);
        assert_eq!(numbers.next(), 6_457_827_717_110_365_317);
        assert_eq!(numbers.next(), 3_203_168_211_198_807_973);
    }
}
