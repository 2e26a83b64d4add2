// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which blocks are in use, promised, or waiting to be free.
//!
//! # States of a block
//!
//! Two bitmaps over all blocks of the pool, `committed ⊆ busy`:
//!
//! | state | committed | busy | whose it is |
//! |---|---|---|---|
//! | free | – | – | nobody's |
//! | in flight | – | yes | a writer's: taken, but no operation in the journal names it yet |
//! | committed | yes | yes | the files': an operation in the journal (or a checkpoint) says so |
//! | deferred | – | yes | nobody's, but the operation that freed it could still be lost |
//! | system | – | yes | the pool's own: superblocks, journal, tables of the metadata |
//!
//! ```text
//!          take                    commit_alloc               commit_free(seq)
//!  free ─────────────▶ in flight ───────────────▶ committed ───────────────────▶ deferred ──┐
//!   ▲ ▲ ◀─────────────           ◀───────────────           ◀───────────────────            │ release_durable(≥ seq)
//!   │ │  give_back              undo_commit_alloc             undo_commit_free(seq)         │
//!   │ └─────────────────────────────────────────────────────────────────────────────────────┘
//!   └──── claim_system, take_system / release_system ────▶ system
//! ```
//!
//! Only `committed` is persisted, in rows (below). What was in flight or deferred when the machine died is free
//! afterwards; what is the system's is found through the superblock and claimed again.
//!
//! # Invariants
//!
//! - **I1.** A block freed by operation *s* is not reused before a `durable_seq ≥ s` is *itself* on disk. The story that
//!   this prevents: operation 7 writes block B, 9 frees it, a flush acknowledges 10, operation 11 reuses B, power fails.
//!   Recovery would compare 7's checksum with 11's bytes, end the log at 7, and lose acknowledged operations. So a free
//!   clears `committed` at once, `busy` only in [`Space::release_durable`]; what sequence number is safe to pass there is
//!   the journal's business.
//! - No block has two owners: every transition checks the state it starts from. One kind of mistake cannot be seen,
//!   because three states look alike in the bitmaps: giving back what is deferred or the system's.
//! - `reserved ≤ free` except while writes that keep promises are in flight ([`Space::take_covered`]), so a promise
//!   ([`Space::reserve`]) can always be kept.
//!
//! Transitions that cannot be refused ([`Space::give_back`], `undo_*`, [`Space::release_system`]) have no result. Called
//! against this contract, they change nothing and log an error: blocks leak until the next mount instead of getting two
//! owners.
//!
//! # Mounting
//!
//! A new `Space` *replays*: [`Space::load_row`] for every persisted row, then the operations of the journal, whose
//! allocations and frees take effect in both bitmaps at once, since all that is replayed is made durable before anything
//! is written. Nothing is available meanwhile. [`Space::finish_replay`] ends that; the system's blocks are claimed then
//! (or before: either order detects an overlap).
//!
//! # Promises
//!
//! | who | may use |
//! |---|---|
//! | [`Space::take`], [`Space::reserve`] | [`Space::available`] = free − promised − system reserve |
//! | [`Space::take_covered`] | that, what was promised to the same range, and a little of the system reserve |
//! | [`Space::take_system`] | free − promised |
//!
//! # Persisted rows
//!
//! Key: the group number (block / 4096). Value, 512 bytes; no row where no block of the group is committed:
//!
//! | bytes | meaning |
//! |---|---|
//! | `i` | bit `b` (lowest first): block `4096 · group + 8 · i + b` is committed; 0 beyond the end of the pool |
//!
//! # Cost
//!
//! Per group of 4096 blocks 34 bytes, and 512 for each of the two rows whose bits are not all equal: an empty pool of
//! 16 TiB costs 35 MiB, a fragmented one 1 GiB more. Searching: see `allocate.rs`. No locks inside: the caller holds one.

mod allocate;
mod bitmap;
mod deferred;
mod error;
mod ownership;
mod rows;
mod search;
pub mod shared;

#[cfg(test)]
mod measure;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::allocate::narrow;
use self::bitmap::{GROUP_BLOCKS, Row};
use self::deferred::Deferred;
use self::search::MaxTree;
use crate::units::{Block, Run};

