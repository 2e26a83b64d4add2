// SPDX-License-Identifier: MIT OR Apache-2.0

//! CRC32C (Castagnoli), the one checksum of the format, computed in the way that is fastest on this machine.
//!
//! A processor that multiplies without carries does 45 GB/s with a library that knows how. Where it cannot, or where an
//! emulator only pretends to, shifting and adding is up to ten times faster ([`shifts`]). Which it is, is measured once.

mod shifts;

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// A CRC32C value as the format stores it: reflected, initial value and final xor all ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct Crc(pub u32);

/// Whether [`shifts`] are faster here than the library.
static SHIFTS: LazyLock<bool> = LazyLock::new(|| {
    let block = [0x5a; 4096];
    fastest(|| Crc(!shifts::update(!0, black_box(&block)))) < fastest(|| of(black_box(&block)))
});

impl Crc {
    /// Of one piece of memory.
    pub fn of(bytes: &[u8]) -> Self {
        if *SHIFTS {
            Self(!shifts::update(!0, bytes))
        } else {
            of(bytes)
        }
    }

    /// Of several pieces, as if they lay one after the other.
    pub fn of_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        if *SHIFTS {
            Self(!pieces.into_iter().fold(!0, shifts::update))
        } else {
            of_all(pieces)
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the library returns 32 bit values in 64")]
fn of(bytes: &[u8]) -> Crc {
    Crc(crc_fast::checksum(Crc32Iscsi, bytes) as u32)
}

#[expect(clippy::cast_possible_truncation, reason = "the library returns 32 bit values in 64")]
fn of_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Crc {
    let mut digest = crc_fast::Digest::new(Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    Crc(digest.finalize() as u32)
}

/// The shortest of some runs: the others were disturbed.
fn fastest(work: impl Fn() -> Crc) -> Duration {
    let runs = (0..6).map(|_| {
        let begun = Instant::now();
        black_box(work());
        begun.elapsed()
    });
    runs.min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_algorithm_is_crc32c() {
        for of_all in [of_all, |pieces: [&'static [u8]; 3]| {
            Crc(!pieces.into_iter().fold(!0, shifts::update))
        }] {
            assert_eq!(of_all([b"123456789", b"", b""]), Crc(0xe306_9283));
            assert_eq!(of_all([b"", b"", b""]), Crc(0));
            assert_eq!(of_all([b"1234", b"", b"56789"]), Crc(0xe306_9283));
        }
        assert_eq!(Crc::of(b"123456789"), Crc(0xe306_9283));
        assert_eq!(Crc::of_all([b"1234".as_slice(), b"", b"56789"]), Crc(0xe306_9283));
    }

    #[test]
    fn both_ways_give_the_same_for_every_short_length() {
        let bytes: Vec<u8> = (0..700_u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        for length in 0..bytes.len() {
            assert_eq!(
                Crc(!shifts::update(!0, &bytes[..length])),
                of(&bytes[..length]),
                "{length}"
            );
        }
    }

    proptest! {
        #[test]
        fn both_ways_give_the_same(bytes in prop::collection::vec(any::<u8>(), 0..20_000), cuts in any::<[prop::sample::Index; 2]>()) {
            let mut cuts = cuts.map(|cut| cut.index(bytes.len() + 1));
            cuts.sort_unstable();
            let pieces = [&bytes[..cuts[0]], &bytes[cuts[0]..cuts[1]], &bytes[cuts[1]..]];
            prop_assert_eq!(Crc(!pieces.into_iter().fold(!0, shifts::update)), of(&bytes));
            prop_assert_eq!(of_all(pieces), of(&bytes));
        }
    }
}
