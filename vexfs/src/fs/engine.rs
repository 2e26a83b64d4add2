// SPDX-License-Identifier: MIT OR Apache-2.0

//! An open pool: the lock, transactions, flushes, failure.
//!
//! # Locks
//!
//! `core` guards everything known in memory and the journal; it is held for a transaction, never during a sync.
//! Locks of indexes and `sealing` are taken before every other; their order is told in `vectors::index`.
//! `pool` guards the superblock and is held while it is written. Order: `pool` before `core`; flushing is ordered by `flush`
//! alone, which is never held together with another lock except `core`, inside it.
//!
//! # Failure
//!
//! After a failed journal write or sync nobody knows what the disk holds. From then on ([`Mode::Failed`]) every change and
//! every flush fails with EIO, and reading goes on from memory and disk. Only opening the pool again ends this.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustc_hash::FxHashMap;

use crate::disk::Disk;
use crate::error::{Errno, Error, Result};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::units::{BLOCK_SIZE, Ino, Run, Seq};

use super::apply::apply;
use super::checkpoint::Checkpointer;
use super::op::Op;
use super::state::State;
use super::trim::Freed;
use super::vectors::index::memory::Indexes;
use super::vectors::seal::Sealer;

/// An open pool. Cheap to clone; the last clone that goes takes the background thread along, and leaves the pool as a
/// crash of the process would: nothing answered is lost. [`Fs::close`] leaves it clean.
#[derive(Clone)]
pub struct Fs {
    pub(super) shared: Arc<Shared>,
    /// Ends before the checkpoints do, which it may wait for.
    _sealer: Option<Arc<Sealer>>,
    _checkpointer: Option<Arc<Checkpointer>>,
}

pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) pool: Mutex<Pool>,
    pub(super) core: Mutex<Core>,
    flush: Mutex<FlushState>,
    flushed: Condvar,
    /// Signalled when a checkpoint ended, or the pool failed.
    pub(super) room: Condvar,
    /// Signalled when a checkpoint is wanted.
    pub(super) wanted: Condvar,
    /// Signalled when vectors are to be moved into slabs.
    pub(super) sealing_wanted: Condvar,
    /// Held while the end of a space's store moves.
    pub(super) sealing: Mutex<()>,
    /// Indexes of spaces, as far as somebody searched or changed them.
    pub(super) indexes: Indexes,
    pub(super) background: bool,
    pub(super) metrics: Metrics,
}

/// What the lock guards.
pub(super) struct Core {
    pub(super) state: State,
    pub(super) journal: Journal,
    pub(super) mode: Mode,
    /// Everything up to here is known to be durable.
    pub(super) durable: Seq,
    /// The disk says that everything up to here is durable.
    pub(super) vouched: Seq,
    /// Newest transaction with data that has no checksums.
    pub(super) newest_bare: Seq,
    /// Blocks written since the last sync began: what recovery may have to compare with checksums.
    pub(super) unsynced_blocks: u64,
    /// What the disk has to be told of when there is time.
    pub(super) freed: Freed,
    /// Transactions that were replayed at the opening, and would be at the next.
    pub(super) replayed: u64,
    /// Files that somebody uses: they outlive their last name.
    pub(super) holders: FxHashMap<Ino, u32>,
    /// Blocks kept for what a client has promised to its callers: part of what `space` counts as reserved.
    pub(super) client_reserve: u64,
    /// The last clone of the handle is going.
    pub(super) stopping: bool,
    /// So is the thread for vectors.
    pub(super) sealing_stops: bool,
    /// A checkpoint is under way.
    pub(super) checkpointing: bool,
    /// Bytes of operations since the last freeze, and of those a running checkpoint writes.
    pub(super) fresh_bytes: u64,
    pub(super) frozen_bytes: u64,
    pub(super) limits: Limits,
    /// What a step of compaction may need.
    pub(super) step_blocks: u64,
}

/// What may be done with an open pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Everything.
    Writable,
    /// Opened for reading, or closed.
    ReadOnly,
    /// Reading: it failed, see the module.
    Failed,
}

/// When a checkpoint is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Changed records in memory.
    pub(super) records: u64,
    /// Bytes in the journal.
    pub(super) journal_bytes: u64,
    /// Blocks kept for writes that replace blocks of a full pool.
    pub(super) slack: u64,
}

/// Blocks that must be available for an operation to be accepted that needs none of its own, but a record.
const METADATA_MARGIN: u64 = 1;
/// Transactions that an opening replays without a thought for the next one: a fraction of a second's work.
pub(super) const LONG_REPLAY: u64 = 1000;

