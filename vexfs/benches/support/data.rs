// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors, queries and their true neighbours, as `cargo xtask bench vector` makes them; and the time that work on them takes.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};

/// True neighbours of a query, nearest first.
pub(crate) const TRUTH: usize = 100;

/// Rows of numbers, little-endian `f32`, one after the other.
pub(crate) struct Data {
    /// Bytes of a row.
    pub(crate) row: usize,
    pub(crate) base: Vec<u8>,
    pub(crate) queries: Vec<u8>,
    /// Rows of `base`: [`TRUTH`] for each query.
    pub(crate) truth: Vec<u32>,
}

impl Data {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let read = |name: &str| std::fs::read(directory.join(name)).with_context(|| format!("reading {name}"));
        let (base, queries, truth) = (read("base.f32")?, read("query.f32")?, read("truth.i32")?);
        let count = truth.len() / (TRUTH * 4);
        // Two at least: one half is to tune with, the other for the report.
        ensure!(
            count > 1 && queries.len() % count == 0,
            "queries and truth do not fit together"
        );
        let truth = truth.as_chunks().0.iter();
        Ok(Self {
            row: queries.len() / count,
            base,
            queries,
            truth: truth.map(|bytes| u32::from_le_bytes(*bytes)).collect(),
        })
    }

    pub(crate) fn dimensions(&self) -> usize {
        self.row / size_of::<f32>()
    }
}

/// What was given on the command line, without what cargo adds.
pub(crate) fn arguments() -> Vec<String> {
    std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect()
}

/// CPU time of this thread.
pub(crate) fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
