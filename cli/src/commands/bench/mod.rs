// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublk bench`: what places of this machine can do, measured with fio.
//!
//! Every job is run at all places in turn, and again in each round, so that whatever else the machine does hits all of them
//! alike. Compared are the medians of the rounds' own ratios to the first place.
//!
//! | module | what |
//! |---|---|
//! | [`job`] | the jobs: files of fio that can be used by themselves |
//! | [`place`] | a directory or a block device |
//! | [`report`] | what was found, to be read |

mod job;
mod place;
mod report;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use vexfs::size::Size;
use vexfs_measure::fio;

use self::job::Job;
use self::place::Place;
use self::report::Findings;
use crate::show;

/// Measure how fast directories or block devices are, beside each other.
///
/// In a directory, a file without a name is made, which is gone when the command ends, however it ends. The first place is
/// what the others are compared with. Needs fio.
#[derive(Args)]
#[command(
    after_help = "Changes: nothing in directories. Of block devices, with --overwrite, everything.

Examples:
  vexfs-ublk bench /mnt/pool
  vexfs-ublk bench /mnt/pool /mnt/ext4 --rounds 7
  vexfs-ublk bench /dev/ublkb0 --job random-read --seconds 10
  vexfs-ublk --json bench /mnt/pool > figures.json"
)]
pub(crate) struct Arguments {
    /// Directories or block devices
    #[arg(required = true, value_name = "PLACE")]
    places: Vec<PathBuf>,
    /// What to do there; may be repeated. Default: everything that the places allow
    #[arg(long = "job", value_name = "JOB")]
    jobs: Vec<Job>,
    /// How often each job is run at each place
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each run is
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// How much of each place is used, as 4GiB
    #[arg(long, default_value_t = Size(1 << 30))]
    size: Size,
    /// Write to block devices, which destroys what is there
    #[arg(long)]
    overwrite: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    job::find_fio()?;
    let mut places = Vec::new();
    for path in &arguments.places {
        places.push(Place::open(path, arguments.size, arguments.overwrite)?);
    }
    let jobs = if arguments.jobs.is_empty() {
        let writable = places.iter().all(Place::is_writable);
        Job::ALL.into_iter().filter(|job| writable || !job.writes()).collect()
    } else {
        arguments.jobs.clone()
    };
    for place in &places {
        jobs.iter().try_for_each(|&job| place.check(job))?;
    }
    let findings = measure(&mut places, &jobs, arguments)?;
    report::show(&arguments.places, &findings, json);
    Ok(())
}

fn measure(places: &mut [Place], jobs: &[Job], arguments: &Arguments) -> Result<Vec<Findings>> {
    let mut findings: Vec<_> = jobs.iter().map(|&job| Findings::new(job, places.len())).collect();
    let runs = u64::from(arguments.rounds) * (jobs.len() * places.len()) as u64;
    let bar = show::bar("preparing", Some(runs));
    for place in places.iter() {
        place.fill()?;
    }
    for round in 0..arguments.rounds as usize {
        for found in &mut findings {
            bar.set_message(found.job().name());
            for turn in 0..places.len() {
                // Nobody is always the first.
                let index = (turn + round) % places.len();
                let Some(place) = places.get(index) else { continue };
                let output = found.job().run(place.name(), arguments.seconds, arguments.size)?;
                let done = fio::parse(&output).with_context(|| place.shown())?;
                found.note(index, &done).with_context(|| place.shown())?;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(findings)
}
