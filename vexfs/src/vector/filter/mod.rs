// SPDX-License-Identifier: MIT OR Apache-2.0

//! Filters: what can be said about items without looking at their files.
//!
//! | module | what |
//! |---|---|
//! | `hints` | coarse attributes stored with every item |
//! | `mask` | which items of a block may match |
//! | `plan` | how to search under a filter |

mod hints;
mod mask;
mod plan;

pub use hints::Hints;
pub use mask::{BitSet, Mask};
pub use plan::{Plan, plan};
