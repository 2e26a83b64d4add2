// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long a work took: as a whole, and each of its calls where those were timed.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// What `lab-work` prints, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Took {
    /// Until the last thread was done.
    pub seconds: f64,
    /// Of single operations, where each was timed.
    pub latency: Option<Latency>,
}

/// Of the operations of all threads, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// The value that so many percent of all do not exceed; 0 of nothing. The values must be in order.
#[must_use]
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// Does a work in each place, by a thread of its own that is told its number. What a thread returns are its operations' times.
pub(super) fn timed(
    places: &[PathBuf],
    work: impl Fn(usize, &PathBuf) -> Result<Vec<Duration>> + Sync,
) -> Result<Took> {
    let work = &work;
    let start = Instant::now();
    let (elapsed, times) = thread::scope(|scope| {
        let working: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(number, place)| scope.spawn(move || work(number, place)))
            .collect();
        let mut times = Vec::new();
        for thread in working {
            match thread.join() {
                Ok(result) => times.extend(result?),
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok((start.elapsed(), times))
    })?;
    let mut micros: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    micros.sort_by(f64::total_cmp);
    Ok(Took {
        seconds: elapsed.as_secs_f64(),
        latency: (!micros.is_empty()).then(|| Latency {
            p50: percentile(&micros, 50),
            p99: percentile(&micros, 99),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (100.0, 198.0));
        assert_eq!((percentile(&[7.0], 99), percentile(&[7.0], 0)), (7.0, 7.0));
        assert!(percentile(&[], 50).abs() < f64::EPSILON);
    }

    #[test]
    fn threads_have_numbers_and_their_times_are_put_together() {
        let places = [PathBuf::from("a"), PathBuf::from("b")];
        let took = timed(&places, |number, _| {
            Ok(vec![Duration::from_millis(if number == 0 { 1 } else { 5 })])
        });
        let latency = took.unwrap().latency.unwrap();
        assert_eq!((latency.p50, latency.p99), (1000.0, 5000.0));
        assert!(timed(&places, |_, _| Ok(Vec::new())).unwrap().latency.is_none());
        assert!(timed(&places, |_, _| bail!("no")).is_err());
    }
}
