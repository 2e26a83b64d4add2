// SPDX-License-Identifier: MIT OR Apache-2.0

//! Sparse bytes in pieces of one size, shared between clones until one of them writes.
//!
//! What was never written reads as zero and takes no memory. A clone costs one reference count per piece.

use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The share of one piece in an access that may span several.
pub(super) struct Part {
    /// Which piece.
    pub(super) piece: u64,
    /// Bytes of the piece.
    pub(super) inside: Range<usize>,
    /// Bytes of the caller's buffer.
    pub(super) buffer: Range<usize>,
}

/// The parts of `length` bytes at `at`, in pieces of `1 << shift` bytes. The caller checked that they end below `2^64`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "an offset inside a piece, and pieces are small"
)]
pub(super) fn parts(shift: u32, at: u64, length: usize) -> impl Iterator<Item = Part> {
    let size = 1_usize << shift;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let here = at + done as u64;
        let offset = (here as usize) & (size - 1);
        let take = (size - offset).min(length - done);
        let part = Part {
            piece: here >> shift,
            inside: offset..offset + take,
            buffer: done..done + take,
        };
        done += take;
        Some(part)
    })
}

/// See the module's text. `SHIFT` is the binary logarithm of the size of a piece.
#[derive(Clone, Default)]
pub(super) struct Image<const SHIFT: u32> {
    pieces: FxHashMap<u64, Arc<[u8]>>,
}

impl<const SHIFT: u32> Image<SHIFT> {
    pub(super) fn read(&self, at: u64, into: &mut [u8]) {
        for part in parts(SHIFT, at, into.len()) {
            self.read_part(&part, into);
        }
    }

    pub(super) fn write(&mut self, at: u64, from: &[u8]) {
        for part in parts(SHIFT, at, from.len()) {
            self.write_part(&part, from);
        }
    }

    pub(super) fn read_part(&self, part: &Part, into: &mut [u8]) {
        let into = &mut into[part.buffer.clone()];
        match self.pieces.get(&part.piece) {
            Some(piece) => into.copy_from_slice(&piece[part.inside.clone()]),
            None => into.fill(0),
        }
    }

    pub(super) fn write_part(&mut self, part: &Part, from: &[u8]) {
        let from = &from[part.buffer.clone()];
        match self.pieces.entry(part.piece) {
            Entry::Occupied(piece) => {
                Arc::make_mut(piece.into_mut())[part.inside.clone()].copy_from_slice(from);
            }
            // A whole piece is copied straight from the caller instead of zeroed first.
            Entry::Vacant(place) if from.len() == 1 << SHIFT => {
                place.insert(Arc::from(from));
            }
            Entry::Vacant(place) => {
                let mut piece = vec![0; 1 << SHIFT];
                piece[part.inside.clone()].copy_from_slice(from);
                place.insert(Arc::from(piece));
            }
        }
    }

    /// Whether a piece was ever written.
    pub(super) fn holds(&self, piece: u64) -> bool {
        self.pieces.contains_key(&piece)
    }

    /// Makes a piece zero and gives its memory back.
    pub(super) fn forget(&mut self, piece: u64) {
        self.pieces.remove(&piece);
    }

    /// Bytes of memory behind the image.
    pub(super) fn allocated(&self) -> u64 {
        (self.pieces.len() as u64) << SHIFT
    }
}
