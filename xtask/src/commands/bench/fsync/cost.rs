// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a work of synced operations took, per operation.

use anyhow::{Context, Result, ensure};
use lab_guest::work::Took;

use super::super::mounted::Traffic;
use super::super::rounds::Figure;

/// All that was seen of a work.
pub(super) struct Cost {
    pub(super) operations: f64,
    pub(super) took: Took,
    pub(super) traffic: Traffic,
    /// Of files, that an operation writes; may be none.
    pub(super) bytes: f64,
}

impl Cost {
    pub(super) fn figure(&self, measure: String) -> Result<Figure> {
        ensure!(self.operations > 0.0 && self.took.seconds > 0.0, "nothing was done");
        let latency = self.took.latency.context("operations were not timed")?;
        let written = self.traffic.bytes / self.operations;
        let figure = Figure::more(measure, "1/s", self.operations / self.took.seconds)
            .cost("p50, µs", latency.p50)
            .cost("p99, µs", latency.p99)
            .cost("flushes each", self.traffic.flushes / self.operations)
            .cost("written each, KiB", written / 1024.0);
        Ok(if self.bytes > 0.0 {
            figure.cost("amplification", written / self.bytes)
        } else {
            figure
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lab_guest::work::Latency;

    use super::super::super::rounds;
    use super::*;

    fn costs(bytes: f64) -> Vec<(String, f64)> {
        let cost = Cost {
            operations: 100.0,
            took: Took {
                seconds: 2.0,
                latency: Some(Latency { p50: 10.0, p99: 30.0 }),
            },
            traffic: Traffic {
                flushes: 50.0,
                bytes: 819_200.0,
            },
            bytes,
        };
        let measured = BTreeMap::from([("ours", vec![vec![cost.figure("append".to_owned()).unwrap()]])]);
        let rows = rounds::rows("6.12", "ours", &measured, |_, _| None).unwrap();
        assert!((rows[0].ours.value.median - 50.0).abs() < 1e-9);
        let costs = rows[0].ours.costs.iter();
        costs.map(|(name, spread)| (name.clone(), spread.median)).collect()
    }

    #[test]
    fn flushes_and_bytes_are_told_per_operation() {
        let expected = [
            ("p50, µs", 10.0),
            ("p99, µs", 30.0),
            ("flushes each", 0.5),
            ("written each, KiB", 8.0),
            ("amplification", 2.0),
        ];
        assert_eq!(costs(4096.0), expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn what_writes_no_bytes_of_files_has_no_amplification() {
        assert!(!costs(0.0).iter().any(|(name, _)| name == "amplification"));
    }
}
