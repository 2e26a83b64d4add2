// SPDX-License-Identifier: MIT OR Apache-2.0

//! The whole of [`Space`] against a model that writes the state of every block into an array.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::tests::{GROUP, run, seeded};
use super::*;
use crate::units::Seq;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Free,
    InFlight,
    Committed,
    Deferred,
    System,
}

#[derive(Debug, Clone, Copy)]
enum Taker {
    Anyone,
    Promised,
    System,
}

/// Where a step works: a random place, or blocks known to be in the state that the step starts from.
#[derive(Debug, Clone)]
struct Where {
    index: Index,
    count: u32,
    blind: bool,
}

#[derive(Debug, Clone)]
enum Step {
    FinishReplay,
    Take(Taker, Option<Index>, u32),
    GiveBack(Where),
    ReleaseSystem(Where),
    ClaimSystem(Where),
    CommitAlloc(Where),
    UndoCommitAlloc(Where),
    CommitFree(Where, u64),
    UndoCommitFree(Index),
    Release { behind: u64, withdraw: bool },
    Reserve(u64),
    Unreserve(Index),
    SystemReserve(u64),
    Grow(u64),
    Checkpoint,
}

pub(super) struct Model {
    states: Vec<State>,
    replaying: bool,
    cursor: u64,
    deferred: Vec<(Seq, Run)>,
    newest: u64,
    reserved: u64,
    system_reserve: u64,
    /// What checkpoints have written.
    rows: BTreeMap<u64, Box<[u8; ROW_BYTES]>>,
}

impl Model {
    pub(super) fn new(blocks: u64) -> Self {
        Self {
            states: vec![State::Free; usize::try_from(blocks).unwrap()],
            replaying: true,
            cursor: 0,
            deferred: Vec::new(),
            newest: 0,
            reserved: 0,
            system_reserve: 0,
            rows: BTreeMap::new(),
        }
    }

    fn blocks(&self) -> u64 {
        self.states.len() as u64
    }

    fn at(&self, block: u64) -> State {
        self.states[usize::try_from(block).unwrap()]
    }

    pub(super) fn count(&self, state: State) -> u64 {
        self.states.iter().filter(|other| **other == state).count() as u64
    }

    pub(super) fn set(&mut self, run: Run, state: State) {
        for block in run.blocks() {
            self.states[usize::try_from(block.0).unwrap()] = state;
        }
    }

    fn all(&self, run: Run, state: State) -> bool {
        run.fits(self.blocks()) && run.blocks().all(|block| self.at(block.0) == state)
    }

    fn unpromised(&self) -> u64 {
        if self.replaying {
            0
        } else {
            self.count(State::Free) - self.reserved
        }
    }

    fn available(&self) -> u64 {
        self.unpromised().saturating_sub(self.system_reserve)
    }

    /// Blocks in a state, or a random place that may be anywhere, even outside the pool.
    fn locate(&self, place: &Where, state: State) -> Option<Run> {
        if place.blind {
            return Some(run(place.index.index(self.states.len() + 3) as u64, place.count));
        }
        let all: Vec<u64> = (0..self.blocks()).filter(|block| self.at(*block) == state).collect();
        let start = *all.get(place.index.index(all.len().max(1)))?;
        let count = self.free_from(start, place.count.max(1), state);
        Some(run(start, count))
    }

    fn free_from(&self, start: u64, limit: u32, state: State) -> u32 {
        let end = self.blocks().min(start + u64::from(limit));
        u32::try_from((start..end).take_while(|block| self.at(*block) == state).count()).unwrap()
    }

    /// Longest stretch of free blocks in a group.
    fn longest(&self, group: u64) -> u32 {
        let (mut longest, mut len) = (0, 0);
        for block in group * GROUP..self.blocks().min((group + 1) * GROUP) {
            len = if self.at(block) == State::Free { len + 1 } else { 0 };
            longest = longest.max(len);
        }
        longest
    }

