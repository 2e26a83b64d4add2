// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether the data of transactions arrived, and writing again what did. See `mount` for why.
//!
//! What lies behind each other is read with one call, and written with one: data is put where there is room, so that what
//! was written one after the other mostly lies so too, and a journal of small writes would cost two calls for each.

use std::ops::Range;

use crate::checksum::Crc;
use crate::data::CHUNK_BLOCKS;
use crate::disk::Disk;
use crate::error::{Damage, Result};
use crate::units::{BLOCK_SIZE, Block, Run};

use super::op::Op;

/// What became of the system's cache since the pool was last written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cached {
    /// The machine was started anew: the disk is all there is.
    Lost,
    /// Everything written is there.
    Kept,
    /// The same, and is to be written again: whether it reached the disk is not known.
    WriteAgain,
}

impl Cached {
    pub(super) const fn of(same_boot: bool, read_only: bool) -> Self {
        match (same_boot, read_only) {
            (false, _) => Self::Lost,
            (true, true) => Self::Kept,
            (true, false) => Self::WriteAgain,
        }
    }
}

/// Blocks read with one call, and the largest piece of a run that is looked at at once.
const WINDOW_BLOCKS: u64 = 256;
/// Finds out whether data arrived. Nothing else is written to the disk meanwhile, so its blocks may be read early and be
/// written again late.
pub(super) struct Arrivals<'a> {
    disk: &'a dyn Disk,
    pool_blocks: u64,
    cached: Cached,
    window: Window,
    /// Blocks that the window is to have at least.
    ahead: u64,
}

/// Blocks behind each other, and which of them are to be written again.
struct Window {
    start: Block,
    bytes: Vec<u8>,
    /// One for each block.
    again: Vec<bool>,
    /// Blocks of it that were wanted.
    used: u64,
}

impl<'a> Arrivals<'a> {
    pub(super) const fn new(disk: &'a dyn Disk, pool_blocks: u64, cached: Cached) -> Self {
        let window = Window {
            start: Block(0),
            bytes: Vec::new(),
            again: Vec::new(),
            used: 0,
        };
        Self {
            disk,
            pool_blocks,
            cached,
            window,
            ahead: 0,
        }
    }

