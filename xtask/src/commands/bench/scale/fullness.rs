// SPDX-License-Identifier: MIT OR Apache-2.0

//! A filesystem that is more and more full, as df counts: what it keeps for itself or for root is not part of it.

use anyhow::{Context, Result};
use lab_guest::work::Work;

use super::super::mounted::{self, Bench};
use super::super::rounds::Figure;
use super::each;

const AXIS: &str = "% full";
const PERCENTS: [usize; 4] = [50, 80, 95, 99];
const FILE_MIB: usize = 128;
/// What they take must fit into the last percent, without what is overwritten being given back.
const WRITES: usize = 4000;
const FILES: usize = 2000;

pub(super) fn measure(bench: &mut Bench<'_>) -> Result<()> {
    let overwritten = bench.places("overwritten", 1)?;
    bench.timed((Work::Write, FILE_MIB), &overwritten, false)?;
    let fillers = bench.places("fillers", 1)?;
    for percent in PERCENTS {
        bench
            .timed((Work::Fill, percent), &fillers, false)
            .with_context(|| format!("filling it to {percent} %"))?;
        let created = bench.places(&format!("created-at-{percent}"), 1)?;
        for (what, work, amount, places) in [
            (
                "4 KiB random write, one fsync, of a full filesystem",
                Work::RandomWrites,
                WRITES,
                &overwritten,
            ),
            ("create on a full filesystem", Work::Create, FILES, &created),
        ] {
            let (took, _) = bench.timed((work, amount), places, false).context(what)?;
            let figure = Figure::less(what, "µs", each(took.seconds, amount));
            bench.figures.push(figure.at(AXIS, mounted::count(percent)));
        }
    }
    Ok(())
}