/// A generous size of a record's key and value in the tables, for what is reserved; long values are counted by the bytes of
/// their operations.
const RECORD_BYTES: u64 = 440;

/// 256 MiB: a second's work for recovery on a slow disk.
const UNSYNCED_BLOCKS: u64 = 65_536;

/// No transaction takes more of the journal: the largest sets an extended attribute, the next names the blocks and checksums
/// of a piece of a write.
const LARGEST_TRANSACTION: usize = 2 * super::MAX_XATTR_VALUE;
const _: () = assert!(
    2 * LARGEST_TRANSACTION <= crate::pool::superblock::MIN_JOURNAL_BLOCKS as usize * crate::units::BLOCK_SIZE,
    "the smallest journal has room for a transaction besides those that make a checkpoint due"
);

impl Limits {
    /// For a pool of so many bytes and a journal of so many.
    pub(super) fn new(pool_bytes: u64, journal_bytes: u64) -> Self {
        Self {
            records: (pool_bytes / 32 / RECORD_BYTES).clamp(256, 1 << 20),
            journal_bytes: journal_bytes / 2,
            slack: (pool_bytes / BLOCK_SIZE as u64 / 256).clamp(16, 4096),
        }
    }
}

#[derive(Default)]
struct FlushState {
    running: bool,
    /// Counts syncs that ended; the result of the last one.
    ended: u64,
    /// Everything up to here is durable.
    durable: Seq,
}

impl Fs {
    pub(super) fn assemble(disk: Arc<dyn Disk>, pool: Pool, core: Core, background: bool, metrics: Metrics) -> Self {
        let durable = core.durable;
        let shared = Arc::new(Shared {
            disk,
            pool: Mutex::new(pool),
            core: Mutex::new(core),
            flush: Mutex::new(FlushState {
                durable,
                ..FlushState::default()
            }),
            flushed: Condvar::new(),
            room: Condvar::new(),
            wanted: Condvar::new(),
            sealing_wanted: Condvar::new(),
            sealing: Mutex::new(()),
            indexes: Indexes::default(),
            background,
            metrics,
        });
        let checkpointer = background.then(|| Arc::new(Checkpointer::start(&shared)));
        let sealer = background.then(|| Arc::new(Sealer::start(&shared)));
        Self {
            shared,
            _sealer: sealer,
            _checkpointer: checkpointer,
        }
    }

