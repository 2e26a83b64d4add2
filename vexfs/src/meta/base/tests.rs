// SPDX-License-Identifier: MIT OR Apache-2.0

//! The base as a whole, against a model, and against bytes that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use proptest::prelude::*;

use super::*;
use crate::error::{Error, IoFailure};
use crate::units::{BLOCK_SIZE, Block};

mod damage;
mod model;
mod speed;
mod unit;

/// Memory. Reads and writes beyond the end fail; so do all, once the number of requests that may succeed is used up.
struct Memory(RwLock<Vec<u8>>, AtomicU64);

impl Memory {
    fn new(blocks: u64) -> Arc<Self> {
        let bytes = vec![0; usize::try_from(blocks).unwrap() * BLOCK_SIZE];
        Arc::new(Self(RwLock::new(bytes), AtomicU64::new(PLENTY)))
    }

    /// So many more requests succeed.
    fn fail_after(&self, requests: u64) {
        self.1.store(requests, Ordering::Relaxed);
    }

    fn count(&self) -> Result<()> {
        let less = |left: u64| left.checked_sub(1);
        let done = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        done.map(drop).map_err(|_| Self::failure())
    }

    fn range(at: u64, bytes: usize) -> Range<usize> {
        let at = usize::try_from(at).unwrap();
        at..at + bytes
    }

    fn failure() -> Error {
        IoFailure::new("request", std::io::ErrorKind::Other.into())
    }
}

impl Disk for Memory {
    fn size_bytes(&self) -> u64 {
        self.0.read().len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.count()?;
        let bytes = self.0.read();
        into.copy_from_slice(bytes.get(Self::range(at, into.len())).ok_or_else(Self::failure)?);
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        self.count()?;
        let mut bytes = self.0.write();
        let place = bytes.get_mut(Self::range(at, from.len())).ok_or_else(Self::failure)?;
        place.copy_from_slice(from);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn discard(&self, _: Range<u64>) -> Result<()> {
        Ok(())
    }
}

/// More blocks than there are.
const PLENTY: u64 = 1 << 40;

/// An allocator that scatters, and that notices every block used twice or given back twice.
struct Scatter {
    state: Mutex<ScatterState>,
}

struct ScatterState {
    used: Vec<bool>,
    random: u64,
    longest: u32,
    budget: u64,
}

impl Scatter {
    fn new(blocks: u64, seed: u64, longest: u32) -> Self {
        let mut used = vec![false; usize::try_from(blocks).unwrap()];
        used[0] = true;
        Self {
            state: Mutex::new(ScatterState {
                used,
                random: seed | 1,
                longest,
                budget: PLENTY,
            }),
        }
    }

    fn used(&self) -> BTreeSet<u64> {
        let state = self.state.lock();
        (1..)
            .zip(&state.used[1..])
            .filter(|(_, used)| **used)
            .map(|(at, _)| at)
            .collect()
    }

    /// So many more blocks can be taken.
    fn limit(&self, blocks: u64) {
        self.state.lock().budget = blocks;
    }

    fn left(&self) -> u64 {
        self.state.lock().budget
    }

    fn release(&self, run: Run) {
        let mut state = self.state.lock();
        for block in run.blocks() {
            let used = &mut state.used[usize::try_from(block.0).unwrap()];
            assert!(*used, "{block} was not in use");
            *used = false;
        }
    }
}

impl BlockSource for Scatter {
    fn take(&self, want: u32) -> Result<Run> {
        assert!(want > 0);
        let mut state = self.state.lock();
        let blocks = state.used.len();
        state.random = state
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let random = usize::try_from(state.random >> 33).unwrap();
        let mut places = (0..blocks).map(|step| (random + step) % blocks);
        let start = places.find(|at| !state.used[*at]).ok_or(Errno::NoSpace)?;
        let most = u64::from(want.min(1 + u32::try_from(random).unwrap() % state.longest)).min(state.budget);
        let free = state.used[start..].iter().take(usize::try_from(most).unwrap());
        let count = free.take_while(|used| !**used).count();
        if count == 0 {
            return Err(Errno::NoSpace.into());
        }
        state.used[start..start + count].fill(true);
        state.budget -= count as u64;
        Ok(Run::new(Block(start as u64), u32::try_from(count).unwrap()))
    }

    fn give_back(&self, run: Run) {
        self.release(run);
        self.state.lock().budget += u64::from(run.count);
    }
}

fn blocks_of(base: &Base) -> BTreeSet<u64> {
    let mut blocks = BTreeSet::new();
    for block in base.blocks_in_use().flat_map(Run::blocks) {
        assert!(blocks.insert(block.0), "{block} is used twice");
    }
    blocks
}

fn tiny() -> Settings {
    Settings {
        page_cache_bytes: 20 * BLOCK_SIZE,
        table_bytes: 3 * BLOCK_SIZE as u64,
        run_limit: 3,
        level_one_bytes: 16 * BLOCK_SIZE as u64,
        level_ratio: 3,
        step_tables: 2,
        tolerant: false,
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn everything(base: &Base) -> Result<Model> {
    base.scan(&[], &[0xff; MAX_KEY])?
        .map(|entry| entry.map(|(key, value)| (key, value.to_vec())))
        .collect()
}

/// Installs what a change has made, as if a superblock had been committed.
fn install(base: &Base, change: Change<'_>, source: &Scatter) -> Result<()> {
    let prepared = change.prepare()?;
    for run in base.install(prepared) {
        source.release(run);
    }
    Ok(())
}
