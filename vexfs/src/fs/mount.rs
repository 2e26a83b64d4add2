// SPDX-License-Identifier: MIT OR Apache-2.0

//! Opening: tables, journal, and what a crash left.
//!
//! 1. The superblock tells where the tables and the journal are.
//! 2. The allocation bitmap is read from the tables; inodes and names are read when they are wanted.
//! 3. The journal is applied on top. Of transactions that were not promised to survive, the data they name is compared with
//!    its checksums; the first that does not match ends the log. So does data without checksums, unless the machine has
//!    been up since: a block that was not written would show what an earlier file left there.
//! 4. One sync, and a new superblock: what was found is durable, and a new epoch begins.
//!
//! After a mere end of the process, what was found is written again before the sync of step 4:
//!
//! 1. A sync fails. Linux reports that once, and keeps what it could not write in its cache, marked as written.
//! 2. The process ends, as it should; the next one finds everything in the cache.
//! 3. Its sync succeeds, without having anything to write, and it promises what never reached the disk.
//!
//! So opening takes as long as the journal is, however many files there are. A pool that is opened read-only is not
//! written to: the journal is applied in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::disk::Disk;
use crate::error::{Damage, Result};
use crate::journal::{self, Journal, Log};
use crate::meta::base::{Base, Settings};
use crate::metrics::{Metrics, Recovery};
use crate::pool::{Access, HostCache, OpenError, OpenOptions, Pool, Superblock, Tail};
use crate::space::Space;
use crate::space::shared::{References, SharedGroups};
use crate::units::{BLOCK_SIZE, Block, Ino, Run, Seq};

use super::arrival::Cached;
use super::engine::{Core, Fs, Limits, Mode};
use super::record::{FileFlags, GroupKey, Inode, Kind, Marks, SessionKey, SharedKey, Timestamp, Totals, TotalsKey};
use super::replay::{self, Replay};
use super::state::{CacheLimits, State, Tables};
use super::trim::Freed;

/// How to open a pool.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Do not write.
    pub read_only: bool,
    /// Checkpoints and periodic flushes by a thread. Without, they happen inside the calls that make them due: the same
    /// calls then always do the same.
    pub background: bool,
    /// Records kept in memory.
    pub caches: CacheLimits,
    /// Bytes of table pages kept in memory.
    pub page_cache_bytes: usize,
    /// A client that was served before, in the same boot, is served on. Without, its session ends.
    pub keep_session: bool,
    /// For what is moved by plans ([`Fs::descriptor`]).
    pub host_cache: HostCache,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            background: true,
            caches: CacheLimits::default(),
            page_cache_bytes: 64 << 20,
            keep_session: false,
            host_cache: HostCache::Used,
        }
    }
}

impl Fs {
    /// Opens the pool in a file or device.
    pub fn open(path: &Path, options: &MountOptions) -> std::result::Result<Self, OpenError> {
        let access = if options.read_only {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        };
        let how = OpenOptions {
            host_cache: options.host_cache,
            ..OpenOptions::new(access)
        };
        let pool = Pool::open_path(path, &how)?;
        Self::mount(pool, options)
    }

    /// Makes an opened pool usable.
    pub fn mount(pool: Pool, options: &MountOptions) -> std::result::Result<Self, OpenError> {
        mount(pool, options).map_err(OpenError::Unusable)
    }

    /// Leaves the pool clean: everything in the tables, and the superblock says so. The pool stays usable for reading
    /// through other clones, and fails their changes.
    pub fn close(self) -> Result<()> {
        let shared = &self.shared;
        if shared.core.lock().mode == Mode::ReadOnly {
            return Ok(());
        }
        shared.checkpoint_and(Superblock::leave_clean)?;
        shared.trim(|_| false);
        shared.core.lock().mode = Mode::ReadOnly;
        Ok(())
    }
}

fn mount(mut pool: Pool, options: &MountOptions) -> Result<Fs> {
    let begin = Instant::now();
    let disk = Arc::clone(pool.disk());
    let superblock = pool.superblock().clone();
    let read_only = options.read_only || pool.access() == Access::ReadOnly;
    let settings = Settings {
        page_cache_bytes: options.page_cache_bytes,
        ..Settings::for_pool(superblock.total_blocks)
    };
    let base = Base::open(
        Arc::clone(&disk),
        superblock.total_blocks,
        &superblock.manifest,
        settings,
    )?;
    let mut state = load(base, &superblock, options.caches)?;
    let log = replay::log_of(&superblock);
    let cached = Cached::of(pool.same_boot(), read_only);
    let replay = Replay::new(&*disk, superblock.total_blocks, cached);
    let (found, recovery) = replay_log(&mut state, replay, &*disk, &log)?;
    finish_space(&mut state, &superblock)?;
    tracing::info!(
        transactions = found.transactions,
        applied = found.applied.0,
        durable = found.durable.0,
        "journal replayed"
    );
    let end = Tail {
        seq: found.applied,
        ..found.end
    };
    let epoch = pool.next_epoch();
    let core = Core {
        step_blocks: state.base.space_for_step(),
        state,
        journal: Journal::resume(
            Arc::clone(&disk),
            superblock.journal,
            epoch,
            superblock.tail.position,
            end,
        ),
        mode: if read_only { Mode::ReadOnly } else { Mode::Writable },
        durable: found.applied,
        vouched: found.durable,
        newest_bare: Seq(0),
        unsynced_blocks: 0,
        freed: Freed::default(),
        replayed: found.transactions,
        holders: FxHashMap::default(),
        client_reserve: 0,
        checkpointing: false,
        stopping: false,
        sealing_stops: false,
        fresh_bytes: found.end.position - superblock.tail.position,
        frozen_bytes: 0,
        limits: Limits::new(superblock.total_blocks * BLOCK_SIZE as u64, superblock.journal.bytes()),
    };
    let metrics = || {
        let time = begin.elapsed();
        Metrics::new(Recovery { time, ..recovery })
    };
    if read_only {
        return Ok(Fs::assemble(Arc::clone(&disk), pool, core, false, metrics()));
    }
    let host = pool.host().clone();
    let reopen = move |superblock: &mut Superblock| {
        superblock.begin_epoch(&host, epoch, end.position, end.seq);
    };
    let keep_session = options.keep_session && cached == Cached::WriteAgain;
    if cached == Cached::WriteAgain {
        journal::write_again(&*disk, &log, found.end.position)?;
        pool.write_again()?;
    }
    disk.sync()?;
    if found.inside_batch {
        // The place where the log goes on lies before what was taken of it: that must be in the tables first.
        let fs = Fs::assemble(Arc::clone(&disk), pool, core, options.background, metrics());
        fs.shared.core.lock().reserve_for_checkpoint();
        fs.shared.checkpoint_and(reopen)?;
        fs.take_up_session(keep_session)?;
        return Ok(fs);
    }
    pool.commit(reopen)?;
    let fs = Fs::assemble(Arc::clone(&disk), pool, core, options.background, metrics());
    fs.shared.core.lock().reserve_for_checkpoint();
    fs.drain_dropped_spaces()?;
    fs.take_up_session(keep_session)?;
    Ok(fs)
}

