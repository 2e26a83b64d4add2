// SPDX-License-Identifier: MIT OR Apache-2.0

//! The JSON document of `/status`: what a server says about itself, and every metric.
//!
//! ```json
//! {
//!   "version": 1,
//!   "server": {"pid": 4711, "pool": "/srv/pool.img", "mount_point": "/mnt", "front_end": "fuse", "options": ["ro"], …},
//!   "pool": {"uuid": "…", "label": "data", "mode": "writable"},
//!   "metrics": {
//!     "vexfs_space_available_bytes": 1048576,
//!     "vexfs_pool_uptime_seconds": 17.5,
//!     "vexfs_sync_seconds": {"count": 2, "p99_seconds": 0.01, …},
//!     "vexfs_cache_hits_total": {"inodes": 12, "pages": 7},
//!     "vexfs_fuse_operation_seconds": {"read": {"count": 3, …}}
//!   }
//! }
//! ```
//!
//! Devices of the pool are there as operations: `"vexfs_ublk_operation_seconds": {"ublkb0 read": {…}}`.
//!
//! A metric is a number, a histogram, or one of these per value of its label. `version` changes when something is taken away
//! or means something else; new things may come at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vexfs::metrics::{Distribution, Series, Snapshot, Value};

use crate::handler::Refusal;

/// Of the document.
pub const VERSION: u32 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// See the module.
    pub version: u32,
    /// Who serves the pool, and how.
    pub server: Server,
    /// What the pool is.
    pub pool: Pool,
    /// Every metric by its name.
    pub metrics: BTreeMap<String, Number>,
}

/// What only the front end knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The file or device, absolute.
    pub pool: String,
    /// Where it is mounted.
    pub mount_point: Option<String>,
    /// As `fuse`.
    pub front_end: String,
    /// How it was mounted.
    pub options: Vec<String>,
}

/// Who serves the pool, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its process.
    pub pid: u32,
    /// Of the software.
    pub software_version: String,
    /// What it logs; nothing if that cannot be changed.
    pub log_filter: Option<String>,
    /// What only the front end knows.
    #[serde(flatten)]
    pub facts: Facts,
}

/// What a pool is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name for programs.
    pub uuid: String,
    /// Its name for people.
    pub label: String,
    /// `writable`, `read-only` or `failed`.
    pub mode: String,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// A number of things.
    Count(u64),
    /// A time in seconds.
    Seconds(f64),
    /// Times.
    Times(Box<Times>),
    /// One per value of the label.
    Labelled(BTreeMap<String, Self>),
}

/// How long things took, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Together.
    pub sum_seconds: f64,
    /// Half of them took at most this; null if there are none.
    pub p50_seconds: Option<f64>,
    /// Nine of ten.
    pub p90_seconds: Option<f64>,
    /// 99 of 100.
    pub p99_seconds: Option<f64>,
    /// 999 of 1000.
    pub p999_seconds: Option<f64>,
    /// The longest.
    pub max_seconds: f64,
    /// Upper edges in nanoseconds, and how many are between an edge and the one below.
    pub buckets: Vec<(u64, u64)>,
}

impl Times {
    fn of(distribution: &Distribution) -> Self {
        let quantile = |part| distribution.quantile(part).map(|time| time.as_secs_f64());
        Self {
            count: distribution.count(),
            sum_seconds: distribution.sum().as_secs_f64(),
            p50_seconds: quantile(0.5),
            p90_seconds: quantile(0.9),
            p99_seconds: quantile(0.99),
            p999_seconds: quantile(0.999),
            max_seconds: distribution.max().as_secs_f64(),
            buckets: distribution.filled().collect(),
        }
    }

    /// What it was made of, to tell what came between two documents. None: no server of ours made it.
    pub fn distribution(&self) -> Option<Distribution> {
        let time = |seconds| Duration::try_from_secs_f64(seconds).ok();
        Distribution::from_parts(&self.buckets, time(self.sum_seconds)?, time(self.max_seconds)?)
    }
}

impl Status {
    /// From what is known in a server.
    pub fn new(snapshot: &Snapshot, facts: Facts, log_filter: Option<String>) -> Self {
        let mut metrics = BTreeMap::new();
        for metric in snapshot.metrics() {
            let number = match metric.series.as_slice() {
                [one] if one.labels.is_empty() => Number::of(&one.value),
                // Several labels: what they say is in `pool`.
                [one, ..] if one.labels.len() > 1 => continue,
                series => Number::Labelled(series.iter().filter_map(labelled).collect()),
            };
            metrics.insert(metric.name, number);
        }
        Self {
            version: VERSION,
            server: Server {
                pid: std::process::id(),
                software_version: env!("CARGO_PKG_VERSION").to_owned(),
                log_filter,
                facts,
            },
            pool: Pool {
                uuid: snapshot.pool.uuid.to_string(),
                label: snapshot.pool.label.clone(),
                mode: snapshot.pool.mode.name().to_owned(),
            },
            metrics,
        }
    }

