// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crash-able device: a [`Disk`] that keeps the contract of that trait and nothing beyond it.
//!
//! # Model
//!
//! - The *medium* holds what is durable. Every sector of 512 bytes that was written since the last sync has *versions*,
//!   in the order of the writes: the content of the whole sector after each write, as a cache would hold it.
//! - Reads see the newest version. A sync moves the newest versions to the medium and forgets the others.
//! - [`SimDisk::crash`] is power loss: each sector keeps the medium's content or *any one* of its versions, so writes are
//!   lost, torn and reordered. The seed first chooses a style (all lost, all kept, a prefix, whole writes at random,
//!   sectors at random, …), since with independent sectors alone a write of a few blocks would never survive whole.
//! - [`SimDisk::process_crash`] is the death of the process: everything written stays, and stays un-synced.
//! - A *failed sync* makes nothing durable and takes its versions out of every later sync: a later sync returns success,
//!   and the versions are still only in the cache (what Linux does after a failed write-back). Writing the sector again
//!   brings it back into the game.
//! - A failed write leaves each of its sectors old or new. A discarded sector reads as old, zero or garbage, and may be
//!   lost like a write. Sectors of areas never written stay zero, which keeps large discards cheap.
//! - An operation at which the power fails may be in part on the medium.
//!
//! Everything is decided by seeds, printed by `Debug`. Clones share memory until one writes.
//!
//! # Enumerating crash points
//!
//! Run the workload once and note [`SimDisk::operations`]; for every `n` below it, run it again on a fresh disk with
//! [`SimDisk::stop_after`]`(n)`, ignore its errors, and examine [`SimDisk::crash`] with some seeds.

mod faults;
mod style;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::image::Image;
use super::rng::{SplitMix64, decide};
use super::{Disk, check_bounds};
use crate::error::{Error, IoFailure, Result};

pub use faults::Operation;
use faults::{Admission, Faults};
use style::Style;

/// What survives or not as a whole.
const SECTOR: u64 = 512;
const SECTOR_BYTES: usize = 512;
const PIECE_SHIFT: u32 = 12;

/// See the module's text.
pub struct SimDisk {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    size: u64,
    /// What is durable.
    medium: Image<PIECE_SHIFT>,
    /// What reads return: the medium with the newest version of each sector of `cache`.
    seen: Image<PIECE_SHIFT>,
    /// By number of the sector. Decisions do not depend on its order.
    cache: FxHashMap<u64, Cached>,
    /// Number of the next write or discard; with the seed it decides about its sectors.
    next_write: u64,
    faults: Faults,
}

#[derive(Clone, Default)]
struct Cached {
    /// Never empty.
    versions: Vec<Version>,
    /// A sync failed since the last write: no later sync covers it.
    forgotten: bool,
}

/// One sector as one write left it: `SECTOR` bytes of the write's buffer.
#[derive(Clone)]
struct Version {
    write: u64,
    buffer: Arc<[u8]>,
    offset: usize,
}

impl Version {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.offset..self.offset + SECTOR_BYTES]
    }
}

impl SimDisk {
    /// A disk of zeros, of so many bytes rounded up to whole sectors.
    pub fn new(size_bytes: u64, seed: u64) -> Self {
        Self {
            seed,
            state: Mutex::new(State {
                size: size_bytes.next_multiple_of(SECTOR),
                medium: Image::default(),
                seen: Image::default(),
                cache: FxHashMap::default(),
                next_write: 0,
                faults: Faults::default(),
            }),
        }
    }

    /// A disk that durably holds a copy of these bytes.
    pub fn from_bytes(bytes: &[u8], seed: u64) -> Self {
        let disk = Self::new(bytes.len() as u64, seed);
        {
            let mut state = disk.state.lock();
            state.medium.write(0, bytes);
            state.seen = state.medium.clone();
        }
        disk
    }

