// SPDX-License-Identifier: MIT OR Apache-2.0

//! More and more files in one directory. A directory is made for each size, so creating them is told as the mean from empty.

use anyhow::{Context, Result};
use lab_guest::work::Work;

use super::super::mounted::{self, Bench};
use super::super::rounds::Figure;
use super::each;

const AXIS: &str = "files in the directory";

pub(super) fn measure(bench: &mut Bench<'_>, sizes: &[usize]) -> Result<()> {
    for &files in sizes {
        let places = bench.places(&format!("directory-{files}"), 1)?;
        for (what, work, cold) in [
            ("create in a directory", Work::Create, false),
            ("stat in a directory, cold", Work::Stat, true),
            ("readdir, cold, each name", Work::List, true),
        ] {
            let (took, _) = bench.timed((work, files), &places, cold).context(what)?;
            let figure = Figure::less(what, "µs", each(took.seconds, files));
            bench.figures.push(figure.at(AXIS, mounted::count(files)));
        }
        // What comes later is to find as much room.
        bench.timed((Work::Unlink, files), &places, false)?;
    }
    Ok(())
}