    /// As it goes over the socket.
    pub fn text(&self) -> Result<String, Refusal> {
        let text = serde_json::to_string(self);
        text.map(|text| text + "\n")
            .map_err(|error| Refusal::new(500, error.to_string()))
    }

    /// Adds operations of a front end that measures them itself: name, times, failures.
    pub fn add_operations<'a>(
        &mut self,
        front_end: &str,
        operations: impl IntoIterator<Item = (String, &'a Distribution, u64)>,
    ) {
        let (mut times, mut failures) = (BTreeMap::new(), BTreeMap::new());
        for (name, distribution, failed) in operations {
            times.insert(name.clone(), Number::Times(Box::new(Times::of(distribution))));
            failures.insert(name, Number::Count(failed));
        }
        let stem = format!("vexfs_{front_end}_operation");
        self.metrics.insert(format!("{stem}_seconds"), Number::Labelled(times));
        self.metrics
            .insert(format!("{stem}_failures_total"), Number::Labelled(failures));
    }

    /// A number of things; 0 if there is no such metric.
    pub fn count(&self, name: &str) -> u64 {
        match self.metrics.get(name) {
            Some(Number::Count(count)) => *count,
            _ => 0,
        }
    }

    /// A time; none if there is no such metric, or if it makes no sense.
    pub fn time(&self, name: &str) -> Option<Duration> {
        match self.metrics.get(name)? {
            Number::Seconds(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
            _ => None,
        }
    }

    /// Times; empty if there is no such metric.
    pub fn times(&self, name: &str) -> Distribution {
        match self.metrics.get(name) {
            Some(Number::Times(times)) => times.distribution().unwrap_or_default(),
            _ => Distribution::default(),
        }
    }

    /// What was measured per value of the label.
    pub fn labelled(&self, name: &str) -> impl Iterator<Item = (&str, &Number)> {
        let map = match self.metrics.get(name) {
            Some(Number::Labelled(map)) => Some(map),
            _ => None,
        };
        map.into_iter()
            .flatten()
            .map(|(label, number)| (label.as_str(), number))
    }

    /// The operations of all front ends: name, times, failures.
    pub fn operations(&self) -> Vec<(String, Distribution, u64)> {
        let mut operations = Vec::new();
        for name in self.metrics.keys() {
            let Some(stem) = name.strip_suffix("_operation_seconds") else {
                continue;
            };
            let failures: BTreeMap<&str, &Number> =
                self.labelled(&format!("{stem}_operation_failures_total")).collect();
            for (operation, number) in self.labelled(name) {
                let Number::Times(times) = number else { continue };
                let failures = match failures.get(operation) {
                    Some(Number::Count(count)) => *count,
                    _ => 0,
                };
                operations.push((operation.to_owned(), times.distribution().unwrap_or_default(), failures));
            }
        }
        operations
    }
}

fn labelled(series: &Series) -> Option<(String, Number)> {
    let (_, label) = series.labels.first()?;
    Some((label.clone(), Number::of(&series.value)))
}

impl Number {
    fn of(value: &Value) -> Self {
        match value {
            Value::Count(count) => Self::Count(*count),
            Value::Time(time) => Self::Seconds(time.as_secs_f64()),
            Value::Times(times) => Self::Times(Box::new(Times::of(times))),
        }
    }
}

#[cfg(test)]
mod tests {
    use vexfs::metrics::Histogram;

    use super::*;

    #[test]
    fn times_survive_the_document() {
        let histogram = Histogram::default();
        for millis in [1, 2, 3, 500] {
            histogram.record(Duration::from_millis(millis));
        }
        let distribution = histogram.snapshot();
        let text = serde_json::to_string(&Number::of(&Value::Times(Box::new(distribution.clone())))).unwrap();
        let Number::Times(times) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}");
        };
        assert_eq!(times.distribution(), Some(distribution));
        assert_eq!((times.count, times.max_seconds), (4, 0.5));
    }

    #[test]
    fn a_document_that_makes_no_sense_does_no_harm() {
        let times = |text: &str| -> Number { serde_json::from_str(text).unwrap() };
        let nonsense = "{\"count\":1,\"sum_seconds\":-1,\"max_seconds\":0,\"buckets\":[[7,1]]}";
        let Number::Times(nonsense) = times(nonsense) else {
            panic!()
        };
        assert_eq!(nonsense.distribution(), None);
        let edges = "{\"count\":1,\"sum_seconds\":1,\"max_seconds\":0,\"buckets\":[[17,1]]}";
        let Number::Times(edges) = times(edges) else { panic!() };
        assert_eq!(edges.distribution(), None, "17 is no edge");
    }
}
