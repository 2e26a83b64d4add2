// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the file of a run holds, and its writer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab_guest::measure::Measurement;
use lab_guest::registry::Verdict;
use serde::{Deserialize, Serialize};

use super::lines::Appender;
use super::when::now_ms;
use crate::crash::{Continuity, CrashEvent, Recovery, RecoveryAttempt, RecoveryMetrics};

/// One line of a run's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The first.
    Begin(Begin),
    /// A test reached its end.
    Tested(Tested),
    /// A machine was damaged.
    Crash(CrashEvent),
    /// Something was brought back, or not.
    Recovery {
        /// When, in milliseconds since the Unix epoch.
        at: u64,
        /// What was being tested.
        context: String,
        /// How it went.
        attempt: RecoveryAttempt,
    },
    /// The last; a run without it was interrupted.
    End(End),
}

/// How a run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// What was asked for.
    pub command: String,
    /// The checkout's commit, with `+` where files differ from it.
    pub revision: String,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "reason")]
pub enum Outcome {
    /// Everything held.
    Passed,
    /// Something did not.
    Failed(String),
    /// It could not run here.
    Skipped(String),
    /// It took its machine down, or left it damaged.
    Crashed(String),
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Passed => Self::Passed,
            Verdict::Failed(reason) => Self::Failed(reason),
            Verdict::Skipped(reason) => Self::Skipped(reason),
        }
    }
}

/// A test's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// When it ended, in milliseconds since the Unix epoch.
    pub at: u64,
    /// `package::name`.
    pub test: String,
    /// The kernel.
    pub place: String,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Whether it was run again, alone, because it had failed.
    pub repetition: bool,
    /// What it measured.
    pub measurements: Vec<Measurement>,
}

impl Tested {
    /// The recoveries that the test measured.
    pub fn recoveries(&self) -> impl Iterator<Item = RecoveryAttempt> {
        self.measurements.iter().filter_map(|measurement| match measurement {
            Measurement::Recovery {
                took_ms, successful, ..
            } => Some(RecoveryAttempt {
                recovery: Recovery::RestartService,
                successful: *successful,
                took: Duration::from_millis(*took_ms),
            }),
            _ => None,
        })
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Whether everything was as it must be.
    pub passed: bool,
    /// How much of what was planned came to a verdict.
    pub continuity: Continuity,
    /// How well recovery worked, as the run saw it.
    pub metrics: RecoveryMetrics,
}

/// The file of the run that is going on.
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
    appender: Appender,
}

impl RunLog {
    /// Begins a run: makes its file in `directory`, named by the time, and writes the first record.
    pub fn begin(directory: &Path, command: &str, revision: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let at = now_ms();
        let path = directory.join(format!("{at}-{}.jsonl", std::process::id()));
        let mut appender = Appender::open(&path)?;
        appender.append(&Record::Begin(Begin {
            at,
            command: command.to_owned(),
            revision: revision.to_owned(),
        }))?;
        Ok(Self { path, appender })
    }

    /// Another writer of the file of a run that has begun.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            appender: Appender::open(path)?,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a record.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        self.appender.append(record)
    }
}
