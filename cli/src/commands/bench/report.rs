// SPDX-License-Identifier: MIT OR Apache-2.0

//! What was found: medians, ranges, and ratios to the first place.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use vexfs_measure::Spread;
use vexfs_measure::fio::{Figures, Results};

use super::job::Job;
use crate::{figures, show};

/// What runs of a job found at each place, in the order of the rounds.
pub(super) struct Findings {
    job: Job,
    places: Vec<Vec<Run>>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// Bytes or operations a second.
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl Findings {
    pub(super) fn new(job: Job, places: usize) -> Self {
        Self {
            job,
            places: vec![Vec::new(); places],
        }
    }

    pub(super) const fn job(&self) -> Job {
        self.job
    }

    /// Takes what one run found.
    pub(super) fn note(&mut self, place: usize, done: &Results) -> Result<()> {
        let sequential = self.job.is_sequential();
        let rate = |figures: &Figures| if sequential { figures.bandwidth } else { figures.iops };
        let both = done.read.operations > 0 && done.write.operations > 0;
        let (rate, latency) = if both {
            (rate(&done.read) + rate(&done.write), &done.read)
        } else {
            let only = done.only()?;
            (rate(only), only)
        };
        let (p50, p99) = done.sync.unwrap_or((latency.p50, latency.p99));
        if let Some(runs) = self.places.get_mut(place) {
            runs.push(Run { rate, p50, p99 });
        }
        Ok(())
    }

    /// Of one place: how it compares with the first.
    fn ratio(&self, place: usize) -> Option<Spread> {
        let (first, other) = (self.places.first()?, self.places.get(place)?);
        let ratios = other.iter().zip(first).map(|(other, first)| other.rate / first.rate);
        Spread::of(ratios.collect()).ok()
    }
}

fn spread(runs: &[Run], value: impl Fn(&Run) -> f64) -> Option<Spread> {
    Spread::of(runs.iter().map(value).collect()).ok()
}

fn median(runs: &[Run], value: impl Fn(&Run) -> Duration) -> Duration {
    let seconds = spread(runs, |run| value(run).as_secs_f64()).map_or(0.0, |spread| spread.median);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Prints it.
pub(super) fn show(places: &[PathBuf], findings: &[Findings], json: bool) {
    if json {
        let findings: Vec<Value> = findings.iter().flat_map(|found| documents(found, places)).collect();
        show::document(json!({ "findings": findings }));
        return;
    }
    let head = ["job", "place", "rate", "range", "p50", "p99", "ratio"].map(str::to_owned);
    let mut table = vec![head];
    for found in findings {
        for (index, runs) in found.places.iter().enumerate() {
            let Some(rate) = spread(runs, |run| run.rate) else {
                continue;
            };
            let sequential = found.job.is_sequential();
            let shown = |value: f64| {
                let amount = if sequential {
                    figures::bytes(whole(value))
                } else {
                    figures::number(value)
                };
                format!("{amount}/s")
            };
            let ratio = found.ratio(index).filter(|_| index > 0);
            table.push([
                found.job.name().to_owned(),
                places
                    .get(index)
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
                shown(rate.median),
                format!("{}–{}", shown(rate.low), shown(rate.high)),
                figures::latency(median(runs, |run| run.p50)),
                figures::latency(median(runs, |run| run.p99)),
                ratio.map(|ratio| format!("{:.2}", ratio.median)).unwrap_or_default(),
            ]);
        }
    }
    print!("{}", show::aligned(&table));
}

fn documents(found: &Findings, places: &[PathBuf]) -> Vec<Value> {
    let one = |(index, runs): (usize, &Vec<Run>)| {
        let unit = if found.job.is_sequential() {
            "bytes/s"
        } else {
            "operations/s"
        };
        json!({
            "job": found.job.name(),
            "place": places.get(index).map(|path| path.display().to_string()),
            "unit": unit,
            "rates": runs.iter().map(|run| run.rate).collect::<Vec<_>>(),
            "median": spread(runs, |run| run.rate).map(|rate| rate.median),
            "p50_nanoseconds": nanoseconds(median(runs, |run| run.p50)),
            "p99_nanoseconds": nanoseconds(median(runs, |run| run.p99)),
            "ratio": found.ratio(index).map(|ratio| ratio.median),
        })
    };
    found.places.iter().enumerate().map(one).collect()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes a second are positive, and shown in three digits"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(iops: f64) -> Results {
        let write = Figures {
            iops,
            operations: 1,
            ..Figures::default()
        };
        Results {
            write,
            ..Results::default()
        }
    }

    #[test]
    fn ratios_are_those_of_the_rounds_and_not_of_the_medians() {
        let mut found = Findings::new(Job::RandomWrite, 2);
        for (first, second) in [(100.0, 200.0), (1000.0, 500.0), (10.0, 30.0)] {
            found.note(0, &results(first)).unwrap();
            found.note(1, &results(second)).unwrap();
        }
        assert_eq!(found.ratio(1).map(|ratio| ratio.median), Some(2.0));
        let [first, second] = &documents(&found, &["a".into(), "b".into()])[..] else {
            panic!("two places");
        };
        assert_eq!(
            (first["median"].as_f64(), first["ratio"].as_f64()),
            (Some(100.0), Some(1.0))
        );
        assert_eq!(
            (second["place"].as_str(), second["rates"][1].as_f64()),
            (Some("b"), Some(500.0))
        );
        assert!(found.note(0, &Results::default()).is_err());
    }
}
