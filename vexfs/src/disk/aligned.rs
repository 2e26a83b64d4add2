// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory for transfers that pass by the page cache: whole blocks, at addresses that any device accepts.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::units::BLOCK_SIZE;

/// One block.
#[derive(Clone, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C, align(4096))]
pub struct AlignedBlock(pub [u8; BLOCK_SIZE]);

impl AlignedBlock {
    const ZEROS: Self = Self([0; BLOCK_SIZE]);
}

/// Blocks beside each other.
#[derive(Debug)]
pub(crate) struct AlignedBytes(Vec<AlignedBlock>);

impl AlignedBytes {
    /// So many bytes: whole blocks.
    pub(crate) fn zeroed(bytes: usize) -> Self {
        Self(vec![AlignedBlock::ZEROS; bytes.div_ceil(BLOCK_SIZE)])
    }

    /// A copy, with zeros up to the end of its last block.
    pub(crate) fn padded(bytes: &[u8]) -> Self {
        let mut blocks = Self::zeroed(bytes.len());
        let (content, _) = blocks.bytes_mut().split_at_mut(bytes.len());
        content.copy_from_slice(bytes);
        blocks
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.as_mut_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_padded_to_whole_blocks_at_addresses_for_direct_transfers() {
        for (given, there) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            let blocks = AlignedBytes::padded(&vec![7; given]);
            let (content, padding) = blocks.bytes().split_at(given);
            assert_eq!(blocks.bytes().len(), there);
            assert!(content.iter().all(|&byte| byte == 7) && padding.iter().all(|&byte| byte == 0));
            assert!(blocks.bytes().as_ptr().addr().is_multiple_of(4096));
        }
    }
}
