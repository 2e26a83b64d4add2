// SPDX-License-Identifier: MIT OR Apache-2.0

//! The best so many of a stream of candidates.

use std::collections::BinaryHeap;

/// A distance and an id in one number, ordered by distance, then id.
#[inline]
fn key(distance: f32, vid: u32) -> u64 {
    let bits = distance.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(vid)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "taking halves")]
fn parts(key: u64) -> (f32, u32) {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 {
        ordered & !(1 << 31)
    } else {
        !ordered
    };
    (f32::from_bits(bits), key as u32)
}

/// Keeps the nearest so many.
#[derive(Debug)]
pub(super) struct Nearest {
    room: usize,
    heap: BinaryHeap<u64>,
}

impl Nearest {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            heap: BinaryHeap::with_capacity(room.min(4096) + 1),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.heap.len() >= self.room
    }

    /// The distance a candidate must be below to get in.
    #[inline]
    pub(super) fn limit(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.is_full() => parts(*worst).0,
            _ if self.room == 0 => f32::NEG_INFINITY,
            _ => f32::INFINITY,
        }
    }

    /// Offers a candidate; says whether it got in.
    #[inline]
    pub(super) fn offer(&mut self, distance: f32, vid: u32) -> bool {
        let key = key(distance, vid);
        if !self.is_full() {
            self.heap.push(key);
            return true;
        }
        match self.heap.peek_mut() {
            Some(mut worst) if key < *worst => {
                *worst = key;
                true
            }
            _ => false,
        }
    }

    /// The kept, nearest first.
    pub(super) fn into_sorted(self) -> Vec<(f32, u32)> {
        self.heap.into_sorted_vec().into_iter().map(parts).collect()
    }
}
