// SPDX-License-Identifier: MIT OR Apache-2.0

//! Leaves and vectors of an open index, as [`crate::vector::index`] reads them.

use std::cell::RefCell;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::matches::{Accept, Passing};
use super::memory::{Chunk, Memory, Opened};
use crate::error::{Error, Result};
use crate::fs::engine::Fs;
use crate::units::{FileBlock, Ino};
use crate::vector::codec::block::{Identity, Leaf};
use crate::vector::index::store::{LeafRef, Leaves, StoreError, Vectors};

type Answered<T> = std::result::Result<T, StoreError>;

/// Who reads, and so what becomes of vectors that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are left out, and missed.
    Search,
    /// The same; vectors are read once and not kept.
    Flush,
    /// Nothing may be left out.
    Rewrite,
}

/// Which vectors count.
#[derive(Clone, Copy)]
pub(super) enum Counting<'a> {
    /// All.
    All,
    /// Those of files that pass.
    Asking(Accept<'a>),
    /// These.
    Passing(&'a Passing),
}

/// See the module.
pub(super) struct View<'a> {
    pub(super) fs: &'a Fs,
    pub(super) opened: &'a Opened,
    pub(super) memory: &'a Memory,
    pub(super) purpose: Purpose,
    counting: Counting<'a>,
    chunks: RefCell<FxHashMap<u64, Arc<Chunk>>>,
    notes: RefCell<Notes>,
}

/// What came up while reading.
#[derive(Default)]
pub(super) struct Notes {
    /// The first failure.
    pub(super) failed: Option<Error>,
    /// Least number of a vector that could not be read.
    pub(super) unreadable: Option<u64>,
    /// How often it was asked whether a file counts, and how many did.
    pub(super) asked: usize,
    pub(super) accepted: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(fs: &'a Fs, opened: &'a Opened, memory: &'a Memory, purpose: Purpose) -> Self {
        Self {
            fs,
            opened,
            memory,
            purpose,
            counting: Counting::All,
            chunks: RefCell::default(),
            notes: RefCell::default(),
        }
    }

    pub(super) const fn counting(mut self, counting: Counting<'a>) -> Self {
        self.counting = counting;
        self
    }

    /// What came up; what failed is the error.
    pub(super) fn into_notes(self) -> Result<Notes> {
        let mut notes = self.notes.into_inner();
        match notes.failed.take() {
            Some(error) => Err(error),
            None => Ok(notes),
        }
    }

    fn fail(&self, error: Error) {
        self.notes.borrow_mut().failed.get_or_insert(error);
    }

    fn owner(&self, vid: u32) -> Result<Option<Ino>> {
        let vector = u64::from(vid);
        let number = Chunk::number(vector);
        if let Some(chunk) = self.chunks.borrow().get(&number) {
            return Ok(chunk.owner(vector));
        }
        let chunk = self.opened.chunk(self.fs, vector)?;
        let owner = chunk.owner(vector);
        self.chunks.borrow_mut().insert(number, chunk);
        Ok(owner)
    }

    fn counts(&self, vid: u32) -> Result<bool> {
        if let Counting::Passing(passing) = self.counting
            && !passing.vids.contains(vid)
        {
            return Ok(false);
        }
        let Some(owner) = self.owner(vid)? else {
            return Ok(false);
        };
        let Counting::Asking(accept) = self.counting else {
            return Ok(true);
        };
        let accepted = (accept.passes)(owner)?;
        let mut notes = self.notes.borrow_mut();
        notes.asked += 1;
        notes.accepted += usize::from(accepted);
        Ok(accepted)
    }

