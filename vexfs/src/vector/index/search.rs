// SPDX-License-Identifier: MIT OR Apache-2.0

//! Searching: route, scan one-bit codes, sharpen what may be near, compare the best exactly.
//!
//! Leaves are visited nearest first, [`BATCH`] at a time, so that their reads go together. While a leaf is scanned, items
//! whose lower bound is above the worst candidate kept are passed over 32 at a time; the rows of the others are asked for
//! from memory at once and sharpened after the leaf's last block. At the end the best candidates are read, exactly compared,
//! and those the store refuses (dead, or filtered) fall out.

use super::Index;
use super::effort::Effort;
use super::nearest::Nearest;
use super::router::Target;
use super::store::{LeafRef, Leaves, StoreError, Vectors};
use crate::vector::codec::Form;
use crate::vector::codec::block::{LeafView, Rows};
use crate::vector::codec::query::{Aim, Query};
use crate::vector::filter::Mask;
use crate::vector::kernels::{ITEMS, Kernels, Scanned};
use crate::vector::space::Exact;

/// Leaves that are read together.
const BATCH: usize = 32;

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// A vector of the space, checked.
    pub query: &'a [u8],
    /// Answers wanted.
    pub count: usize,
    /// How hard to try.
    pub effort: Effort,
    /// Answers must be nearer than this.
    pub below: f32,
    /// What items may pass, by their hints. The store's filter decides.
    pub mask: Option<&'a Mask>,
}

impl<'a> Request<'a> {
    /// The nearest so many.
    pub const fn new(query: &'a [u8], count: usize, effort: Effort) -> Self {
        Self {
            query,
            count,
            effort,
            below: f32::INFINITY,
            mask: None,
        }
    }
}

/// What was found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answer {
    /// Distance and id, nearest first.
    pub hits: Vec<(f32, u32)>,
    /// Leaves that could not be read: the answer may lack something.
    pub lost: Vec<u32>,
    /// What it took.
    pub work: Work,
}

/// What a search took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Leaves read.
    pub leaves: usize,
    /// Items whose one-bit codes were scanned.
    pub scanned: usize,
    /// Items whose sharper codes were looked at.
    pub sharpened: usize,
    /// Vectors compared exactly.
    pub compared: usize,
}

impl Index {
    /// Searches leaves and the growing segment.
    pub fn search(
        &self,
        leaves: &dyn Leaves,
        vectors: &dyn Vectors,
        request: &Request<'_>,
    ) -> Result<Answer, StoreError> {
        let query = Query::new(&self.codec, request.query);
        let exact = self.codec.space().query(request.query);
        let targets = self.router.route(&query, request.effort.leaves);
        let mut search = Search {
            query: &query,
            exact: &exact,
            vectors,
            request,
            reach: if self.codec.leaf_layout().padded > 0 {
                request.effort.cosine(self.codec.space().dimensions())
            } else {
                f32::INFINITY
            },
            best: Nearest::new(request.effort.compared.max(request.count)),
            top: Nearest::new(request.count),
            scanned: Scanned::default(),
            pending: Vec::new(),
            work: Work::default(),
        };
        let aim = query.aim(query.square_between(self.growing.centre()));
        search.leaf(&self.growing.view(), aim);
        let mut lost = Vec::new();
        for batch in targets.chunks(BATCH) {
            search.batch(leaves, batch, &mut lost)?;
        }
        let (hits, work) = search.compare()?;
        Ok(Answer { hits, lost, work })
    }

    /// Compares the query with each of these vectors: the right way for few.
    pub fn search_among(
        &self,
        vectors: &dyn Vectors,
        request: &Request<'_>,
        vids: &[u32],
    ) -> Result<Answer, StoreError> {
        let exact = self.codec.space().query(request.query);
        let mut top = Nearest::new(request.count);
        let mut work = Work::default();
        vectors.read(vids, &mut |at, row| {
            let distance = exact.distance(row);
            work.compared += 1;
            if distance < request.below {
                top.offer(distance, vids[at]);
            }
        })?;
        Ok(Answer {
            hits: top.into_sorted(),
            lost: Vec::new(),
            work,
        })
    }
}

struct Search<'a> {
    query: &'a Query,
    exact: &'a Exact,
    vectors: &'a dyn Vectors,
    request: &'a Request<'a>,
    /// The cosine that is too unlikely, or infinity.
    reach: f32,
    /// Candidates for exact comparison, by the sharpest estimate there is.
    best: Nearest,
    /// The estimates of as many as are wanted: how near the answer is.
    top: Nearest,
    scanned: Scanned,
    /// Items of the present leaf to sharpen.
    pending: Vec<u32>,
    work: Work,
}