    /// For a thread that works for the pool: keeps nothing running.
    pub(super) const fn of_worker(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            _sealer: None,
            _checkpointer: None,
        }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.shared.core.lock()
    }

    /// Makes everything that was answered before the call durable, with at most one sync of the disk of its own.
    pub fn flush(&self) -> Result<()> {
        self.shared.flush(None)
    }

    /// What is recorded while the pool is open, for front ends to add to; [`Self::measure`] has all numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Whether the pool failed and accepts no more changes.
    pub fn has_failed(&self) -> bool {
        self.core().mode == Mode::Failed
    }

    /// Somebody uses the file: it stays after its last name is gone.
    pub fn hold(&self, ino: Ino) -> Result<()> {
        let mut core = self.core();
        core.state.inode(ino)?;
        *core.holders.entry(ino).or_default() += 1;
        Ok(())
    }

    /// The reverse of [`Self::hold`]. A file without names goes with its last holder.
    pub fn release(&self, ino: Ino) -> Result<()> {
        {
            let mut core = self.core();
            let Some(count) = core.holders.get_mut(&ino) else {
                return Err(Errno::Invalid.into());
            };
            *count -= 1;
            if *count > 0 {
                return Ok(());
            }
            core.holders.remove(&ino);
            if core.mode != Mode::Writable || core.state.orphan(ino)?.is_none() {
                return Ok(());
            }
        }
        self.purge(ino)
    }

    /// Performs a transaction if `check` agrees under the lock: all of it, or an error and nothing.
    pub(super) fn transact_with(
        &self,
        operations: &[Op<'_>],
        check: impl FnOnce(&mut Core) -> Result<()>,
    ) -> Result<()> {
        let mut core = self.shared.writable()?;
        check(&mut core)?;
        core.perform(operations)?;
        self.shared.request_checkpoint(core)
    }

    /// Blocks for a write. When the pool seems full, room is made first.
    pub(super) fn take_blocks(&self, ask: &Ask) -> Result<Vec<Run>> {
        let mut tried = Tried::default();
        loop {
            let mut core = self.shared.writable_with(ask.patience)?;
            if let Some(runs) = core.take(ask) {
                return Ok(runs);
            }
            if ask.patience == Patience::Refuse {
                return Err(Errno::WouldWait.into());
            }
            drop(core);
            if !self.make_room(&mut tried)? {
                return Err(Errno::NoSpace.into());
            }
        }
    }

    /// Makes room in a pool that seems full, if there is any to be made, in each way once: first of what is freed but not
    /// yet reusable, then of what is kept for the next checkpoint. True: trying again may help. Writes of bytes do this by
    /// themselves; changes of metadata fail, and callers that may wait do this ([`Self::with_room`]).
    pub fn make_room(&self, tried: &mut Tried) -> Result<bool> {
        let (waiting, changed) = {
            let core = self.core();
            core.check_writable()?;
            (core.state.space.deferred_blocks() > 0, core.state.tables.changed() > 0)
        };
        if waiting && !tried.freed {
            tried.freed = true;
            self.shared.reclaim_freed()?;
        } else if changed && !tried.kept {
            tried.kept = true;
            self.shared.reclaim_kept()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Does a change of metadata that finds the pool full again, after each way to make room.
    pub fn with_room<T>(&self, patience: Patience, mut change: impl FnMut() -> Result<T>) -> Result<T> {
        let mut tried = Tried::default();
        loop {
            match change() {
                Err(Error::Posix(Errno::NoSpace)) if patience == Patience::Refuse => {
                    return Err(Errno::WouldWait.into());
                }
                Err(Error::Posix(Errno::NoSpace)) if self.make_room(&mut tried)? => {}
                outcome => return outcome,
            }
        }
    }

    /// Blocks of a write that will not happen.
    pub(super) fn give_blocks_back(&self, runs: &[Run]) {
        let mut core = self.core();
        if core.mode == Mode::Failed {
            // The write may have been applied before the journal or a checkpoint failed: then the blocks are the file's.
            return;
        }
        for &run in runs {
            core.state.space.give_back(run);
        }
    }
}

/// What a write asks of the allocator.
pub(super) struct Ask {
    /// Blocks.
    pub(super) count: u64,
    /// Where they would follow on.
    pub(super) goal: Option<crate::units::Block>,
    /// Every block replaces one, or was promised: it must not fail while there is any space at all. How many were
    /// promised.
    pub(super) covered: Option<u64>,
    /// It may draw on what is kept for the client.
    pub(super) credit: bool,
    /// Whether to wait for what makes room.
    pub(super) patience: Patience,
}

/// The ways to make room that were tried.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    freed: bool,
    kept: bool,
}

/// What to do when a change must wait, for a sync or a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Wait.
    Wait,
    /// Fail with [`Errno::WouldWait`], and change nothing.
    Refuse,
}

impl Core {
    pub(super) fn check_writable(&self) -> Result<()> {
        match self.mode {
            Mode::Writable => Ok(()),
            Mode::ReadOnly => Err(Errno::ReadOnly.into()),
            Mode::Failed => Err(Errno::Failed.into()),
        }
    }