    fn read_leaf(&self, leaf: u32) -> Answered<Leaf> {
        let row = self.memory.rows.get(&leaf).ok_or(StoreError::NoLeaf(leaf))?;
        let items = row.items as usize;
        let (codes, rows) = self.opened.layout.sections(items);
        let mut bytes = vec![0; codes + rows];
        let at = FileBlock(row.at).byte_at();
        match self.fs.read(self.opened.space, at, &mut bytes) {
            Ok(_) => {}
            Err(error @ (Error::Damaged(_) | Error::Io(_))) => {
                tracing::debug!(space = self.opened.space.0, leaf, %error, "a leaf cannot be read");
                return Err(StoreError::NoLeaf(leaf));
            }
            Err(error) => {
                self.fail(error);
                return Err(StoreError::NoLeaf(leaf));
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a mark in blocks")]
        let identity = Identity {
            space: self.opened.space.0 as u32,
            leaf,
            generation: row.generation,
        };
        let (codes, rows) = bytes.split_at(codes);
        Ok(Leaf::open(self.opened.layout, identity, items, codes, rows)?)
    }
}

impl Leaves for View<'_> {
    fn leaves<'a>(&'a self, ids: &[u32], out: &mut Vec<Answered<LeafRef<'a>>>) {
        let (space, cache) = (self.opened.space, &self.fs.shared.indexes.leaves);
        // Leaves are never written where others were: the place tells which it is.
        let place = |id: &u32| self.memory.rows.get(id).map_or(u64::MAX, |row| row.at);
        let mut known: Vec<Option<Arc<Leaf>>> = Vec::with_capacity(ids.len());
        cache.get_all(space, ids.iter().map(place), |_, leaf| known.push(leaf.cloned()));
        for (id, known) in ids.iter().zip(known) {
            out.push(match known {
                Some(leaf) => Ok(LeafRef::Shared(leaf)),
                None => self.read_leaf(*id).map(|leaf| {
                    let leaf = Arc::new(leaf);
                    if self.purpose == Purpose::Search {
                        cache.put(space, place(id), Arc::clone(&leaf), leaf.bytes());
                    }
                    LeafRef::Shared(leaf)
                }),
            });
        }
    }
}

impl Vectors for View<'_> {
    fn is_live(&self, vid: u32) -> bool {
        self.counts(vid).unwrap_or_else(|error| {
            self.fail(error);
            false
        })
    }

    fn read(&self, vids: &[u32], visit: &mut dyn FnMut(usize, &[u8])) -> Answered<()> {
        let Opened { space, shape, .. } = *self.opened;
        let cache = &self.fs.shared.indexes.vectors;
        let mut missing = Vec::new();
        let mut counting = Vec::new();
        if self.purpose == Purpose::Search {
            // Asked before the cache is locked: it may take long.
            counting.extend(vids.iter().map(|vid| self.is_live(*vid)));
        }
        let counts = |at: usize| counting.get(at).copied().unwrap_or(true);
        cache.get_all(space, vids.iter().map(|vid| u64::from(*vid)), |at, bytes| match bytes {
            _ if !counts(at) => {}
            Some(bytes) if self.purpose == Purpose::Search => visit(at, bytes),
            _ => missing.push(at),
        });
        for at in missing {
            let Some(vid) = vids.get(at).copied() else { continue };
            match self.fs.vector_bytes(space, shape, u64::from(vid)) {
                Ok(Some((_, bytes))) => {
                    visit(at, &bytes);
                    if self.purpose == Purpose::Search {
                        let length = bytes.len();
                        cache.put(space, u64::from(vid), bytes.into(), length);
                    }
                }
                Ok(None) => {}
                Err(error @ (Error::Damaged(_) | Error::Io(_))) if self.purpose != Purpose::Rewrite => {
                    tracing::warn!(space = space.0, vid, %error, "a vector cannot be read");
                    let mut notes = self.notes.borrow_mut();
                    let least = notes.unreadable.unwrap_or(u64::MAX).min(u64::from(vid));
                    notes.unreadable = Some(least);
                }
                Err(error) => return Err(StoreError::Failed(Box::new(error))),
            }
        }
        Ok(())
    }
}

/// A failure of the store is one of the engine again.
pub(super) fn failure(error: StoreError) -> Error {
    match error {
        StoreError::Failed(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(other) => crate::error::Damage::new("a vector index", other),
        },
        error => crate::error::Damage::new("a vector index", error),
    }
}

/// Whether the index itself is damaged, not the vectors.
pub(super) const fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Leaf(_) | StoreError::NoLeaf(_))
}