    /// What a taking may answer.
    fn check_take(&mut self, goal: Option<u64>, want: u32, limit: u64, got: Option<Run>, taken: State) {
        let want = u32::try_from(limit.min(u64::from(want))).unwrap();
        let Some(run) = got else {
            assert_eq!(want, 0, "nothing taken although {limit} blocks may be");
            return;
        };
        assert!(run.count <= want);
        assert!(self.all(run, State::Free), "{run} was not free");
        let goal = goal.filter(|goal| *goal < self.blocks());
        let near = goal.unwrap_or(self.cursor);
        let here = self.free_from(near, want, State::Free);
        if here >= if goal.is_some() { 1 } else { want } {
            assert_eq!(run, Run::new(Block(near), here), "not at the goal");
        } else {
            let need = want.min(GROUP_BLOCKS);
            let home = near / GROUP;
            let longest = (0..self.blocks().div_ceil(GROUP))
                .map(|group| self.longest(group))
                .max();
            assert!(
                run.count >= need.min(longest.unwrap_or(0)),
                "{run} is shorter than possible"
            );
            if self.longest(home) >= need {
                assert_eq!(run.start.0 / GROUP, home, "{run} is not near");
            }
            assert_eq!(
                run.count,
                self.free_from(run.start.0, want, State::Free),
                "{run} stops early"
            );
        }
        if goal.is_none() {
            self.cursor = run.end().0 % self.blocks();
        }
        self.set(run, taken);
    }

    /// Applies a step to both and compares the answers.
    #[expect(clippy::too_many_lines, reason = "one arm per kind of step")]
    fn step(&mut self, space: &mut Space, step: Step) {
        match step {
            Step::FinishReplay => {
                space.finish_replay();
                self.replaying = false;
            }
            Step::Take(taker, goal, want) => {
                let goal = goal.map(|goal| goal.index(self.states.len() + 3) as u64);
                let block = goal.map(Block);
                match taker {
                    Taker::Anyone => {
                        let got = space.take(block, want);
                        self.check_take(goal, want, self.available(), got, State::InFlight);
                    }
                    Taker::Promised => {
                        // A write that keeps promises: blocks are taken, then its operation releases the promises.
                        let slack = self.system_reserve / 2;
                        let limit = self.count(State::Free).saturating_sub(self.system_reserve - slack);
                        let got = space.take_covered(block, want, self.reserved, slack);
                        self.check_take(goal, want, limit, got, State::InFlight);
                        let kept = got.map_or(0, |run| u64::from(run.count)).min(self.reserved);
                        space.unreserve(kept);
                        self.reserved -= kept;
                        let broken = self.reserved.saturating_sub(self.count(State::Free));
                        space.unreserve(broken);
                        self.reserved -= broken;
                    }
                    Taker::System => {
                        let got = space.take_system(block, want);
                        self.check_take(goal, want, self.unpromised(), got, State::System);
                    }
                }
            }
            Step::GiveBack(place) => {
                if let Some(run) = self
                    .locate(&place, State::InFlight)
                    .filter(|run| self.all(*run, State::InFlight))
                {
                    space.give_back(run);
                    self.set(run, State::Free);
                }
            }
            Step::ReleaseSystem(place) => {
                if let Some(run) = self
                    .locate(&place, State::System)
                    .filter(|run| self.all(*run, State::System))
                {
                    space.release_system(run);
                    self.set(run, State::Free);
                }
            }
            Step::ClaimSystem(place) => {
                if let Some(run) = self.locate(&place, State::Free) {
                    let room = self.replaying || u64::from(run.count) <= self.unpromised();
                    let possible = self.all(run, State::Free) && room;
                    self.refusable(run, possible, space.claim_system(run), State::System);
                }
            }
            Step::CommitAlloc(place) => {
                let from = if self.replaying { State::Free } else { State::InFlight };
                if let Some(run) = self.locate(&place, from) {
                    // Three states look alike: only the journal can mix them up, by breaking the contract.
                    let unseen = run.fits(self.blocks())
                        && !self.all(run, from)
                        && !self.replaying
                        && run
                            .blocks()
                            .all(|block| !matches!(self.at(block.0), State::Free | State::Committed));
                    if !unseen {
                        self.refusable(run, self.all(run, from), space.commit_alloc(run), State::Committed);
                    }
                }
            }
            Step::UndoCommitAlloc(place) => {
                if let Some(run) = self
                    .locate(&place, State::Committed)
                    .filter(|run| self.all(*run, State::Committed))
                {
                    space.undo_commit_alloc(run);
                    self.set(run, if self.replaying { State::Free } else { State::InFlight });
                }
            }
            Step::CommitFree(place, behind) => {
                if let Some(run) = self.locate(&place, State::Committed) {
                    let possible = self.all(run, State::Committed);
                    self.newest += 1;
                    let seq = Seq(self.newest.saturating_sub(behind));
                    let to = if self.replaying { State::Free } else { State::Deferred };
                    self.refusable(run, possible, space.commit_free(run, seq), to);
                    if possible && !self.replaying {
                        self.deferred.push((seq, run));
                    }
                }
            }
            Step::UndoCommitFree(index) => {
                if self.replaying {
                    let place = Where {
                        index,
                        count: 7,
                        blind: false,
                    };
                    if let Some(run) = self.locate(&place, State::Free) {
                        space.undo_commit_free(run, Seq(1));
                        self.set(run, State::Committed);
                    }
                } else if !self.deferred.is_empty() {
                    let (seq, run) = self.deferred.swap_remove(index.index(self.deferred.len()));
                    space.undo_commit_free(run, seq);
                    self.set(run, State::Committed);
                }
            }
            Step::Release { behind, withdraw } => self.release(space, behind, withdraw),
            Step::Reserve(blocks) => {
                let possible = blocks <= self.available();
                assert_eq!(space.reserve(blocks), possible);
                self.reserved += if possible { blocks } else { 0 };
            }
            Step::Unreserve(index) => {
                let blocks = index.index(usize::try_from(self.reserved).unwrap() + 1) as u64;
                space.unreserve(blocks);
                self.reserved -= blocks;
            }
            Step::SystemReserve(blocks) => {
                space.set_system_reserve(blocks);
                self.system_reserve = blocks;
            }
            Step::Grow(by) => {
                let blocks = self.blocks() + by;
                space.grow_to(blocks).unwrap();
                self.states.resize(usize::try_from(blocks).unwrap(), State::Free);
            }
            Step::Checkpoint => {
                let dirty = space.dirty_rows();
                let frozen = space.freeze_dirty_rows();
                assert_eq!(frozen.len() as u64, dirty);
                assert!(frozen.is_sorted_by(|a, b| a.group < b.group), "not by group, or twice");
                self.write(frozen);
            }
        }
    }