    /// What a machine finds after power loss, as the seed decides. The new disk has that seed, power, and no faults.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let state = self.state.lock();
        let style = Style::of(seed, state.next_write);
        let mut medium = state.medium.clone();
        for (&sector, cached) in &state.cache {
            let survives = |version: &&Version| style.keeps(version.write, sector);
            if let Some(version) = cached.versions.iter().rev().find(survives) {
                medium.write(sector * SECTOR, version.bytes());
            }
        }
        Self {
            seed,
            state: Mutex::new(State {
                size: state.size,
                seen: medium.clone(),
                medium,
                cache: FxHashMap::default(),
                next_write: 0,
                faults: Faults::default(),
            }),
        }
    }

    /// What the next process finds after this one died: everything written, none of it synced. The new disk has no faults.
    #[must_use]
    pub fn process_crash(&self) -> Self {
        let copy = self.clone();
        copy.clear_faults();
        copy
    }

    /// Inverts one bit on the medium and in the cache.
    pub fn bit_flip(&self, byte_at: u64, bit: u8) {
        let mut state = self.state.lock();
        if byte_at >= state.size {
            return;
        }
        let mask = 1 << (bit & 7);
        let mut byte = [0];
        let state = &mut *state;
        for image in [&mut state.medium, &mut state.seen] {
            image.read(byte_at, &mut byte);
            image.write(byte_at, &[byte[0] ^ mask]);
        }
        if let Some(cached) = state.cache.get_mut(&(byte_at / SECTOR)) {
            for version in &mut cached.versions {
                let mut buffer = version.bytes().to_vec();
                for (index, byte) in buffer.iter_mut().enumerate() {
                    *byte ^= if index as u64 == byte_at % SECTOR { mask } else { 0 };
                }
                version.buffer = buffer.into();
                version.offset = 0;
            }
        }
    }

    /// Moves the end of the disk, durably at once. What comes into being is zero; a disk does not shrink.
    pub fn grow(&self, size_bytes: u64) {
        let mut state = self.state.lock();
        state.size = state.size.max(size_bytes.next_multiple_of(SECTOR));
    }

    /// Writes, syncs and discards so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.state.lock().faults.operations
    }

    /// Sectors that a crash may still lose.
    pub fn unsynced_sectors(&self) -> usize {
        self.state.lock().cache.len()
    }

    /// Turns the power off at the first write, sync or discard after `operations` of them (counted since the disk was
    /// made): it fails, perhaps half done, and everything after it fails.
    pub fn stop_after(&self, operations: u64) {
        self.state.lock().faults.stop_after = Some(operations);
    }

    /// Lets one operation of a kind fail with EIO: the `nth` from now on, where 1 is the next.
    pub fn fail_nth(&self, kind: Operation, nth: u64) {
        self.state.lock().faults.countdowns.push((kind, nth));
    }

    /// Lets every write after the next `writes` fail with EIO.
    pub fn fail_writes_after(&self, writes: u64) {
        self.state.lock().faults.writes_left = Some(writes);
    }

    /// Lets writes fail with ENOSPC once so many more bytes are written.
    pub fn no_space_after(&self, bytes: u64) {
        self.state.lock().faults.bytes_left = Some(bytes);
    }

    /// Lets every read that touches the range fail with EIO.
    pub fn bad_sectors(&self, range: Range<u64>) {
        self.state.lock().faults.bad.push(range);
    }

    /// Ends all faults, and turns the power on again if it was off.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }
}

/// An exact copy: content, cache, faults and counters.
impl Clone for SimDisk {
    fn clone(&self) -> Self {
        Self {
            seed: self.seed,
            state: Mutex::new(self.state.lock().clone()),
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDisk")
            .field("seed", &self.seed)
            .field("size_bytes", &state.size)
            .field("operations", &state.faults.operations)
            .field("unsynced_sectors", &state.cache.len())
            .finish_non_exhaustive()
    }
}

fn failure(what: &str, at: u64, length: usize, source: io::Error) -> Error {
    IoFailure::new(format_args!("{what} of {length} bytes at byte {at}"), source)
}

impl State {
    /// Puts a write into the cache: the sectors of it that `takes` chooses. Reads see them if `visible`.
    fn cache_write(&mut self, at: u64, from: &[u8], visible: bool, takes: impl Fn(u64, u64) -> bool) {
        let write = self.next_write;
        self.next_write += 1;
        let start = at - at % SECTOR;
        let end = (at + from.len() as u64).next_multiple_of(SECTOR);
        let buffer: Arc<[u8]> = if start == at && end == at + from.len() as u64 {
            from.into()
        } else {
            let mut whole = vec![0; from.len() + 2 * SECTOR_BYTES];
            let head = usize::try_from(at - start).unwrap_or(0);
            let used = (head + from.len()).next_multiple_of(SECTOR_BYTES);
            whole.truncate(used);
            self.seen.read(start, &mut whole);
            whole[head..head + from.len()].copy_from_slice(from);
            whole.into()
        };
        for (index, sector) in (start / SECTOR..end / SECTOR).enumerate() {
            if takes(write, sector) {
                let version = Version {
                    write,
                    buffer: Arc::clone(&buffer),
                    offset: index * SECTOR_BYTES,
                };
                self.cache_version(sector, version, visible);
            }
        }
    }

