// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which files the kernel knows, and how often it was told of each.
//!
//! The kernel may use a file as long as its count is above zero, also without a name and without telling that it is open.
//! So the first lookup of a file holds it in the engine, and the last forget lets it go. Counts of many files are kept
//! apart, so that threads seldom wait for each other.
//!
//! Holding happens under the lock of the count: nobody may count on a hold that is about to fail. Letting go happens
//! outside it, since it may take the file apart. In between a new lookup may hold the file again; holds are counted by the
//! engine, so neither order loses one.

use std::collections::hash_map::Entry;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use vexfs::error::Result;
use vexfs::fs::Fs;
use vexfs::units::Ino;

const SHARDS: u64 = 64;

pub(crate) struct Lookups {
    shards: Box<[Mutex<FxHashMap<Ino, u64>>]>,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn shard(&self, ino: Ino) -> Option<&Mutex<FxHashMap<Ino, u64>>> {
        self.shards.get(usize::try_from(ino.0 % SHARDS).unwrap_or(0))
    }

    /// Whether the kernel knows a file. Of the root it is not said.
    pub(crate) fn has(&self, ino: Ino) -> bool {
        self.shard(ino).is_some_and(|shard| shard.lock().contains_key(&ino))
    }

    /// Whether it knows none but the root.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }

    /// The kernel is told of a file once more. Fails if it is gone meanwhile. The root is always there and not counted.
    pub(super) fn add(&self, fs: &Fs, ino: Ino) -> Result<()> {
        let Some(shard) = self.shard(ino).filter(|_| ino != Ino::ROOT) else {
            return Ok(());
        };
        match shard.lock().entry(ino) {
            Entry::Occupied(mut count) => *count.get_mut() += 1,
            Entry::Vacant(count) => {
                fs.hold(ino)?;
                count.insert(1);
            }
        }
        Ok(())
    }

    /// The kernel forgets so many of them.
    pub(super) fn forget(&self, fs: &Fs, ino: Ino, times: u64) -> Result<()> {
        let Some(shard) = self.shard(ino).filter(|_| ino != Ino::ROOT) else {
            return Ok(());
        };
        {
            let mut shard = shard.lock();
            let Entry::Occupied(mut count) = shard.entry(ino) else {
                return Ok(());
            };
            if *count.get() > times {
                *count.get_mut() -= times;
                return Ok(());
            }
            count.remove();
        }
        fs.release(ino)
    }

    /// The kernel is gone, and does not say what it forgets.
    pub(super) fn forget_all(&self, fs: &Fs) {
        for shard in &self.shards {
            let known = std::mem::take(&mut *shard.lock());
            for ino in known.into_keys() {
                if let Err(error) = fs.release(ino) {
                    tracing::warn!(%ino, %error, "a file without a name stays until the next mount");
                }
            }
        }
    }
}
