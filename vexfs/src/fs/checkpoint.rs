// SPDX-License-Identifier: MIT OR Apache-2.0

//! Moving what the journal holds into the tables.
//!
//! 1. Under the lock: what changed is frozen, together with the journal's end. Work goes on over it.
//! 2. The frozen records are written as a new run of tables, then a manifest that lists it. Nobody refers to them yet.
//! 3. One sync: tables and manifest are durable, and all data and journal up to the freeze.
//! 4. A new superblock names the manifest and the journal's new tail. This is the moment it counts.
//! 5. Under the lock: reads go to the new tables, the journal's room is free again.
//!
//! Nothing of this overwrites anything that the old superblock refers to. If a step fails the pool fails with it (see
//! `engine`), except for want of space in compaction, which just does not happen then: the space for step 2 has been
//! kept since the operations were accepted.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use crate::error::{Errno, Error, Result};
use crate::meta::base::{Base, BlockSource, Prepared};
use crate::meta::{Frozen, encoded};
use crate::pool::{Superblock, Tail};
use crate::units::{Run, Seq};

use super::engine::{Core, Fs, Mode, Shared};
use super::record::{
    AttributeKey, BitmapRow, Bytes, Entry, EntryKey, Further, GroupKey, Inode, InodeKey, Orphan, OrphanKey, PlaceKey,
    RowKey, SessionKey, SharedKey, Totals, TotalsKey,
};
use super::session::SessionRecord;
use super::vectors::state::FrozenVectors;
use crate::data::row::Row;
use crate::space::shared::References;

/// How long nothing changes before the tables are brought up to date although nobody needs it yet.
const REST: Duration = Duration::from_secs(5);

/// Steps of compaction that share one commit.
const STEPS_PER_COMMIT: usize = 16;

/// What a checkpoint writes.
struct Snapshot {
    end: Tail,
    inodes: Frozen<InodeKey, Inode>,
    entries: Frozen<EntryKey, Entry>,
    rows: Frozen<RowKey, Row>,
    attributes: Frozen<AttributeKey, Bytes>,
    groups: Frozen<GroupKey, BitmapRow>,
    shared: Frozen<SharedKey, References>,
    orphans: Frozen<OrphanKey, Orphan>,
    totals: Frozen<TotalsKey, Totals>,
    sessions: Frozen<SessionKey, SessionRecord>,
    places: Frozen<PlaceKey, Further>,
    vectors: FrozenVectors,
    /// Inode numbers from here on are not in these maps.
    next: Totals,
}

impl Snapshot {
    /// Number of records.
    fn len(&self) -> usize {
        self.inodes.len()
            + self.entries.len()
            + self.rows.len()
            + self.attributes.len()
            + self.groups.len()
            + self.shared.len()
            + self.orphans.len()
            + self.totals.len()
            + self.sessions.len()
            + self.places.len()
            + self.vectors.len()
    }

    /// Records in the order of their tags.
    fn records(&self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> + '_ {
        encoded(&self.inodes)
            .chain(encoded(&self.entries))
            .chain(encoded(&self.rows))
            .chain(encoded(&self.attributes))
            .chain(encoded(&self.groups))
            .chain(encoded(&self.shared))
            .chain(encoded(&self.orphans))
            .chain(encoded(&self.totals))
            .chain(encoded(&self.sessions))
            .chain(encoded(&self.places))
            .chain(self.vectors.records())
    }
}

impl Core {
    fn freeze(&mut self) -> Result<Snapshot> {
        if let Err(error) = self.journal.write_out(self.durable) {
            self.fail(&error);
            return Err(error);
        }
        let totals = self.state.totals;
        self.state.tables.totals.set(&TotalsKey {}, Some(totals));
        self.state.put_session();
        for row in self.state.space.freeze_dirty_rows() {
            self.state
                .tables
                .groups
                .set(&GroupKey { group: row.group }, row.bytes.map(BitmapRow));
        }
        self.frozen_bytes = std::mem::take(&mut self.fresh_bytes);
        let tables = &mut self.state.tables;
        Ok(Snapshot {
            end: self.journal.end(),
            inodes: tables.inodes.freeze(),
            entries: tables.entries.freeze(),
            rows: tables.rows.freeze(),
            attributes: tables.attributes.freeze(),
            groups: tables.groups.freeze(),
            shared: tables.shared.freeze(),
            orphans: tables.orphans.freeze(),
            totals: tables.totals.freeze(),
            sessions: tables.sessions.freeze(),
            places: tables.places.freeze(),
            vectors: tables.vectors.freeze(),
            next: totals,
        })
    }