    /// Whether the blocks that operations name hold what was written. Without checksums nobody can tell, but if the machine
    /// was not started since, nothing was lost. What contradicts itself counts as arrived: applying it says in what way.
    /// Here it must not decide how much is read.
    pub(super) fn have(&mut self, operations: &[Op<'_>]) -> Result<bool> {
        let named: u64 = operations.iter().map(Op::written_blocks).sum();
        if named > self.pool_blocks {
            return Ok(true);
        }
        for operation in operations {
            let arrived = match operation {
                Op::Write { runs, checksums, .. } | Op::Store { runs, checksums, .. } if checksums.is_empty() => {
                    self.cached != Cached::Lost && self.blocks_match(runs, |_| true)?
                }
                Op::Write { runs, checksums, .. } | Op::Store { runs, checksums, .. }
                    if blocks_of(runs) == checksums.len() as u64 =>
                {
                    let mut checksums = checksums.iter();
                    self.blocks_match(runs, |block| checksums.next().is_some_and(|crc| Crc::of(block) == *crc))?
                }
                Op::WritePacked {
                    runs, bytes, checksum, ..
                }
                | Op::StorePacked {
                    runs, bytes, checksum, ..
                } if blocks_of(runs) < CHUNK_BLOCKS => {
                    let mut packed = Vec::new();
                    let read = self.blocks_match(runs, |block| {
                        packed.extend_from_slice(block);
                        true
                    })?;
                    read && packed
                        .get(..*bytes as usize)
                        .is_some_and(|packed| Crc::of(packed) == *checksum)
                }
                _ => true,
            };
            if !arrived {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Everything that is to be written again is: a sync may follow.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write_again()
    }

    /// Reads blocks and asks about each; false if one does not match or cannot be read.
    fn blocks_match(&mut self, runs: &[Run], mut matches: impl FnMut(&[u8]) -> bool) -> Result<bool> {
        for run in runs {
            if !run.fits(self.pool_blocks) {
                return Err(Damage::new(run, "beyond the pool"));
            }
            let mut at = run.start;
            while at < run.end() {
                let until = run.end().min(at.plus(WINDOW_BLOCKS));
                let Some(blocks) = self.read(at..until)? else {
                    // What cannot be read did not arrive; if it was promised, the caller says so.
                    return Ok(false);
                };
                self.window.used += blocks.len() as u64;
                let bytes = &self.window.bytes[blocks.start * BLOCK_SIZE..blocks.end * BLOCK_SIZE];
                if !bytes.chunks_exact(BLOCK_SIZE).all(&mut matches) {
                    return Ok(false);
                }
                if self.cached == Cached::WriteAgain {
                    self.window.again[blocks].fill(true);
                }
                at = until;
            }
        }
        Ok(true)
    }

    /// Has these blocks in the window, and says which of the window's they are; nothing if they cannot be read.
    fn read(&mut self, wanted: Range<Block>) -> Result<Option<Range<usize>>> {
        if let Some(blocks) = self.window.position(&wanted) {
            return Ok(Some(blocks));
        }
        self.write_again()?;
        self.adapt(wanted.start);
        let start = Block(wanted.start.0.saturating_sub(self.ahead / 4));
        let end = start.plus(self.ahead).0.min(self.pool_blocks);
        let around = start..Block(end).max(wanted.end);
        if self.fill(around) || self.fill(wanted.clone()) {
            return Ok(self.window.position(&wanted));
        }
        Ok(None)
    }

    /// Reads more at once as long as a good part of it is wanted, and nothing beyond what is wanted where data is scattered.
    fn adapt(&mut self, start: Block) {
        let window = &self.window;
        let (held, used) = (window.again.len() as u64, window.used);
        let near = window.start.0.saturating_sub(held)..=window.end().0 + held;
        self.ahead = if near.contains(&start.0) && 4 * used >= held {
            (4 * held).min(WINDOW_BLOCKS)
        } else {
            0
        };
    }

    /// Whether the window could be read from there.
    fn fill(&mut self, blocks: Range<Block>) -> bool {
        let count = usize::try_from(blocks.end.0 - blocks.start.0).unwrap_or(0);
        let window = &mut self.window;
        window.start = blocks.start;
        window.bytes.resize(count * BLOCK_SIZE, 0);
        window.again.clear();
        window.used = 0;
        let read = self.disk.read(blocks.start.byte_at(), &mut window.bytes).is_ok();
        if read {
            window.again.resize(count, false);
        }
        read
    }

    /// Writes what is to be written again of the window, and forgets that it is.
    fn write_again(&mut self) -> Result<()> {
        let window = &mut self.window;
        let mut at = 0;
        for piece in window.again.chunk_by(PartialEq::eq) {
            let end = at + piece.len();
            if piece[0] {
                let place = window.start.plus(at as u64).byte_at();
                self.disk
                    .write(place, &window.bytes[at * BLOCK_SIZE..end * BLOCK_SIZE])?;
            }
            at = end;
        }
        window.again.fill(false);
        Ok(())
    }
}

impl Window {
    fn end(&self) -> Block {
        self.start.plus(self.again.len() as u64)
    }

    /// Which of its blocks these are, if it has them all.
    fn position(&self, wanted: &Range<Block>) -> Option<Range<usize>> {
        let first = usize::try_from(wanted.start.0.checked_sub(self.start.0)?).ok()?;
        let end = usize::try_from(wanted.end.0.checked_sub(self.start.0)?).ok()?;
        (end <= self.again.len()).then_some(first..end)
    }
}

fn blocks_of(runs: &[Run]) -> u64 {
    runs.iter().map(|run| u64::from(run.count)).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use parking_lot::Mutex;

    use super::*;
    use crate::disk::{MemDisk, SplitMix64};

    const POOL_BLOCKS: u64 = 8192;

    /// Memory that remembers what was done to it, in blocks.
    struct Watched {
        memory: MemDisk,
        reads: Mutex<Vec<Range<u64>>>,
        writes: Mutex<Vec<Range<u64>>>,
    }

    impl Watched {
        fn new() -> Self {
            Self {
                memory: MemDisk::new(POOL_BLOCKS * BLOCK_SIZE as u64),
                reads: Mutex::default(),
                writes: Mutex::default(),
            }
        }

        fn blocks(at: u64, bytes: &[u8]) -> Range<u64> {
            let start = at / BLOCK_SIZE as u64;
            start..start + (bytes.len() / BLOCK_SIZE) as u64
        }
    }

    impl Disk for Watched {
        fn size_bytes(&self) -> u64 {
            self.memory.size_bytes()
        }

        fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
            self.reads.lock().push(Self::blocks(at, into));
            self.memory.read(at, into)
        }

        fn write(&self, at: u64, from: &[u8]) -> Result<()> {
            self.writes.lock().push(Self::blocks(at, from));
            let mut before = vec![0; from.len()];
            self.memory.read(at, &mut before)?;
            assert_eq!(before, from, "what is written again is what is there");
            self.memory.write(at, from)
        }

        fn sync(&self) -> Result<()> {
            self.memory.sync()
        }

        fn discard(&self, range: Range<u64>) -> Result<()> {
            self.memory.discard(range)
        }
    }

    fn run(start: u64, count: u32) -> Run {
        Run::new(Block(start), count)
    }

    #[test]
    fn small_writes_behind_each_other_cost_few_calls() {
        let disk = Watched::new();
        let mut arrivals = Arrivals::new(&disk, POOL_BLOCKS, Cached::WriteAgain);
        // In pairs the wrong way round, as writes overtake each other.
        for pair in 500..1012 {
            for block in [2 * pair + 1, 2 * pair] {
                assert!(arrivals.blocks_match(&[run(block, 1)], |_| true).unwrap());
            }
        }
        arrivals.finish().unwrap();
        let (reads, writes) = (disk.reads.lock().len(), disk.writes.lock().len());
        assert!(
            reads <= 12 && writes <= 12,
            "{reads} reads, {writes} writes for 1,024 blocks"
        );
    }

    #[test]
    fn what_arrived_is_written_again_and_nothing_else_is() {
        let disk = Watched::new();
        let mut random = SplitMix64::new(7);
        for block in 0..POOL_BLOCKS {
            disk.memory
                .write(block * BLOCK_SIZE as u64, &block.to_le_bytes())
                .unwrap();
        }
        let mut arrivals = Arrivals::new(&disk, POOL_BLOCKS, Cached::WriteAgain);
        let (mut arrived, mut wanted, mut at) = (BTreeSet::new(), 0, 0);
        for step in 0..2000 {
            // A little further for a while, then here and there for a while.
            at = match random.below(if step % 100 < 50 { 20 } else { 1 }) {
                0 => random.below(POOL_BLOCKS),
                _ => (at + random.below(6)) % POOL_BLOCKS,
            };
            let longest = if random.below(50) == 0 { 600 } else { 4 };
            let count = 1 + random.below(longest);
            let blocks = at..(at + count).min(POOL_BLOCKS);
            let mut expected = blocks.clone();
            let matches = arrivals
                .blocks_match(&[run(at, u32::try_from(blocks.end - at).unwrap())], |bytes| {
                    bytes.starts_with(&expected.next().unwrap().to_le_bytes())
                })
                .unwrap();
            assert!(matches, "blocks {blocks:?}");
            wanted += blocks.end - at;
            arrived.extend(blocks);
        }
        arrivals.finish().unwrap();
        let written: BTreeSet<u64> = disk.writes.lock().iter().cloned().flatten().collect();
        assert_eq!(written, arrived);
        let read: u64 = disk.reads.lock().iter().map(|blocks| blocks.end - blocks.start).sum();
        assert!(read < 4 * wanted, "{read} blocks read for {wanted}");
    }

    #[test]
    fn blocks_beyond_the_pool_are_damage_and_what_does_not_match_is_not_written() {
        let disk = Watched::new();
        let mut arrivals = Arrivals::new(&disk, POOL_BLOCKS, Cached::WriteAgain);
        assert!(arrivals.blocks_match(&[run(POOL_BLOCKS - 1, 2)], |_| true).is_err());
        assert!(!arrivals.blocks_match(&[run(POOL_BLOCKS - 1, 1)], |_| false).unwrap());
        arrivals.finish().unwrap();
        assert!(disk.writes.lock().is_empty());
    }
}
