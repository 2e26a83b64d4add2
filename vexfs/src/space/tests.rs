// SPDX-License-Identifier: MIT OR Apache-2.0

//! What [`Space`] promises, one sentence each; everything at once is in [`super::model`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

use super::model::{Model, State};
use super::*;
use crate::units::Seq;

pub(super) const GROUP: u64 = GROUP_BLOCKS as u64;

/// The same cases every time.
pub(super) fn seeded(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x5eed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(super) fn run(start: u64, count: u32) -> Run {
    Run::new(Block(start), count)
}

fn mounted(pool_blocks: u64) -> Space {
    let mut space = Space::new(pool_blocks).unwrap();
    space.finish_replay();
    space
}

proptest! {
    #![proptest_config(seeded(96))]

    #[test]
    fn no_block_is_handed_out_twice_until_the_pool_is_full(
        blocks in 1..3 * GROUP,
        wants in prop::collection::vec((any::<Option<Index>>(), 1..700_u32), 1..20),
    ) {
        let mut space = mounted(blocks);
        let mut seen = vec![false; usize::try_from(blocks).unwrap()];
        for (goal, want) in wants.iter().cycle() {
            let goal = goal.map(|goal| Block(goal.index(seen.len()) as u64));
            let Some(run) = space.take(goal, *want) else { break };
            for block in run.blocks() {
                prop_assert!(!std::mem::replace(&mut seen[usize::try_from(block.0).unwrap()], true), "{block} twice");
            }
        }
        prop_assert!(seen.iter().all(|seen| *seen), "a block was never handed out");
    }

    #[test]
    fn any_row_is_loaded_exactly_or_refused(
        blocks in 1..2 * GROUP + 100,
        group in prop_oneof![0..4_u64, any::<u64>()],
        mut row in prop_oneof![
            prop::collection::vec(any::<u8>(), ROW_BYTES),
            prop::collection::vec(any::<u8>(), 0..600),
            Just(vec![0; ROW_BYTES]),
            Just(vec![0xff; ROW_BYTES]),
        ],
        cut in any::<bool>(),
    ) {
        let end = usize::try_from(blocks.saturating_sub(group.saturating_mul(GROUP)).min(GROUP)).unwrap();
        if cut {
            for bit in end..row.len() * 8 {
                row[bit / 8] &= !(1 << (bit % 8));
            }
        }
        let beyond = (end..row.len() * 8).find(|bit| row[bit / 8] & (1 << (bit % 8)) != 0);
        let mut space = Space::new(blocks).unwrap();
        let mut model = Model::new(blocks);
        let answer = space.load_row(group, &row);
        if row.len() != ROW_BYTES {
            prop_assert_eq!(answer, Err(SpaceError::RowSize { group, bytes: row.len() }));
        } else if group >= blocks.div_ceil(GROUP) {
            prop_assert_eq!(answer, Err(SpaceError::RowOutside(group)));
        } else if let Some(bit) = beyond {
            prop_assert_eq!(answer, Err(SpaceError::RowBeyondEnd { group, block: Block(group * GROUP + bit as u64) }));
        } else {
            prop_assert_eq!(answer, Ok(()));
            for bit in (0..end).filter(|bit| row[bit / 8] & (1 << (bit % 8)) != 0) {
                model.set(run(group * GROUP + bit as u64, 1), State::Committed);
            }
            if model.count(State::Committed) > 0 {
                prop_assert_eq!(space.load_row(group, &row), Err(SpaceError::RowTwice(group)));
            }
        }
        model.compare(&space);
        prop_assert_eq!(space.freeze_dirty_rows(), []);
    }
}

#[test]
fn a_freed_block_is_not_reused_before_its_operation_is_durable() {
    let mut space = mounted(10);
    let all = space.take(None, 10).unwrap();
    space.commit_alloc(all).unwrap();
    space.commit_free(run(3, 1), Seq(9)).unwrap();
    assert_eq!(space.release_durable(Seq(8)), []);
    assert_eq!(space.take(None, 1), None);
    assert_eq!((space.deferred_blocks(), space.committed_blocks()), (1, 9));
    assert_eq!(space.release_durable(Seq(9)), [run(3, 1)]);
    assert_eq!(space.take(None, 1), Some(run(3, 1)));
}

#[test]
fn takings_without_a_goal_lie_one_after_the_other_across_groups() {
    let mut space = mounted(4 * GROUP);
    let mut end = 0;
    for want in [1, 1, 7, 4000, 300, 1, 4096, 5000] {
        assert_eq!(space.take(None, want), Some(run(end, want)));
        end += u64::from(want);
    }
    // The rest is too short for this one, but not for the next.
    space.give_back(run(100, 5000));
    assert_eq!(space.take(None, 3000), Some(run(100, 3000)));
    assert_eq!(
        space.take(Some(Block(end)), 9000),
        Some(run(end, u32::try_from(4 * GROUP - end).unwrap()))
    );
}

#[test]
fn a_run_at_the_goal_crosses_groups() {
    let mut space = mounted(4 * GROUP);
    assert_eq!(space.take(Some(Block(5)), 10_000), Some(run(5, 10_000)));
    space.give_back(run(5, 10_000));
    assert_eq!(space.free_blocks(), 4 * GROUP);
}

#[test]
fn a_search_misled_by_many_bounds_settles_for_less_and_the_next_ones_know_better() {
    const GROUPS: u64 = 40;
    let mut space = mounted(GROUPS * GROUP);
    for group in 0..GROUPS - 1 {
        space.take(Some(Block(group * GROUP + GROUP / 2)), 1).unwrap();
    }
    let mut takings = std::iter::repeat_with(|| space.take(None, GROUP_BLOCKS).unwrap());
    let settled = takings.by_ref().take_while(|run| run.count < GROUP_BLOCKS).count();
    assert_eq!(settled, 2, "16 groups each, then the rest");
}

#[test]
fn a_promise_is_kept_when_everything_else_is_gone() {
    let mut space = mounted(100);
    space.set_system_reserve(10);
    assert!(space.reserve(30));
    assert!(!space.reserve(61));
    assert_eq!(space.take(None, 100).unwrap().count, 60);
    assert_eq!(space.take(None, 1), None);
    assert_eq!(space.take_system(None, 100).unwrap().count, 10);
    assert_eq!(space.take_system(None, 1), None);
    space.set_system_reserve(0);
    assert_eq!(space.take_covered(None, 12, 12, 0).unwrap().count, 12);
    space.unreserve(12);
    assert_eq!(space.take_covered(None, 100, 18, 0).unwrap().count, 18);
    space.unreserve(18);
    assert_eq!((space.free_blocks(), space.reserved_blocks()), (0, 0));
}

#[test]
fn contradictions_are_named_and_change_nothing() {
    let mut space = Space::new(GROUP + 10).unwrap();
    space.commit_alloc(run(GROUP - 2, 4)).unwrap();
    assert_eq!(space.commit_alloc(run(GROUP, 4)), Err(SpaceError::InUse(Block(GROUP))));
    assert_eq!(
        space.commit_free(run(GROUP - 2, 5), Seq(1)),
        Err(SpaceError::NotCommitted(Block(GROUP + 2)))
    );
    assert_eq!(
        space.commit_free(run(u64::MAX, u32::MAX), Seq(1)),
        Err(SpaceError::Outside {
            run: run(u64::MAX, u32::MAX),
            pool_blocks: GROUP + 10
        })
    );
    space.finish_replay();
    assert_eq!(
        space.claim_system(run(0, 4095)),
        Err(SpaceError::InUse(Block(GROUP - 2)))
    );
    space.claim_system(run(0, 4)).unwrap();
    assert_eq!(space.claim_system(run(2, 4)), Err(SpaceError::InUse(Block(2))));
    assert_eq!(space.commit_alloc(run(100, 1)), Err(SpaceError::NotTaken(Block(100))));
    assert!(space.reserve(space.available()));
    assert_eq!(space.claim_system(run(100, 1)), Err(SpaceError::Promised(run(100, 1))));
    assert_eq!(
        space.grow_to(GROUP),
        Err(SpaceError::Shrinking {
            from: GROUP + 10,
            to: GROUP
        })
    );
    assert_eq!(Space::new(u64::MAX).unwrap_err(), SpaceError::TooLarge(u64::MAX));
    assert!(!space.is_committed(Block(u64::MAX)) && space.is_committed(Block(GROUP)));
    assert_eq!(space.committed_runs().collect::<Vec<_>>(), [run(GROUP - 2, 4)]);
    assert_eq!((space.system_blocks(), space.in_flight_blocks()), (4, 0));
}

#[test]
fn calls_against_the_contract_leak_instead_of_giving_a_block_two_owners() {
    let mut space = mounted(100);
    let mine = space.take(None, 10).unwrap();
    space.commit_alloc(run(0, 5)).unwrap();
    space.commit_free(run(0, 2), Seq(1)).unwrap();
    // Debug builds panic, so that tests see the mistake.
    let mut misuse = |call: &dyn Fn(&mut Space)| {
        let panicked = catch_unwind(AssertUnwindSafe(|| call(&mut space))).is_err();
        assert_eq!(panicked, cfg!(debug_assertions));
        assert_eq!(
            (space.free_blocks(), space.committed_blocks(), space.deferred_blocks()),
            (90, 3, 2)
        );
    };
    misuse(&|space| space.give_back(mine));
    misuse(&|space| space.give_back(run(90, 1)));
    misuse(&|space| space.release_system(run(99, 2)));
    misuse(&|space| space.undo_commit_alloc(run(5, 1)));
    misuse(&|space| space.undo_commit_free(run(0, 1), Seq(1)));
    misuse(&|space| space.undo_commit_free(run(0, 2), Seq(2)));
}

#[test]
fn a_sparse_pool_allocates_rows_only_where_it_is_mixed() {
    let mut space = mounted(1 << 24);
    let run = space.take(Some(Block(5 * GROUP)), 6 * GROUP_BLOCKS + 1).unwrap();
    space.commit_alloc(run).unwrap();
    let mixed = |row: &Row| usize::from(matches!(row, Row::Mixed { .. }));
    let rows: usize = space
        .groups
        .iter()
        .map(|group| mixed(&group.busy) + mixed(&group.committed))
        .sum();
    assert_eq!(rows, 2);
    assert_eq!(size_of::<Group>(), 32);
}
