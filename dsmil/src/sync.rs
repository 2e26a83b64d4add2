// SPDX-License-Identifier: MIT OR Apache-2.0

//! The atomics of code that is also checked with every interleaving: a test replaces this module by loom's.

pub(crate) use std::sync::atomic::{AtomicU32, Ordering};

/// Waits a moment for another thread's next step.
pub(crate) fn spin() {
    std::thread::yield_now();
}
