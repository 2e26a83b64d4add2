// SPDX-License-Identifier: MIT OR Apache-2.0

//! The run store: what every run of the lab found, one file per run, kept and asked later.
//!
//! - [`lines`]: append-only files of JSON lines, and what becomes of a torn one.
//! - [`record`]: the records of a run: how it began, each test's result with what it measured, crashes, recoveries, its end.
//! - [`history`]: all runs of a directory; questions by time, crash type and name, and the answers in numbers.
//! - [`page`], [`plot`]: the answers as one HTML file with pictures in it, which needs nothing else.
//! - [`when`]: days and moments as people write them.

pub mod history;
pub mod lines;
pub mod page;
mod plot;
pub mod record;
pub mod when;

pub use history::{Findings, History, Question, Run};
pub use record::{Begin, End, Outcome, Record, RunLog, Tested};
