// SPDX-License-Identifier: MIT OR Apache-2.0

//! The name, unit and meaning of every metric.
//!
//! Names follow Prometheus: `vexfs_`, then what it is about, then the unit (`_seconds`, `_bytes`) and `_total` for what only
//! grows. The table in `docs/OPERATIONS.md` is made from this list.

use std::time::Duration;

use super::family::FamilySnapshot;
use super::histogram::Distribution;
use super::snapshot::{PoolMode, Snapshot};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 when the pool is opened.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How long things took.
    Histogram,
}

impl Kind {
    /// As Prometheus says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric with everything measured of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Unique.
    pub name: String,
    /// How it behaves.
    pub kind: Kind,
    /// What it means.
    pub help: String,
    /// One, or one per value of a label.
    pub series: Vec<Series>,
}

/// One measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Names and values that tell it from the others of the metric.
    pub labels: Vec<(&'static str, String)>,
    /// What was measured.
    pub value: Value,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number of things.
    Count(u64),
    /// A time.
    Time(Duration),
    /// Times.
    Times(Box<Distribution>),
}

impl Metric {
    /// One without labels yet; [`Self::with`] and [`Self::labelled`] add what was measured.
    pub fn new(name: impl Into<String>, kind: Kind, help: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            help: help.into(),
            series: Vec::new(),
        }
    }

    /// The only value.
    #[must_use]
    pub fn with(self, value: Value) -> Self {
        self.labelled(Vec::new(), value)
    }

    /// One of several.
    #[must_use]
    pub fn labelled(mut self, labels: Vec<(&'static str, String)>, value: Value) -> Self {
        self.series.push(Series { labels, value });
        self
    }
}

fn counter(name: &str, value: u64, help: &str) -> Metric {
    Metric::new(name, Kind::Counter, help).with(Value::Count(value))
}

fn gauge(name: &str, value: u64, help: &str) -> Metric {
    Metric::new(name, Kind::Gauge, help).with(Value::Count(value))
}

fn time(name: &str, value: Duration, help: &str) -> Metric {
    Metric::new(name, Kind::Gauge, help).with(Value::Time(value))
}

fn times(name: &str, value: &Distribution, help: &str) -> Metric {
    Metric::new(name, Kind::Histogram, help).with(Value::Times(Box::new(value.clone())))
}

/// One value per value of a label.
fn several(
    name: &str,
    kind: Kind,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (String, Value)>,
) -> Metric {
    values
        .into_iter()
        .fold(Metric::new(name, kind, help), |metric, (which, value)| {
            metric.labelled(vec![(label, which)], value)
        })
}

impl Snapshot {
    /// Every metric, in the order of the documentation.
    pub fn metrics(&self) -> Vec<Metric> {
        let mut metrics = self.about_the_pool();
        metrics.extend(self.about_space());
        metrics.extend(self.about_durability());
        metrics.extend(self.about_checkpoints());
        metrics.extend(self.about_tables());
        metrics.extend(self.about_data());
        self.families
            .iter()
            .for_each(|family| metrics.extend(operations(family)));
        metrics
    }

    fn about_the_pool(&self) -> Vec<Metric> {
        let (pool, recovery) = (&self.pool, &self.recovery);
        vec![
            Metric::new(
                "vexfs_pool_info",
                Kind::Gauge,
                "Always 1; the label of the pool and its mode (writable, read-only, failed) are in the labels",
            )
            .labelled(
                vec![("label", pool.label.clone()), ("mode", pool.mode.name().to_owned())],
                Value::Count(1),
            ),
            gauge(
                "vexfs_pool_failed",
                u64::from(pool.mode == PoolMode::Failed),
                "1 after a write or sync failed: the pool accepts no changes until it is opened again",
            ),
            gauge(
                "vexfs_pool_writable",
                u64::from(pool.mode == PoolMode::Writable),
                "1 if the pool accepts changes",
            ),
            time(
                "vexfs_pool_uptime_seconds",
                pool.uptime,
                "Time since the pool was opened",
            ),
            gauge(
                "vexfs_pool_generation",
                pool.generation,
                "Superblocks written since the pool was made",
            ),
            gauge(
                "vexfs_pool_epoch",
                pool.epoch,
                "Openings for writing since the pool was made",
            ),
            gauge("vexfs_pool_errors", pool.errors, "Errors that the superblock counts"),
            gauge(
                "vexfs_pool_needs_check",
                u64::from(pool.needs_check),
                "1 if damage was seen: check the pool",
            ),
            gauge("vexfs_pool_files", pool.files, "Files of all kinds"),
            gauge(
                "vexfs_pool_held_files",
                pool.held_files,
                "Files that somebody uses: they outlive their last name",
            ),
            time(
                "vexfs_recovery_seconds",
                recovery.time,
                "Time that opening the pool took",
            ),
            time(
                "vexfs_recovery_replay_seconds",
                recovery.replay_time,
                "Time of it for reading and applying the journal",
            ),
            gauge(
                "vexfs_recovery_transactions",
                recovery.transactions,
                "Transactions of the journal that were applied when the pool was opened",
            ),
            gauge("vexfs_recovery_operations", recovery.operations, "Operations in them"),
            gauge(
                "vexfs_recovery_bytes",
                recovery.bytes,
                "Bytes of the journal they were read from",
            ),
        ]
    }

