// SPDX-License-Identifier: MIT OR Apache-2.0

//! More and more extents of one file, each a block with a hole behind it.

use anyhow::{Context, Result};
use lab_guest::work::Work;

use super::super::mounted::{self, Bench};
use super::super::rounds::Figure;
use super::each;

const AXIS: &str = "extents of the file";
/// Reads, and appends.
const AMOUNT: usize = 4000;

pub(super) fn measure(bench: &mut Bench<'_>, sizes: &[usize]) -> Result<()> {
    for &extents in sizes {
        let places = bench.places(&format!("extents-{extents}"), 1)?;
        bench.timed((Work::Scatter, extents), &places, false)?;
        // The last is done once, whatever its amount.
        for (what, work, amount, cold) in [
            (
                "4 KiB random read, cold, of many extents",
                Work::ScatteredReads,
                AMOUNT,
                true,
            ),
            ("append an extent, one fsync", Work::ScatteredAppends, AMOUNT, false),
            ("truncate many extents + fsync", Work::ScatteredTruncate, 1, false),
        ] {
            let (took, _) = bench.timed((work, amount), &places, cold).context(what)?;
            let figure = Figure::less(what, "µs", each(took.seconds, amount));
            bench.figures.push(figure.at(AXIS, mounted::count(extents)));
        }
    }
    Ok(())
}