    /// Applies and journals a transaction.
    pub(super) fn perform(&mut self, operations: &[Op<'_>]) -> Result<()> {
        if self.state.space.available() < METADATA_MARGIN && operations.iter().any(grows) {
            return Err(Errno::NoSpace.into());
        }
        self.perform_covered(operations)
    }

    /// The same for operations that replace what is there: they are accepted by a full pool too.
    pub(super) fn perform_covered(&mut self, operations: &[Op<'_>]) -> Result<()> {
        let seq = self.journal.newest().next();
        apply(&mut self.state, operations, seq)?;
        if operations.iter().any(is_bare) {
            self.newest_bare = seq;
        }
        self.unsynced_blocks += operations.iter().map(Op::written_blocks).sum::<u64>();
        let before = self.journal.pending();
        self.journal
            .push(|out| operations.iter().for_each(|operation| operation.encode(out)));
        self.fresh_bytes += (self.journal.pending() - before) as u64;
        self.reserve_for_checkpoint();
        if let Err(error) = self.journal.write_out(self.durable) {
            self.fail(&error);
            return Err(error);
        }
        Ok(())
    }

    /// Keeps as much space as a checkpoint of what is in memory may need, so that it cannot fail for space.
    pub(super) fn reserve_for_checkpoint(&mut self) {
        let records = self.state.tables.changed() + self.state.space.dirty_rows();
        let bytes = records * RECORD_BYTES + self.fresh_bytes + self.frozen_bytes;
        let run = self.state.base.space_for_checkpoint(records, records * 32, bytes);
        self.state
            .space
            .set_system_reserve(run + self.step_blocks + self.limits.slack);
    }

    /// Whether so much was written without a sync that recovery would take long.
    pub(super) fn wants_sync(&self) -> bool {
        self.mode != Mode::Failed && self.unsynced_blocks > UNSYNCED_BLOCKS
    }

    /// Whether a checkpoint is due. Whatever a change waits for is among the reasons: nobody else would make it.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.mode == Mode::Writable
            && (self.state.tables.active() > self.limits.records
                || self.journal.used() > self.limits.journal_bytes
                || self.replayed > LONG_REPLAY
                || self.is_stuffed())
    }

    /// Whether a change must wait for a checkpoint: there is too much in memory, or what is kept for it is what is missing.
    pub(super) fn is_stuffed(&self) -> bool {
        let worth_it = self.state.tables.active() > self.limits.records / 8;
        worth_it && self.state.space.available() < METADATA_MARGIN
            || self.state.tables.changed() > self.limits.records * 2
            || !self.journal.has_room(LARGEST_TRANSACTION)
    }

    pub(super) fn fail(&mut self, error: &Error) {
        tracing::error!(%error, "the pool accepts no more changes");
        self.mode = Mode::Failed;
    }

    fn take(&mut self, ask: &Ask) -> Option<Vec<Run>> {
        // Compaction can wait for the blocks that such a write gives back.
        let slack = self.limits.slack + self.step_blocks;
        let space = &mut self.state.space;
        let credit = if ask.credit { self.client_reserve } else { 0 };
        let others = space.available() + ask.covered.unwrap_or(0);
        if ask.covered.is_none() && others + credit < ask.count {
            return None;
        }
        let mut runs = Vec::with_capacity(1);
        let mut goal = ask.goal;
        let mut left = ask.count;
        while left > 0 {
            let want = u32::try_from(left).unwrap_or(u32::MAX);
            let run = match ask.covered {
                Some(promised) => space.take_covered(goal, want, promised + credit, slack),
                None if credit > 0 => space.take_covered(goal, want, credit, 0),
                None => space.take(goal, want),
            };
            let Some(run) = run else {
                for run in runs {
                    space.give_back(run);
                }
                return None;
            };
            left -= u64::from(run.count);
            goal = Some(run.end());
            runs.push(run);
        }
        // What was missing came from what is kept for the client. Still kept, it would come from what a checkpoint needs
        // the next time.
        let used = ask.count.saturating_sub(others).min(credit);
        self.client_reserve -= used;
        space.unreserve(used);
        Some(runs)
    }
}

/// Whether an operation names data without checksums.
fn is_bare(operation: &Op<'_>) -> bool {
    matches!(operation, Op::Write { checksums, .. } | Op::Store { checksums, .. } if checksums.is_empty())
}

/// Whether an operation may need space that it does not give back.
fn grows(operation: &Op<'_>) -> bool {
    !matches!(
        operation,
        Op::Unlink { .. }
            | Op::RemoveDirectory { .. }
            | Op::Truncate { .. }
            | Op::Punch { .. }
            | Op::Purge { .. }
            | Op::RemoveXattr { .. }
            | Op::SetAttributes { .. }
            | Op::BeginSession { .. }
            | Op::EndSession { .. }
            | Op::Answered { .. }
            | Op::Posted { .. }
            | Op::Grant { .. }
            | Op::Map { .. }
            | Op::Unmap { .. }
            | Op::RemoveVectors { .. }
            | Op::DropSpace { .. }
            | Op::DrainSpace { .. }
            | Op::DropSlab { .. }
            | Op::ForgetLeaves { .. }
    )
}

impl Shared {
    /// The lock, when a change may be made now.
    pub(super) fn writable(&self) -> Result<MutexGuard<'_, Core>> {
        self.writable_with(Patience::Wait)
    }

