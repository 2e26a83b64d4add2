// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finding free blocks, and promises of them.
//!
//! Preferences, best first:
//!
//! 1. exactly at the goal, however little is free there: a file grows without a gap;
//! 2. a run as long as wanted in the goal's group, from the goal onwards, then from the group's start;
//! 3. such a run in the next groups, around the end of the pool;
//! 4. the longest run there is.
//!
//! Without a goal the cursor takes its place, except that as much as wanted must be free there for the first: what is
//! taken one after the other lies one after the other. Other runs are looked for within groups; one found may go on into
//! the next group.
//!
//! What was never used comes last for short runs without a goal ([`Space::recycles`]): a pool in a sparse file or on a thin
//! device stays small, and a write into what the layer below has stored before needs no metadata there, which makes the
//! flush after it cheaper. Long runs go where there is most room.
//!
//! Cost: groups are chosen through [`MaxTree`](super::search::MaxTree), whose bounds may be too high. A probe that fails
//! corrects one, and every taking makes at most one too high per group it touches, so there is about one failed probe per
//! taking in the long run. [`PROBES`] bounds the short run: beyond it the longest run seen is good enough.

use super::bitmap::{GROUP_BLOCKS, Stretch};
use super::{Space, block, misuse, pieces, place};
use crate::units::{Block, Run};

/// How many groups one search looks into.
const PROBES: usize = 16;
/// Runs up to this length may go into holes.
const SHORT: u32 = 64;
/// Fewer free blocks are not worth going back for.
const RECYCLED: u64 = 1024;

impl Space {
    /// Takes 1 to `want` adjacent blocks; they are in flight then. `None` if none is available: space may be among the
    /// [deferred](Space::deferred_blocks).
    pub fn take(&mut self, goal: Option<Block>, want: u32) -> Option<Run> {
        self.take_within(self.available(), goal, want)
    }

    /// Like [`Space::take`], for the system, which may use its reserve. The blocks are the system's then.
    pub fn take_system(&mut self, goal: Option<Block>, want: u32) -> Option<Run> {
        let run = self.take_within(self.unpromised(), goal, want)?;
        self.system += u64::from(run.count);
        Some(run)
    }

    /// Takes the first blocks of a run that are free, if they are available: for work on blocks that nobody uses.
    pub fn take_free(&mut self, within: Run) -> Option<Run> {
        if !within.fits(self.blocks) {
            return None;
        }
        let start = self.find_block(within, |group, bits| group.busy.first_clear(bits))?;
        let left = u32::try_from(within.end().0 - start.0).unwrap_or(within.count);
        let count = self.clear_from(start, left);
        let count = u32::try_from(self.available()).map_or(count, |available| count.min(available));
        if count == 0 {
            return None;
        }
        let run = Run::new(start, count);
        self.occupy(run);
        Some(run)
    }

    /// Blocks that were taken are free again at once: nothing on disk names them.
    pub fn give_back(&mut self, run: Run) {
        match self.check_in_flight(run) {
            Ok(()) => self.vacate(run),
            Err(error) => misuse("give_back", error),
        }
    }

    /// Blocks of the system are free again at once: nothing that will be read after a power failure names them any more.
    pub fn release_system(&mut self, run: Run) {
        match self.check_in_flight(run) {
            Ok(()) => {
                self.vacate(run);
                self.system -= u64::from(run.count);
            }
            Err(error) => misuse("release_system", error),
        }
    }

    /// Promises blocks, all or none. Whether it did.
    #[must_use]
    pub const fn reserve(&mut self, blocks: u64) -> bool {
        let possible = blocks <= self.available();
        if possible {
            self.reserved += blocks;
        }
        possible
    }

    /// Takes blocks that each replace one, or keep a promise made earlier (`promised` of them): so they do not lessen what
    /// is available once the operation is done. May use `slack` blocks of the system's reserve meanwhile.
    pub fn take_covered(&mut self, goal: Option<Block>, want: u32, promised: u64, slack: u64) -> Option<Run> {
        let reserve = self.system_reserve.saturating_sub(slack);
        self.take_within(
            (self.unpromised() + promised).min(self.free).saturating_sub(reserve),
            goal,
            want,
        )
    }

    /// Promises blocks that were promised already, when that was or can be: what the metadata say at a mount, or a promise
    /// that was released by an operation that failed.
    pub const fn reserve_again(&mut self, blocks: u64) {
        self.reserved = self.reserved.saturating_add(blocks);
    }

    /// Gives back a promise, or what is left of it.
    pub const fn unreserve(&mut self, blocks: u64) {
        debug_assert!(blocks <= self.reserved, "more given back than was promised");
        self.reserved = self.reserved.saturating_sub(blocks);
    }

