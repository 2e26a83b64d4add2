// SPDX-License-Identifier: MIT OR Apache-2.0

//! The works that every mounted filesystem does.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use lab_guest::work::Work;

use super::super::rounds::{Figure, Figures};
use super::peers::Mounted;

/// For each thread.
const FILES: usize = 2000;
const DIRECTORIES: usize = 500;
const READS: usize = 2000;
const WRITES: usize = 8000;
const SYNCED: usize = 200;
/// MiB, of all threads together.
const LARGE: usize = 256;

/// Measures everything with so many threads, each with files of its own.
pub(super) fn measure(mounted: &mut Mounted<'_>, threads: usize, figures: &mut Figures) -> Result<()> {
    let root = mounted.directory().join(format!("threads-{threads}"));
    fs::create_dir(&root)?;
    let places: Vec<PathBuf> = (0..threads).map(|number| root.join(number.to_string())).collect();
    for place in &places {
        fs::create_dir(place)?;
    }
    let share = LARGE / threads;
    let works = [
        ("create", "1/s", Work::Create, FILES, false),
        ("stat, warm", "1/s", Work::Stat, FILES, false),
        ("stat, cold", "1/s", Work::Stat, FILES, true),
        ("readdir, cold", "entries/s", Work::List, FILES, true),
        ("unlink", "1/s", Work::Unlink, FILES, false),
        ("mkdir", "1/s", Work::MakeDirectories, DIRECTORIES, false),
        ("sequential write + fsync", "MiB/s", Work::Write, share, false),
        ("sequential read, cold", "MiB/s", Work::Read, share, true),
        ("4 KiB random read, cold", "1/s", Work::RandomReads, READS, true),
        (
            "4 KiB random write, one fsync",
            "1/s",
            Work::RandomWrites,
            WRITES,
            false,
        ),
        ("4 KiB write + fsync each", "1/s", Work::SyncedWrites, SYNCED, false),
    ];
    for (what, unit, work, amount, cold) in works {
        if cold {
            mounted.chill()?;
        }
        let seconds = work.time(&places, amount)?.seconds;
        #[expect(clippy::cast_precision_loss, reason = "amounts of work are small")]
        let rate = (amount * threads) as f64 / seconds;
        figures.push(Figure::more(format!("{what}, {threads} thr"), unit, rate));
    }
    Ok(())
}
