// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the operations cost. Prints figures, so it runs only when asked for:
//! `cargo test --release -p vexfs --lib space::measure -- --ignored --nocapture --test-threads 1`

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::*;
use crate::units::Seq;

const TIB: u64 = 1 << 28;

/// A small generator of numbers (xorshift64*), the same ones every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}

/// A mounted pool, 99 % full, with holes of one block.
fn fragmented(pool_blocks: u64) -> Space {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut space = Space::new(pool_blocks).unwrap();
    let begin = Instant::now();
    let mut generating = Duration::ZERO;
    for group in 0..pool_blocks / u64::from(GROUP_BLOCKS) {
        let begin = Instant::now();
        let mut row = [0xff_u8; ROW_BYTES];
        for _ in 0..GROUP_BLOCKS / 100 {
            let bit = usize::try_from(numbers.below(u64::from(GROUP_BLOCKS))).unwrap();
            row[bit / 8] &= !(1 << (bit % 8));
        }
        generating += begin.elapsed();
        space.load_row(group, &row).unwrap();
    }
    let loading = begin.elapsed().saturating_sub(generating);
    let groups = u32::try_from(space.groups.len()).unwrap();
    println!(
        "  load_row: {:?} per row, {loading:?} for {groups} rows",
        loading / groups
    );
    space.finish_replay();
    space
}

/// Mean and longest time of calls.
fn time(what: &str, calls: u32, mut call: impl FnMut()) {
    let begin = Instant::now();
    for _ in 0..calls {
        call();
    }
    let mean = begin.elapsed().as_nanos() / u128::from(calls);
    let mut longest = Duration::ZERO;
    for _ in 0..calls {
        let begin = Instant::now();
        call();
        longest = longest.max(begin.elapsed());
    }
    println!("  {what}: {mean} ns, longest {longest:?}");
}

fn measure(mut space: Space, calls: u32) {
    let mut numbers = Numbers(42);
    let blocks = space.total_blocks();
    time("take(no goal, 1)", calls, || {
        black_box(space.take(None, 1).unwrap());
    });
    time("take(random goal, 1)", calls, || {
        let goal = Block(numbers.below(blocks));
        black_box(space.take(Some(goal), 1).unwrap());
    });
    let mut taken = Vec::new();
    time("take(no goal, 256)", calls, || {
        taken.push(space.take(None, 256).unwrap());
    });
    let total: u64 = taken.iter().map(|run| u64::from(run.count)).sum();
    println!("    {total} blocks in {} runs", taken.len());

    let mut count = 0;
    let begin = Instant::now();
    for run in &taken {
        space.commit_alloc(*run).unwrap();
    }
    println!(
        "  commit_alloc: {} ns per run",
        begin.elapsed().as_nanos() / taken.len() as u128
    );
    let singles: Vec<Run> = taken
        .iter()
        .flat_map(|run| run.blocks())
        .map(|block| Run::new(block, 1))
        .collect();
    let singles = &singles[..singles.len().min(2 * calls as usize)];
    let begin = Instant::now();
    for (seq, run) in (1..).zip(singles) {
        space.commit_free(*run, Seq(seq)).unwrap();
        count += 1;
    }
    let freed = begin.elapsed();
    let begin = Instant::now();
    let runs = black_box(space.release_durable(Seq(count)));
    println!(
        "  commit_free: {} ns per block; release_durable: {} ns per block ({} runs of {count} blocks)",
        freed.as_nanos() / u128::from(count),
        begin.elapsed().as_nanos() / u128::from(count),
        runs.len()
    );
    let begin = Instant::now();
    let rows = black_box(space.freeze_dirty_rows());
    println!("  freeze_dirty_rows: {:?} for {} rows", begin.elapsed(), rows.len());
}

#[test]
#[ignore = "prints figures instead of checking anything"]
fn an_empty_pool_of_1_tib() {
    println!("empty, 1 TiB");
    let mut space = Space::new(TIB).unwrap();
    space.finish_replay();
    measure(space, 100_000);
}

#[test]
#[ignore = "prints figures instead of checking anything"]
fn a_full_and_fragmented_pool_of_1_tib() {
    println!("99 % full, holes of one block, 1 TiB");
    measure(fragmented(TIB), 100_000);
}

#[test]
#[ignore = "prints figures instead of checking anything; needs 2 GiB of memory"]
fn a_full_and_fragmented_pool_of_16_tib() {
    println!("99 % full, holes of one block, 16 TiB");
    measure(fragmented(16 * TIB), 100_000);
}
