// SPDX-License-Identifier: MIT OR Apache-2.0

//! CRC32C (Castagnoli), the one checksum of the format, computed by the widest instructions the machine has.

use crc_fast::CrcAlgorithm::Crc32Iscsi;

/// A CRC32C value as the format stores it: reflected, initial value and final xor all ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
#[repr(transparent)]
pub struct Crc(pub u32);

impl Crc {
    /// Of one piece of memory.
    #[expect(clippy::cast_possible_truncation, reason = "the library returns 32 bit values in 64")]
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::checksum(Crc32Iscsi, bytes) as u32)
    }

    /// Of several pieces, as if they lay one after the other.
    #[expect(clippy::cast_possible_truncation, reason = "the library returns 32 bit values in 64")]
    pub fn of_all<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = crc_fast::Digest::new(Crc32Iscsi);
        for piece in pieces {
            digest.update(piece);
        }
        Self(digest.finalize() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algorithm_is_crc32c() {
        assert_eq!(Crc::of(b"123456789"), Crc(0xe306_9283));
        assert_eq!(Crc::of(b""), Crc(0));
        assert_eq!(Crc::of_all([b"1234".as_slice(), b"", b"56789"]), Crc(0xe306_9283));
    }
}
