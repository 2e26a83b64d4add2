// SPDX-License-Identifier: MIT OR Apache-2.0

//! One bit per block of a group: setting, clearing and searching ranges, 64 bits at a time.
//!
//! A [`Row`] whose bits are all equal owns no memory; that is the normal state of most rows of a large pool that is nearly
//! empty or nearly full. Ranges are `from..to` in bits of the row, never empty, `to <= GROUP_BLOCKS`; callers cut runs into
//! such ranges (`super::pieces`). A row knows nothing of pools: bits beyond the pool's end are its owner's business.

use std::ops::Range;

/// Blocks of a group, bits of a row.
pub(super) const GROUP_BLOCKS: u32 = 4096;
/// Size of a row on disk.
pub const ROW_BYTES: usize = GROUP_BLOCKS as usize / 8;

const WORD_BITS: u32 = u64::BITS;
const WORDS: usize = (GROUP_BLOCKS / WORD_BITS) as usize;
type Words = [u64; WORDS];

/// The bits of one group.
#[derive(Debug, Default)]
pub(super) enum Row {
    /// Every bit is clear.
    #[default]
    Clear,
    /// Every bit is set.
    Full,
    /// Both kinds occur.
    Mixed {
        /// Number of set bits, neither 0 nor [`GROUP_BLOCKS`].
        ones: u16,
        /// Bit `i` is bit `i % 64` of word `i / 64`.
        words: Box<Words>,
    },
}

/// Adjacent clear bits of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// First bit.
    pub(super) start: u32,
    /// Number of bits; 0 where there is no clear bit at all.
    pub(super) len: u32,
}

impl Row {
    /// Reads the format of [`Row::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Self {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let ones: u32 = words.iter().map(|word| word.count_ones()).sum();
        match ones {
            0 => Self::Clear,
            GROUP_BLOCKS => Self::Full,
            _ => Self::Mixed {
                ones: narrow(ones),
                words: Box::new(words),
            },
        }
    }

    /// Bit `i` becomes bit `i % 8` of byte `i / 8`. `None` where no bit is set.
    pub(super) fn to_bytes(&self) -> Option<Box<[u8; ROW_BYTES]>> {
        match self {
            Self::Clear => None,
            Self::Full => Some(Box::new([0xff; ROW_BYTES])),
            Self::Mixed { words, .. } => {
                let mut bytes = Box::new([0; ROW_BYTES]);
                for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words.iter()) {
                    *bytes = word.to_le_bytes();
                }
                Some(bytes)
            }
        }
    }

    /// Number of set bits.
    pub(super) fn ones(&self) -> u32 {
        match self {
            Self::Clear => 0,
            Self::Full => GROUP_BLOCKS,
            Self::Mixed { ones, .. } => u32::from(*ones),
        }
    }

    /// Sets bits that are clear.
    pub(super) fn set(&mut self, bits: Range<u32>) {
        debug_assert_eq!(self.first_set(bits.clone()), None, "set twice");
        let total = self.ones() + bits.end - bits.start;
        if total >= GROUP_BLOCKS {
            *self = Self::Full;
            return;
        }
        match self {
            // Unreachable while callers set clear bits only.
            Self::Full => {}
            Self::Clear => {
                let mut words = Box::new([0; WORDS]);
                for (index, mask) in masks(bits) {
                    words[index] = mask;
                }
                *self = Self::Mixed {
                    ones: narrow(total),
                    words,
                };
            }
            Self::Mixed { ones, words } => {
                *ones = narrow(total);
                for (index, mask) in masks(bits) {
                    words[index] |= mask;
                }
            }
        }
    }

    /// Clears bits that are set.
    pub(super) fn clear(&mut self, bits: Range<u32>) {
        debug_assert_eq!(self.first_clear(bits.clone()), None, "cleared twice");
        let total = self.ones().saturating_sub(bits.end - bits.start);
        if total == 0 {
            *self = Self::Clear;
            return;
        }
        match self {
            // Unreachable while callers clear set bits only.
            Self::Clear => {}
            Self::Full => {
                let mut words = Box::new([u64::MAX; WORDS]);
                for (index, mask) in masks(bits) {
                    words[index] = !mask;
                }
                *self = Self::Mixed {
                    ones: narrow(total),
                    words,
                };
            }
            Self::Mixed { ones, words } => {
                *ones = narrow(total);
                for (index, mask) in masks(bits) {
                    words[index] &= !mask;
                }
            }
        }
    }

    /// The first set bit of a range.
    pub(super) fn first_set(&self, bits: Range<u32>) -> Option<u32> {
        match self {
            Self::Clear => None,
            Self::Full => (!bits.is_empty()).then_some(bits.start),
            Self::Mixed { words, .. } => first(bits, |index| words[index]),
        }
    }

    /// The first clear bit of a range.
    pub(super) fn first_clear(&self, bits: Range<u32>) -> Option<u32> {
        match self {
            Self::Clear => (!bits.is_empty()).then_some(bits.start),
            Self::Full => None,
            Self::Mixed { words, .. } => first(bits, |index| !words[index]),
        }
    }

    /// The last set bit below `end`.
    fn last_set_below(&self, end: u32) -> Option<u32> {
        match self {
            Self::Clear => None,
            Self::Full => end.checked_sub(1),
            Self::Mixed { words, .. } => masks(0..end).rev().find_map(|(index, mask)| {
                let word = words[index] & mask;
                (word != 0).then(|| bit(index, word.ilog2()))
            }),
        }
    }

    /// Length of the stretch of clear bits that contains a range, all of which is clear.
    pub(super) fn clear_around(&self, bits: Range<u32>) -> u32 {
        let start = self.last_set_below(bits.start).map_or(0, |bit| bit + 1);
        let end = self.first_set(bits.end..GROUP_BLOCKS).unwrap_or(GROUP_BLOCKS);
        end - start
    }

    /// The first bit at or above `from` where `want` (1 or more) clear bits follow, or else the longest stretch above `from`.
    pub(super) fn find_clear(&self, from: u32, want: u32) -> Result<u32, Stretch> {
        match self {
            Self::Clear if want <= GROUP_BLOCKS - from => Ok(from),
            Self::Clear => Err(Stretch {
                start: from,
                len: GROUP_BLOCKS - from,
            }),
            Self::Full => Err(Stretch { start: from, len: 0 }),
            Self::Mixed { words, .. } => find_clear(words, from, want),
        }
    }

    /// Length of the longest stretch of clear bits.
    pub(super) fn longest_clear(&self) -> u32 {
        // No row holds such a stretch, so that the longest comes back.
        self.find_clear(0, GROUP_BLOCKS + 1)
            .map_or_else(|longest| longest.len, |_| GROUP_BLOCKS)
    }
}

