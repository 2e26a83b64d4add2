// SPDX-License-Identifier: MIT OR Apache-2.0

//! Building an index from all vectors of a space, in bounded memory.
//!
//! 1. The index is *being built*: searches compare everything. What there was of it goes.
//! 2. A sample says where the middle is, and how to divide vectors into buckets that fit into memory.
//! 3. The leaves of each bucket are made and written, in transactions of a few MiB.
//! 4. The index is *in use*. What was put meanwhile is growing.
//!
//! A crash in between leaves an index that is being built; it is begun again.

use std::ops::ControlFlow;

use super::upkeep::Step;
use crate::data::{CHUNK_BLOCKS, chunk_of};
use crate::error::{Errno, Error, Result};
use crate::fs::engine::{Core, Fs};
use crate::fs::op::Op;
use crate::fs::vectors::record::{IndexRecord, IndexState, SpaceState};
use crate::fs::vectors::space::Shape;
use crate::units::{BLOCK_SIZE, FileBlock, Ino};
use crate::vector::codec::{Codec, CodecConfig};
use crate::vector::filter::Hints;
use crate::vector::index::Settings;
use crate::vector::index::build::{Item, Plan, Sampler, leaves};
use crate::vector::index::store::{Change, encode_centre, round_centre};

/// Bytes of the sample.
const SAMPLE: usize = 16 << 20;
/// Vectors of the sample at most.
const SAMPLED: usize = 65_536;
/// Bytes of the points of a bucket, about.
const BUCKET: usize = 32 << 20;
/// Centres in one transaction, in bytes.
const CENTRES: usize = 64 << 10;
/// Records that go in one transaction.
const FORGET: usize = 1024;
/// Rows of the store's map that are looked at together.
const ROWS: usize = 64;

impl Core {
    /// The record of an index that is in use.
    pub(super) fn usable_index(&mut self, space: Ino) -> Result<Option<IndexRecord>> {
        let record = self.state.index(space)?.cloned();
        Ok(record.filter(|record| record.state == IndexState::InUse))
    }
}

/// A build under way.
struct Build<'a> {
    fs: &'a Fs,
    space: Ino,
    shape: Shape,
    codec: Codec,
    settings: Settings,
    /// Number of the next leaf.
    next: u32,
}

impl Fs {
    /// Builds it; `changing` is held. Done: there was no space, or the pool closes.
    pub(super) fn build_index(&self, space: Ino) -> Result<Step> {
        let (shape, until) = {
            let mut core = self.core();
            let found = core
                .state
                .space(space)?
                .filter(|space| space.state == SpaceState::Active);
            let found = found.ok_or(Error::Posix(Errno::NoEntry))?;
            (found.shape, found.next)
        };
        self.close_index(space);
        let mut config = CodecConfig::new(shape.space(), space.0);
        let mut record = IndexRecord {
            state: IndexState::Building,
            tier: config.tier,
            seed: config.seed,
            below: 0,
            origin: Box::default(),
        };
        match self.set_index(space, &record).and_then(|()| self.forget_index(space)) {
            Err(Error::Posix(Errno::NoSpace)) => return Ok(Step::Done),
            done => done?,
        }
        let room = (SAMPLE / shape.vector_bytes()).clamp(64, SAMPLED);
        let mut sampler = Sampler::new(room, 1);
        self.each_living(space, until, |_, bytes| {
            sampler.offer(bytes);
            Ok(())
        })?;
        config.origin = round_centre(&sampler.origin(&Codec::new(config.clone())));
        record.origin = encode_centre(&config.origin).into();
        self.set_index(space, &record)?;
        #[expect(clippy::cast_possible_truncation, reason = "a mark in blocks")]
        let mut build = Build {
            fs: self,
            space,
            shape,
            codec: Codec::new(config),
            settings: Settings::new(space.0 as u32, shape.dimensions as usize),
            next: 1,
        };
        let plan = sampler.plan(&build.codec, BUCKET);
        drop(sampler);
        let outcome = if plan.buckets(&build.codec) == 1 {
            build.at_once(until)?
        } else {
            build.by_buckets(&plan, until)?
        };
        if outcome == Step::Done {
            return Ok(Step::Done);
        }
        record.state = IndexState::InUse;
        record.below = until;
        self.set_index(space, &record)?;
        self.close_index(space);
        tracing::info!(space = space.0, leaves = build.next - 1, "built the index");
        Ok(Step::More)
    }

