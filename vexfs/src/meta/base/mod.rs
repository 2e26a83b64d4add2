// SPDX-License-Identifier: MIT OR Apache-2.0

//! The durable part of the metadata: an ordered store of byte keys and values, made of immutable sorted tables inside the
//! pool (a leveled log-structured merge tree).
//!
//! # Why not redb, as first planned
//!
//! redb does not verify checksums when it reads, so a flipped bit could become a wrong answer (I6). Hostile bytes can make
//! it panic (I7). And what space a commit needs cannot be bounded tightly, while here every operation must reserve at once
//! what the checkpoint will need later: ENOSPC appears at the operation and never after it. Tables that are written once,
//! front to back, have none of these troubles, need no write-ahead log beside the pool's journal, and make large
//! sequential writes.
//!
//! # Contract
//!
//! - A [`Change`] writes new tables and a new manifest into blocks it takes from a [`BlockSource`]; it never writes to a
//!   block that the installed version uses. There is one change at a time.
//! - Order: [`Base::begin`], any number of [`Change::write_run`] and [`Change::compact_step`], [`Change::prepare`]; then the
//!   caller syncs the disk and commits a superblock with [`Prepared::manifest`]; then [`Base::install`]. Replacing the
//!   superblock is the commit point. If it fails, or never happens, the old manifest and all it refers to are untouched.
//! - Dropping a [`Change`] or [`Prepared`] gives its blocks back. A caller that does not know whether its superblock
//!   reached the disk must neither drop nor install it, but stop ([`std::mem::forget`] the `Prepared` and fail the pool).
//! - Blocks that a commit made superfluous are reported by [`Base::install`] and [`Base::reclaim`], once no reader is left
//!   who could still look at them. They must not be reused while an older superblock could still be the newest valid one.
//! - Everything follows from the [`ManifestRef`] in the superblock: [`Base::open`] reads the manifest only, the rest is read
//!   when needed. Every byte is covered by a chain of checksums from there (see `page`).
//! - Readers need no change's leave: [`Base::get`] and [`Base::scan`] work on the version that was installed when they
//!   began. Readers share the page cache; indexes and filters of tables that were used stay in memory beside it.
//! - Keys have at most [`MAX_KEY`] bytes, values at most [`MAX_VALUE`].
//!
//! # Compaction
//!
//! Each run written lands in level 0. When there are [`Settings::run_limit`] of them, all become a batch and are merged into
//! level 1 in small steps that walk the key space; a cursor in the manifest says how far. A level that outgrows its size
//! gives tables to the next one, round robin. A step writes about [`Settings::step_tables`] tables and frees what it
//! replaced with the next install.
//!
//! | module | job |
//! |---|---|
//! | `page`, `data` | a block, entries in it |
//! | `guide`, `fences`, `bloom` | finding the page of a key |
//! | `table`, `cache`, `value` | reading one table |
//! | `writer`, `blocks` | making tables |
//! | `version`, `manifest` | the set of tables, in memory and in the pool |
//! | `merge`, `scan` | walking in order |
//! | `change`, `compact`, `space` | changing the set, and what that takes |
//! | `verify` | reading everything |

mod blocks;
mod bloom;
mod cache;
mod change;
mod compact;
mod data;
mod fences;
mod guide;
mod manifest;
mod merge;
mod page;
mod scan;
mod space;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod verify;
mod version;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use self::cache::Cache;
use self::table::Table;
use self::version::{Manifest, Version};
use crate::disk::Disk;
use crate::error::{Errno, Result};
use crate::units::Run;

pub use self::blocks::BlockSource;
pub use self::change::{Change, Prepared};
pub use self::scan::Scan;
pub use self::value::Value;
pub use self::verify::{Issue, KeyRange, Progress};
pub use crate::pool::Manifest as ManifestRef;

use self::blocks::NewBlocks;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 512;
/// The longest value, in bytes.
pub const MAX_VALUE: usize = 128 << 10;
/// Values up to this size lie beside their keys, larger ones apart.
pub const MAX_INLINE: usize = 512;

/// Levels beside level 0.
const MAX_LEVELS: usize = 8;
/// The most pages of one table.
const TABLE_PAGES: u32 = 1 << 20;