/// Walks the stretches of clear bits, jumping from edge to edge within a word.
fn find_clear(words: &Words, from: u32, want: u32) -> Result<u32, Stretch> {
    let mut longest = Stretch { start: from, len: 0 };
    let mut current = longest;
    for (index, mask) in masks(from..GROUP_BLOCKS) {
        let word = words[index] | !mask;
        let mut at = 0;
        while at < WORD_BITS {
            let clear = (word >> at).trailing_zeros().min(WORD_BITS - at);
            if clear > 0 {
                if current.len == 0 {
                    current.start = bit(index, at);
                }
                current.len += clear;
                if current.len >= want {
                    return Ok(current.start);
                }
                at += clear;
            }
            if at < WORD_BITS {
                if current.len > longest.len {
                    longest = current;
                }
                current.len = 0;
                at += (word >> at).trailing_ones();
            }
        }
    }
    Err(if current.len > longest.len { current } else { longest })
}

/// The first bit of a range that is set in words got by index.
fn first(bits: Range<u32>, word_at: impl Fn(usize) -> u64) -> Option<u32> {
    masks(bits).find_map(|(index, mask)| {
        let word = word_at(index) & mask;
        (word != 0).then(|| bit(index, word.trailing_zeros()))
    })
}

/// The words that a range touches, each with the bits of it that belong to the range.
fn masks(bits: Range<u32>) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    let words = if bits.is_empty() {
        0..0
    } else {
        bits.start / WORD_BITS..bits.end.div_ceil(WORD_BITS)
    };
    words.map(move |index| {
        let base = index * WORD_BITS;
        let from = bits.start.saturating_sub(base);
        let beyond = (base + WORD_BITS).saturating_sub(bits.end);
        (index as usize, (u64::MAX << from) & (u64::MAX >> beyond))
    })
}

#[expect(clippy::cast_possible_truncation, reason = "indices of words are below 64")]
const fn bit(word: usize, bit: u32) -> u32 {
    word as u32 * WORD_BITS + bit
}

