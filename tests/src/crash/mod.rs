// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crash database: what a machine's console says when something goes wrong, what that means, and what to do.
//!
//! # The parts, in the order a console line meets them
//!
//! 1. [`LineSplitter`] turns the bytes of a serial console into lines.
//! 2. [`Classifier`] recognises lines by the rows of `crash-patterns.toml` ([`PatternTable`]), gathers the kernel
//!    report that follows, and says which modules it blames.
//! 3. [`Report`] is the verdict: the worst sighting, the first cause, the console lines that show it. Its
//!    [`CrashType`] gives [`Severity`], [`Recovery`] and [`RecoveryLevel`].
//! 4. [`CrashEvent`] is what is kept of it; [`RecoveryMetrics`] judges how well recovery works over a whole run.
//! 5. [`Trend`] warns before anything is printed at all: of memory, descriptors and slab that only ever grow.
//!
//! # Rules
//!
//! * Nothing here reads a clock or does I/O. Time is what the caller says it is.
//! * Console bytes are hostile: nothing panics on them, and memory stays bounded.
//! * A new kind of message is a new row in the table with a sample, not code.

mod classifier;
mod console;
mod event;
mod metrics;
mod patterns;
mod report;
mod trend;
mod types;

#[cfg(test)]
mod classifier_tests;
#[cfg(test)]
mod recorded_tests;

pub use classifier::{Classifier, NoticeCount};
pub use console::{LineSplitter, Message, messages, strip_controls};
pub use event::CrashEvent;
pub use metrics::{Bar, Checks, Continuity, RecoveryAttempt, RecoveryMetrics, Standing};
pub use patterns::{Pattern, PatternError, PatternTable};
pub use report::{EMULATOR_FAULT, Report, Sighting};
pub use trend::{Trend, TrendConfig, TrendWarning};
pub use types::{CrashType, Effect, Recovery, RecoveryLevel, Severity};