/// Sizes that a base works with. None of them is part of the format.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Memory for pages of tables.
    pub page_cache_bytes: usize,
    /// A table is ended when it has this size.
    pub table_bytes: u64,
    /// Runs in level 0 that make a merge due.
    pub run_limit: usize,
    /// Size that level 1 may have.
    pub level_one_bytes: u64,
    /// How much larger each further level may be.
    pub level_ratio: u64,
    /// Tables that one step of compaction writes, about.
    pub step_tables: usize,
    /// Pages that cannot be read count as empty, so that the rest can be. For mending only: what such a page held may show
    /// as older versions of the same keys, or not at all.
    pub tolerant: bool,
}

impl Settings {
    /// Fitting a pool of this size. Small pools get small tables, since a step needs room for some of them.
    pub fn for_pool(pool_blocks: u64) -> Self {
        let table_bytes = pool_blocks.clamp(64 << 10, 1 << 20).next_power_of_two();
        Self {
            page_cache_bytes: 64 << 20,
            table_bytes,
            run_limit: 4,
            level_one_bytes: 32 * table_bytes,
            level_ratio: 10,
            step_tables: 4,
            tolerant: false,
        }
    }

    /// Bytes that one step of compaction writes, about.
    fn step_bytes(&self) -> u64 {
        self.table_bytes.saturating_mul(self.step_tables.max(1) as u64)
    }
}

/// What all parts of one base share.
struct Env {
    disk: Arc<dyn Disk>,
    cache: Cache,
    settings: Settings,
    /// Never goes back while the pool is open, even if a change is abandoned.
    next_table: AtomicU64,
}

/// The base. Clones are the same base.
#[derive(Clone)]
pub struct Base(Arc<Shared>);

struct Shared {
    env: Arc<Env>,
    current: RwLock<Arc<Version>>,
    /// What the current version does not use any more, but a reader perhaps does.
    retired: Mutex<Retired>,
    changing: AtomicBool,
}

#[derive(Default)]
struct Retired {
    tables: Vec<Arc<Table>>,
    manifests: Vec<Arc<Manifest>>,
}

/// Figures of the installed version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Runs in level 0.
    pub young_runs: usize,
    /// Runs of level 0 that are being merged.
    pub batch_runs: usize,
    /// Bytes in level 0.
    pub young_bytes: u64,
    /// Bytes in each level from 1 on.
    pub level_bytes: Vec<u64>,
    /// Tables.
    pub tables: usize,
    /// Entries in all tables, those that others hide and tombstones included.
    pub entries: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// Blocks of all tables.
    pub table_blocks: u64,
    /// Blocks of the manifest.
    pub manifest_blocks: u64,
    /// Blocks that wait for a reader to end.
    pub retired_blocks: u64,
    /// Pages in memory.
    pub cached_pages: usize,
    /// Pages asked for that were in memory.
    pub page_hits: u64,
    /// Pages asked for that were not.
    pub page_misses: u64,
    /// Memory of indexes and filters, in bytes.
    pub guide_bytes: usize,
}

impl Base {
    /// An empty base. Nothing is written.
    pub fn create(disk: Arc<dyn Disk>, settings: Settings) -> Self {
        Self::new(Arc::new(Env::new(disk, settings, 1)), Version::empty())
    }

    /// The base that a superblock refers to.
    pub fn open(disk: Arc<dyn Disk>, pool_blocks: u64, manifest: &ManifestRef, settings: Settings) -> Result<Self> {
        if manifest.first.is_none() && *manifest == ManifestRef::default() {
            return Ok(Self::create(disk, settings));
        }
        let (contents, blocks) = manifest::read(&*disk, pool_blocks, manifest)?;
        let env = Arc::new(Env::new(disk, settings, contents.next_table));
        let manifest = Manifest {
            reference: *manifest,
            blocks,
        };
        let version = Version::from_manifest(contents, manifest, &env);
        Ok(Self::new(env, version))
    }

    fn new(env: Arc<Env>, version: Version) -> Self {
        Self(Arc::new(Shared {
            env,
            current: RwLock::new(Arc::new(version)),
            retired: Mutex::default(),
            changing: AtomicBool::new(false),
        }))
    }