#[expect(clippy::cast_possible_truncation, reason = "counts of a row are at most 4096")]
const fn narrow(ones: u32) -> u16 {
    ones as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits_of(row: &Row) -> Vec<bool> {
        (0..GROUP_BLOCKS)
            .map(|bit| row.first_set(bit..bit + 1).is_some())
            .collect()
    }

    /// Ranges whose edges like the edges of words.
    fn range() -> impl Strategy<Value = Range<u32>> {
        let edge = || prop_oneof![0..=GROUP_BLOCKS, (0..=64_u32).prop_map(|word| word * 64)];
        (edge(), edge())
            .prop_map(|(a, b)| a.min(b)..a.max(b))
            .prop_filter("not empty", |range| !range.is_empty())
    }

    /// The plain version of [`Row::find_clear`].
    fn plain_find(bits: &[bool], from: u32, want: u32) -> Result<u32, u32> {
        let (mut len, mut longest) = (0, 0);
        for at in from..GROUP_BLOCKS {
            len = if bits[at as usize] { 0 } else { len + 1 };
            longest = longest.max(len);
            if len == want {
                return Ok(at + 1 - want);
            }
        }
        Err(longest)
    }

    proptest! {
        #![proptest_config(crate::space::tests::seeded(64))]

        #[test]
        fn a_row_is_an_array_of_bits(
            steps in prop::collection::vec((range(), any::<bool>()), 1..12),
            probes in prop::collection::vec((0..GROUP_BLOCKS, prop_oneof![1..70_u32, 1..=GROUP_BLOCKS]), 8),
        ) {
            let mut row = Row::default();
            let mut plain = vec![false; GROUP_BLOCKS as usize];
            for (range, value) in steps {
                // Only the bits that differ may be changed, one stretch at a time.
                for bit in range.clone() {
                    if plain[bit as usize] != value {
                        plain[bit as usize] = value;
                        if value { row.set(bit..bit + 1) } else { row.clear(bit..bit + 1) }
                    }
                }
                prop_assert_eq!(row.ones() as usize, plain.iter().filter(|bit| **bit).count());
                let whole = plain[range.start as usize..range.end as usize].iter().position(|bit| !bit);
                prop_assert_eq!(row.first_clear(range.clone()), whole.map(|at| range.start + u32::try_from(at).unwrap()));
                if value {
                    row.clear(range.clone());
                    prop_assert_eq!(row.first_set(range.clone()), None);
                    let around = row.clear_around(range.clone());
                    let left = plain[..range.start as usize].iter().rev().take_while(|bit| !**bit).count();
                    let right = plain[range.end as usize..].iter().take_while(|bit| !**bit).count();
                    prop_assert_eq!(around as usize, left + range.len() + right);
                    row.set(range);
                }
            }
            prop_assert_eq!(bits_of(&row), plain.clone());
            for (from, want) in probes {
                match (row.find_clear(from, want), plain_find(&plain, from, want)) {
                    (Ok(found), plain) => prop_assert_eq!(Ok(found), plain),
                    (Err(longest), plain_longest) => {
                        prop_assert_eq!(Err(longest.len), plain_longest);
                        if longest.len > 0 {
                            prop_assert!(longest.start >= from);
                            prop_assert_eq!(row.first_set(longest.start..longest.start + longest.len), None);
                        }
                    }
                }
            }
            prop_assert_eq!(Err(row.longest_clear()), plain_find(&plain, 0, GROUP_BLOCKS + 1));
            let again = row.to_bytes().map_or(Row::Clear, |bytes| Row::from_bytes(&bytes));
            prop_assert_eq!(again.ones(), row.ones());
            prop_assert_eq!(bits_of(&again), plain);
        }
    }

    #[test]
    fn rows_of_equal_bits_own_no_memory() {
        let mut row = Row::default();
        row.set(0..100);
        row.set(100..GROUP_BLOCKS);
        assert!(matches!(row, Row::Full));
        row.clear(7..8);
        assert!(matches!(row, Row::Mixed { ones: 4095, .. }));
        row.clear(8..GROUP_BLOCKS);
        row.clear(0..7);
        assert!(matches!(row, Row::Clear));
        assert_eq!(size_of::<Row>(), 16);
    }

    #[test]
    fn bit_order_on_disk_is_lowest_bit_first() {
        let mut row = Row::default();
        row.set(9..10);
        let bytes = row.to_bytes().unwrap();
        assert_eq!((bytes[0], bytes[1]), (0, 2));
    }
}
