// SPDX-License-Identifier: MIT OR Apache-2.0

//! Staying the owner: steps 1 and 2 of the protocol.

use std::time::Duration;

use super::{Claim, Found, Owner, Record};

/// Why the pool is no longer ours. Nothing may be written to it any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another claim is there.
    #[error("the pool was taken over by {0}")]
    TakenOver(Owner),
    /// The claim was removed, for instance by formatting.
    #[error("the heartbeat of the pool was erased")]
    Erased,
    /// No beat could be written for too long, and whether another machine owns the pool now could not be found out.
    #[error("the heartbeat of the pool could not be written in time")]
    Expired,
    /// It is free or ours again, but somebody else used it meanwhile.
    #[error("the pool was changed by another machine while its heartbeat could not be written")]
    Changed,
    /// It was given up.
    #[error("the pool is closed")]
    Closed,
}

/// Ownership of a pool, as long as it beats.
#[derive(Debug)]
pub struct Beat {
    record: Record,
    lease_from: Duration,
    /// No write is under way or of unknown result: the block holds `record`, unless others wrote.
    settled: bool,
}

impl Beat {
    pub(super) const fn new(record: Record, lease_from: Duration) -> Self {
        Self {
            record,
            lease_from,
            settled: true,
        }
    }

    /// After [`Lost::Expired`]: how to find out whether the pool is still ours.
    pub fn again(&self) -> Claim {
        Claim::again(self.record.clone(), self.settled)
    }

    /// Between beats.
    pub const fn interval(&self) -> Duration {
        self.record.interval
    }

    /// When the pool is lost unless there is another beat.
    pub fn deadline(&self) -> Duration {
        self.lease_from + 2 * self.record.interval
    }

    /// Whether the pool is still ours.
    pub fn check(&self, now: Duration) -> Result<(), Lost> {
        if now < self.deadline() {
            Ok(())
        } else {
            Err(Lost::Expired)
        }
    }

    /// The block was read: gives what to write, or nothing if the block is damaged; the lease goes on running then.
    pub fn have_read(&mut self, found: &Found, now: Duration) -> Result<Option<Record>, Lost> {
        match found {
            Found::Alive(record) if record.is_claim_of(&self.record) => {}
            Found::Alive(record) => return Err(Lost::TakenOver(record.owner.clone())),
            Found::Free => return Err(Lost::Erased),
            Found::Unclear(_) => return self.check(now).map(|()| None),
        }
        self.check(now)?;
        self.record.counter = self.record.counter.wrapping_add(1);
        self.settled = false;
        Ok(Some(self.record.clone()))
    }

    /// It was written.
    pub fn have_written(&mut self, began: Duration, ended: Duration) -> Result<(), Lost> {
        self.check(ended)?;
        self.lease_from = began;
        self.settled = true;
        Ok(())
    }

    /// Gives what to write in order to give the pool up, if the block that was just read is still ours.
    pub fn farewell(&self, found: &Found, now: Duration) -> Option<&Record> {
        let mine = matches!(found, Found::Alive(record) if record.is_claim_of(&self.record));
        (mine && self.check(now).is_ok()).then_some(&self.record)
    }
}
