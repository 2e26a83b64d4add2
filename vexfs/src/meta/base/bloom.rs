// SPDX-License-Identifier: MIT OR Apache-2.0

//! A filter that knows most keys a table does not hold.
//!
//! Blocked: the hash picks one block of 64 bytes and sets [`PROBES`] bits inside it, so a question costs one cache line.
//! About 10 bits per key give about one false answer in a hundred.
//!
//! The hash is SipHash-1-3 with key 0 (part of the format). Its upper 32 bits, multiplied by the number of blocks, pick the
//! block; the hash times [`SPREAD`] gives the bits, nine at a time from the top.

use siphasher::sip::SipHasher13;

use super::page::Checked;
use crate::codec::Writer;

/// Bytes of a block.
pub(super) const BLOOM_BLOCK: usize = 64;
/// Bits per key.
pub(super) const BITS_PER_KEY: usize = 10;
const PROBES: u32 = 6;
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a key, the same for every table.
pub(super) fn hash(key: &[u8]) -> u64 {
    SipHasher13::new_with_keys(0, 0).hash(key)
}

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Block([u64; 8]);

pub(super) struct Bloom {
    blocks: Vec<Block>,
}

impl Bloom {
    /// Of keys with these hashes.
    pub(super) fn new(hashes: &[u64]) -> Self {
        let count = (hashes.len() * BITS_PER_KEY).div_ceil(8 * BLOOM_BLOCK).max(1);
        let mut bloom = Self {
            blocks: vec![Block([0; 8]); count],
        };
        for hash in hashes {
            let at = bloom.block(*hash);
            let Block(words) = &mut bloom.blocks[at];
            for (word, bit) in probes(*hash) {
                words[word] |= bit;
            }
        }
        bloom
    }
    fn block(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    /// False: surely not there.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let Block(words) = &self.blocks[self.block(hash)];
        probes(hash).all(|(word, bit)| words[word] & bit != 0)
    }

    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        for word in self.blocks.iter().flat_map(|block| block.0) {
            into.put_u64(word);
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Checked<Self> {
        let (blocks, trailing) = bytes.as_chunks::<BLOOM_BLOCK>();
        if blocks.is_empty() || !trailing.is_empty() {
            return Err("the bloom filter has an impossible size");
        }
        let block = |bytes: &[u8; BLOOM_BLOCK]| {
            let mut words = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
            Block(std::array::from_fn(|_| words.next().unwrap_or(0)))
        };
        Ok(Self {
            blocks: blocks.iter().map(block).collect(),
        })
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        self.blocks.len() * BLOOM_BLOCK
    }
}

/// The probes of a hash: word and bit.
fn probes(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let bits = hash.wrapping_mul(SPREAD);
    (1..=PROBES).map(move |probe| {
        let nine = (bits >> (64 - 9 * probe)) & 0x1ff;
        ((nine >> 6) as usize, 1 << (nine & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others_are() {
        let keys = |from: u32| (from..from + 10_000).map(|key| hash(&key.to_be_bytes()));
        let mut bytes = Vec::new();
        Bloom::new(&keys(0).collect::<Vec<_>>()).encode(&mut bytes);
        let bloom = Bloom::decode(&bytes).expect("just encoded");
        assert!(keys(0).all(|hash| bloom.may_hold(hash)));
        let wrong = keys(20_000).filter(|hash| bloom.may_hold(*hash)).count();
        assert!(wrong < 250, "{wrong} of 10000");
    }
}
