// SPDX-License-Identifier: MIT OR Apache-2.0

//! Images that lie under right checksums, for tests of who reads them.

use super::layout::{self, Bytes, Head, Super};
use crate::checksum::Crc;
use crate::units::BLOCK_SIZE;

fn seal(block: &mut [u8], field: usize) {
    if let Ok(block) = <&mut Bytes>::try_from(block) {
        layout::seal(block, field);
    }
}

/// Makes all checksums of an image right that are where block 0 says.
pub fn make_right(bytes: &mut [u8]) {
    let Some(Ok(first)) = bytes.get(..BLOCK_SIZE).map(Bytes::try_from) else {
        return;
    };
    let head: Super = zerocopy::transmute!(first);
    for (index, block) in bytes.chunks_exact_mut(BLOCK_SIZE).enumerate() {
        if index == 0 {
            seal(block, layout::SUPER_CRC);
        } else if block.starts_with(&layout::HEAD_MAGIC.to_le_bytes()) {
            seal(block, layout::HEAD_CRC);
        }
    }
    let sums = usize::try_from(head.sums_at.get()).unwrap_or(usize::MAX);
    let place_of = |at: usize| {
        let per = usize::try_from(layout::BLOCK_CHECKSUMS).ok()?;
        let block = sums.checked_add((at - 1) / per)?.checked_mul(BLOCK_SIZE)?;
        let place = block + size_of::<Head>() + (at - 1) % per * 4;
        Some(place..place + 4)
    };
    let blocks = bytes.len() / BLOCK_SIZE;
    let body = usize::try_from(head.body_end.get()).unwrap_or(0).min(blocks);
    for at in 1..body {
        let crc = bytes.chunks_exact(BLOCK_SIZE).nth(at).map(Crc::of).unwrap_or_default();
        if let Some(place) = place_of(at).and_then(|place| bytes.get_mut(place)) {
            place.copy_from_slice(&crc.0.to_le_bytes());
        }
    }
    for block in bytes.chunks_exact_mut(BLOCK_SIZE).skip(sums.max(1)) {
        seal(block, layout::HEAD_CRC);
    }
}
