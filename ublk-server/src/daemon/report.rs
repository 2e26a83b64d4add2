// SPDX-License-Identifier: MIT OR Apache-2.0

//! Starting a daemon in the background, and hearing whether it serves.
//!
//! The daemon says it in one line of JSON on its standard output. It is not waited for afterwards: it leaves the session of
//! whoever started it, and lives on.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Ready;
use super::protocol::Wanted;

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It serves.
    Ready(Ready),
    /// It does not, and has left nothing behind.
    Failed(String),
}

/// Why no daemon serves.
#[derive(Debug, Error)]
pub enum StartError {
    /// It cannot be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// In its own words.
    #[error("{0}")]
    Told(String),
    /// It ended without a word.
    #[error("the daemon ended before it served ({0}); its log may say why")]
    Died(String),
}

/// What a daemon in the background is started with.
#[derive(Debug, Clone, Copy)]
pub struct Background<'a> {
    /// The program.
    pub program: &'a Path,
    /// What it logs.
    pub log: Option<&'a str>,
    /// Where to, besides the journal.
    pub log_file: Option<&'a Path>,
    /// Keep all its memory in memory.
    pub lock_memory: bool,
}

impl Background<'_> {
    /// Starts the daemon, which ends with its last device. Returns when it serves.
    pub fn start(&self, wanted: &Wanted) -> Result<Ready, StartError> {
        let run = |source: io::Error| StartError::Run {
            program: self.program.display().to_string(),
            source,
        };
        let log = match self.log_file {
            Some(path) => Stdio::from(File::options().append(true).create(true).open(path).map_err(run)?),
            None => Stdio::null(),
        };
        let wanted = serde_json::to_string(wanted).map_err(|error| run(error.into()))?;
        let mut command = Command::new(self.program);
        command.args(["serve", "--until-idle", "--detach", "--wanted", &wanted]);
        if self.log_file.is_some() {
            command.arg("--log-errors");
        }
        if self.lock_memory {
            command.arg("--mlock");
        }
        if let Some(log) = self.log {
            command.args(["--log", log]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(run)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(run)?;
        }
        match serde_json::from_str(&line) {
            Ok(Report::Ready(ready)) => Ok(ready),
            Ok(Report::Failed(text)) => {
                // It ends now; until then its pool may be locked.
                child.wait().map_err(run)?;
                Err(StartError::Told(text))
            }
            Err(_) => {
                let how = child
                    .wait()
                    .map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(StartError::Died(how))
            }
        }
    }
}
