// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers about an open pool: a few for programs ([`Statistics`]), all for people who watch it
//! ([`Snapshot`]).

use std::time::{Duration, Instant};

use crate::meta::base;
use crate::meta::{Key, Record, Table};
use crate::metrics::snapshot::{
    BaseSnapshot, CacheSnapshot, CheckpointSnapshot, DataSnapshot, FlushSnapshot, JournalSnapshot, PoolMode,
    PoolSnapshot, SpaceSnapshot, StallSnapshot,
};
use crate::metrics::{Metrics, Snapshot};
use crate::units::BLOCK_SIZE;

use super::engine::{Core, Fs, Mode};

/// Numbers about an open pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Blocks of the pool.
    pub total_blocks: u64,
    /// Blocks that can be had now.
    pub available_blocks: u64,
    /// Blocks that are free or will be after the next flushes.
    pub free_blocks: u64,
    /// Blocks that files name; one that several share counts once.
    pub file_blocks: u64,
    /// Blocks promised to preallocated ranges.
    pub promised_blocks: u64,
    /// Files of all kinds.
    pub inodes: u64,
    /// Newest transaction.
    pub newest: u64,
    /// Newest transaction known to be durable.
    pub durable: u64,
    /// Syncs of the disk since the pool was opened.
    pub syncs: u64,
    /// Changed records in memory.
    pub changed_records: u64,
    /// Bytes in the journal.
    pub journal_bytes: u64,
}

/// What the engine's lock guards of a [`Snapshot`].
struct Guarded {
    mode: PoolMode,
    held_files: u64,
    files: u64,
    space: SpaceSnapshot,
    journal: JournalSnapshot,
    checkpoint: CheckpointSnapshot,
    caches: Vec<CacheSnapshot>,
    base: base::Base,
}

impl Fs {
    /// Numbers about the pool.
    pub fn statistics(&self) -> Statistics {
        let core = self.core();
        Statistics {
            total_blocks: core.state.space.total_blocks(),
            available_blocks: core.state.space.available(),
            free_blocks: core.state.space.available() + core.state.space.deferred_blocks(),
            file_blocks: core.state.space.committed_blocks(),
            promised_blocks: core.state.totals.promised,
            inodes: core.state.totals.inodes,
            newest: core.journal.newest().0,
            durable: core.durable.0,
            syncs: self.shared.metrics.flush.syncs.count(),
            changed_records: core.state.tables.changed(),
            journal_bytes: core.journal.used(),
        }
    }

    /// Every number about the pool; nothing if the engine's locks could not be had for so long: then something below
    /// does not answer. Costs nobody more than some microseconds of those locks.
    pub fn measure(&self, patience: Duration) -> Option<Snapshot> {
        let until = Instant::now() + patience;
        let superblock = self.shared.pool.try_lock_until(until)?.superblock().clone();
        let guarded = self.shared.core.try_lock_until(until)?.measure();
        let base = guarded.base.stats();
        let metrics = self.metrics();
        let Metrics {
            flush,
            checkpoint,
            data,
            stalls,
            ..
        } = metrics;
        let mut caches = guarded.caches;
        caches.push(CacheSnapshot {
            name: "pages",
            hits: base.page_hits,
            misses: base.page_misses,
            entries: base.cached_pages as u64,
        });
        Some(Snapshot {
            pool: PoolSnapshot {
                uuid: superblock.uuid,
                label: superblock.label,
                mode: guarded.mode,
                uptime: metrics.uptime(),
                generation: superblock.generation,
                epoch: superblock.epoch,
                errors: superblock.error_count,
                needs_check: superblock.needs_check,
                files: guarded.files,
                held_files: guarded.held_files,
            },
            recovery: metrics.recovery(),
            space: guarded.space,
            journal: guarded.journal,
            flush: FlushSnapshot {
                waits: flush.waits.snapshot(),
                shared: flush.shared.get(),
                waiting: flush.waiting.get(),
                syncs: flush.syncs.snapshot(),
                sync_failures: flush.sync_failures.get(),
                discarded_bytes: flush.discarded_bytes.get(),
            },
            checkpoint: CheckpointSnapshot {
                times: checkpoint.times.snapshot(),
                failures: checkpoint.failures.get(),
                records: checkpoint.records.get(),
                bytes: checkpoint.bytes.get(),
                compactions: checkpoint.compactions.get(),
                ..guarded.checkpoint
            },
            base: tables(&base),
            caches,
            data: DataSnapshot {
                read_bytes: data.read_bytes.get(),
                written_bytes: data.written_bytes.get(),
                damaged_reads: data.damaged_reads.get(),
                decompressions: data.decompressions.get(),
                compressions: data.compressions.get(),
            },
            stalls: StallSnapshot {
                room: stalls.room.snapshot(),
                space: stalls.space.snapshot(),
                waiting: stalls.waiting.get(),
            },
            families: metrics.families().iter().map(|family| family.snapshot()).collect(),
        })
    }
}

impl Core {
    fn measure(&self) -> Guarded {
        let (state, journal) = (&self.state, &self.journal);
        let (space, tables) = (&state.space, &state.tables);
        let bytes = |blocks: u64| blocks * BLOCK_SIZE as u64;
        Guarded {
            mode: match self.mode {
                Mode::Writable => PoolMode::Writable,
                Mode::ReadOnly => PoolMode::ReadOnly,
                Mode::Failed => PoolMode::Failed,
            },
            held_files: self.holders.len() as u64,
            files: state.totals.inodes,
            space: SpaceSnapshot {
                total: bytes(space.total_blocks()),
                free: bytes(space.free_blocks()),
                available: bytes(space.available()),
                deferred: bytes(space.deferred_blocks()),
                promised: bytes(space.reserved_blocks()),
                reserved: bytes(space.system_reserve()),
                files: bytes(space.committed_blocks()),
                system: bytes(space.system_blocks()),
                in_flight: bytes(space.in_flight_blocks()),
            },
            journal: JournalSnapshot {
                transactions: journal.appended(),
                undurable: journal.newest().0.saturating_sub(self.durable.0),
                bytes: journal.appended_bytes(),
                used: journal.used(),
                capacity: journal.capacity(),
                writes: journal.write_times().snapshot(),
            },
            checkpoint: CheckpointSnapshot {
                running: self.checkpointing,
                pending: tables.changed(),
                limit: self.limits.records,
                ..CheckpointSnapshot::default()
            },
            caches: vec![
                cache("inodes", &tables.inodes),
                cache("entries", &tables.entries),
                cache("rows", &tables.rows),
                cache("attributes", &tables.attributes),
            ],
            base: state.base.clone(),
        }
    }
}

fn cache<K: Key, V: Record + Clone>(name: &'static str, table: &Table<K, V>) -> CacheSnapshot {
    let reads = table.reads();
    CacheSnapshot {
        name,
        hits: reads.hits,
        misses: reads.misses,
        entries: table.memory_len() as u64,
    }
}

fn tables(stats: &base::Stats) -> BaseSnapshot {
    let levels = std::iter::once(stats.young_bytes).chain(stats.level_bytes.iter().copied());
    BaseSnapshot {
        tables: stats.tables as u64,
        entries: stats.entries,
        tombstones: stats.tombstones,
        level_bytes: levels.collect(),
        retired_bytes: stats.retired_blocks * BLOCK_SIZE as u64,
        guide_bytes: stats.guide_bytes as u64,
    }
}