    /// A leaf cannot be read: the index is to be built again. Left to others if they change it just now.
    pub(super) fn discard_index(&self, space: Ino) -> Result<()> {
        let Some(_changing) = self.shared.indexes.changing.try_lock() else {
            return Ok(());
        };
        let record = {
            let mut core = self.core();
            if core.check_writable().is_err() {
                return Ok(());
            }
            core.usable_index(space)?
        };
        let Some(record) = record else { return Ok(()) };
        let record = IndexRecord {
            state: IndexState::Building,
            ..record
        };
        match self.set_index(space, &record) {
            // It is found damaged again.
            Err(Error::Posix(Errno::NoSpace | Errno::NoEntry)) => return Ok(()),
            set => set?,
        }
        self.close_index(space);
        self.shared.sealing_wanted.notify_all();
        Ok(())
    }

    /// Removes what there is of an index that is being built. Its blocks become holes.
    fn forget_index(&self, space: Ino) -> Result<()> {
        loop {
            let until = {
                let core = self.core();
                let some = core.state.leaves_in(space, 0..u64::MAX, FORGET)?;
                let others = core.state.centres_in(space, 0..u64::MAX, FORGET)?;
                let last = |last: Option<u64>| last.map_or(0, |leaf| leaf + 1);
                let (one, other) = (
                    last(some.last().map(|(leaf, _)| *leaf)),
                    last(others.last().map(|(leaf, _)| *leaf)),
                );
                one.min(other)
                    .max(if one == 0 || other == 0 { one.max(other) } else { 0 })
            };
            if until == 0 {
                break;
            }
            self.transact_with(&[Op::ForgetLeaves { space, until }], |_| Ok(()))?;
        }
        self.free_between_slabs(space)
    }

    /// Makes everything of a store that is in no slab a hole.
    fn free_between_slabs(&self, space: Ino) -> Result<()> {
        let _sealing = self.shared.sealing.lock();
        let inode = self.attributes(space)?.inode;
        let end = inode.size.div_ceil(BLOCK_SIZE as u64);
        let mut from = 0;
        loop {
            let slab = self.core().state.slabs_from(space, from, 1)?.pop();
            let until = slab.map_or(end, |(at, _)| at);
            self.free_store(space, from, until)?;
            match slab {
                Some((at, slab)) => from = at + slab.blocks,
                None => return Ok(()),
            }
        }
    }

    fn free_store(&self, space: Ino, from: u64, until: u64) -> Result<()> {
        let mut from = from;
        while from < until {
            let (chunk, _) = chunk_of(FileBlock(from));
            let rows = self
                .core()
                .state
                .rows(space, chunk, until.div_ceil(CHUNK_BLOCKS), ROWS)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            let here = ((last + 1) * CHUNK_BLOCKS).min(until);
            let time = self.attributes(space)?.inode.modified;
            let punch = Op::Punch {
                ino: space,
                from: FileBlock(from),
                count: here - from,
                time,
            };
            self.transact_with(&[punch], |_| Ok(()))?;
            from = here;
        }
        Ok(())
    }