/// Applies the journal to what the tables tell; also says what that took.
fn replay_log(
    state: &mut State,
    mut replay: Replay<'_>,
    disk: &dyn Disk,
    log: &Log,
) -> Result<(journal::Recovery, Recovery)> {
    let begin = Instant::now();
    state.replaying = true;
    let found = journal::recover(disk, log, |found| replay.one(state, &found))?;
    state.replaying = false;
    if found.applied < found.durable {
        return Err(Damage::new(
            "journal",
            format_args!(
                "ends at {} although everything up to {} was durable",
                found.applied, found.durable
            ),
        ));
    }
    let operations = replay.operations;
    replay.finish()?;
    let recovery = Recovery {
        replay_time: begin.elapsed(),
        transactions: found.transactions,
        operations,
        bytes: found.end.position - log.tail.position,
        ..Recovery::default()
    };
    Ok((found, recovery))
}

/// The state the tables tell.
fn load(base: Base, superblock: &Superblock, caches: CacheLimits) -> Result<State> {
    let fresh = superblock.manifest.first.is_none();
    let mut tables = Tables::new(caches, Ino(u64::MAX));
    let totals = match tables.totals.get(&base, &TotalsKey {})? {
        Some(totals) => *totals,
        None if fresh => Totals {
            next_ino: Ino(2),
            inodes: 1,
            promised: 0,
        },
        None => return Err(Damage::new("tables", "the totals are missing")),
    };
    let mut tables = Tables::new(caches, totals.next_ino);
    let mut space = Space::new(superblock.total_blocks)?;
    let mut trouble = Ok(());
    let groups = (GroupKey { group: 0 }, GroupKey { group: u64::MAX });
    tables.groups.visit(&base, &groups.0, &groups.1, |key, row| {
        trouble = space
            .load_row(key.group, row.0.as_slice())
            .map_err(|error| Damage::new(format_args!("bitmap group {}", key.group), error));
        trouble.is_ok()
    })?;
    trouble?;
    let mut shared = SharedGroups::default();
    let groups = (SharedKey { group: 0 }, SharedKey { group: u64::MAX });
    let mut trouble = Ok(());
    tables.shared.visit(&base, &groups.0, &groups.1, |key, _| {
        if key.group > References::group_of(Block(superblock.total_blocks)) {
            trouble = Err(Damage::new(
                format_args!("references of group {}", key.group),
                "beyond the pool",
            ));
            return false;
        }
        shared.insert_group(key.group);
        true
    })?;
    trouble?;
    space.reserve_again(totals.promised);
    if fresh {
        let born = Timestamp::new(superblock.created.seconds, superblock.created.nanos);
        tables
            .inodes
            .set(&super::record::InodeKey { ino: Ino::ROOT }, Some(root(born)));
    }
    let parts = (SessionKey { part: 0 }, SessionKey { part: u64::MAX });
    let parts = tables.sessions.scan(&base, &parts.0, &parts.1, usize::MAX)?;
    let mut state = State::new(base, space, totals, superblock.name_hash_key, tables, shared);
    for (key, record) in parts {
        state.load_session(key, &record)?;
    }
    Ok(state)
}

pub(crate) fn root(born: Timestamp) -> Inode {
    Inode {
        size: 0,
        blocks: 0,
        accessed: born,
        modified: born,
        changed: born,
        born,
        device: 0,
        parent: Ino::ROOT,
        place: 0,
        uid: 0,
        gid: 0,
        links: 2,
        flags: FileFlags::default(),
        mode: Kind::Directory.mode_bits() | 0o755,
        marks: Marks::default(),
        hidden: 0,
        hidden_in: 0,
    }
}

/// The system's own blocks are claimed last: an operation of the journal may have used a block, and another freed it, that
/// the system took since.
fn finish_space(state: &mut State, superblock: &Superblock) -> Result<()> {
    let runs: Vec<Run> = superblock
        .fixed_runs()
        .into_iter()
        .chain(state.base.blocks_in_use())
        .collect();
    for run in runs {
        state
            .space
            .claim_system(run)
            .map_err(|error| Damage::new("allocation bitmap", error))?;
    }
    state.space.finish_replay();
    if state.space.reserved_blocks() > state.space.free_blocks() {
        return Err(Damage::new("totals", "more blocks are promised than are free"));
    }
    Ok(())
}
