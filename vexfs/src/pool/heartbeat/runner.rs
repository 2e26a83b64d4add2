// SPDX-License-Identifier: MIT OR Apache-2.0

//! The heartbeat in real time: one thread per pool.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::{Beat, Claim, Found, HeartbeatDevice, Lost, Refusal, Step};
use crate::error::{Error, IoFailure};
use crate::units::BLOCK_SIZE;

/// Why a pool could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The protocol says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The block could not be read or written.
    #[error("the heartbeat block cannot be used: {0}; check the device")]
    Device(#[from] io::Error),
}

/// Tells whether the pool is still ours, from any thread. Costs a look at the clock.
#[derive(Clone, Debug)]
pub struct Ownership(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    origin: Instant,
    /// End of the lease in nanoseconds after `origin`; 0 once lost. Kept by the beating thread, but a thread that hangs in
    /// its device keeps nothing, so every look compares with the clock.
    deadline: AtomicU64,
    lost: Mutex<Option<Lost>>,
    stop: Mutex<bool>,
    wake: Condvar,
}

impl Ownership {
    /// Fails for ever once the pool is lost.
    pub fn check(&self) -> Result<(), Lost> {
        if nanos(self.0.origin.elapsed()) < self.0.deadline.load(Ordering::Acquire) {
            return Ok(());
        }
        let lost = self.0.lost.lock().get_or_insert(Lost::Expired).clone();
        self.0.deadline.store(0, Ordering::Release);
        Err(lost)
    }

    /// The same as the failure of an operation on the pool.
    pub fn require(&self, what: &str) -> Result<(), Error> {
        self.check()
            .map_err(|lost| IoFailure::new(what, io::Error::other(lost)))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Shared {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Takes over a new lease, unless somebody saw the old one end.
    fn extend(&self, deadline: Duration) {
        let lost = self.lost.lock();
        if lost.is_none() {
            self.deadline.store(nanos(deadline), Ordering::Release);
        }
    }

    fn lose(&self, why: Lost) {
        self.lost.lock().get_or_insert(why);
        self.deadline.store(0, Ordering::Release);
    }

    fn is_lost(&self) -> bool {
        self.lost.lock().is_some()
    }
}

/// Beats until dropped, and then gives the pool up.
pub struct Runner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Runner {
    /// Claims the pool, which may wait for some intervals, and starts to beat.
    pub fn start(mut device: Box<dyn HeartbeatDevice>, mut claim: Claim) -> Result<Self, ClaimError> {
        let origin = Instant::now();
        let beat = loop {
            let began = origin.elapsed();
            match claim.step(began) {
                Step::Read => {
                    let found = read(device.as_mut())?;
                    claim.have_read(found, began, origin.elapsed());
                }
                Step::Write(record) => {
                    device.write(&record.encode())?;
                    claim.have_written(began, origin.elapsed());
                }
                Step::Wait(until) => thread::sleep(until.saturating_sub(began)),
                Step::Own(beat) => break beat,
                Step::Refuse(refusal) => return Err(refusal.into()),
            }
        };
        let shared = Arc::new(Shared {
            origin,
            deadline: AtomicU64::new(nanos(beat.deadline())),
            lost: Mutex::new(None),
            stop: Mutex::new(false),
            wake: Condvar::new(),
        });
        let owned = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("vexfs-heartbeat".into())
            .spawn(move || run(device, beat, &owned))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// To ask whether the pool is still ours.
    pub fn ownership(&self) -> Ownership {
        Ownership(Arc::clone(&self.shared))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        *self.shared.stop.lock() = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to give up; its lease ends by itself.
            let _ = thread.join();
        }
        self.shared.lose(Lost::Closed);
    }
}

fn read(device: &mut dyn HeartbeatDevice) -> io::Result<Found> {
    let mut block = [0; BLOCK_SIZE];
    device.read(&mut block)?;
    Ok(Found::decode(&block))
}

fn run(mut device: Box<dyn HeartbeatDevice>, mut beat: Beat, shared: &Shared) {
    loop {
        match beat_once(device.as_mut(), &mut beat, shared) {
            Ok(Ok(())) => shared.extend(beat.deadline()),
            Ok(Err(lost)) => {
                tracing::error!(%lost, "lost the pool: nothing more is written to it");
                return shared.lose(lost);
            }
            // An I/O error is no verdict, but the lease goes on running.
            Err(error) => {
                tracing::warn!(%error, "the heartbeat failed; it is tried again");
                if let Err(lost) = beat.check(shared.now()) {
                    return shared.lose(lost);
                }
            }
        }
        let mut stop = shared.stop.lock();
        if !*stop {
            shared.wake.wait_for(&mut stop, beat.interval());
        }
        if *stop {
            break;
        }
    }
    if shared.is_lost() {
        return;
    }
    let farewell = read(device.as_mut()).and_then(|found| match beat.farewell(&found, shared.now()) {
        Some(record) => device.write(&record.encode_free()),
        None => Ok(()),
    });
    if let Err(error) = farewell {
        tracing::warn!(%error, "the pool could not be given up; other machines will wait for its heartbeat");
    }
}

fn beat_once(device: &mut dyn HeartbeatDevice, beat: &mut Beat, shared: &Shared) -> io::Result<Result<(), Lost>> {
    let found = read(device)?;
    let record = match beat.have_read(&found, shared.now()) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(Ok(())),
        Err(lost) => return Ok(Err(lost)),
    };
    let began = shared.now();
    device.write(&record.encode())?;
    Ok(beat.have_written(began, shared.now()))
}