    fn refusable(&mut self, run: Run, possible: bool, answer: Result<()>, to: State) {
        assert_eq!(answer.is_ok(), possible, "{run}: {answer:?}");
        if possible {
            self.set(run, to);
        }
    }

    /// I1: exactly the frees of operations up to the sequence number come back.
    fn release(&mut self, space: &mut Space, behind: u64, withdraw: bool) {
        let seq = Seq(self.newest.saturating_sub(behind));
        let runs = if withdraw {
            space.withdraw_durable(seq)
        } else {
            space.release_durable(seq)
        };
        let mut expected: Vec<u64> = Vec::new();
        self.deferred.retain(|(other, run)| {
            if *other <= seq {
                expected.extend(run.blocks().map(|block| block.0));
            }
            *other > seq
        });
        expected.sort_unstable();
        let got: Vec<u64> = runs.iter().flat_map(|run| run.blocks()).map(|block| block.0).collect();
        assert_eq!(got, expected);
        assert!(runs.is_sorted_by(|a, b| a.end() < b.start), "not merged: {runs:?}");
        for run in runs {
            self.set(run, if withdraw { State::InFlight } else { State::Free });
        }
    }

    fn write(&mut self, frozen: Vec<FrozenRow>) {
        for FrozenRow { group, bytes } in frozen {
            match bytes {
                Some(bytes) => self.rows.insert(group, bytes),
                None => self.rows.remove(&group),
            };
        }
    }

    /// Every block, every counter, every bound.
    pub(super) fn compare(&self, space: &Space) {
        for (number, state) in self.states.iter().enumerate() {
            let (group, bit) = place(number as u64);
            let busy = space.groups[group].busy.first_set(bit..bit + 1).is_some();
            let committed = space.groups[group].committed.first_set(bit..bit + 1).is_some();
            assert_eq!(busy, *state != State::Free, "busy of block {number}: {state:?}");
            assert_eq!(
                committed,
                *state == State::Committed,
                "committed of block {number}: {state:?}"
            );
        }
        assert_eq!(space.total_blocks(), self.blocks());
        assert_eq!(space.free_blocks(), self.count(State::Free));
        assert_eq!(space.committed_blocks(), self.count(State::Committed));
        assert_eq!(space.deferred_blocks(), self.count(State::Deferred));
        assert_eq!(space.system_blocks(), self.count(State::System));
        assert_eq!(space.in_flight_blocks(), self.count(State::InFlight));
        assert_eq!(space.reserved_blocks(), self.reserved);
        assert_eq!(space.available(), self.available());
        assert!(self.reserved <= self.count(State::Free), "a promise cannot be kept");
        assert!(space.bounds.is_consistent());
        for (index, group) in space.groups.iter().enumerate() {
            let (bound, longest) = (space.bounds.bound(index), self.longest(index as u64));
            assert!(
                u32::from(bound) >= longest,
                "group {index}: bound {bound}, {longest} free"
            );
            assert_eq!(bound == 0, longest == 0, "group {index}: bound {bound}, {longest} free");
            assert_eq!(group.busy.longest_clear(), longest);
        }
    }

