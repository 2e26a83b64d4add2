// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which pages are in memory.
//!
//! A cached page hangs in a [`Slot`] of its own table, so a hit costs one uncontended lock and no search, and pages of a
//! table go when the table goes. The cache itself only decides which pages leave: a clock over all filled slots, whose hand
//! passes by pages that were used since it last came.
//!
//! Locks: the clock's, then a slot's. Nobody who holds a slot's lock takes the clock's.

use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::page::Page;
use super::table::Table;
use crate::metrics::Counter;
use crate::units::BLOCK_SIZE;

/// Place of one page of a table.
pub(super) type Slot = RwLock<Option<Arc<Page>>>;

/// The clock.
pub(super) struct Cache {
    capacity: usize,
    ring: Mutex<Ring>,
    /// Pages asked for that were in memory, and that were not.
    pub(super) hits: Counter,
    pub(super) misses: Counter,
}

#[derive(Default)]
struct Ring {
    filled: Vec<(Weak<Table>, u32)>,
    hand: usize,
}

impl Cache {
    /// Of so many bytes; never less than a few pages.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            capacity: (bytes / BLOCK_SIZE).max(16),
            ring: Mutex::default(),
            hits: Counter::default(),
            misses: Counter::default(),
        }
    }

    /// A page was put into an empty slot: another may have to go.
    pub(super) fn admit(&self, table: &Arc<Table>, index: u32) {
        let new = (Arc::downgrade(table), index);
        let mut ring = self.ring.lock();
        if ring.filled.len() < self.capacity {
            ring.filled.push(new);
            return;
        }
        // Every page may have been used: the second round finds none that still says so, unless readers are fast.
        for _ in 0..=2 * self.capacity {
            let hand = ring.hand;
            ring.hand = (hand + 1) % self.capacity;
            let Some(entry) = ring.filled.get_mut(hand) else {
                continue;
            };
            if leaves(entry) {
                *entry = new;
                return;
            }
        }
        // Not noted, the page would never leave; so it leaves now.
        if let Some(slot) = table.slot(index) {
            *slot.write() = None;
        }
    }

    /// Pages of living tables in memory.
    pub(super) fn pages(&self) -> usize {
        let ring = self.ring.lock();
        ring.filled.iter().filter(|(table, _)| table.strong_count() > 0).count()
    }
}

/// Whether the place of the entry can be given away; empties its slot.
fn leaves((table, index): &(Weak<Table>, u32)) -> bool {
    let Some(table) = table.upgrade() else { return true };
    let Some(slot) = table.slot(*index) else { return true };
    let mut slot = slot.write();
    if slot.as_ref().is_some_and(|page| page.was_touched()) {
        return false;
    }
    *slot = None;
    true
}