    fn about_space(&self) -> Vec<Metric> {
        let space = &self.space;
        vec![
            gauge("vexfs_space_total_bytes", space.total, "Size of the pool"),
            gauge(
                "vexfs_space_available_bytes",
                space.available,
                "What can be had now: free, and neither promised nor reserved",
            ),
            gauge("vexfs_space_free_bytes", space.free, "In no use"),
            gauge(
                "vexfs_space_deferred_bytes",
                space.deferred,
                "Freed, and free after the next flushes: the operation that freed it could still be lost",
            ),
            gauge(
                "vexfs_space_promised_bytes",
                space.promised,
                "Promised to preallocated ranges",
            ),
            gauge(
                "vexfs_space_reserved_bytes",
                space.reserved,
                "Kept for the next checkpoint and compaction",
            ),
            gauge(
                "vexfs_space_files_bytes",
                space.files,
                "Owned by files; what several share counts once",
            ),
            gauge(
                "vexfs_space_system_bytes",
                space.system,
                "Superblocks, journal and tables",
            ),
            gauge(
                "vexfs_space_in_flight_bytes",
                space.in_flight,
                "Taken by writes that have not ended, or freed and being discarded",
            ),
        ]
    }

    fn about_durability(&self) -> Vec<Metric> {
        let (journal, flush) = (&self.journal, &self.flush);
        vec![
            counter(
                "vexfs_journal_transactions_total",
                journal.transactions,
                "Transactions appended to the journal",
            ),
            counter(
                "vexfs_journal_bytes_total",
                journal.bytes,
                "Bytes appended to the journal",
            ),
            times(
                "vexfs_journal_write_seconds",
                &journal.writes,
                "Time of writing one batch of the journal into the page cache; `_count` is the number of batches",
            ),
            gauge(
                "vexfs_journal_used_bytes",
                journal.used,
                "Bytes of the journal that recovery would read",
            ),
            gauge(
                "vexfs_journal_capacity_bytes",
                journal.capacity,
                "Size of the journal; half full makes a checkpoint due",
            ),
            gauge(
                "vexfs_journal_undurable_transactions",
                journal.undurable,
                "Transactions that a power loss now could take away",
            ),
            times(
                "vexfs_flush_seconds",
                &flush.waits,
                "What callers of a flush (fsync) waited",
            ),
            counter(
                "vexfs_flush_shared_total",
                flush.shared,
                "Flushes that needed no sync of their own: one that another caller made covered them",
            ),
            gauge(
                "vexfs_flush_waiting",
                flush.waiting,
                "Callers that wait for a flush now",
            ),
            times(
                "vexfs_sync_seconds",
                &flush.syncs,
                "Time of one sync of the device, whoever asked for it",
            ),
            counter(
                "vexfs_sync_failures_total",
                flush.sync_failures,
                "Syncs that failed; the pool fails with the first",
            ),
            counter(
                "vexfs_discarded_bytes_total",
                flush.discarded_bytes,
                "Bytes that the device was told are free",
            ),
        ]
    }