    /// Every vector below a number that exists and can be read, once.
    fn each_living(&self, space: Ino, until: u64, mut each: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
        let mut seen = vec![0_u64; usize::try_from(until / 64 + 1).unwrap_or(0)];
        self.scan_vectors(space, &mut |found| {
            let Ok(vid) = u32::try_from(found.vector) else {
                return Ok(ControlFlow::Continue(()));
            };
            let word = seen.get_mut(vid as usize / 64);
            let mark = 1 << (vid % 64);
            if let Some(word) = word
                && found.vector < until
                && *word & mark == 0
                && self.is_alive(space, &found)?
            {
                *word |= mark;
                each(vid, found.bytes)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }
}

impl Build<'_> {
    fn at_once(&mut self, until: u64) -> Result<Step> {
        let mut vids = Vec::new();
        let mut rows = Vec::new();
        self.fs.each_living(self.space, until, |vid, bytes| {
            vids.push(vid);
            rows.extend_from_slice(bytes);
            Ok(())
        })?;
        self.bucket(&vids, &rows)
    }

    fn by_buckets(&mut self, plan: &Plan, until: u64) -> Result<Step> {
        let mut all: Vec<(u32, u32)> = Vec::new();
        self.fs.each_living(self.space, until, |vid, bytes| {
            all.push((plan.bucket(&self.codec, bytes), vid));
            Ok(())
        })?;
        all.sort_unstable();
        // A bucket that came out too large is taken in parts.
        let most = (2 * BUCKET / (self.shape.dimensions as usize * 4)).max(1);
        for bucket in all.chunk_by(|one, other| one.0 == other.0) {
            for part in bucket.chunks(most) {
                let mut vids = Vec::with_capacity(part.len());
                let mut rows = Vec::with_capacity(part.len() * self.shape.vector_bytes());
                for (_, vid) in part {
                    // What cannot be read or went is in no leaf.
                    if let Ok(Some((_, bytes))) = self.fs.vector_bytes(self.space, self.shape, u64::from(*vid)) {
                        vids.push(*vid);
                        rows.extend_from_slice(&bytes);
                    }
                }
                if self.bucket(&vids, &rows)? == Step::Done {
                    return Ok(Step::Done);
                }
            }
        }
        Ok(Step::More)
    }

    fn bucket(&mut self, vids: &[u32], rows: &[u8]) -> Result<Step> {
        let items = vids.iter().zip(rows.chunks_exact(self.shape.vector_bytes()));
        let items: Vec<Item<'_>> = items
            .map(|(vid, bytes)| Item {
                vid: *vid,
                hints: Hints::UNKNOWN,
                bytes,
            })
            .collect();
        let change = leaves(&self.codec, &self.settings, self.next, &items);
        drop(items);
        self.next += u32::try_from(change.put.len()).unwrap_or(u32::MAX);
        self.write(&change)
    }

    fn write(&self, change: &Change) -> Result<Step> {
        let mut placed = change.placed.as_slice();
        let mut rest = change.put.as_slice();
        while !rest.is_empty() {
            if self.fs.core().sealing_stops {
                return Ok(Step::Done);
            }
            let (mut bytes, mut items, mut centres) = (0, 0, 0);
            let fits = rest.iter().take_while(|(record, content)| {
                bytes += content.codes.len() + content.rows.len();
                items += record.items as usize;
                centres += record.centre.len() * 2;
                bytes <= self.settings.change_bytes && items <= self.settings.change_items && centres <= CENTRES
            });
            let (some, later) = rest.split_at(fits.count().max(1));
            let count: usize = some.iter().map(|(record, _)| record.items as usize).sum();
            let (these, others) = placed.split_at(count.min(placed.len()));
            let vectors: Vec<u64> = these.iter().map(|(vid, _)| u64::from(*vid)).collect();
            let put = some.iter().map(|(record, content)| (record, content, false));
            let layout = self.codec.leaf_layout();
            if self.fs.write_leaves(self.space, layout, put, &[], &vectors)?.is_none() {
                return Ok(Step::Done);
            }
            (rest, placed) = (later, others);
        }
        Ok(Step::More)
    }
}
