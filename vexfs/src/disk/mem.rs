// SPDX-License-Identifier: MIT OR Apache-2.0

//! A disk in memory, for tests and benchmarks: sparse, shared by copy on write, never failing.
//!
//! Pieces of 64 KiB are spread over locks, so that threads that touch different pieces rarely meet. An access that spans
//! pieces is not atomic against others, as on any disk.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::image::{Image, parts};
use super::{Disk, check_bounds};
use crate::error::Result;

const SHIFT: u32 = 16;
const SHARDS: usize = 16;

/// See the module's text.
pub struct MemDisk {
    size: AtomicU64,
    shards: [RwLock<Image<SHIFT>>; SHARDS],
}

impl MemDisk {
    /// A disk of zeros.
    pub fn new(size_bytes: u64) -> Self {
        Self {
            size: AtomicU64::new(size_bytes),
            shards: Default::default(),
        }
    }

    /// A disk that holds a copy of these bytes and ends with them.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let disk = Self::new(bytes.len() as u64);
        for part in parts(SHIFT, 0, bytes.len()) {
            disk.shard(part.piece).write().write_part(&part, bytes);
        }
        disk
    }

    /// A disk of its own with what this one holds now. Memory is shared until one of the two writes. Consistent only if
    /// nobody writes meanwhile.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self {
            size: AtomicU64::new(self.size_bytes()),
            shards: std::array::from_fn(|index| RwLock::new(self.shards[index].read().clone())),
        }
    }

    /// Moves the end of the disk. What comes into being is zero; a disk does not shrink.
    pub fn grow(&self, size_bytes: u64) {
        self.size.fetch_max(size_bytes, Ordering::Relaxed);
    }

    /// Bytes of memory that the content takes.
    pub fn allocated_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().allocated()).sum()
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below SHARDS")]
    fn shard(&self, piece: u64) -> &RwLock<Image<SHIFT>> {
        &self.shards[(piece % SHARDS as u64) as usize]
    }
}

impl Disk for MemDisk {
    fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        check_bounds("read", at, into.len() as u64, self.size_bytes())?;
        for part in parts(SHIFT, at, into.len()) {
            self.shard(part.piece).read().read_part(&part, into);
        }
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        check_bounds("write", at, from.len() as u64, self.size_bytes())?;
        for part in parts(SHIFT, at, from.len()) {
            self.shard(part.piece).write().write_part(&part, from);
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        let length = range.end.saturating_sub(range.start);
        check_bounds("discard", range.start, length, self.size_bytes())?;
        for piece in range.start.div_ceil(1 << SHIFT)..range.end >> SHIFT {
            self.shard(piece).write().forget(piece);
        }
        Ok(())
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemDisk")
            .field("size_bytes", &self.size_bytes())
            .field("allocated_bytes", &self.allocated_bytes())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = 300_000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_holds_what_was_written_and_a_snapshot_what_was_written_before(
            writes in prop::collection::vec((0..SIZE, 1..150_000_usize, any::<u8>()), 1..12),
            cut in 0..12_usize,
        ) {
            let disk = MemDisk::new(SIZE as u64);
            let mut model = vec![0; SIZE];
            let mut kept = (disk.snapshot(), model.clone());
            for (index, &(at, length, byte)) in writes.iter().enumerate() {
                if index == cut {
                    kept = (disk.snapshot(), model.clone());
                }
                let bytes = vec![byte; length];
                let fits = at + length <= SIZE;
                prop_assert_eq!(disk.write(at as u64, &bytes).is_ok(), fits);
                if fits {
                    model[at..at + length].copy_from_slice(&bytes);
                }
            }
            for (disk, model) in [(disk, model), kept] {
                let mut read = vec![0; SIZE];
                disk.read(0, &mut read).unwrap();
                prop_assert!(read == model);
            }
        }
    }

    #[test]
    fn a_huge_disk_costs_what_is_written_and_discards_give_it_back() {
        let disk = MemDisk::new(1 << 60);
        disk.write((1 << 60) - 5, b"right").unwrap();
        let mut read = [0; 5];
        disk.read((1 << 60) - 5, &mut read).unwrap();
        assert_eq!(&read, b"right");
        assert!(disk.read((1 << 60) - 4, &mut read).is_err() && disk.read(u64::MAX, &mut read).is_err());
        assert_eq!(disk.allocated_bytes(), 1 << SHIFT);
        disk.discard((1 << 60) - (1 << SHIFT)..1 << 60).unwrap();
        assert_eq!(disk.allocated_bytes(), 0);
    }

    #[test]
    fn bytes_given_are_bytes_held() {
        let bytes: Vec<u8> = (0..200_001_u32).map(|index| index.to_le_bytes()[0]).collect();
        let disk = MemDisk::from_bytes(&bytes);
        let mut read = vec![0; bytes.len()];
        disk.read(0, &mut read).unwrap();
        assert!(read == bytes && disk.size_bytes() == 200_001);
        disk.grow(300_000);
        disk.read(299_999, &mut read[..1]).unwrap();
        assert_eq!(read[0], 0);
    }
}