    fn about_checkpoints(&self) -> Vec<Metric> {
        let checkpoint = &self.checkpoint;
        let cause = |name: &str, times: &Distribution| (name.to_owned(), Value::Times(Box::new(times.clone())));
        vec![
            times(
                "vexfs_checkpoint_seconds",
                &checkpoint.times,
                "Time of moving the journal into the tables, compaction included",
            ),
            gauge(
                "vexfs_checkpoint_running",
                u64::from(checkpoint.running),
                "1 while a checkpoint is made",
            ),
            counter(
                "vexfs_checkpoint_failures_total",
                checkpoint.failures,
                "Checkpoints that failed, and the pool with them",
            ),
            counter(
                "vexfs_checkpoint_records_total",
                checkpoint.records,
                "Changed records that checkpoints wrote",
            ),
            counter(
                "vexfs_checkpoint_bytes_total",
                checkpoint.bytes,
                "Space that checkpoints and compaction took for tables and manifests",
            ),
            counter(
                "vexfs_compactions_total",
                checkpoint.compactions,
                "Commits that merged tables",
            ),
            gauge(
                "vexfs_checkpoint_pending_records",
                checkpoint.pending,
                "Changed records in memory",
            ),
            gauge(
                "vexfs_checkpoint_limit_records",
                checkpoint.limit,
                "So many changed records make a checkpoint due; at twice that, changes wait for it",
            ),
            several(
                "vexfs_stall_seconds",
                Kind::Histogram,
                "What changes waited, by cause: for a checkpoint to make room in memory or journal (room), for freed blocks \
                 to become reusable (space)",
                "cause",
                [cause("room", &self.stalls.room), cause("space", &self.stalls.space)],
            ),
            gauge("vexfs_stalled", self.stalls.waiting, "Changes that wait so now"),
        ]
    }

    fn about_tables(&self) -> Vec<Metric> {
        let base = &self.base;
        let levels = base.level_bytes.iter().enumerate();
        let caches = |value: fn(&super::snapshot::CacheSnapshot) -> u64| {
            let caches = self.caches.iter();
            caches.map(move |cache| (cache.name.to_owned(), Value::Count(value(cache))))
        };
        vec![
            gauge("vexfs_tables", base.tables, "Tables of metadata"),
            several(
                "vexfs_table_bytes",
                Kind::Gauge,
                "Size of the tables, by level; level 0 is what checkpoints wrote last",
                "level",
                levels.map(|(level, bytes)| (level.to_string(), Value::Count(*bytes))),
            ),
            gauge(
                "vexfs_table_entries",
                base.entries,
                "Entries in all tables, outdated ones included",
            ),
            gauge(
                "vexfs_table_tombstones",
                base.tombstones,
                "Entries that only say that something is gone",
            ),
            gauge(
                "vexfs_table_retired_bytes",
                base.retired_bytes,
                "Old tables that a reader still uses",
            ),
            gauge(
                "vexfs_table_guide_bytes",
                base.guide_bytes,
                "Memory of fences and filters",
            ),
            several(
                "vexfs_cache_hits_total",
                Kind::Counter,
                "Metadata asked for and in memory, by kind of record; `pages` are those of tables",
                "cache",
                caches(|cache| cache.hits),
            ),
            several(
                "vexfs_cache_misses_total",
                Kind::Counter,
                "Metadata asked for that was not in memory",
                "cache",
                caches(|cache| cache.misses),
            ),
            several(
                "vexfs_cache_entries",
                Kind::Gauge,
                "Records, or pages of 4 KiB, in memory",
                "cache",
                caches(|cache| cache.entries),
            ),
        ]
    }

    fn about_data(&self) -> Vec<Metric> {
        let data = &self.data;
        vec![
            counter(
                "vexfs_data_read_bytes_total",
                data.read_bytes,
                "Bytes of files given to readers",
            ),
            counter(
                "vexfs_data_written_bytes_total",
                data.written_bytes,
                "Bytes of files taken from writers",
            ),
            counter(
                "vexfs_data_checksum_failures_total",
                data.damaged_reads,
                "Reads that failed because bytes do not match their checksum, or are known to be lost",
            ),
            counter(
                "vexfs_data_decompressions_total",
                data.decompressions,
                "Compressed units unpacked",
            ),
            counter("vexfs_data_compressions_total", data.compressions, "Units compressed"),
        ]
    }
}

/// Of a family, what happened at least once: a front end has dozens of operations, and a histogram many lines.
fn operations(family: &FamilySnapshot) -> [Metric; 2] {
    let happened = || family.operations.iter().filter(|operation| operation.times.count() > 0);
    let stem = family.name.strip_suffix("_seconds").unwrap_or(family.name);
    [
        several(
            &format!("vexfs_{}", family.name),
            Kind::Histogram,
            "Time of operations of the front end, failed ones included, from the first of each on",
            "operation",
            happened().map(|operation| {
                (
                    operation.name.to_owned(),
                    Value::Times(Box::new(operation.times.clone())),
                )
            }),
        ),
        several(
            &format!("vexfs_{stem}_failures_total"),
            Kind::Counter,
            "Operations of the front end that were answered with an error, which is often what the caller wanted to know",
            "operation",
            happened().map(|operation| (operation.name.to_owned(), Value::Count(operation.failures))),
        ),
    ]
}
