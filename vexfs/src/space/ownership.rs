// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who owns blocks: what the operations of the journal say, and what the system claims.
//!
//! Called by the same code for new operations and for replayed ones; the difference between both is here.

use super::{Result, Space, SpaceError, misuse, pieces};
use crate::units::{Run, Seq};

impl Space {
    /// Blocks known to belong to the system: superblocks, journal, tables of the metadata. They must be free.
    pub fn claim_system(&mut self, run: Run) -> Result<()> {
        self.check_free(run)?;
        if !self.replaying && u64::from(run.count) > self.unpromised() {
            return Err(SpaceError::Promised(run));
        }
        self.occupy(run);
        self.system += u64::from(run.count);
        Ok(())
    }

    /// An operation makes blocks in flight its own; in replay, free ones.
    pub fn commit_alloc(&mut self, run: Run) -> Result<()> {
        if self.replaying {
            self.check_free(run)?;
            self.occupy(run);
        } else {
            self.check_in_flight(run)?;
        }
        self.own(run);
        Ok(())
    }

    /// Takes back [`Space::commit_alloc`], because a later part of its operation failed.
    pub fn undo_commit_alloc(&mut self, run: Run) {
        match self.check_committed(run) {
            Ok(()) => {
                self.disown(run);
                if self.replaying {
                    self.vacate(run);
                }
            }
            Err(error) => misuse("undo_commit_alloc", error),
        }
    }

    /// An operation frees committed blocks. They become free when [`Space::release_durable`] says that the operation
    /// cannot be lost; in replay, at once.
    pub fn commit_free(&mut self, run: Run, seq: Seq) -> Result<()> {
        self.check_committed(run)?;
        self.disown(run);
        if self.replaying {
            self.vacate(run);
        } else {
            self.deferred.push(seq, run);
        }
        Ok(())
    }

    /// Takes back [`Space::commit_free`] of exactly this run, because a later part of its operation failed.
    pub fn undo_commit_free(&mut self, run: Run, seq: Seq) {
        if self.replaying {
            match self.check_free(run) {
                Ok(()) => {
                    self.occupy(run);
                    self.own(run);
                }
                Err(error) => misuse("undo_commit_free", error),
            }
        } else if self.deferred.remove(seq, run) {
            self.own(run);
        } else {
            misuse("undo_commit_free", SpaceError::NotCommitted(run.start));
        }
    }

    /// No operation up to `seq` can be lost any more: what they freed becomes free. Returns it by place, adjacent runs
    /// merged.
    pub fn release_durable(&mut self, seq: Seq) -> Vec<Run> {
        let runs = self.withdraw_durable(seq);
        for run in &runs {
            self.give_back(*run);
        }
        runs
    }

    /// Like [`Space::release_durable`], but the runs are in flight then, until [`Space::give_back`]: to discard them
    /// without hitting the writes of their next owner.
    pub fn withdraw_durable(&mut self, seq: Seq) -> Vec<Run> {
        self.deferred.pop_through(seq)
    }

    fn check_free(&self, run: Run) -> Result<()> {
        self.check_inside(run)?;
        match self.find_block(run, |group, bits| group.busy.first_set(bits)) {
            Some(block) => Err(SpaceError::InUse(block)),
            None => Ok(()),
        }
    }

    pub(super) fn check_in_flight(&self, run: Run) -> Result<()> {
        self.check_inside(run)?;
        if let Some(block) = self.find_block(run, |group, bits| group.committed.first_set(bits)) {
            return Err(SpaceError::InUse(block));
        }
        match self.find_block(run, |group, bits| group.busy.first_clear(bits)) {
            Some(block) => Err(SpaceError::NotTaken(block)),
            None => Ok(()),
        }
    }

    fn check_committed(&self, run: Run) -> Result<()> {
        self.check_inside(run)?;
        match self.find_block(run, |group, bits| group.committed.first_clear(bits)) {
            Some(block) => Err(SpaceError::NotCommitted(block)),
            None => Ok(()),
        }
    }

    /// Sets `committed` of busy blocks.
    fn own(&mut self, run: Run) {
        for (group, bits) in pieces(run) {
            self.groups[group].committed.set(bits);
            self.mark_dirty(group);
        }
        self.committed += u64::from(run.count);
    }

    /// Clears `committed`; the blocks stay busy.
    fn disown(&mut self, run: Run) {
        for (group, bits) in pieces(run) {
            self.groups[group].committed.clear(bits);
            self.mark_dirty(group);
        }
        self.committed -= u64::from(run.count);
    }
}