impl Search<'_> {
    fn batch(&mut self, leaves: &dyn Leaves, targets: &[Target], lost: &mut Vec<u32>) -> Result<(), StoreError> {
        let wanted: Vec<Target> = targets.iter().filter(|target| self.is_worth(target)).copied().collect();
        let ids: Vec<u32> = wanted.iter().map(|target| target.leaf).collect();
        let mut lent: Vec<Result<LeafRef<'_>, StoreError>> = Vec::with_capacity(ids.len());
        leaves.leaves(&ids, &mut lent);
        for index in 0..lent.len().min(wanted.len()) {
            if let Some(Ok(next)) = lent.get(index + 1) {
                next.view().prefetch();
            }
            let target = &wanted[index];
            match &lent[index] {
                Ok(leaf) if self.is_worth(target) => {
                    self.work.leaves += 1;
                    self.leaf(&leaf.view(), self.query.aim(target.square));
                }
                Ok(_) => {}
                Err(StoreError::Leaf(_) | StoreError::NoLeaf(_)) => lost.push(target.leaf),
                Err(StoreError::Failed(_)) => {
                    let failed = lent.swap_remove(index);
                    return failed.map(|_| ());
                }
            }
        }
        Ok(())
    }

    /// Whether a leaf may hold an answer that is nearer than those found.
    ///
    /// An item at distance `r` from the centre, itself at distance `d`, is nearer than `t` if its residual has at least the
    /// cosine `(d² + r² - t²) / 2dr` with the direction to the query. In many dimensions large cosines are rare. Of the
    /// leaf's radii, the one that needs the smallest excess over the allowed cosine counts.
    fn is_worth(&self, target: &Target) -> bool {
        if self.reach.is_infinite() || !self.top.is_full() || self.query.form() == Form::Product {
            return true;
        }
        let far = target.square.sqrt();
        let radius = (far * self.reach).max(target.radii[0]).min(target.radii[1]);
        target.square + radius * radius - self.top.limit() <= self.reach * 2.0 * far * radius
    }

    /// Scans one leaf.
    fn leaf(&mut self, leaf: &LeafView<'_>, aim: Aim) {
        if leaf.layout.padded == 0 {
            self.exact_leaf(leaf);
            return;
        }
        let sharp = leaf.layout.rows != Rows::None;
        let doubt = if sharp { self.request.effort.doubt } else { 0.0 };
        let everything = doubt.is_infinite() || self.request.effort.compared == usize::MAX;
        self.work.scanned += leaf.items;
        for index in 0..leaf.blocks() {
            let block = leaf.block(index);
            let there = leaf.mask(index) & self.request.mask.map_or(u32::MAX, |mask| mask.of(block));
            if there == 0 {
                continue;
            }
            let limit = if everything { f32::INFINITY } else { self.best.limit() };
            let doubt = if everything { 0.0 } else { doubt };
            let mut found = there & self.query.scan(block, aim, doubt, limit, &mut self.scanned);
            while found != 0 {
                let slot = found.trailing_zeros() as usize;
                found &= found - 1;
                let item = index * ITEMS + slot;
                if sharp {
                    Kernels::prefetch(leaf.row(item));
                    #[expect(clippy::cast_possible_truncation, reason = "at most 2^21 items")]
                    self.pending.push(item as u32);
                } else {
                    self.offer(self.scanned.estimate[slot], block.vid(slot));
                }
            }
        }
        self.work.sharpened += self.pending.len();
        let pending = std::mem::take(&mut self.pending);
        for item in &pending {
            let item = *item as usize;
            let estimate = self.query.sharpen(leaf, item, aim);
            if estimate <= self.best.limit() {
                self.offer(estimate, leaf.vid(item));
            }
        }
        self.pending = pending;
        self.pending.clear();
    }

    /// A leaf that holds its vectors themselves.
    fn exact_leaf(&mut self, leaf: &LeafView<'_>) {
        for index in 0..leaf.blocks() {
            let block = leaf.block(index);
            let mut there = leaf.mask(index) & self.request.mask.map_or(u32::MAX, |mask| mask.of(block));
            self.work.scanned += there.count_ones() as usize;
            while there != 0 {
                let slot = there.trailing_zeros() as usize;
                there &= there - 1;
                let distance = self.exact.distance(leaf.row(index * ITEMS + slot));
                if distance <= self.best.limit() {
                    self.offer(distance, block.vid(slot));
                }
            }
        }
    }

    #[inline]
    fn offer(&mut self, estimate: f32, vid: u32) {
        if self.vectors.is_live(vid) && self.best.offer(estimate, vid) {
            self.top.offer(estimate, vid);
        }
    }

    /// Compares the candidates exactly.
    fn compare(self) -> Result<(Vec<(f32, u32)>, Work), StoreError> {
        let vids: Vec<u32> = self.best.into_sorted().into_iter().map(|(_, vid)| vid).collect();
        let mut top = Nearest::new(self.request.count);
        let mut work = self.work;
        let (exact, below) = (self.exact, self.request.below);
        self.vectors.read(&vids, &mut |at, row| {
            work.compared += 1;
            let distance = exact.distance(row);
            if distance < below {
                top.offer(distance, vids[at]);
            }
        })?;
        Ok((top.into_sorted(), work))
    }
}