    fn cache_version(&mut self, sector: u64, version: Version, visible: bool) {
        if visible {
            self.seen.write(sector * SECTOR, version.bytes());
        }
        let cached = self.cache.entry(sector).or_default();
        cached.versions.push(version);
        cached.forgotten = false;
    }

    fn make_durable(&mut self) {
        let medium = &mut self.medium;
        self.cache.retain(|sector, cached| {
            if let (false, Some(newest)) = (cached.forgotten, cached.versions.last()) {
                medium.write(sector * SECTOR, newest.bytes());
            }
            cached.forgotten
        });
    }

    fn cache_discard(&mut self, seed: u64, range: &Range<u64>) {
        let write = self.next_write;
        self.next_write += 1;
        let zero: Arc<[u8]> = Arc::from([0; SECTOR_BYTES].as_slice());
        for sector in range.start.div_ceil(SECTOR)..range.end / SECTOR {
            let piece = sector >> (PIECE_SHIFT - SECTOR.ilog2());
            let fate = decide(seed, write, sector);
            if !self.seen.holds(piece) || fate.is_multiple_of(3) {
                continue;
            }
            let buffer = if fate % 3 == 1 {
                Arc::clone(&zero)
            } else {
                let mut garbage = [0; SECTOR_BYTES];
                SplitMix64::new(fate).fill(&mut garbage);
                Arc::from(garbage.as_slice())
            };
            let version = Version {
                write,
                buffer,
                offset: 0,
            };
            self.cache_version(sector, version, true);
        }
    }
}

impl Disk for SimDisk {
    fn size_bytes(&self) -> u64 {
        self.state.lock().size
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let mut state = self.state.lock();
        check_bounds("read", at, into.len() as u64, state.size)?;
        let length = into.len();
        let result = state.faults.admit_read(at, length as u64);
        result.map_err(|source| failure("read", at, length, source))?;
        state.seen.read(at, into);
        Ok(())
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        check_bounds("write", at, from.len() as u64, state.size)?;
        let error = match state.faults.admit(Operation::Write, from.len() as u64) {
            Admission::Done => {
                state.cache_write(at, from, true, |_, _| true);
                return Ok(());
            }
            Admission::Refused(error) => error,
            Admission::Torn(error) => {
                let seed = self.seed;
                state.cache_write(at, from, true, |write, sector| decide(seed, write, sector) & 1 == 0);
                error
            }
            Admission::PowerFailed(error) => {
                state.cache_write(at, from, false, |_, _| true);
                error
            }
        };
        Err(failure("write", at, from.len(), error))
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.state.lock();
        let error = match state.faults.admit(Operation::Sync, 0) {
            Admission::Done => {
                state.make_durable();
                return Ok(());
            }
            // Without power nothing is read or synced any more.
            Admission::Refused(error) | Admission::PowerFailed(error) => error,
            Admission::Torn(error) => {
                state.cache.values_mut().for_each(|cached| cached.forgotten = true);
                error
            }
        };
        Err(IoFailure::new("sync", error))
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        let mut state = self.state.lock();
        let length = range.end.saturating_sub(range.start);
        check_bounds("discard", range.start, length, state.size)?;
        match state.faults.admit(Operation::Discard, 0) {
            Admission::Done => {
                state.cache_discard(self.seed, &range);
                Ok(())
            }
            Admission::Torn(error) => {
                state.cache_discard(self.seed, &range);
                Err(error)
            }
            Admission::Refused(error) | Admission::PowerFailed(error) => Err(error),
        }
        .map_err(|source| {
            IoFailure::new(
                format_args!("discard of {length} bytes at byte {}", range.start),
                source,
            )
        })
    }
}