    fn thaw(&mut self, snapshot: &Snapshot) {
        let next = snapshot.next.next_ino;
        let tables = &mut self.state.tables;
        tables.inodes.thawed(next);
        tables.entries.thawed(next);
        tables.rows.thawed(next);
        tables.attributes.thawed(next);
        tables.groups.thawed(next);
        tables.shared.thawed(next);
        tables.orphans.thawed(next);
        tables.totals.thawed(next);
        tables.sessions.thawed(next);
        tables.places.thawed(next);
        tables.vectors.thawed(next);
        self.journal.advance_tail(snapshot.end.position);
        self.replayed = 0;
        self.frozen_bytes = 0;
        self.durable = self.durable.max(snapshot.end.seq);
        self.step_blocks = self.state.base.space_for_step();
        self.reserve_for_checkpoint();
    }
}

/// Gives the tables their blocks.
struct Source<'a>(&'a Shared);

impl BlockSource for Source<'_> {
    fn take(&self, want: u32) -> Result<Run> {
        let mut core = self.0.core.lock();
        let taken = core.state.space.take_system(None, want);
        drop(core);
        let run = taken.ok_or(Error::Posix(Errno::NoSpace))?;
        self.0.metrics.checkpoint.bytes.add(run.bytes());
        Ok(run)
    }

    fn give_back(&self, run: Run) {
        self.0.core.lock().state.space.release_system(run);
    }
}

/// A checkpoint that is being made. However it ends, also by a panic, those who wait for it go on: unless it succeeded,
/// to find that the pool has failed.
struct Underway<'a> {
    shared: &'a Shared,
    begin: Instant,
    failed: bool,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut core = self.shared.core.lock();
        core.checkpointing = false;
        if self.failed {
            core.mode = Mode::Failed;
        }
        drop(core);
        let meter = &self.shared.metrics.checkpoint;
        meter.times.record_since(self.begin);
        if self.failed {
            meter.failures.increment();
        }
        self.shared.room.notify_all();
    }
}

impl Fs {
    /// Moves everything the journal holds into the tables. Also makes it durable.
    pub fn checkpoint(&self) -> Result<()> {
        self.shared.checkpoint()
    }
}

impl Shared {
    /// Waits for a checkpoint that is under way, then makes one.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.checkpoint_and(|_| ())
    }

    /// The same, with a change of the superblock that takes effect together with it.
    pub(super) fn checkpoint_and(&self, change: impl FnOnce(&mut Superblock)) -> Result<()> {
        let mut core = self.core.lock();
        while core.checkpointing {
            self.room.wait(&mut core);
        }
        core.check_writable()?;
        core.checkpointing = true;
        drop(core);
        let mut underway = Underway {
            shared: self,
            begin: Instant::now(),
            failed: true,
        };
        let (frozen, base) = {
            let mut core = self.core.lock();
            (core.freeze(), core.state.base.clone())
        };
        let result = frozen.and_then(|snapshot| self.write(&base, &snapshot, change));
        let result = result.and_then(|()| self.compact(&base));
        if let Err(error) = &result {
            tracing::error!(%error, "checkpoint");
        }
        underway.failed = result.is_err();
        result
    }

    fn write(&self, base: &Base, snapshot: &Snapshot, change: impl FnOnce(&mut Superblock)) -> Result<()> {
        self.metrics.checkpoint.records.add(snapshot.len() as u64);
        let source = Source(self);
        let mut next = base.begin(&source)?;
        next.write_run(snapshot.records())?;
        let prepared = next.prepare()?;
        let end = snapshot.end;
        self.install(base, prepared, change, Some((end, snapshot)))
    }

    /// Merges tables until there are few enough. Without space for it there are just more tables.
    fn compact(&self, base: &Base) -> Result<()> {
        let source = Source(self);
        while base.wants_compaction() {
            let mut next = base.begin(&source)?;
            for _ in 0..STEPS_PER_COMMIT {
                match next.compact_step() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(Error::Posix(Errno::NoSpace)) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let prepared = match next.prepare() {
                Err(Error::Posix(Errno::NoSpace)) => return Ok(()),
                other => other?,
            };
            self.install(base, prepared, |_| (), None)?;
            self.metrics.checkpoint.compactions.increment();
        }
        Ok(())
    }

    /// Steps 3 to 5.
    fn install(
        &self,
        base: &Base,
        prepared: Prepared<'_>,
        change: impl FnOnce(&mut Superblock),
        written: Option<(Tail, &Snapshot)>,
    ) -> Result<()> {
        let durable = self.sync()?;
        let manifest = prepared.manifest();
        let committed = self.pool.lock().commit(|superblock| {
            superblock.manifest = manifest;
            superblock.durable_seq = superblock.durable_seq.max(durable);
            if let Some((end, _)) = written {
                superblock.tail = end;
            }
            change(superblock);
        });
        if let Err(error) = committed {
            // Which of both versions the disk holds is unknown: neither one's blocks may be used again.
            std::mem::forget(prepared);
            return Err(error);
        }
        let obsolete = base.install(prepared);
        let mut core = self.core.lock();
        for run in obsolete {
            core.state.space.release_system(run);
        }
        if let Some((_, snapshot)) = written {
            core.thaw(snapshot);
        }
        // The superblock says on disk what is durable: the same as a batch that says so.
        let free = core.state.space.withdraw_durable(durable);
        Self::reuse(core, free);
        Ok(())
    }
}

