// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether a request may change something, and what of its changes was carried out before.
//!
//! A request is carried out in transactions. Who may have to ask again, not knowing what became of the first time (the
//! kernel module, when its server was replaced), has them marked: the changes of a request are numbered in the order in which
//! they stand there, each transaction is journalled with the number of its last, and a request that comes again goes on
//! behind that.

use crate::fs::Mark;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Changes {
    /// They are made.
    Free,
    /// They are refused.
    Refused,
    /// They are made once, however often they are asked for.
    Once(Steps),
}

/// Changes of one request, numbered from 1.
#[derive(Debug, Clone, Copy)]
pub struct Steps {
    /// Marks with the number of which slot.
    pub slot: u16,
    /// Number before the first: above the number of every step of the requests before.
    pub base: u64,
    /// The newest number that was carried out in this slot.
    pub answered: u64,
}

impl Changes {
    /// Whether a change was carried out before.
    pub(super) const fn has(&self, step: u64) -> bool {
        match self {
            Self::Free | Self::Refused => false,
            Self::Once(steps) => steps.base.saturating_add(step) <= steps.answered,
        }
    }

    /// What the transaction is marked with that ends with a change.
    pub(super) const fn mark(&self, step: u64) -> Option<Mark> {
        match self {
            Self::Free | Self::Refused => None,
            Self::Once(steps) => Some(Mark::Answered {
                slot: steps.slot,
                seq: steps.base.saturating_add(step),
            }),
        }
    }
}
