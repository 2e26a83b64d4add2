// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether the pool is ours, for all who want to write to it, while one thread beats.
//!
//! A pool is *held* until its lease ends, then *in doubt*, and held again or *lost*. In doubt nobody writes, and who wants
//! to waits: a machine that was busy or paused for longer than a lease has lost nothing if nobody took the pool.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use parking_lot::{Condvar, Mutex};

use super::Lost;
use crate::error::{Error, IoFailure};

/// For how many intervals a writer waits in doubt, from when it asks. A disk that cannot be reached for longer is of no
/// use anyway, and what waits must come to an end.
const PATIENCE: u32 = 20;

/// Tells whether the pool is still ours, from any thread. Costs a look at the clock.
#[derive(Clone, Debug)]
pub struct Ownership(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    patience: Duration,
    /// End of the lease in nanoseconds; 0 once lost. Kept by the beating thread, but a thread that hangs in its device
    /// keeps nothing, so every look compares with the clock.
    deadline: AtomicU64,
    lost: Mutex<Option<Lost>>,
    /// `deadline` or `lost` changed.
    decided: Condvar,
}

impl Ownership {
    pub(super) fn new(clock: Clock, interval: Duration, deadline: Duration) -> Self {
        Self(Arc::new(Shared {
            clock,
            patience: PATIENCE * interval,
            deadline: AtomicU64::new(nanos(deadline)),
            lost: Mutex::new(None),
            decided: Condvar::new(),
        }))
    }

    /// Fails for ever once the pool is lost. Waits in doubt.
    pub fn check(&self) -> Result<(), Lost> {
        if self.is_held() {
            return Ok(());
        }
        let asked = Instant::now();
        let mut lost = self.0.lost.lock();
        loop {
            if let Some(lost) = lost.as_ref() {
                return Err(lost.clone());
            }
            if self.is_held() {
                return Ok(());
            }
            if self
                .0
                .decided
                .wait_until(&mut lost, asked + self.0.patience)
                .timed_out()
            {
                self.0.deadline.store(0, Ordering::Release);
                return Err(lost.get_or_insert(Lost::Expired).clone());
            }
        }
    }

    /// Whether it is ours without doubt. [`Self::check`] then does not wait.
    pub fn is_held(&self) -> bool {
        nanos(self.0.clock.now()) < self.0.deadline.load(Ordering::Acquire)
    }

    /// The same as [`Self::check`] as the failure of an operation on the pool.
    pub fn require(&self, what: &str) -> Result<(), Error> {
        self.check()
            .map_err(|lost| IoFailure::new(what, io::Error::other(lost)))
    }

    /// Takes over a new lease, unless the pool is lost.
    pub(super) fn extend(&self, deadline: Duration) {
        let lost = self.0.lost.lock();
        if lost.is_none() {
            self.0.deadline.store(nanos(deadline), Ordering::Release);
            self.0.decided.notify_all();
        }
    }

    pub(super) fn lose(&self, why: Lost) {
        self.0.lost.lock().get_or_insert(why);
        self.0.deadline.store(0, Ordering::Release);
        self.0.decided.notify_all();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.0.lost.lock().is_some()
    }
}

/// Time since some moment, in which the machine may have been suspended: others did not wait for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Duration,
}

impl Clock {
    pub(super) fn start() -> io::Result<Self> {
        let origin = clock_gettime(ClockId::CLOCK_BOOTTIME)?.into();
        Ok(Self { origin })
    }

    /// The end of all time, and of every lease, if the clock cannot be read any more.
    pub(super) fn now(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME)
            .map_or(Duration::MAX, |now| Duration::from(now).saturating_sub(self.origin))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