    /// The same for callers that may not wait.
    pub(super) fn writable_with(&self, patience: Patience) -> Result<MutexGuard<'_, Core>> {
        let mut core = self.core.lock();
        let mut stall = None;
        loop {
            core.check_writable()?;
            if !core.is_stuffed() {
                return Ok(core);
            }
            if patience == Patience::Refuse {
                return Err(Errno::WouldWait.into());
            }
            stall.get_or_insert_with(|| self.metrics.stalls.room());
            if self.background {
                self.wanted.notify_all();
                self.room.wait(&mut core);
            } else {
                drop(core);
                self.checkpoint()?;
                core = self.core.lock();
            }
        }
    }

    /// After a change: starts a checkpoint if one is due.
    pub(super) fn request_checkpoint(&self, core: MutexGuard<'_, Core>) -> Result<()> {
        let due = core.wants_checkpoint() && !core.checkpointing;
        let sync_due = core.wants_sync();
        drop(core);
        if !due && !sync_due {
            Ok(())
        } else if self.background {
            self.wanted.notify_all();
            Ok(())
        } else if !due {
            self.flush(None)
        } else {
            self.checkpoint()
        }
    }

    /// Makes room of what is freed but not yet reusable. The first flush makes the frees durable, the second makes it durable
    /// that they are.
    fn reclaim_freed(&self) -> Result<()> {
        let _stall = self.metrics.stalls.space();
        self.flush(None)?;
        self.turn_over()
    }

    /// Makes room of what is kept for the next checkpoint.
    fn reclaim_kept(&self) -> Result<()> {
        let _stall = self.metrics.stalls.space();
        self.checkpoint()
    }

    /// Makes everything up to `target` durable; without a target, everything appended so far. Callers that come while a
    /// sync runs share the next one.
    pub(super) fn flush(&self, target: Option<Seq>) -> Result<()> {
        let target = {
            let core = self.core.lock();
            if core.mode == Mode::Failed {
                return Err(Errno::Failed.into());
            }
            target.unwrap_or(core.journal.written())
        };
        let mut flush = self.flush.lock();
        if flush.durable >= target {
            // Nothing to wait for, and nothing to measure.
            return Ok(());
        }
        let meter = &self.metrics.flush;
        let (begin, _waiting) = (Instant::now(), meter.waiting.enter());
        loop {
            if flush.durable >= target {
                meter.shared.increment();
                meter.waits.record_since(begin);
                return Ok(());
            }
            if !flush.running {
                break;
            }
            let ended = flush.ended;
            self.flushed.wait_while(&mut flush, |flush| flush.ended == ended);
        }
        flush.running = true;
        drop(flush);
        let result = self.sync().and_then(|durable| self.vouch_for_bare().map(|()| durable));
        let mut flush = self.flush.lock();
        flush.running = false;
        flush.ended += 1;
        if let Ok(durable) = result {
            flush.durable = flush.durable.max(durable);
        }
        drop(flush);
        self.flushed.notify_all();
        meter.waits.record_since(begin);
        result.map(|_| ())
    }

    /// One sync of the disk, and what follows from its success: returns what is durable now.
    pub(super) fn sync(&self) -> Result<Seq> {
        let (written, told) = {
            let mut core = self.core.lock();
            if core.mode == Mode::Failed {
                return Err(Errno::Failed.into());
            }
            core.unsynced_blocks = 0;
            (core.journal.written(), core.journal.durable_told())
        };
        let meter = &self.metrics.flush;
        let begin = Instant::now();
        let result = self.disk.sync();
        meter.syncs.record_since(begin);
        let mut core = self.core.lock();
        if let Err(error) = result {
            meter.sync_failures.increment();
            core.fail(&error);
            drop(core);
            self.room.notify_all();
            return Err(error);
        }
        core.durable = core.durable.max(written);
        core.vouched = core.vouched.max(told);
        // The batch that told so is durable too now: what was freed before may be used again.
        let free = core.state.space.withdraw_durable(told);
        Self::reuse(core, free);
        Ok(written)
    }

    /// Puts on disk what is known to be durable, so that everything freed up to now becomes reusable.
    pub(super) fn turn_over(&self) -> Result<()> {
        self.tell_durable()?;
        self.flush(None)
    }

    /// Appends to the journal what is known to be durable.
    fn tell_durable(&self) -> Result<()> {
        let mut core = self.core.lock();
        core.check_writable()?;
        let durable = core.durable;
        // A transaction without operations: it only carries the number.
        core.journal.push(|_| ());
        if let Err(error) = core.journal.write_out(durable) {
            core.fail(&error);
            return Err(error);
        }
        Ok(())
    }

    /// After a sync: recovery cannot see whether data without checksums arrived, and takes it only if the disk says that
    /// everything up to there was durable. So that must be durable too before the flush is answered.
    fn vouch_for_bare(&self) -> Result<()> {
        {
            let core = self.core.lock();
            if core.newest_bare <= core.vouched {
                return Ok(());
            }
        }
        self.tell_durable()?;
        self.sync().map(|_| ())
    }
}
