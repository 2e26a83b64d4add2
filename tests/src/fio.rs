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

/// The figures of the first job in fio's `--output-format=json`, reads and writes.
pub fn parse(output: &str) -> Result<(Figures, Figures)> {
    // Notes that fio prints before the document are not part of it.
    let start = output.find('{').context("fio printed no JSON")?;
    let document: Value =
        serde_json::from_str(output.get(start..).unwrap_or_default()).context("parsing fio's output")?;
    let job = document.pointer("/jobs/0").context("fio reports no job")?;
    Ok((figures(&job["read"])?, figures(&job["write"])?))
}

fn figures(direction: &Value) -> Result<Figures> {
    let number = |name: &str| {
        direction[name]
            .as_f64()
            .with_context(|| format!("fio reports no {name}"))
    };
    // fio leaves percentiles out of a direction that did nothing.
    let percentile =
        |name: &str| Duration::from_nanos(direction["clat_ns"]["percentile"][name].as_u64().unwrap_or_default());
    Ok(Figures {
        iops: number("iops")?,
        bandwidth: number("bw_bytes")?,
        p50: percentile("50.000000"),
        p99: percentile("99.000000"),
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
  "write": { "iops": 0.0, "bw_bytes": 0, "total_ios": 0, "clat_ns": {} } } ] }"#;
        let (read, write) = parse(output).unwrap();
        assert_eq!(
            (read.iops, read.operations, read.p99),
            (80000.5, 400_002, Duration::from_micros(900))
        );
        assert_eq!(write, Figures::default());
        assert!(parse("fio: no such file").is_err());
    }
}
