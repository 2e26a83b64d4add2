// SPDX-License-Identifier: MIT OR Apache-2.0

//! The operations of a front end: how long each takes, and how often it fails.

use std::time::Duration;

use super::counter::Counter;
use super::histogram::{Distribution, Histogram};

/// One histogram and one count of failures per operation, found by index.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    operations: Box<[Operation]>,
}

#[derive(Debug)]
struct Operation {
    name: &'static str,
    times: Histogram,
    failures: Counter,
}

/// What a family held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilySnapshot {
    /// As `fuse_operation_seconds`.
    pub name: &'static str,
    /// In the order of the indices.
    pub operations: Vec<OperationSnapshot>,
}

/// One operation of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationSnapshot {
    /// As `read`.
    pub name: &'static str,
    /// How long it took, also when it failed.
    pub times: Distribution,
    /// How often it failed.
    pub failures: u64,
}

impl Family {
    /// Of a name such as `fuse_operation_seconds`, and operations whose indices are their places here.
    pub fn new(name: &'static str, operations: impl IntoIterator<Item = &'static str>) -> Self {
        let operation = |name| Operation {
            name,
            times: Histogram::default(),
            failures: Counter::default(),
        };
        Self {
            name,
            operations: operations.into_iter().map(operation).collect(),
        }
    }

    /// An operation ended. An index beyond the operations changes nothing.
    pub fn record(&self, index: usize, elapsed: Duration, failed: bool) {
        debug_assert!(index < self.operations.len(), "an operation that was not named");
        if let Some(operation) = self.operations.get(index) {
            operation.times.record(elapsed);
            if failed {
                operation.failures.increment();
            }
        }
    }

    /// Everything recorded up to now.
    pub fn snapshot(&self) -> FamilySnapshot {
        let operations = self.operations.iter().map(|operation| OperationSnapshot {
            name: operation.name,
            times: operation.times.snapshot(),
            failures: operation.failures.get(),
        });
        FamilySnapshot {
            name: self.name,
            operations: operations.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_told_apart_and_failures_counted() {
        let family = Family::new("test_operation_seconds", ["read", "write"]);
        family.record(1, Duration::from_micros(5), false);
        family.record(1, Duration::from_micros(5), true);
        let found = family.snapshot();
        let counts: Vec<_> = found
            .operations
            .iter()
            .map(|operation| (operation.name, operation.times.count(), operation.failures))
            .collect();
        assert_eq!(counts, [("read", 0, 0), ("write", 2, 1)]);
    }
}
