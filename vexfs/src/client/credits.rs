// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the client was promised: blocks for its dirty pages, and operations that it may post. Counts; the blocks themselves
//! are kept by the engine (`Fs::keep_for_client`).
//!
//! Both are told as totals that only grow, so a lost reply loses nothing. The client tells how many blocks it has used or
//! given back, as a total too.

/// Operations that may be posted and not applied, at most.
const MOST_POSTED: u64 = 16_384;
/// Posted operations that a kept block answers for.
const OPERATIONS_PER_BLOCK: u64 = 2;

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Credits {
    granted: u64,
    spent: u64,
    /// Operations at positions below may be posted.
    posting: u64,
}

/// As replies tell them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Blocks.
    pub blocks: u64,
    /// Position up to which operations may be posted.
    pub operations: u64,
}

impl Credits {
    /// What was promised so far.
    pub const fn totals(&self) -> Totals {
        Totals {
            blocks: self.granted,
            operations: self.posting,
        }
    }

    /// Blocks that are owed.
    pub const fn outstanding(&self) -> u64 {
        self.granted - self.spent
    }

    /// The client has used or given back so many in all. It cannot take that back, nor more than it had.
    pub fn note_spent(&mut self, spent: u64) {
        self.spent = spent.clamp(self.spent, self.granted);
    }

    /// What must be kept if so much more is promised; `applied` is the position up to which operations are.
    pub fn wanted(&self, blocks: u64, operations: u64, applied: u64) -> u64 {
        let posting = self.next_posting(operations, applied);
        self.outstanding()
            .saturating_add(blocks)
            .saturating_add(kept_for(posting, applied))
    }

    fn next_posting(&self, operations: u64, applied: u64) -> u64 {
        let next = applied.saturating_add(operations.min(MOST_POSTED));
        self.posting.max(next)
    }

    /// Promises as much of what is wanted as the blocks kept allow: operations first, which need few.
    pub fn promise(&mut self, blocks: u64, operations: u64, applied: u64, kept: u64) {
        let spare = kept.saturating_sub(self.outstanding());
        let possible = applied.saturating_add(spare.saturating_mul(OPERATIONS_PER_BLOCK));
        self.posting = self.next_posting(operations, applied).min(possible).max(self.posting);
        let spare = spare.saturating_sub(kept_for(self.posting, applied));
        self.granted += blocks.min(spare);
    }

    /// After the server has changed: what the client says it had.
    pub fn resume(&mut self, granted: u64, spent: u64, posted: u64) -> u64 {
        *self = Self {
            granted: granted.max(spent),
            spent,
            posting: posted,
        };
        self.outstanding()
    }
}

fn kept_for(posting: u64, applied: u64) -> u64 {
    posting.saturating_sub(applied).div_ceil(OPERATIONS_PER_BLOCK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn totals_never_go_down_and_no_more_is_promised_than_is_kept(
            steps in proptest::collection::vec((0_u64..2000, 0_u64..40_000, 0_u64..3000, 0_u64..500, 0_u64..5000), 1..40)
        ) {
            let mut credits = Credits::default();
            let mut applied = 0;
            for (blocks, operations, free, more_applied, spent) in steps {
                applied = (applied + more_applied).min(credits.totals().operations.max(applied));
                let before = credits.totals();
                credits.note_spent(spent);
                let kept = credits.wanted(blocks, operations, applied).min(
                    (credits.outstanding() + kept_for(credits.totals().operations, applied)).max(free),
                );
                credits.promise(blocks, operations, applied, kept);
                let after = credits.totals();
                prop_assert!(after.blocks >= before.blocks && after.operations >= before.operations);
                prop_assert!(credits.outstanding() + kept_for(after.operations, applied) <= kept);
            }
        }
    }
}
