// SPDX-License-Identifier: MIT OR Apache-2.0

//! The heartbeat in real time: one thread per pool.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::ownership::Clock;
use super::{Beat, Claim, Found, HeartbeatDevice, Lost, Ownership, Refusal, Step};
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

/// Tells whether the pool is as its owner left it: nobody else opened it for writing.
pub trait Witness: Send + 'static {
    /// By the medium, not by what this machine has cached.
    fn is_unchanged(&mut self) -> io::Result<bool>;
}

impl<F: FnMut() -> io::Result<bool> + Send + 'static> Witness for F {
    fn is_unchanged(&mut self) -> io::Result<bool> {
        self()
    }
}

/// Beats until dropped, and then gives the pool up.
pub struct Runner {
    ownership: Ownership,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the thread to end, wherever it waits.
#[derive(Default)]
struct Stop {
    wanted: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    /// Whether to go on after that time.
    fn pause(&self, time: Duration) -> bool {
        let mut wanted = self.wanted.lock();
        if !*wanted {
            self.wake.wait_for(&mut wanted, time);
        }
        !*wanted
    }
}

impl Runner {
    /// Claims the pool, which may wait for some intervals, and starts to beat.
    pub fn start(
        device: Box<dyn HeartbeatDevice>,
        mut claim: Claim,
        witness: Box<dyn Witness>,
    ) -> Result<Self, ClaimError> {
        let clock = Clock::start()?;
        let stop = Arc::new(Stop::default());
        let mut heart = Heart {
            device,
            witness,
            clock,
            stop: Arc::clone(&stop),
        };
        let beat = loop {
            match heart.advance(&mut claim)? {
                Progress::Going => {}
                Progress::Owned(beat) => break beat,
                Progress::Refused(refusal) => return Err(refusal.into()),
            }
        };
        let ownership = Ownership::new(clock, beat.interval(), beat.deadline());
        let owned = ownership.clone();
        let thread = thread::Builder::new()
            .name("vexfs-heartbeat".into())
            .spawn(move || heart.run(beat, &owned))?;
        Ok(Self {
            ownership,
            stop,
            thread: Some(thread),
        })
    }

    /// To ask whether the pool is still ours.
    pub fn ownership(&self) -> Ownership {
        self.ownership.clone()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        *self.stop.wanted.lock() = true;
        self.stop.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing more to give up; its lease ends by itself.
            let _ = thread.join();
        }
        self.ownership.lose(Lost::Closed);
    }
}

/// What the thread has.
struct Heart {
    device: Box<dyn HeartbeatDevice>,
    witness: Box<dyn Witness>,
    clock: Clock,
    stop: Arc<Stop>,
}

enum Progress {
    Going,
    Owned(Beat),
    Refused(Refusal),
}

impl Heart {
    fn run(mut self, mut beat: Beat, ownership: &Ownership) {
        loop {
            let lost = match self.beat_once(&mut beat) {
                Ok(kept) => kept.err(),
                // An I/O error is no verdict, but the lease goes on running.
                Err(error) => {
                    tracing::warn!(%error, "the heartbeat failed; it is tried again");
                    beat.check(self.clock.now()).err()
                }
            };
            match lost {
                None => ownership.extend(beat.deadline()),
                Some(Lost::Expired) => match self.renew(&beat, ownership) {
                    Some(Ok(again)) => beat = again,
                    Some(Err(lost)) => return give_up(lost, ownership),
                    None => break,
                },
                Some(lost) => return give_up(lost, ownership),
            }
            if !self.stop.pause(beat.interval()) {
                break;
            }
        }
        if !ownership.is_lost() {
            self.farewell(&beat);
        }
    }

    fn beat_once(&mut self, beat: &mut Beat) -> io::Result<Result<(), Lost>> {
        let found = self.read()?;
        let record = match beat.have_read(&found, self.clock.now()) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Ok(())),
            Err(lost) => return Ok(Err(lost)),
        };
        let began = self.clock.now();
        self.device.write(&record.encode())?;
        Ok(beat.have_written(began, self.clock.now()))
    }

    /// Goes on with a claim whose lease is over, for as long as nobody else is found and everybody has patience. Nothing if
    /// it is to end.
    fn renew(&mut self, beat: &Beat, ownership: &Ownership) -> Option<Result<Beat, Lost>> {
        tracing::warn!("the heartbeat is late; nothing is written to the pool until it is certain that nobody took it");
        let began = self.clock.now();
        let mut claim = beat.again();
        while !ownership.is_lost() {
            match self.advance(&mut claim).and_then(|progress| self.witnessed(progress)) {
                Ok(Ok(Progress::Going)) => {}
                Ok(Ok(Progress::Owned(again))) if again.check(self.clock.now()).is_ok() => {
                    ownership.extend(again.deadline());
                    let millis = (self.clock.now().saturating_sub(began)).as_millis();
                    tracing::warn!(millis, "the pool is still ours");
                    return Some(Ok(again));
                }
                Ok(Ok(Progress::Owned(again))) => claim = again.again(),
                Ok(Ok(Progress::Refused(Refusal::Alive(owner)))) => return Some(Err(Lost::TakenOver(owner))),
                Ok(Ok(Progress::Refused(Refusal::Erased))) => return Some(Err(Lost::Erased)),
                Ok(Ok(Progress::Refused(_))) => claim = claim.doubt(),
                Ok(Err(lost)) => return Some(Err(lost)),
                Err(error) => {
                    tracing::warn!(%error, "the heartbeat failed; it is tried again");
                    claim = claim.doubt();
                    self.stop.pause(beat.interval());
                }
            }
            if *self.stop.wanted.lock() {
                return None;
            }
        }
        Some(Err(Lost::Expired))
    }

    /// Who owns a pool again asks whether it is the same as before.
    fn witnessed(&mut self, progress: Progress) -> io::Result<Result<Progress, Lost>> {
        if matches!(progress, Progress::Owned(_)) && !self.witness.is_unchanged()? {
            return Ok(Err(Lost::Changed));
        }
        Ok(Ok(progress))
    }

    /// Carries out one step of a claim.
    fn advance(&mut self, claim: &mut Claim) -> io::Result<Progress> {
        let began = self.clock.now();
        match claim.step(began) {
            Step::Read => {
                let found = self.read()?;
                claim.have_read(found, began, self.clock.now());
            }
            Step::Write(record) => {
                self.device.write(&record.encode())?;
                claim.have_written(began, self.clock.now());
            }
            Step::Wait(until) => {
                self.stop.pause(until.saturating_sub(began));
            }
            Step::Own(beat) => return Ok(Progress::Owned(beat)),
            Step::Refuse(refusal) => return Ok(Progress::Refused(refusal)),
        }
        Ok(Progress::Going)
    }

    fn farewell(&mut self, beat: &Beat) {
        let farewell = self
            .read()
            .and_then(|found| match beat.farewell(&found, self.clock.now()) {
                Some(record) => self.device.write(&record.encode_free()),
                None => Ok(()),
            });
        if let Err(error) = farewell {
            tracing::warn!(%error, "the pool could not be given up; other machines will wait for its heartbeat");
        }
    }

    fn read(&mut self) -> io::Result<Found> {
        let mut block = [0; BLOCK_SIZE];
        self.device.read(&mut block)?;
        Ok(Found::decode(&block))
    }
}

fn give_up(lost: Lost, ownership: &Ownership) {
    tracing::error!(%lost, "lost the pool: nothing more is written to it");
    ownership.lose(lost);
}