    fn version(&self) -> Arc<Version> {
        Arc::clone(&self.0.current.read())
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.version().get(key)
    }

    /// The entries from `from` (inclusive) to `to` (exclusive), in order.
    pub fn scan(&self, from: &[u8], to: &[u8]) -> Result<Scan> {
        Scan::new(self.version(), from, to)
    }

    /// Every block that the installed version uses.
    pub fn blocks_in_use(&self) -> impl Iterator<Item = Run> + use<> {
        let version = self.version();
        let tables = version.tables().flat_map(|table| table.info.runs.iter().copied());
        let runs: Vec<Run> = tables.chain(version.manifest.blocks.iter().copied()).collect();
        runs.into_iter()
    }

    /// The manifest of the installed version.
    pub fn manifest(&self) -> ManifestRef {
        self.version().manifest.reference
    }

    /// Starts a change; [`Errno::Busy`] while there is another.
    pub fn begin<'s>(&self, source: &'s dyn BlockSource) -> Result<Change<'s>> {
        let changing = &self.0.changing;
        if changing
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(Errno::Busy.into());
        }
        Ok(Change::new(self, source))
    }

    /// Makes a change visible whose superblock is committed. Gives the blocks that nobody needs any more.
    pub fn install(&self, prepared: Prepared<'_>) -> Vec<Run> {
        let (version, _turn) = prepared.keep();
        let new = Arc::new(version);
        let old = std::mem::replace(&mut *self.0.current.write(), Arc::clone(&new));
        let ids = new.table_ids();
        let gone = old.tables().filter(|table| !ids.contains(&table.info.id));
        let mut retired = self.0.retired.lock();
        retired.tables.extend(gone.cloned());
        retired.manifests.push(Arc::clone(&old.manifest));
        drop(retired);
        drop(old);
        self.reclaim()
    }

    /// Gives blocks that an earlier [`Self::install`] could not give because of a reader who has ended meanwhile.
    pub fn reclaim(&self) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut retired = self.0.retired.lock();
        // Nobody can get at what is retired but those who hold it already: who is alone with it stays alone.
        retired.tables = std::mem::take(&mut retired.tables)
            .into_iter()
            .filter_map(|table| Arc::try_unwrap(table).map(|table| runs.extend(table.info.runs)).err())
            .collect();
        retired.manifests = std::mem::take(&mut retired.manifests)
            .into_iter()
            .filter_map(|manifest| {
                Arc::try_unwrap(manifest)
                    .map(|manifest| runs.extend(manifest.blocks))
                    .err()
            })
            .collect();
        runs
    }

    /// Whether [`Change::compact_step`] would find something to do.
    pub fn wants_compaction(&self) -> bool {
        compact::due(&self.version(), &self.0.env.settings).is_some()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        let version = self.version();
        let blocks = |runs: &[Run]| runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        let mut stats = Stats {
            young_runs: version.young.len(),
            batch_runs: version.batch,
            young_bytes: version.young.iter().map(version::SortedRun::bytes).sum(),
            level_bytes: version.levels.iter().map(|level| level.run.bytes()).collect(),
            manifest_blocks: blocks(&version.manifest.blocks),
            cached_pages: self.0.env.cache.pages(),
            page_hits: self.0.env.cache.hits.get(),
            page_misses: self.0.env.cache.misses.get(),
            ..Stats::default()
        };
        for table in version.tables() {
            stats.tables += 1;
            stats.entries += table.info.entries;
            stats.tombstones += table.info.tombstones;
            stats.table_blocks += table.info.pages();
            stats.guide_bytes += table.guide_memory();
        }
        let retired = self.0.retired.lock();
        stats.retired_blocks = retired.tables.iter().map(|table| table.info.pages()).sum::<u64>()
            + retired
                .manifests
                .iter()
                .map(|manifest| blocks(&manifest.blocks))
                .sum::<u64>();
        stats
    }
}

impl Env {
    fn new(disk: Arc<dyn Disk>, settings: Settings, next_table: u64) -> Self {
        Self {
            disk,
            cache: Cache::new(settings.page_cache_bytes),
            settings,
            next_table: AtomicU64::new(next_table),
        }
    }
}
