// SPDX-License-Identifier: MIT OR Apache-2.0

//! The gate that every command to the hardware passes, and that the emergency stop shuts.
//!
//! Once [`Gate::shut`] has returned nobody gets in until [`Gate::open`], and once [`Gate::drain`] has returned after it,
//! nobody is inside. What happens inside is a handful of register writes: nobody waits for hardware there.
//!
//! One word holds both facts, so "is it shut" and "somebody is inside" cannot be seen apart. Checked with every
//! interleaving in `tests/gate.rs`, where `sync` is loom's.

use crate::sync::{AtomicU32, Ordering, spin};

/// The highest bit: shut. The others count who is inside.
const SHUT: u32 = 1 << 31;

/// See the module.
#[derive(Debug)]
pub struct Gate {
    word: AtomicU32,
}

/// Somebody is inside until this is dropped.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
        }
    }

    /// Goes in, unless the gate is shut.
    pub fn enter(&self) -> Option<Pass<'_>> {
        // Counting first and looking then, in one step, is what closes the race with `shut`.
        if self.word.fetch_add(1, Ordering::AcqRel) & SHUT != 0 {
            self.word.fetch_sub(1, Ordering::Release);
            return None;
        }
        Some(Pass { gate: self })
    }

    /// Shuts the gate: nobody gets in any more. Says whether it was open.
    pub fn shut(&self) -> bool {
        self.word.fetch_or(SHUT, Ordering::AcqRel) & SHUT == 0
    }

    /// Waits until nobody is inside; of a gate that is shut and stays so.
    pub fn drain(&self) {
        while self.word.load(Ordering::Acquire) & !SHUT != 0 {
            spin();
        }
    }

    /// Opens it. Says whether it was shut.
    pub fn open(&self) -> bool {
        self.word.fetch_and(!SHUT, Ordering::AcqRel) & SHUT != 0
    }

    /// Whether it is shut.
    pub fn is_shut(&self) -> bool {
        self.word.load(Ordering::Acquire) & SHUT != 0
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.word.fetch_sub(1, Ordering::Release);
    }
}
