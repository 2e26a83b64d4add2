// SPDX-License-Identifier: MIT OR Apache-2.0

//! How far exact vectors are apart, as answers tell it; see [`Metric`].

use crate::fs::vectors::space::{Metric, Shape};
use crate::vector::space::Exact;

/// A vector to compare others with.
#[derive(Debug, Clone)]
pub(super) struct Near {
    shape: Shape,
    bytes: Vec<u8>,
    exact: Exact,
}

impl Near {
    /// A vector of a space.
    pub(super) fn new(shape: Shape, bytes: Vec<u8>) -> Self {
        Self {
            exact: shape.space().query(&bytes),
            shape,
            bytes,
        }
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How far another of the space is.
    pub(super) fn distance(&self, other: &[u8]) -> f32 {
        self.told(self.exact.distance(other))
    }

    /// What is told of a distance as the index has it.
    pub(super) fn told(&self, distance: f32) -> f32 {
        match self.shape.metric {
            Metric::L2 => distance.sqrt(),
            _ => distance,
        }
    }

    /// A distance of the index above every one that is told as at most `most`.
    pub(super) fn above(&self, most: f32) -> f32 {
        let squared = match self.shape.metric {
            Metric::L2 if most < 0.0 => most,
            // Rounding twice may have made a root smaller.
            Metric::L2 => most * most * (1.0 + 4.0 * f32::EPSILON),
            _ => most,
        };
        squared.next_up()
    }
}
