// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench boot`: from power-on to the first command.

use std::time::Duration;

use anyhow::Result;
use lab::host::workspace;
use lab::kernel::Kernel;
use lab::vm::{Machine, Spec};

use super::row::{Better, Row};
use vexfs_measure::Spread;

const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(kernel: &Kernel, repetitions: u32) -> Result<Vec<Row>> {
    let mut seconds = Vec::new();
    for _ in 0..repetitions {
        let mut machine = Machine::boot(&Spec::new(kernel, workspace::machine_directory("bench-boot")))?;
        machine.succeed("true", LIMIT)?;
        seconds.push(machine.boot_time().as_secs_f64());
        machine.power_cut()?;
    }
    let unit = ("s", Better::Less);
    Ok(vec![Row::alone(
        &kernel.release,
        "power-on to the first command",
        unit,
        Spread::of(seconds)?,
    )])
}
