// SPDX-License-Identifier: MIT OR Apache-2.0

//! Staying the owner: steps 1 and 2 of the protocol.

use std::time::Duration;

use super::{Found, Owner, Record};

/// Why the pool is no longer ours. Nothing may be written to it any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another claim is there.
    #[error("the pool was taken over by {0}")]
    TakenOver(Owner),
    /// The claim was removed, for instance by formatting.
    #[error("the heartbeat of the pool was erased")]
    Erased,
    /// No beat could be written for too long; another machine may own the pool now.
    #[error("the heartbeat of the pool could not be written in time")]
    Expired,
    /// It was given up.
    #[error("the pool is closed")]
    Closed,
}

/// Ownership of a pool, as long as it beats.
#[derive(Debug)]
pub struct Beat {
    record: Record,
    lease_from: Duration,
}

impl Beat {
    pub(super) const fn new(record: Record, lease_from: Duration) -> Self {
        Self { record, lease_from }
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
        Ok(Some(self.record.clone()))
    }

    /// It was written.
    pub fn have_written(&mut self, began: Duration, ended: Duration) -> Result<(), Lost> {
        self.check(ended)?;
        self.lease_from = began;
        Ok(())
    }

    /// Gives what to write in order to give the pool up, if the block that was just read is still ours.
    pub fn farewell(&self, found: &Found, now: Duration) -> Option<&Record> {
        let mine = matches!(found, Found::Alive(record) if record.is_claim_of(&self.record));
        (mine && self.check(now).is_ok()).then_some(&self.record)
    }
}
