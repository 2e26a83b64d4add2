// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the index asks of the one who keeps its bytes, and what it hands back to be kept.
//!
//! The index does no I/O. It reads leaves and exact vectors through these traits, and returns each change of its own as a
//! [`Change`], which the caller makes one transaction: all of it or nothing. A change that was kept is then applied to the
//! index in memory. What a change says is final states, so applying one twice does no harm.

use std::ops::Deref;
use std::sync::Arc;

use half::bf16;

use crate::codec::DecodeError;
use crate::vector::codec::block::{Leaf, LeafError};
use crate::vector::codec::writer::LeafBytes;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A leaf's bytes are damaged. Searches go on without it and say so.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// There is no such leaf.
    #[error("leaf {0} is not there")]
    NoLeaf(u32),
    /// The store failed.
    #[error("the store failed: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A leaf lent by its store.
#[derive(Debug)]
pub enum LeafRef<'a> {
    /// That lies in the store.
    Lent(&'a Leaf),
    /// That may leave the store's cache at any time.
    Shared(Arc<Leaf>),
}

impl Deref for LeafRef<'_> {
    type Target = Leaf;

    fn deref(&self) -> &Leaf {
        match self {
            Self::Lent(leaf) => leaf,
            Self::Shared(leaf) => leaf,
        }
    }
}

/// Keeps leaves.
pub trait Leaves {
    /// Several leaves at once, in the order asked for, so that what must be read is read together.
    fn leaves<'a>(&'a self, ids: &[u32], out: &mut Vec<Result<LeafRef<'a>, StoreError>>);
}

/// Keeps exact vectors.
pub trait Vectors {
    /// Whether an id still means a vector that may be an answer. Asked for candidates in memory: must be fast.
    fn is_live(&self, vid: u32) -> bool;

    /// Reads several vectors at once and hands them over with their position in `vids`, in any order. Leaves out those
    /// that are not live, and those that the caller's authoritative filter refuses.
    fn read(&self, vids: &[u32], visit: &mut dyn FnMut(usize, &[u8])) -> Result<(), StoreError>;
}

/// What is kept of a leaf besides its blocks.
#[derive(Clone, PartialEq, Debug)]
pub struct LeafRecord {
    /// Its number.
    pub leaf: u32,
    /// Counts how often it was written.
    pub generation: u32,
    /// Items in its blocks.
    pub items: u32,
    /// Items at the last attempt to split it that found nothing to split; 0 if there was none.
    pub stuck: u32,
    /// Items when the centre was last put into their middle.
    pub centred: u32,
    /// Between these distances from the centre lie its items.
    pub radii: [f32; 2],
    /// A point.
    pub centre: Vec<f32>,
}

/// A centre as it is stored: two bytes a dimension (the upper half of an `f32`). Centres of leaves are such that nothing is
/// lost by it: see [`round_centre`].
pub fn encode_centre(centre: &[f32]) -> Vec<u8> {
    let halves = centre.iter().map(|value| bf16::from_f32(*value));
    halves.flat_map(bf16::to_le_bytes).collect()
}

/// The reverse, of untrusted bytes.
pub fn decode_centre(bytes: &[u8], dimensions: usize) -> Result<Vec<f32>, DecodeError> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    if pairs.len() != dimensions || !rest.is_empty() {
        return Err(DecodeError::invalid("length of a centre", bytes.len() as u64));
    }
    let value = |pair: &[u8; 2]| {
        let value = bf16::from_le_bytes(*pair).to_f32();
        let finite = value.is_finite().then_some(value);
        finite.ok_or_else(|| DecodeError::invalid("centre", u16::from_le_bytes(*pair)))
    };
    pairs.iter().map(value).collect()
}

/// The nearest point that a centre can be. Which point it is matters little; that everybody has the same does.
pub fn round_centre(centre: &[f32]) -> Vec<f32> {
    centre.iter().map(|value| bf16::from_f32(*value).to_f32()).collect()
}

/// A step of maintenance: what to keep, all or nothing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Change {
    /// Leaves that are new or were written anew, whole.
    pub put: Vec<(LeafRecord, LeafBytes)>,
    /// Leaves that are gone.
    pub dropped: Vec<u32>,
    /// Which leaf each of these vectors is in from now on.
    pub placed: Vec<(u32, u32)>,
    /// Vectors that are dead, and now in no leaf and not growing.
    pub released: Vec<u32>,
    /// Vectors that leave the growing segment.
    pub sealed: Vec<u32>,
}

impl Change {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Bytes of blocks in it.
    pub fn bytes(&self) -> usize {
        self.put
            .iter()
            .map(|(_, bytes)| bytes.codes.len() + bytes.rows.len())
            .sum()
    }
}
