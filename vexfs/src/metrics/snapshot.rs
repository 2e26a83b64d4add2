// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything about an open pool at one moment, as plain numbers. `Fs::measure` fills it, [`super::list`] names it.

use std::time::Duration;

use uuid::Uuid;

use super::Recovery;
use super::family::FamilySnapshot;
use super::histogram::Distribution;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is and how it is.
    pub pool: PoolSnapshot,
    /// What opening it took.
    pub recovery: Recovery,
    /// Its space, in bytes.
    pub space: SpaceSnapshot,
    /// The journal.
    pub journal: JournalSnapshot,
    /// Making things durable.
    pub flush: FlushSnapshot,
    /// Moving the journal into the tables.
    pub checkpoint: CheckpointSnapshot,
    /// The tables.
    pub base: BaseSnapshot,
    /// What is kept in memory of the tables.
    pub caches: Vec<CacheSnapshot>,
    /// Bytes of files.
    pub data: DataSnapshot,
    /// Changes that had to wait.
    pub stalls: StallSnapshot,
    /// Operations of the front ends.
    pub families: Vec<FamilySnapshot>,
}

/// What a pool is and how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Its name for programs.
    pub uuid: Uuid,
    /// Its name for people.
    pub label: String,
    /// What may be done with it.
    pub mode: PoolMode,
    /// Since it was opened.
    pub uptime: Duration,
    /// Superblocks written since it was made.
    pub generation: u64,
    /// Openings for writing since it was made.
    pub epoch: u64,
    /// Errors that its superblock counts.
    pub errors: u64,
    /// Somebody saw damage.
    pub needs_check: bool,
    /// Files of all kinds.
    pub files: u64,
    /// Files that somebody uses.
    pub held_files: u64,
}

/// What may be done with an open pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// Everything.
    Writable,
    /// It was opened for reading, or closed.
    ReadOnly,
    /// A write or sync failed: reading, until it is opened again.
    Failed,
}

impl PoolMode {
    /// As `read-only`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writable => "writable",
            Self::ReadOnly => "read-only",
            Self::Failed => "failed",
        }
    }
}

/// Space, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceSnapshot {
    /// Of the pool.
    pub total: u64,
    /// In no use.
    pub free: u64,
    /// Free, and neither promised nor reserved.
    pub available: u64,
    /// Freed, but the operation that did could still be lost.
    pub deferred: u64,
    /// Promised to preallocated ranges.
    pub promised: u64,
    /// Kept for the next checkpoint.
    pub reserved: u64,
    /// Owned by files; what several share counts once.
    pub files: u64,
    /// Superblocks, journal and tables.
    pub system: u64,
    /// Taken by writes that have not ended, or freed and being discarded.
    pub in_flight: u64,
}

/// The journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalSnapshot {
    /// Transactions since the pool was opened.
    pub transactions: u64,
    /// Transactions that are not durable yet.
    pub undurable: u64,
    /// Bytes since the pool was opened.
    pub bytes: u64,
    /// Bytes between tail and head.
    pub used: u64,
    /// Bytes of the ring.
    pub capacity: u64,
    /// Time of writing a batch; their number too.
    pub writes: Distribution,
}

/// Making things durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushSnapshot {
    /// What callers waited.
    pub waits: Distribution,
    /// Flushes that a sync somebody else made answered.
    pub shared: u64,
    /// Callers that wait now.
    pub waiting: u64,
    /// Time of syncs of the disk.
    pub syncs: Distribution,
    /// Syncs that failed.
    pub sync_failures: u64,
    /// Bytes that the device was told are free.
    pub discarded_bytes: u64,
}

/// Moving the journal into the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointSnapshot {
    /// Time of those that ended.
    pub times: Distribution,
    /// One is under way.
    pub running: bool,
    /// Those that failed.
    pub failures: u64,
    /// Changed records written.
    pub records: u64,
    /// Bytes of tables and manifests written.
    pub bytes: u64,
    /// Commits that merged tables.
    pub compactions: u64,
    /// Changed records in memory.
    pub pending: u64,
    /// So many changed records make a checkpoint due.
    pub limit: u64,
}

/// The tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseSnapshot {
    /// Tables.
    pub tables: u64,
    /// Entries in all of them.
    pub entries: u64,
    /// Entries among them that hide others.
    pub tombstones: u64,
    /// Bytes of each level, the youngest first.
    pub level_bytes: Vec<u64>,
    /// Bytes of old tables that a reader still uses.
    pub retired_bytes: u64,
    /// Memory of fences and filters.
    pub guide_bytes: u64,
}

/// What is kept in memory of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSnapshot {
    /// As `inodes`.
    pub name: &'static str,
    /// Asked for and in memory.
    pub hits: u64,
    /// Asked for and read from the pool.
    pub misses: u64,
    /// In memory now.
    pub entries: u64,
}

/// Bytes of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DataSnapshot {
    /// Given to readers.
    pub read_bytes: u64,
    /// Taken from writers.
    pub written_bytes: u64,
    /// Reads that failed for damage.
    pub damaged_reads: u64,
    /// Units unpacked.
    pub decompressions: u64,
    /// Units packed.
    pub compressions: u64,
}

/// Changes that had to wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StallSnapshot {
    /// For a checkpoint to make room in memory or in the journal.
    pub room: Distribution,
    /// For freed blocks to become reusable.
    pub space: Distribution,
    /// Callers that wait now.
    pub waiting: u64,
}
