// SPDX-License-Identifier: MIT OR Apache-2.0

//! Compression of file blocks, a unit of at most one chunk at a time.

use crate::error::{Damage, Result};
use crate::units::BLOCK_SIZE;

/// Level of zstd: about the speed of a fast disk.
const ZSTD_LEVEL: i32 = 3;

/// How a unit is compressed. The numbers are in the format.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Algorithm {
    /// An LZ4 block.
    Lz4 = 1,
    /// A zstd frame.
    Zstd = 2,
}

impl Algorithm {
    /// From the number in the format.
    pub const fn of_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Compresses whole blocks; `None` if that does not save at least one.
    pub fn pack(self, blocks: &[u8]) -> Option<Vec<u8>> {
        let packed = match self {
            Self::Lz4 => lz4_flex::block::compress(blocks),
            Self::Zstd => zstd::bulk::compress(blocks, ZSTD_LEVEL).ok()?,
        };
        let saved = blocks.len().div_ceil(BLOCK_SIZE) > packed.len().div_ceil(BLOCK_SIZE);
        (saved && !packed.is_empty()).then_some(packed)
    }

    /// The reverse. The checksum of `packed` was verified, yet nothing is trusted.
    pub fn unpack(self, packed: &[u8], unpacked_bytes: usize) -> Result<Vec<u8>> {
        let mut out = vec![0; unpacked_bytes];
        let length = match self {
            Self::Lz4 => lz4_flex::block::decompress_into(packed, &mut out).map_err(|error| error.to_string()),
            Self::Zstd => {
                zstd::bulk::decompress_to_buffer(packed, out.as_mut_slice()).map_err(|error| error.to_string())
            }
        };
        match length {
            Ok(length) if length == unpacked_bytes => Ok(out),
            Ok(length) => Err(Damage::new(
                "compressed unit",
                format_args!("unpacks to {length} bytes instead of {unpacked_bytes}"),
            )),
            Err(error) => Err(Damage::new("compressed unit", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_packed_unpacks(seed: Vec<u8>, blocks in 2_usize..=32, zstd: bool) {
            let algorithm = if zstd { Algorithm::Zstd } else { Algorithm::Lz4 };
            let data: Vec<u8> = seed.iter().copied().chain([1]).cycle().take(blocks * BLOCK_SIZE).collect();
            if let Some(packed) = algorithm.pack(&data) {
                prop_assert_eq!(algorithm.unpack(&packed, data.len()).expect("packed by us"), data);
            }
        }

        #[test]
        fn garbage_unpacks_or_fails(garbage: Vec<u8>, zstd: bool) {
            let algorithm = if zstd { Algorithm::Zstd } else { Algorithm::Lz4 };
            let _ = algorithm.unpack(&garbage, 3 * BLOCK_SIZE);
        }
    }

    #[test]
    fn what_does_not_shrink_by_a_block_is_left_alone() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()[7]
        })
        .take(4 * BLOCK_SIZE)
        .collect();
        assert_eq!(Algorithm::Lz4.pack(&noise), None);
        assert_eq!(Algorithm::Zstd.pack(&noise), None);
    }
}
