// SPDX-License-Identifier: MIT OR Apache-2.0

//! fio's own results: its JSON output in the few figures that people compare.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One direction of one fio job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Operations per second.
    pub iops: f64,
    /// Bytes per second.
    pub bandwidth: f64,
    /// Median completion latency.
    pub p50: Duration,
    /// 99th percentile of the completion latency.
    pub p99: Duration,
    /// Operations done.
    pub operations: u64,
}

/// What the first job of a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Results {
    /// Reads.
    pub read: Figures,
    /// Writes, without what made them durable.
    pub write: Figures,
    /// How long each sync took, if there were any: the median, and the 99th percentile.
    pub sync: Option<(Duration, Duration)>,
}

impl Results {
    /// Of a job that did one of both; fails if it did neither.
    pub fn only(&self) -> Result<&Figures> {
        let done = [&self.read, &self.write].into_iter().find(|one| one.operations > 0);
        done.context("fio did nothing")
    }
}

/// Reads fio's `--output-format=json`.
pub fn parse(output: &str) -> Result<Results> {
    // Notes that fio prints before the document are not part of it.
    let start = output.find('{').context("fio printed no JSON")?;
    let document: Value =
        serde_json::from_str(output.get(start..).unwrap_or_default()).context("parsing fio's output")?;
    let job = document.pointer("/jobs/0").context("fio reports no job")?;
    let sync = &job["sync"]["lat_ns"];
    // Its `total_ios` stays 0.
    let synced = sync["N"].as_u64().is_some_and(|syncs| syncs > 0);
    Ok(Results {
        read: figures(&job["read"])?,
        write: figures(&job["write"])?,
        sync: synced.then(|| (percentile(sync, "50.000000"), percentile(sync, "99.000000"))),
    })
}

/// fio leaves percentiles out of what it did not do.
fn percentile(latency: &Value, name: &str) -> Duration {
    Duration::from_nanos(latency["percentile"][name].as_u64().unwrap_or_default())
}

fn figures(direction: &Value) -> Result<Figures> {
    let number = |name: &str| {
        direction[name]
            .as_f64()
            .with_context(|| format!("fio reports no {name}"))
    };
    Ok(Figures {
        iops: number("iops")?,
        bandwidth: number("bw_bytes")?,
        p50: percentile(&direction["clat_ns"], "50.000000"),
        p99: percentile(&direction["clat_ns"], "99.000000"),
        operations: direction["total_ios"].as_u64().context("fio reports no total_ios")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_fio_s_document() {
        let output = r#"note: something
{ "jobs": [ { "read": { "iops": 80000.5, "bw_bytes": 327682048, "total_ios": 400002,
    "clat_ns": { "percentile": { "50.000000": 350000, "99.000000": 900000 } } },
  "write": { "iops": 0.0, "bw_bytes": 0, "total_ios": 0, "clat_ns": {} },
  "sync": { "total_ios": 0, "lat_ns": { "N": 5, "percentile": { "50.000000": 2000, "99.000000": 3000 } } } } ] }"#;
        let Results { read, write, sync } = parse(output).unwrap();
        assert_eq!(
            (read.iops, read.operations, read.p99),
            (80000.5, 400_002, Duration::from_micros(900))
        );
        assert_eq!(write, Figures::default());
        assert_eq!(sync, Some((Duration::from_micros(2), Duration::from_micros(3))));
        assert!(parse("fio: no such file").is_err());
    }
}
