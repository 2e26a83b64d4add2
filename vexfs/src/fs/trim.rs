// SPDX-License-Identifier: MIT OR Apache-2.0

//! Telling the disk which blocks hold nothing any more.
//!
//! # Contract
//!
//! - Blocks that become free are used again at once. The disk is told of those that are still free when the pool rests, when
//!   it is closed, or when [`Fs::trim`] is called: a file below the pool that loses blocks and gets others for every write
//!   costs more than the write does.
//! - Telling is advice. What is not told because of a crash costs space on a thin disk, and nothing else.
//! - While the disk is told, the blocks are in flight: nobody can write to them.

use std::collections::BTreeMap;

use parking_lot::MutexGuard;

use super::engine::{Core, Fs, Mode, Shared};
use crate::error::Result;
use crate::space::Space;
use crate::units::{Block, Run};

/// Shorter runs are not told: that would cost more than it gains.
const SHORTEST: u32 = 64;
/// Blocks told of at once, and kept from writers meanwhile: 64 MiB.
const LONGEST: u32 = 16_384;
/// Runs that are remembered; of what comes on top the disk is not told. Bounds memory to a few MiB.
const MOST: usize = 65_536;

/// Runs that became free since the disk was told. Some may be in use again.
#[derive(Debug, Default)]
pub(super) struct Freed {
    /// Start and end; neither overlapping nor touching each other.
    runs: BTreeMap<u64, u64>,
}

impl Freed {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn add(&mut self, run: Run) {
        let (mut start, mut end) = (run.start.0, run.end().0);
        if run.count < SHORTEST || self.runs.len() >= MOST {
            return;
        }
        while let Some((&other, &other_end)) = self.runs.range(..=end).next_back()
            && other_end >= start
        {
            self.runs.remove(&other);
            (start, end) = (start.min(other), end.max(other_end));
        }
        self.runs.insert(start, end);
    }

    /// Takes the next blocks that are free still; none if there are no more.
    fn take(&mut self, space: &mut Space) -> Option<Run> {
        while let Some((start, end)) = self.runs.pop_first() {
            let count = u32::try_from(end - start).map_or(LONGEST, |count| count.min(LONGEST));
            let part = Run::new(Block(start), count);
            let taken = space.take_free(part);
            let rest = taken.map_or(part.end().0, |taken| taken.end().0);
            if rest < end {
                self.runs.insert(rest, end);
            }
            match taken {
                Some(taken) if taken.count < SHORTEST => space.give_back(taken),
                Some(taken) => return Some(taken),
                None => {}
            }
        }
        None
    }
}

impl Fs {
    /// Tells the disk of all blocks that became free and were not used again.
    pub fn trim(&self) -> Result<()> {
        self.core().check_writable()?;
        self.shared.trim(|_| false);
        Ok(())
    }
}

impl Shared {
    /// Blocks that were withdrawn from waiting become free.
    pub(super) fn reuse(mut core: MutexGuard<'_, Core>, free: Vec<Run>) {
        for run in free {
            core.state.space.give_back(run);
            core.freed.add(run);
        }
    }

    /// Tells the disk of what is free, run by run, until there is no more or it is time to stop.
    pub(super) fn trim(&self, stop: impl Fn(&Core) -> bool) {
        loop {
            let mut core = self.core.lock();
            if core.mode != Mode::Writable || stop(&core) {
                return;
            }
            let Core { freed, state, .. } = &mut *core;
            let Some(run) = freed.take(&mut state.space) else {
                return;
            };
            drop(core);
            if let Err(error) = self.disk.discard(run.start.byte_at()..run.end().byte_at()) {
                tracing::debug!(%error, %run, "discard");
            } else {
                self.metrics.flush.discarded_bytes.add(run.bytes());
            }
            self.core.lock().state.space.give_back(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_one_and_what_is_in_use_is_left_out() {
        let mut space = Space::new(4096).unwrap();
        space.finish_replay();
        let mut freed = Freed::default();
        freed.add(Run::new(Block(100), 63));
        assert!(freed.is_empty(), "too short");
        freed.add(Run::new(Block(1000), 100));
        freed.add(Run::new(Block(1200), 100));
        freed.add(Run::new(Block(1100), 100));
        freed.add(Run::new(Block(3000), 64));
        assert_eq!(freed.runs, BTreeMap::from([(1000, 1300), (3000, 3064)]));
        let used = space.take(Some(Block(1100)), 20).unwrap();
        assert_eq!(used, Run::new(Block(1100), 20));
        let told: Vec<_> = std::iter::from_fn(|| freed.take(&mut space)).collect();
        assert_eq!(
            told,
            [
                Run::new(Block(1000), 100),
                Run::new(Block(1120), 180),
                Run::new(Block(3000), 64)
            ]
        );
    }
}
