// SPDX-License-Identifier: MIT OR Apache-2.0

//! Jobs for fio, and running them.

use std::ffi::OsStr;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;
use vexfs::size::Size;

use crate::failure::failed;

/// What is measured: a file in `tests/fio/bench`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Job {
    /// Writes of 1 MiB one after the other, four in flight
    SequentialWrite,
    /// Reads of 1 MiB one after the other, four in flight
    SequentialRead,
    /// Writes of 4 KiB anywhere, 32 in flight
    RandomWrite,
    /// Reads of 4 KiB anywhere, 32 in flight
    RandomRead,
    /// Writes of 4 KiB anywhere, each waited for
    SingleWrite,
    /// Reads of 4 KiB anywhere, each waited for
    SingleRead,
    /// Reads and writes of 4 KiB anywhere, seven to three, 16 in flight
    Mixed,
    /// Writes of 4 KiB anywhere, each made durable
    SyncedWrite,
}

impl Job {
    pub(super) const ALL: [Self; 8] = [
        Self::SequentialWrite,
        Self::SequentialRead,
        Self::RandomWrite,
        Self::RandomRead,
        Self::SingleWrite,
        Self::SingleRead,
        Self::Mixed,
        Self::SyncedWrite,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SequentialWrite => "sequential-write",
            Self::SequentialRead => "sequential-read",
            Self::RandomWrite => "random-write",
            Self::RandomRead => "random-read",
            Self::SingleWrite => "single-write",
            Self::SingleRead => "single-read",
            Self::Mixed => "mixed",
            Self::SyncedWrite => "synced-write",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::SequentialWrite => include_str!("../../../../tests/fio/bench/sequential-write.fio"),
            Self::SequentialRead => include_str!("../../../../tests/fio/bench/sequential-read.fio"),
            Self::RandomWrite => include_str!("../../../../tests/fio/bench/random-write.fio"),
            Self::RandomRead => include_str!("../../../../tests/fio/bench/random-read.fio"),
            Self::SingleWrite => include_str!("../../../../tests/fio/bench/single-write.fio"),
            Self::SingleRead => include_str!("../../../../tests/fio/bench/single-read.fio"),
            Self::Mixed => include_str!("../../../../tests/fio/bench/mixed.fio"),
            Self::SyncedWrite => include_str!("../../../../tests/fio/bench/synced-write.fio"),
        }
    }

    /// Whether it changes what it works on.
    pub(super) const fn writes(self) -> bool {
        !matches!(self, Self::SequentialRead | Self::RandomRead | Self::SingleRead)
    }

    /// Whether what counts is how much, not how often.
    pub(super) const fn is_sequential(self) -> bool {
        matches!(self, Self::SequentialRead | Self::SequentialWrite)
    }

    /// Runs it for so long on a file or device of at least that size; the result is fio's document.
    pub(super) fn run(self, place: &OsStr, seconds: u32, size: Size) -> Result<String> {
        let runtime = format!("--runtime={seconds}");
        let size = format!("--size={}", size.0);
        fio(place, &[&runtime, &size, "-"], self.file())
    }
}

/// Fails if there is no fio.
pub(super) fn find_fio() -> Result<()> {
    let found = Command::new("fio").arg("--version").stdout(Stdio::null()).status();
    match found {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(failed("there is no program fio", "install the package fio"))
        }
        Err(error) => Err(error).context("running fio"),
    }
}

/// Runs fio on a place, with a job file on its standard input, which the option `-` reads.
pub(super) fn fio(place: &OsStr, options: &[&str], job: &str) -> Result<String> {
    let mut filename = OsStr::new("--filename=").to_owned();
    filename.push(place);
    let mut child = Command::new("fio")
        .args(["--output-format=json", "--allow_file_create=0"])
        .arg(filename)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running fio")?;
    if let Some(mut input) = child.stdin.take() {
        // One that ended already says why.
        let _ended = input.write_all(job.as_bytes());
    }
    let output = child.wait_with_output().context("waiting for fio")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let why = errors
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it did not say why");
    Err(failed(
        format!("fio failed ({}): {why}", output.status),
        "see whether the place takes direct I/O and has room",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_has_the_file_of_its_name_and_writes_if_that_does() {
        for job in Job::ALL {
            let file = job.file();
            assert!(file.contains(&format!("[{}]", job.name())), "{job:?}");
            let pattern = file.lines().find_map(|line| line.strip_prefix("rw=")).unwrap();
            assert_eq!(
                pattern.contains("write") || pattern.contains("rw"),
                job.writes(),
                "{job:?}"
            );
            assert_eq!(job.to_possible_value().unwrap().get_name(), job.name());
        }
    }
}