    /// What a mount would load is what files own.
    fn compare_rows(&mut self, space: &mut Space) {
        self.write(space.freeze_dirty_rows());
        assert_eq!(space.freeze_dirty_rows(), []);
        let mut loaded = Space::new(self.blocks()).unwrap();
        for (group, row) in &self.rows {
            loaded.load_row(*group, &row[..]).unwrap();
        }
        assert!(loaded.committed_runs().eq(space.committed_runs()));
        assert_eq!(loaded.freeze_dirty_rows(), []);
        let owned: Vec<u64> = (0..self.blocks())
            .filter(|block| self.at(*block) == State::Committed)
            .collect();
        assert!(
            loaded
                .committed_runs()
                .flat_map(Run::blocks)
                .map(|block| block.0)
                .eq(owned)
        );
        let mut fresh = Model::new(self.blocks());
        fresh.states.clone_from(&self.states);
        for state in fresh.states.iter_mut().filter(|state| **state != State::Committed) {
            *state = State::Free;
        }
        fresh.compare(&loaded);
    }
}

fn place_strategy() -> impl Strategy<Value = Where> {
    let count = prop_oneof![4 => 1..40_u32, 1 => 0..6000_u32];
    (any::<Index>(), count, prop::bool::weighted(0.15)).prop_map(|(index, count, blind)| Where { index, count, blind })
}

fn replay_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => place_strategy().prop_map(Step::CommitAlloc),
        2 => (place_strategy(), Just(0)).prop_map(|(place, behind)| Step::CommitFree(place, behind)),
        1 => place_strategy().prop_map(Step::UndoCommitAlloc),
        1 => any::<Index>().prop_map(Step::UndoCommitFree),
        1 => place_strategy().prop_map(Step::ClaimSystem),
        1 => Just(Step::Take(Taker::Anyone, None, 5)),
        1 => Just(Step::Take(Taker::System, None, 5)),
        1 => Just(Step::Reserve(1)),
    ]
}

fn live_step() -> impl Strategy<Value = Step> {
    let taker = prop_oneof![3 => Just(Taker::Anyone), 1 => Just(Taker::Promised), 1 => Just(Taker::System)];
    let want = prop_oneof![0..3_u32, 1..100_u32, 1..9000_u32];
    let amount = prop_oneof![0..50_u64, 0..5000_u64];
    prop_oneof![
        8 => (taker, any::<Option<Index>>(), want).prop_map(|(taker, goal, want)| Step::Take(taker, goal, want)),
        2 => place_strategy().prop_map(Step::GiveBack),
        1 => place_strategy().prop_map(Step::ReleaseSystem),
        1 => place_strategy().prop_map(Step::ClaimSystem),
        6 => place_strategy().prop_map(Step::CommitAlloc),
        1 => place_strategy().prop_map(Step::UndoCommitAlloc),
        4 => (place_strategy(), 0..4_u64).prop_map(|(place, behind)| Step::CommitFree(place, behind)),
        1 => any::<Index>().prop_map(Step::UndoCommitFree),
        2 => (0..8_u64, any::<bool>()).prop_map(|(behind, withdraw)| Step::Release { behind, withdraw }),
        1 => amount.clone().prop_map(Step::Reserve),
        1 => any::<Index>().prop_map(Step::Unreserve),
        1 => amount.clone().prop_map(Step::SystemReserve),
        1 => prop_oneof![0..70_u64, 0..5000_u64].prop_map(Step::Grow),
        1 => Just(Step::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(seeded(96))]

    #[test]
    fn every_answer_equals_the_models(
        blocks in prop_oneof![0..200_u64, 1..3 * GROUP, (1..4_u64).prop_map(|groups| groups * GROUP)],
        replay in prop::collection::vec(replay_step(), 0..15),
        live in prop::collection::vec(live_step(), 1..100),
    ) {
        let mut space = Space::new(blocks).unwrap();
        let mut model = Model::new(blocks);
        model.compare(&space);
        for step in replay.into_iter().chain([Step::FinishReplay]).chain(live) {
            model.step(&mut space, step);
            model.compare(&space);
        }
        model.compare_rows(&mut space);
    }
}
