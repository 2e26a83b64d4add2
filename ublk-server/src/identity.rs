// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a device was made of, told to the driver, which keeps it for whoever takes the device over.
//!
//! The driver has a word for the server's own use (`ublksrv_flags`), which stays as long as the device:
//!
//! | bits | hold |
//! |---|---|
//! | 32..64 | `VXU1`: one of our devices |
//! | 0..32 | the [`Identity`]; 0 if the device holds nothing that could be served again |
//!
//! That keeps a slip of the hand from putting another disk under a mounted file system. It is no protection against
//! malice, which root does not need.

use vexfs::checksum::Crc;

const OURS: u64 = 0x5658_5531 << 32;
const OURS_MASK: u64 = 0xffff_ffff << 32;

/// Tells what stands behind a device from everything else that could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u32);

impl Identity {
    /// Of whatever these numbers name among things of this kind.
    pub(crate) fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let pieces = [kind.as_bytes(), &[0]].into_iter().chain(parts.iter().copied());
        Self(Crc::of_all(pieces).0.max(1))
    }
}

/// The word for a new device.
pub(crate) fn to_word(identity: Option<Identity>) -> u64 {
    OURS | u64::from(identity.map_or(0, |identity| identity.0))
}

/// Whether the word of a device is one of these.
pub(crate) const fn is_ours(word: u64) -> bool {
    word & OURS_MASK == OURS
}

/// What a device is made of by its word, if that can be served again.
pub(crate) fn from_word(word: u64) -> Option<Identity> {
    let identity = u32::try_from(word & !OURS_MASK).ok()?;
    (is_ours(word) && identity != 0).then_some(Identity(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_read_as_it_was_written_and_others_are_not_ours() {
        let identity = Identity::of("loop", &[b"12", b"34"]);
        for identity in [None, Some(identity), Some(Identity(1)), Some(Identity(u32::MAX))] {
            let word = to_word(identity);
            assert_eq!((is_ours(word), from_word(word)), (true, identity));
        }
        for word in [0, 1, u64::MAX, 0x5658_5531] {
            assert_eq!((is_ours(word), from_word(word)), (false, None));
        }
    }

    #[test]
    fn kind_and_parts_both_count() {
        let one = Identity::of("loop", &[b"1"]);
        assert_ne!(one, Identity::of("volume", &[b"1"]));
        assert_ne!(one, Identity::of("loop", &[b"2"]));
    }
}