pub use self::bitmap::ROW_BYTES;
pub use self::error::SpaceError;
pub use self::rows::FrozenRow;

/// Result of a transition that can be refused.
pub type Result<T> = std::result::Result<T, SpaceError>;

/// All blocks of one pool. See the module's documentation for the contract.
#[derive(Debug)]
pub struct Space {
    blocks: u64,
    /// Both bitmaps. In the last group `busy` is set, and `committed` clear, beyond the end of the pool.
    groups: Vec<Group>,
    /// Upper bounds of the longest stretch of free blocks within each group.
    bounds: MaxTree,
    /// Where the next search without a goal begins. Inside the pool, unless that is empty.
    cursor: Block,
    /// No block from here on was ever in use since the mount.
    touched: u64,
    free: u64,
    committed: u64,
    system: u64,
    reserved: u64,
    system_reserve: u64,
    deferred: Deferred,
    /// One bit per group: its `committed` row was not frozen since it changed.
    dirty: Vec<u64>,
    /// Bits set in `dirty`.
    dirty_count: u64,
    replaying: bool,
}

#[derive(Debug, Default)]
struct Group {
    busy: Row,
    committed: Row,
}

impl Space {
    /// The largest pool: 256 TiB. Bounds what a forged superblock can make a mount allocate (600 MiB).
    pub const MAX_BLOCKS: u64 = 1 << 36;

    /// A pool in which nothing is in use, in replay.
    pub fn new(pool_blocks: u64) -> Result<Self> {
        let mut space = Self {
            blocks: 0,
            groups: Vec::new(),
            bounds: MaxTree::new(Vec::new()),
            cursor: Block(0),
            touched: 0,
            free: 0,
            committed: 0,
            system: 0,
            reserved: 0,
            system_reserve: 0,
            deferred: Deferred::default(),
            dirty: Vec::new(),
            dirty_count: 0,
            replaying: true,
        };
        space.grow_to(pool_blocks)?;
        Ok(space)
    }

    /// Ends the replay of the journal: from now on blocks are given out, and frees wait for [`Space::release_durable`].
    pub const fn finish_replay(&mut self) {
        self.replaying = false;
    }

    /// The pool has this many blocks now; the new ones are free.
    pub fn grow_to(&mut self, pool_blocks: u64) -> Result<()> {
        let old = self.blocks;
        if pool_blocks > Self::MAX_BLOCKS {
            return Err(SpaceError::TooLarge(pool_blocks));
        }
        if pool_blocks < old {
            return Err(SpaceError::Shrinking {
                from: old,
                to: pool_blocks,
            });
        }
        if pool_blocks == old {
            return Ok(());
        }
        let (first_changed, old_end) = place(old);
        if let Some(group) = self.groups.get_mut(first_changed) {
            // The last group was incomplete, its missing blocks marked as busy.
            group.busy.clear(old_end..GROUP_BLOCKS);
        }
        let (complete, end) = place(pool_blocks);
        self.groups.resize_with(complete + usize::from(end > 0), Group::default);
        if let Some(group) = self.groups.get_mut(complete) {
            group.busy.set(end..GROUP_BLOCKS);
        }
        let changed = &self.groups[first_changed..];
        self.bounds.replace_from(
            first_changed,
            changed.iter().map(|group| narrow(group.busy.longest_clear())),
        );
        self.dirty.resize(self.groups.len().div_ceil(64), 0);
        self.blocks = pool_blocks;
        self.free += pool_blocks - old;
        Ok(())
    }

    /// Size of the pool.
    pub const fn total_blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks in no use at all.
    pub const fn free_blocks(&self) -> u64 {
        self.free
    }

    /// Blocks of files.
    pub const fn committed_blocks(&self) -> u64 {
        self.committed
    }

    /// Blocks that were freed and become free with [`Space::release_durable`].
    pub const fn deferred_blocks(&self) -> u64 {
        self.deferred.blocks()
    }

    /// Blocks of superblocks, journal and metadata.
    pub const fn system_blocks(&self) -> u64 {
        self.system
    }

