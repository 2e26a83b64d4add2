// SPDX-License-Identifier: MIT OR Apache-2.0

//! More and more reads at the same time, directly from a file.

use anyhow::Result;
use lab_guest::service::MOUNT;
use lab_guest::work::Work;

use super::super::mounted::Bench;
use super::super::rounds::Figure;

const AXIS: &str = "reads at the same time";
const DEPTHS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
const FILE_MIB: usize = 512;

pub(super) fn measure(bench: &mut Bench<'_>, seconds: u32) -> Result<()> {
    let places = bench.places("depth", 1)?;
    bench.timed((Work::Write, FILE_MIB), &places, false)?;
    let path = format!("{MOUNT}/depth/0/large");
    for depth in DEPTHS {
        let found = bench.fio(&path, ("randread", "4k", depth), (FILE_MIB, seconds))?;
        let figure = Figure::more("4 KiB random read, direct", "1/s", found.iops)
            .at(AXIS, depth.into())
            .cost("p50, µs", found.p50.as_secs_f64() * 1e6)
            .cost("p99, µs", found.p99.as_secs_f64() * 1e6);
        bench.figures.push(figure);
    }
    Ok(())
}
