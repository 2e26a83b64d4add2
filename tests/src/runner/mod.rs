// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests of all levels: found, run, recovered from, reported.
//!
//! - [`discover`]: builds the workspace's test executables and asks each what it holds.
//! - [`host`]: runs ordinary Rust tests, and lab tests that drive machines from outside.
//! - [`guest`]: runs lab tests inside machines, in batches that share one.
//! - [`recovery`]: what is done when a test takes the guest down: levels 1 to 3.
//! - [`suite`]: runs the cases of suites against a mounted filesystem, each in namespaces of its own.
//! - [`report`]: lines for people, JUnit XML and JSON for machines, the closing count.

pub mod discover;
pub mod guest;
pub mod host;
pub mod recovery;
pub mod report;
pub mod suite;

use std::path::PathBuf;
use std::time::Duration;

use lab_guest::measure::Measurement;
use lab_guest::registry::{TestInfo, Verdict};
use serde::{Deserialize, Serialize};

pub use crate::store::Outcome;
use crate::store::Tested;
use crate::store::when::now_ms;

/// One test that can be run.
#[derive(Debug, Clone)]
pub struct Case {
    /// The package it belongs to.
    pub package: String,
    /// Its name within the package.
    pub name: String,
    /// The package's folder.
    pub folder: PathBuf,
    /// The executable that holds it.
    pub executable: PathBuf,
    /// What it needs, if it is a lab test; ordinary Rust tests need nothing.
    pub lab: Option<TestInfo>,
}

impl Case {
    /// `package::name`, what filters are matched against.
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.package, self.name)
    }
}

/// The record of one test.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TestResult {
    /// The package it belongs to.
    pub package: String,
    /// Its name within the package.
    pub name: String,
    /// `host`, or the kernel it ran on or drove.
    pub place: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The end of what it printed, for tests that did not pass.
    pub output: String,
    /// What it measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Measurement>,
}

impl TestResult {
    /// `package::name`, as of the [`Case`].
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.package, self.name)
    }

    /// The record of it, now.
    pub fn recorded(&self, repetition: bool) -> Tested {
        Tested {
            at: now_ms(),
            test: self.full_name(),
            place: self.place.clone(),
            outcome: self.outcome.clone(),
            took_ms: u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            repetition,
            measurements: self.measurements.clone(),
        }
    }

    /// Whether it did not end as it must.
    pub fn is_failure(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_) | Outcome::Crashed(_))
    }
}

/// The last bytes of a text that are worth keeping, cut at a line.
fn tail(text: &str) -> String {
    const KEPT: usize = 16 << 10;
    if text.len() <= KEPT {
        return text.to_owned();
    }
    let mut start = text.len() - KEPT;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let kept = text.get(start..).unwrap_or_default();
    kept.split_once('\n').map_or(kept, |(_, rest)| rest).to_owned()
}

/// The verdict that a lab test printed as its last word. What somebody wrote without a line end may stand before it.
fn verdict_in(output: &str) -> Option<Verdict> {
    let line = output
        .lines()
        .rev()
        .find_map(|line| Some(line.split_once(lab_guest::harness::VERDICT_PREFIX)?.1))?;
    serde_json::from_str(line).ok()
}