    /// Blocks that were taken and neither committed nor given back. 0 when nobody is writing, or something leaked.
    pub const fn in_flight_blocks(&self) -> u64 {
        self.blocks - self.free - self.committed - self.deferred.blocks() - self.system
    }

    /// Rows that the next [`Space::freeze_dirty_rows`] returns.
    pub const fn dirty_rows(&self) -> u64 {
        self.dirty_count
    }

    /// Blocks promised and not yet taken.
    pub const fn reserved_blocks(&self) -> u64 {
        self.reserved
    }

    /// Blocks kept for the system.
    pub const fn system_reserve(&self) -> u64 {
        self.system_reserve
    }

    /// Blocks that anyone may take or have promised. None during replay.
    pub const fn available(&self) -> u64 {
        self.unpromised().saturating_sub(self.system_reserve)
    }

    /// Free blocks not promised to anyone: what the system may take.
    const fn unpromised(&self) -> u64 {
        if self.replaying {
            0
        } else {
            self.free.saturating_sub(self.reserved)
        }
    }

    /// Whether a file owns a block. Blocks outside the pool are nobody's.
    pub fn is_committed(&self, block: Block) -> bool {
        let run = Run::new(block, 1);
        run.fits(self.blocks)
            && self
                .find_block(run, |group, bits| group.committed.first_set(bits))
                .is_some()
    }

    /// Everything that files own, in order, adjacent blocks as one run (unless it has more blocks than a run can).
    pub fn committed_runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut at = Block(0);
        std::iter::from_fn(move || {
            let start = self.scan(at, Row::first_set)?;
            let end = self.scan(start, Row::first_clear).map_or(self.blocks, |block| block.0);
            let count = u32::try_from(end - start.0).unwrap_or(u32::MAX);
            let run = Run::new(start, count);
            at = run.end();
            Some(run)
        })
    }

    /// The first block at or after `from` that a search of `committed` rows finds.
    fn scan(&self, from: Block, search: impl Fn(&Row, Range<u32>) -> Option<u32>) -> Option<Block> {
        let (first, bit) = place(from.0);
        let groups = self.groups.get(first..)?;
        groups.iter().enumerate().find_map(|(offset, group)| {
            let bits = if offset == 0 { bit } else { 0 }..GROUP_BLOCKS;
            search(&group.committed, bits).map(|bit| block(first + offset, bit))
        })
    }

    /// The first block of a run that a search of its groups finds. The run must be inside the pool.
    fn find_block(&self, run: Run, search: impl Fn(&Group, Range<u32>) -> Option<u32>) -> Option<Block> {
        pieces(run).find_map(|(group, bits)| search(&self.groups[group], bits).map(|bit| block(group, bit)))
    }

    fn check_inside(&self, run: Run) -> Result<()> {
        if run.fits(self.blocks) {
            Ok(())
        } else {
            Err(SpaceError::Outside {
                run,
                pool_blocks: self.blocks,
            })
        }
    }
}

/// Group and bit of a block number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "block numbers are below 2^48, bits below 2^12"
)]
const fn place(block: u64) -> (usize, u32) {
    (
        (block / GROUP_BLOCKS as u64) as usize,
        (block % GROUP_BLOCKS as u64) as u32,
    )
}

/// The block of a bit.
const fn block(group: usize, bit: u32) -> Block {
    Block(group as u64 * GROUP_BLOCKS as u64 + bit as u64)
}

/// A run cut at the borders of groups.
fn pieces(run: Run) -> impl Iterator<Item = (usize, Range<u32>)> {
    let mut rest = run;
    std::iter::from_fn(move || {
        let (group, from) = place(rest.start.0);
        let count = rest.count.min(GROUP_BLOCKS - from);
        rest = Run::new(rest.start.plus(u64::from(count)), rest.count - count);
        (count > 0).then_some((group, from..from + count))
    })
}

/// Somebody called against the contract, and the call changes nothing.
#[cold]
fn misuse(call: &str, error: SpaceError) {
    tracing::error!("{call}: {error}; nothing was changed");
    debug_assert!(false, "{call}: {error}");
}
