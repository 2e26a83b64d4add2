// SPDX-License-Identifier: MIT OR Apache-2.0

//! Freed blocks that wait until the operation that freed them cannot be lost any more.

use std::collections::VecDeque;

use crate::units::{Run, Seq};

/// A queue of frees, ordered by the operation's sequence number.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    queue: VecDeque<(Seq, Run)>,
    blocks: u64,
}

impl Deferred {
    /// Number of blocks that wait.
    pub(super) const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Adds what an operation frees. Cheap for operations in order; any order is right.
    pub(super) fn push(&mut self, seq: Seq, run: Run) {
        self.blocks += u64::from(run.count);
        if self.queue.back().is_none_or(|(last, _)| *last <= seq) {
            self.queue.push_back((seq, run));
        } else {
            let place = self.queue.partition_point(|(other, _)| *other <= seq);
            self.queue.insert(place, (seq, run));
        }
    }

    /// Takes back a run exactly as it was pushed. Whether it was there.
    pub(super) fn remove(&mut self, seq: Seq, run: Run) -> bool {
        // Operations are undone youngest first, so the wanted entry is at or near the end.
        let newer = self.queue.iter().rev().take_while(|(other, _)| *other >= seq);
        let Some(back) = newer.into_iter().position(|entry| *entry == (seq, run)) else {
            return false;
        };
        self.queue.remove(self.queue.len() - 1 - back);
        self.blocks -= u64::from(run.count);
        true
    }

    /// Removes every free of operations up to `seq`: by place, adjacent ones merged.
    pub(super) fn pop_through(&mut self, seq: Seq) -> Vec<Run> {
        let ready = self.queue.partition_point(|(other, _)| *other <= seq);
        let mut runs: Vec<Run> = self.queue.drain(..ready).map(|(_, run)| run).collect();
        self.blocks -= runs.iter().map(|run| u64::from(run.count)).sum::<u64>();
        runs.sort_unstable();
        runs.dedup_by(|next, merged| {
            let count = merged
                .count
                .checked_add(next.count)
                .filter(|_| merged.end() == next.start);
            if let Some(count) = count {
                merged.count = count;
            }
            count.is_some()
        });
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Block;

    fn run(start: u64, count: u32) -> Run {
        Run::new(Block(start), count)
    }

    #[test]
    fn frees_come_back_merged_and_never_before_their_operation() {
        let mut deferred = Deferred::default();
        deferred.push(Seq(5), run(20, 5));
        deferred.push(Seq(9), run(30, 1));
        deferred.push(Seq(5), run(10, 10));
        deferred.push(Seq(7), run(25, 5));
        assert_eq!(deferred.blocks(), 21);
        assert_eq!(deferred.pop_through(Seq(4)), []);
        assert_eq!(deferred.pop_through(Seq(8)), [run(10, 20)]);
        assert_eq!(deferred.blocks(), 1);
        assert_eq!(deferred.pop_through(Seq(9)), [run(30, 1)]);
        assert_eq!(deferred.blocks(), 0);
    }

    #[test]
    fn merging_stops_where_a_count_would_overflow() {
        let mut deferred = Deferred::default();
        deferred.push(Seq(1), run(0, u32::MAX));
        deferred.push(Seq(1), run(u64::from(u32::MAX), 2));
        assert_eq!(
            deferred.pop_through(Seq(1)),
            [run(0, u32::MAX), run(u64::from(u32::MAX), 2)]
        );
    }

    #[test]
    fn only_what_was_pushed_can_be_removed() {
        let mut deferred = Deferred::default();
        deferred.push(Seq(1), run(0, 2));
        deferred.push(Seq(3), run(4, 2));
        assert!(!deferred.remove(Seq(3), run(0, 2)));
        assert!(!deferred.remove(Seq(1), run(0, 1)));
        assert!(deferred.remove(Seq(1), run(0, 2)));
        assert!(!deferred.remove(Seq(1), run(0, 2)));
        assert_eq!(deferred.pop_through(Seq(3)), [run(4, 2)]);
    }
}
