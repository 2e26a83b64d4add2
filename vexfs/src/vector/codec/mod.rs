// SPDX-License-Identifier: MIT OR Apache-2.0

//! From vectors to codes: what a space's index stores of a vector besides its exact bytes.
//!
//! A [`Codec`] is made from a space and a few numbers that are stored with the space's record. It turns
//!
//! - a vector into a *point*: its elements as numbers, of length one for cosine; what clusters are made of;
//! - points into blocks of codes ([`block`]), each leaf relative to its centre;
//! - a query into the tables that scans need ([`query::Query`]).
//!
//! | module | what |
//! |---|---|
//! | `rotation` | the random rotation before all codes |
//! | `bits` | one-bit codes with error bounds, and sharper ones |
//! | `block` | the bytes of leaves |
//! | `writer` | filling leaves |
//! | `query` | the other side: a query's tables |

pub mod bits;
pub mod block;
pub mod query;
pub mod rotation;
#[cfg(test)]
mod tests;
pub mod writer;

use super::space::{Metric, Space, choices, normalise};
use block::{Layout, Rows};
use rotation::Rotation;

/// What codes estimate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Squared distances; for cosine those of vectors of length one.
    Distance,
    /// Negated products.
    Product,
}

choices! {
    /// The sharper codes beside the one-bit ones.
    Tier {
        /// None: what the one-bit codes find is compared exactly.
        Bare = 1, "bare";
        /// Four bits per dimension.
        Nibble = 2, "nibble";
        /// Eight bits per dimension.
        Byte = 3, "byte";
    }
}

/// The numbers that make a codec; stored with the space, never changed while there are leaves.
#[derive(Clone, PartialEq, Debug)]
pub struct CodecConfig {
    /// The vectors.
    pub space: Space,
    /// Of the rotation.
    pub seed: u64,
    /// The sharper codes.
    pub tier: Tier,
    /// A point near the middle of all, subtracted before rotating; empty means zero.
    pub origin: Vec<f32>,
}

impl CodecConfig {
    /// Sensible numbers for a space: sharper codes where one bit alone leaves too much to exact comparisons.
    pub fn new(space: Space, seed: u64) -> Self {
        Self {
            space,
            seed,
            tier: if space.dimensions() <= 1024 {
                Tier::Nibble
            } else {
                Tier::Bare
            },
            origin: Vec::new(),
        }
    }

    /// How leaves are laid out. Metrics that a rotation does not keep, and vectors not longer than their codes, are
    /// stored exactly in the leaf.
    pub const fn leaf_layout(&self) -> Layout {
        let space = &self.space;
        let exact = matches!(space.metric(), Metric::L1 | Metric::Hamming) || space.row_bytes() <= TINY;
        if exact {
            return Layout {
                padded: 0,
                rows: Rows::Exact(space.row_bytes()),
            };
        }
        let rows = match self.tier {
            Tier::Bare => Rows::None,
            Tier::Nibble => Rows::Nibble,
            Tier::Byte => Rows::Byte,
        };
        Layout {
            padded: self.padded(),
            rows,
        }
    }

    /// Dimensions after padding, a multiple of 64.
    pub const fn padded(&self) -> usize {
        self.space.dimensions().next_multiple_of(64)
    }
}

/// Bytes of a vector up to which its leaf holds it exactly instead of codes.
const TINY: usize = 64;

/// Encodes the vectors of one space.
#[derive(Clone, Debug)]
pub struct Codec {
    config: CodecConfig,
    padded: usize,
    rotation: Rotation,
    /// `-P origin`.
    shift: Vec<f32>,
}

impl Codec {
    /// The codec of these numbers. `origin` must be empty or have as many elements as the space has dimensions.
    pub fn new(config: CodecConfig) -> Self {
        let padded = config.padded();
        let rotation = Rotation::new(padded, config.seed);
        let mut shift = vec![0.0; padded];
        for (shift, origin) in shift.iter_mut().zip(&config.origin) {
            *shift = -origin;
        }
        rotation.apply(&mut shift);
        Self {
            config,
            padded,
            rotation,
            shift,
        }
    }

    /// Its numbers.
    pub const fn config(&self) -> &CodecConfig {
        &self.config
    }

    /// The vectors.
    pub const fn space(&self) -> &Space {
        &self.config.space
    }

    /// Dimensions after padding, a multiple of 64.
    pub const fn padded(&self) -> usize {
        self.padded
    }

    /// What codes, and routing, estimate.
    pub const fn form(&self) -> Form {
        match self.config.space.metric() {
            Metric::Dot => Form::Product,
            _ => Form::Distance,
        }
    }

    /// How leaves are laid out.
    pub const fn leaf_layout(&self) -> Layout {
        self.config.leaf_layout()
    }

    /// How routing nodes are laid out: codes of centres, and the centres themselves as `f32`.
    pub const fn node_layout(&self) -> Layout {
        Layout {
            padded: self.padded,
            rows: Rows::Exact(self.config.space.dimensions() * 4),
        }
    }

    /// The point of a vector's bytes.
    pub fn point(&self, bytes: &[u8]) -> Vec<f32> {
        let mut point = self.config.space.floats(bytes);
        if self.config.space.metric() == Metric::Cosine {
            normalise(&mut point);
        }
        point
    }

    /// A point, moved by the origin, rotated and padded.
    pub fn rotate(&self, point: &[f32]) -> Vec<f32> {
        let mut rotated = vec![0.0; self.padded];
        rotated[..point.len()].copy_from_slice(point);
        self.rotation.apply(&mut rotated);
        for (value, shift) in rotated.iter_mut().zip(&self.shift) {
            *value += shift;
        }
        rotated
    }
}