    /// Keeps this many free blocks for the system: what the coming checkpoints may need at worst. What the system takes
    /// does not lessen it. May be more than is free: nothing is available then.
    pub const fn set_system_reserve(&mut self, blocks: u64) {
        self.system_reserve = blocks;
    }

    fn take_within(&mut self, limit: u64, goal: Option<Block>, want: u32) -> Option<Run> {
        let want = u32::try_from(limit).map_or(want, |limit| want.min(limit));
        if want == 0 {
            return None;
        }
        let run = self.find(goal, want)?;
        self.occupy(run);
        Some(run)
    }

    /// Whether the cursor, at the end of what was ever used, should go back to the start: enough is free there.
    const fn recycles(&self, want: u32) -> bool {
        let untouched = self.blocks - self.touched;
        let free_below = self.free.saturating_sub(untouched);
        want <= SHORT && self.cursor.0 >= self.touched && free_below >= RECYCLED && free_below >= self.touched / 8
    }

    /// Free blocks, for a `want` of at least 1.
    fn find(&mut self, goal: Option<Block>, want: u32) -> Option<Run> {
        let goal = goal.filter(|goal| goal.0 < self.blocks);
        if goal.is_none() && self.recycles(want) {
            self.cursor = Block(0);
        }
        let near = goal.unwrap_or(self.cursor);
        let here = Run::new(near, self.clear_from(near, want));
        let good = if goal.is_some() { 1 } else { want };
        let run = if here.count >= good {
            here
        } else {
            let start = self.find_near(near, want.min(GROUP_BLOCKS))?;
            Run::new(start, self.clear_from(start, want))
        };
        if goal.is_none() {
            let end = run.end();
            self.cursor = if end.0 < self.blocks { end } else { Block(0) };
        }
        Some(run)
    }

    /// Start of `want` free blocks, or else of the longest run.
    fn find_near(&mut self, near: Block, want: u32) -> Option<Block> {
        let (home, home_bit) = place(near.0);
        let mut best: Option<(usize, Stretch)> = None;
        for _ in 0..PROBES {
            // A run of this length is either what is wanted or the longest there can be.
            let want = self.bounds.largest().min(narrow(want));
            if best.is_some_and(|(_, stretch)| stretch.len >= u32::from(want)) {
                break;
            }
            let onwards = self.bounds.next(home, want);
            let group = onwards.or_else(|| self.bounds.next(0, want))?;
            let from = if group == home { home_bit } else { 0 };
            match self.probe(group, from, want) {
                Ok(bit) => return Some(block(group, bit)),
                Err(longest) if best.is_none_or(|(_, stretch)| stretch.len < longest.len) => {
                    best = Some((group, longest));
                }
                Err(_) => {}
            }
        }
        best.filter(|(_, stretch)| stretch.len > 0)
            .map(|(group, stretch)| block(group, stretch.start))
    }

    /// A long enough run in a group, from a bit on or else anywhere; or the longest, after correcting the bound.
    fn probe(&mut self, group: usize, from: u32, want: u16) -> Result<u32, Stretch> {
        let busy = &self.groups[group].busy;
        let want = u32::from(want);
        busy.find_clear(from, want)
            .or_else(|longest| {
                if from == 0 {
                    Err(longest)
                } else {
                    busy.find_clear(0, want)
                }
            })
            .inspect_err(|longest| self.bounds.lower(group, narrow(longest.len)))
    }

    /// How many blocks from here on are free, counted up to a limit.
    fn clear_from(&self, start: Block, limit: u32) -> u32 {
        let to_end = self.blocks - start.0;
        let limit = u32::try_from(to_end).map_or(limit, |to_end| limit.min(to_end));
        let busy = self.find_block(Run::new(start, limit), |group, bits| group.busy.first_set(bits));
        busy.and_then(|busy| u32::try_from(busy.0 - start.0).ok())
            .unwrap_or(limit)
    }

    /// Free blocks become busy.
    pub(super) fn occupy(&mut self, run: Run) {
        for (group, bits) in pieces(run) {
            let busy = &mut self.groups[group].busy;
            busy.set(bits);
            if busy.ones() == GROUP_BLOCKS {
                self.bounds.lower(group, 0);
            }
        }
        self.free -= u64::from(run.count);
        self.touched = self.touched.max(run.end().0);
    }

    /// Busy blocks become free.
    pub(super) fn vacate(&mut self, run: Run) {
        for (group, bits) in pieces(run) {
            let busy = &mut self.groups[group].busy;
            busy.clear(bits.clone());
            self.bounds.raise(group, narrow(busy.clear_around(bits)));
        }
        self.free += u64::from(run.count);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "lengths within a group are at most 4096")]
pub(super) const fn narrow(len: u32) -> u16 {
    len as u16
}