/// The thread that makes checkpoints when they are wanted, and flushes what nobody flushed.
pub(super) struct Checkpointer {
    stop: Weak<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What was written is durable after this long at the latest, so that recovery has little to doubt.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

impl Checkpointer {
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let weak = Arc::downgrade(shared);
        let worker = weak.clone();
        let thread = std::thread::Builder::new()
            .name("vexfs-checkpoint".into())
            .spawn(move || run(&worker));
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                // Without the thread, changes wait for ever when the journal is full: refuse them now instead.
                tracing::error!(%error, "starting the checkpoint thread");
                shared.core.lock().mode = Mode::Failed;
                None
            }
        };
        Self { stop: weak, thread }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        if let Some(shared) = self.stop.upgrade() {
            shared.core.lock().stopping = true;
            shared.wanted.notify_all();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn run(worker: &Weak<Shared>) {
    let mut rest = Rest::default();
    while let Some(shared) = worker.upgrade() {
        let mut core = shared.core.lock();
        if core.stopping {
            return;
        }
        rest.look(&core);
        if core.wants_checkpoint() || rest.is_worth_a_checkpoint(&core) {
            drop(core);
            // What went wrong is logged where it did, and the pool's mode says so.
            drop(shared.checkpoint());
        } else if rest.is_time_to_trim(&core) {
            drop(core);
            shared.trim(|core| core.stopping || core.journal.written() != rest.newest);
        } else {
            let timed_out = !core.wants_sync() && shared.wanted.wait_for(&mut core, FLUSH_INTERVAL).timed_out();
            if timed_out || core.wants_sync() {
                flush_old(&shared, core);
            }
        }
    }
}

/// Since when nothing has changed. What the journal holds then goes into the tables: room that is kept for that comes back,
/// and the next opening has nothing to replay. The disk is told what became free.
#[derive(Default)]
struct Rest {
    newest: Seq,
    since: Option<Instant>,
}

impl Rest {
    fn look(&mut self, core: &Core) {
        let newest = core.journal.written();
        if self.newest != newest || self.since.is_none() {
            (self.newest, self.since) = (newest, Some(Instant::now()));
        }
    }

    fn is_long(&self, core: &Core) -> bool {
        core.mode == Mode::Writable && self.since.is_some_and(|since| since.elapsed() >= REST)
    }

    fn is_worth_a_checkpoint(&self, core: &Core) -> bool {
        self.is_long(core) && core.journal.used() > 0
    }

    fn is_time_to_trim(&self, core: &Core) -> bool {
        self.is_long(core) && !core.freed.is_empty()
    }
}

fn flush_old(shared: &Shared, core: MutexGuard<'_, Core>) {
    let pending = core.mode != Mode::Failed && core.journal.written() > core.durable.max(Seq(0));
    drop(core);
    if pending && let Err(error) = shared.flush(None) {
        tracing::error!(%error, "flush");
    }
}
