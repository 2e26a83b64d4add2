// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an open pool counts and measures about itself.
//!
//! | module | job |
//! |---|---|
//! | [`counter`] | numbers that only grow, numbers that go up and down |
//! | [`histogram`] | how long things take: recording, and what follows from it |
//! | [`family`] | one histogram per operation of a front end |
//! | [`snapshot`] | everything at one moment |
//! | [`list`] | the name, unit and meaning of every metric: the one place that knows them |
//! | [`text`] | the format of Prometheus |
//!
//! # Contract
//!
//! - Nothing is global: [`Metrics`] belongs to one open pool, and begins at zero when that is opened.
//! - Recording takes no lock, allocates nothing and does no I/O. What is recorded under a lock of the engine anyway is a
//!   plain number there and is not in [`Metrics`].
//! - A [`Snapshot`] is taken part by part while work goes on: numbers of different parts may be some operations apart. One
//!   histogram agrees with itself.
//! - Turning numbers into text is a pure function; who serves it is `vexfs-control`'s business.

pub mod counter;
pub mod family;
pub mod histogram;
pub mod list;
pub mod snapshot;
#[cfg(test)]
mod speed;
pub mod text;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

pub use counter::{Counter, Gauge};
pub use family::Family;
pub use histogram::{Distribution, Histogram};
pub use list::{Kind, Metric, Series, Value};
pub use snapshot::Snapshot;

/// What is recorded while a pool is open.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) flush: Flushes,
    pub(crate) checkpoint: Checkpoints,
    pub(crate) data: Data,
    pub(crate) stalls: Stalls,
    pub(crate) recovery: Recovery,
    opened: Instant,
    families: Mutex<Vec<Arc<Family>>>,
}

/// Making things durable.
#[derive(Debug, Default)]
pub(crate) struct Flushes {
    /// Time of syncs of the disk.
    pub(crate) syncs: Histogram,
    /// Syncs that failed.
    pub(crate) sync_failures: Counter,
    /// What callers of a flush waited.
    pub(crate) waits: Histogram,
    /// Flushes that a sync somebody else made answered.
    pub(crate) shared: Counter,
    /// Callers that wait now.
    pub(crate) waiting: Gauge,
    /// Bytes that the device was told are free.
    pub(crate) discarded_bytes: Counter,
}

/// Moving the journal into the tables.
#[derive(Debug, Default)]
pub(crate) struct Checkpoints {
    /// Time of those that ended, compaction included.
    pub(crate) times: Histogram,
    /// Those that failed, and the pool with them.
    pub(crate) failures: Counter,
    /// Changed records written.
    pub(crate) records: Counter,
    /// Bytes of tables and manifests.
    pub(crate) bytes: Counter,
    /// Commits that merged tables.
    pub(crate) compactions: Counter,
}

/// Bytes of files.
#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) read_bytes: Counter,
    pub(crate) written_bytes: Counter,
    /// Reads that failed for damage.
    pub(crate) damaged_reads: Counter,
    /// Units unpacked.
    pub(crate) decompressions: Counter,
    /// Units packed.
    pub(crate) compressions: Counter,
}

/// Changes that had to wait.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    /// For a checkpoint to make room in memory or in the journal.
    pub(crate) room: Histogram,
    /// For freed blocks to become reusable.
    pub(crate) space: Histogram,
    /// Callers that wait now.
    pub(crate) waiting: Gauge,
}

/// What opening the pool took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// All of it.
    pub time: Duration,
    /// Reading and applying the journal.
    pub replay_time: Duration,
    /// Transactions of the journal that were applied.
    pub transactions: u64,
    /// Operations in them.
    pub operations: u64,
    /// Bytes of the journal that were read for it.
    pub bytes: u64,
}

/// A change that waits; when it goes, the time is recorded.
#[must_use = "it counts as long as it lives"]
pub(crate) struct Stall<'a> {
    times: &'a Histogram,
    begin: Instant,
    _inside: counter::Inside<'a>,
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        self.times.record_since(self.begin);
    }
}

impl Stalls {
    /// Somebody begins to wait for a checkpoint.
    pub(crate) fn room(&self) -> Stall<'_> {
        self.begin(&self.room)
    }

    /// Somebody begins to wait for freed blocks.
    pub(crate) fn space(&self) -> Stall<'_> {
        self.begin(&self.space)
    }

    fn begin<'a>(&'a self, times: &'a Histogram) -> Stall<'a> {
        Stall {
            times,
            begin: Instant::now(),
            _inside: self.waiting.enter(),
        }
    }
}

impl Metrics {
    pub(crate) fn new(recovery: Recovery) -> Self {
        Self {
            flush: Flushes::default(),
            checkpoint: Checkpoints::default(),
            data: Data::default(),
            stalls: Stalls::default(),
            recovery,
            opened: Instant::now(),
            families: Mutex::default(),
        }
    }

    /// What opening the pool took.
    pub const fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Since the pool was opened.
    pub fn uptime(&self) -> Duration {
        self.opened.elapsed()
    }

    /// From now on snapshots have the operations of a front end too.
    pub fn add_family(&self, family: Arc<Family>) {
        self.families.lock().push(family);
    }

    pub(crate) fn families(&self) -> Vec<Arc<Family>> {
        self.families.lock().clone()
    }
}
