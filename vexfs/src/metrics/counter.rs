// SPDX-License-Identifier: MIT OR Apache-2.0

//! Numbers that only grow, and numbers that go up and down. Any thread may change them at any time.
//!
//! Each has a cache line of its own: threads that count different things do not slow each other down.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How many do something now.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more, until the guard goes.
    pub fn enter(&self) -> Inside<'_> {
        self.0.fetch_add(1, Relaxed);
        Inside(self)
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One of those that a [`Gauge`] counts.
#[derive(Debug)]
#[must_use = "it counts as long as it lives"]
pub struct Inside<'a>(&'a Gauge);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counts_who_is_inside_also_after_a_panic() {
        let gauge = Gauge::default();
        let first = gauge.enter();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _second = gauge.enter();
            assert_eq!(gauge.get(), 2);
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        assert_eq!(gauge.get(), 1);
        drop(first);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn counters_of_many_threads_lose_nothing() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.get(), 40_000);
    }
}
