// SPDX-License-Identifier: MIT OR Apache-2.0

//! A disk that keeps copies of itself at the moments at which a crash is to be examined.
//!
//! This is the same as running the sequence again up to the moment and turning the power off there, since the engine does
//! the same again every time (which another test checks), but costs one run for all the moments.

use std::ops::Range;
use std::sync::Arc;

use vexfs::disk::{Disk, SimDisk, SplitMix64};
use vexfs::error::Result;

use parking_lot::Mutex;

/// What a crash left, and which start of the machine the next opening belongs to.
#[derive(Clone)]
pub struct Left {
    pub disk: SimDisk,
    pub boot: u8,
}

/// What of a crash there is to examine.
pub struct Moment {
    /// Writes, syncs and discards before it.
    pub operations: u64,
    /// The call that was under way, by number.
    pub call: usize,
    /// The disk before the operation that did not end.
    disk: SimDisk,
    boot: u8,
    operation: Operation,
}

enum Operation {
    Write(u64, Arc<[u8]>),
    Sync,
    Discard(Range<u64>),
    Nothing,
}

impl Moment {
    /// The power failed during the operation.
    pub fn power_fails(&self, seed: u64) -> Left {
        let disk = self.disk.clone();
        disk.stop_after(self.operations);
        // That it fails is the point.
        let _ = match &self.operation {
            Operation::Write(at, bytes) => disk.write(*at, bytes),
            Operation::Sync => disk.sync(),
            Operation::Discard(range) => disk.discard(range.clone()),
            Operation::Nothing => Ok(()),
        };
        Left {
            disk: disk.crash(seed),
            boot: self.boot + 1,
        }
    }

    /// The process ended before the operation.
    pub fn process_ends(&self) -> Left {
        Left {
            disk: self.disk.process_crash(),
            boot: self.boot,
        }
    }
}

/// Which moments to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Points {
    All,
    /// The first, the last, and so many others.
    Some(usize),
    None,
}

/// See the module.
pub struct Recorder {
    /// The disk itself.
    pub sim: SimDisk,
    pub boot: u8,
    watch: Mutex<Watch>,
}

struct Watch {
    points: Points,
    random: SplitMix64,
    call: usize,
    seen: u64,
    moments: Vec<Moment>,
}

impl Recorder {
    pub fn new(left: Left, points: Points, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            sim: left.disk,
            boot: left.boot,
            watch: Mutex::new(Watch {
                points,
                random: SplitMix64::new(seed),
                call: 0,
                seen: 0,
                moments: Vec::new(),
            }),
        })
    }

    /// A call begins.
    pub fn call_begins(&self, number: usize) {
        self.watch.lock().call = number;
    }

    /// This moment, when no operation is under way.
    pub fn now(&self, call: usize) -> Moment {
        Moment {
            operations: self.sim.operations(),
            call,
            disk: self.sim.clone(),
            boot: self.boot,
            operation: Operation::Nothing,
        }
    }

    /// The moments kept, in order.
    pub fn moments(&self) -> Vec<Moment> {
        let mut moments = std::mem::take(&mut self.watch.lock().moments);
        moments.sort_by_key(|moment| moment.operations);
        moments
    }

    fn keep(&self, operation: impl FnOnce() -> Operation) {
        let mut watch = self.watch.lock();
        let watch = &mut *watch;
        let seen = watch.seen;
        watch.seen += 1;
        // A sample of a number of operations that is not known yet: each takes the place of an earlier one with the
        // chance that makes all equal.
        let place = match watch.points {
            Points::None => return,
            Points::All => watch.moments.len(),
            Points::Some(count) if seen <= count as u64 => watch.moments.len(),
            Points::Some(count) => match watch.random.below(seen + 1) as usize {
                place if place < count => place + 1,
                _ => return,
            },
        };
        let moment = Moment {
            operations: self.sim.operations(),
            call: watch.call,
            disk: self.sim.clone(),
            boot: self.boot,
            operation: operation(),
        };
        if place < watch.moments.len() {
            watch.moments[place] = moment;
        } else {
            watch.moments.push(moment);
        }
    }
}

impl Disk for Recorder {
    fn size_bytes(&self) -> u64 {
        self.sim.size_bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.sim.read(at, into)
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        self.keep(|| Operation::Write(at, from.into()));
        self.sim.write(at, from)
    }

    fn sync(&self) -> Result<()> {
        self.keep(|| Operation::Sync);
        self.sim.sync()
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.keep(|| Operation::Discard(range.clone()));
        self.sim.discard(range)
    }
}
