// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server of a mount is killed: how long applications wait for an answer that only a server has.

use std::time::Duration;

use anyhow::Result;
use lab::vm::Machine;
use lab_guest::work::percentile;

use super::super::mounted::{Contender, DISK, Programs};
use super::super::rounds::{Figure, Figures};
use super::service;

/// Files that are made just before a server is killed, and that nobody synced.
const DIRTY: [usize; 3] = [0, 1000, 10_000];
/// Kills in a round, each of the server that replaced the last one.
const KILLS: usize = 20;
const LIMIT: Duration = Duration::from_secs(120);

/// On a pool that is made anew for each amount.
pub(super) fn outages(machine: &mut Machine, programs: &Programs) -> Result<Figures> {
    let mut figures = Figures::new();
    for dirty in DIRTY {
        machine.succeed(&format!("{} mkfs --force {DISK}", programs.cli), LIMIT)?;
        let (kills, files) = (KILLS.to_string(), dirty.to_string());
        let ours = Contender::Ours;
        let mut task = vec!["outages", &kills, &files, ours.kind()];
        task.extend(ours.server(programs));
        let seconds: Vec<f64> = service(machine, programs, &task)?;
        figures.push(figure(dirty, seconds));
    }
    Ok(figures)
}

fn figure(dirty: usize, mut seconds: Vec<f64>) -> Figure {
    seconds.sort_by(f64::total_cmp);
    let measure = format!("server killed with {dirty} files not synced, until the first answer");
    Figure::less(measure, "s", percentile(&seconds, 50)).cost("p99, s", percentile(&seconds, 99))
}
