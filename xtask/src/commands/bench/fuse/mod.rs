// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench fuse`: our mounted filesystem against other filesystems over FUSE, on this host.
//!
//! All of them keep their data on the same filesystem of the host, ours and fuse2fs in an image, the others in a directory.
//! All do the same work through the same calls, one after the other in every round, and a round's order is that of the
//! last one turned by one. Each peer runs as it comes, and once more with the caching options that suit it best. Cold means
//! mounted anew, with the host's caches dropped.
//!
//! Everything runs in namespaces of its own, like a suite: nothing stays mounted.

mod measure;
mod peers;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lab::host::{apt, workspace};
use lab::runner::suite;
use lab::suites::target::On;

use self::peers::Subject;
use super::super::suite::build_command_line;
use super::rounds::{self, Figures, Measured};
use super::row::Row;

/// The name of ours, in the table.
const OURS: &str = "vexfs";
/// Of the peers.
pub(super) const PACKAGES: &[&str] = &["bindfs", "mergerfs", "fuse2fs", "ntfs-3g", "fuse3"];

/// Prepares what needs this user's tools, and measures in namespaces of its own.
pub(super) fn run(rounds: u32) -> Result<ExitCode> {
    if let Some(reason) = suite::lacks(On::Fuse) {
        bail!("{reason}");
    }
    apt::ensure(apt::FUSE_PEERS)?;
    build_command_line(true)?;
    let exe = std::env::current_exe().context("finding this executable")?;
    let arguments = ["bench", "fuse", "--inside", "--pairs", &rounds.to_string()].map(Into::into);
    let mut inner = vec![exe.into_os_string()];
    inner.extend(arguments);
    let status = suite::isolated(&inner).status().context("starting the measurement")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Measures; everything it mounts goes with this process.
pub(super) fn run_inside(rounds: u32) -> Result<Vec<Row>> {
    let storage = workspace::target().join("bench-fuse");
    let program = workspace::target().join("release/vexfs-ublk");
    let mut subjects = peers::all(&program, &storage)?;
    let mut measured = Measured::new();
    for round in 1..=rounds {
        for subject in &subjects {
            eprintln!("round {round} of {rounds}: {}", subject.name);
            let figures = one(subject).with_context(|| format!("measuring {}", subject.name))?;
            measured.entry(subject.name).or_default().push(figures);
        }
        subjects.rotate_left(1);
    }
    std::fs::remove_dir_all(&storage).with_context(|| format!("removing {}", storage.display()))?;
    rounds::rows("host", OURS, &measured, |_, _| None)
}

/// All figures of one subject, on storage that is made anew.
fn one(subject: &Subject) -> Result<Figures> {
    let mut mounted = subject.make()?;
    let mut figures = Figures::new();
    for threads in [1, 4] {
        measure::measure(&mut mounted, threads, &mut figures)?;
    }
    mounted.end()?;
    Ok(figures)
}
