// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors that no flush has moved into a leaf yet, as one leaf in memory around the space's origin.
//!
//! Every search scans all of it. It is made again when the space is opened, from the vectors that are not sealed.

use std::collections::HashSet;

use crate::vector::codec::Codec;
use crate::vector::codec::block::LeafView;
use crate::vector::codec::writer::{Entry, LeafWriter};
use crate::vector::filter::Hints;
use crate::vector::kernels::ITEMS;

/// The growing segment.
#[derive(Debug)]
pub struct Growing {
    centre: Vec<f32>,
    leaf: LeafWriter,
}

impl Growing {
    pub(super) fn new(codec: &Codec) -> Self {
        let origin = &codec.config().origin;
        let centre = if origin.is_empty() {
            vec![0.0; codec.space().dimensions()]
        } else {
            origin.clone()
        };
        Self {
            leaf: LeafWriter::new(codec, codec.leaf_layout(), &centre),
            centre,
        }
    }

    /// Vectors in it.
    pub const fn len(&self) -> usize {
        self.leaf.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.leaf.is_empty()
    }

    /// The least id in it.
    pub fn first(&self) -> Option<u32> {
        self.view().vids().min()
    }

    pub(super) fn bytes(&self) -> usize {
        self.leaf.bytes()
    }

    pub(super) fn view(&self) -> LeafView<'_> {
        self.leaf.view()
    }

    pub(super) fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// The oldest vectors in it, and what is known of them.
    pub(super) fn oldest(&self, count: usize) -> Vec<(u32, Hints)> {
        let view = self.view();
        let item = |item: usize| {
            let block = view.block(item / ITEMS);
            (block.vid(item % ITEMS), Hints::get(block.hints(), item % ITEMS))
        };
        (0..view.items.min(count)).map(item).collect()
    }

    pub(super) fn push(&mut self, codec: &Codec, vid: u32, hints: Hints, bytes: &[u8]) {
        let point = codec.point(bytes);
        let entry = Entry {
            vid,
            hints,
            point: &point,
            row: bytes,
        };
        self.leaf.push(codec, &entry);
    }

    /// Takes vectors out. The codes of the others stay as they are.
    pub(super) fn remove(&mut self, codec: &Codec, vids: &[u32]) {
        if vids.is_empty() {
            return;
        }
        let gone: HashSet<u32> = vids.iter().copied().collect();
        let mut kept = LeafWriter::new(codec, codec.leaf_layout(), &self.centre);
        let view = self.leaf.view();
        for item in (0..view.items).filter(|item| !gone.contains(&view.vid(*item))) {
            kept.copy(view, item);
        }
        self.leaf = kept;
    }
}
