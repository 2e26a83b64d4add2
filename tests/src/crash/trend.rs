// SPDX-License-Identifier: MIT OR Apache-2.0

//! Early warning of leaks: a resource that only ever grows.
//!
//! # Contract
//!
//! A [`Trend`] is fed `(time, value)` samples of one resource (resident memory, open descriptors, slab) and warns when
//! it grows *steadily*. Four conditions must hold together, so that neither noise nor one step nor a cache that fills
//! up and stays full raises an alarm:
//!
//! 1. **It is monotone beyond chance.** The Mann-Kendall statistic over the window, which only asks for every pair of
//!    samples which of the two is larger, is at least five standard deviations above that of a series without trend.
//! 2. **It is large against the noise.** The rise over the window by the Theil-Sen slope (the median of the slopes of
//!    all pairs, which a few wild samples cannot move) exceeds three times the median distance of the samples from that
//!    line.
//! 3. **It goes on.** Each half of the window grows at a quarter of that slope or more; a single step does not.
//! 4. **It matters.** The rise exceeds [`TrendConfig::min_rise`].
//!
//! The window is bounded: when it is full the oldest sample goes, so a resource that stopped growing stops the warning.
//! Choose [`TrendConfig::every`] so that a window covers what a leak needs to show. Samples that come sooner, do not advance
//! in time, or are not numbers, are ignored.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// What to watch for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrendConfig {
    /// Growth over the window below this is never worth a warning.
    pub min_rise: f64,
    /// The value that must not be reached, if there is one.
    pub limit: Option<f64>,
    /// Time between samples, at least.
    pub every: Duration,
}

impl TrendConfig {
    /// For resident memory of a process, in bytes.
    pub const RSS: Self = Self {
        min_rise: 4_194_304.0,
        limit: None,
        every: Duration::ZERO,
    };
    /// For open file descriptors of a process.
    pub const FDS: Self = Self {
        min_rise: 4.0,
        limit: None,
        every: Duration::ZERO,
    };
    /// For threads of a process.
    pub const THREADS: Self = Self {
        min_rise: 4.0,
        limit: None,
        every: Duration::ZERO,
    };
    /// For how long calls take, in seconds.
    pub const LATENCY: Self = Self {
        min_rise: 0.25,
        limit: None,
        every: Duration::ZERO,
    };
    /// For kernel slab memory of a lab machine, in bytes: a window of four minutes.
    ///
    /// A fresh machine has some 9 MB. That becomes up to 22 MB within a minute or two as tests use for the first time what
    /// fills caches: forks, block devices, `io_uring`, each kind of filesystem. No growth within that says anything about a leak;
    /// tests that repeat what they do and compare are sharper (`lab_guest::sys::LeakCheck`).
    pub const SLAB: Self = Self {
        min_rise: 25_165_824.0,
        limit: None,
        every: Duration::from_secs(4),
    };

    /// The same with a value that must not be reached.
    #[must_use]
    pub const fn with_limit(self, limit: f64) -> Self {
        Self {
            limit: Some(limit),
            ..self
        }
    }
}

/// A resource grows steadily.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrendWarning {
    /// Growth per second.
    pub per_second: f64,
    /// Where the trend stands now, noise removed.
    pub level: f64,
    /// When the limit is reached if it goes on like this; nothing if there is no limit.
    pub reaches_limit_in: Option<Duration>,
}

impl fmt::Display for TrendWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "grows by {:.3} per second, now at {:.0}",
            self.per_second, self.level
        )?;
        match self.reaches_limit_in {
            Some(left) => write!(f, ", reaches its limit in {} s", left.as_secs()),
            None => Ok(()),
        }
    }
}

/// The recent history of one resource.
#[derive(Clone, Debug)]
pub struct Trend {
    config: TrendConfig,
    /// Seconds and values.
    samples: VecDeque<(f64, f64)>,
}

impl Trend {
    /// Samples kept.
    pub const WINDOW: usize = 64;
    /// Fewer samples say nothing.
    pub const MIN_SAMPLES: usize = 16;
    /// Standard deviations of the Mann-Kendall statistic that count as beyond chance. A run asks thousands of times.
    const SIGNIFICANCE: f64 = 5.0;
    /// The part of the whole slope that each half of the window must show.
    const STEADY: f64 = 0.25;
    /// How many times the noise a rise must be.
    const RISE_OVER_NOISE: f64 = 3.0;

    /// A history without samples.
    pub fn new(config: TrendConfig) -> Self {
        Self {
            config,
            samples: VecDeque::with_capacity(Self::WINDOW),
        }
    }

    /// Takes a sample and says whether the resource leaks, as far as the window tells.
    pub fn feed(&mut self, at: Duration, value: f64) -> Option<TrendWarning> {
        let at = at.as_secs_f64();
        let every = self.config.every.as_secs_f64();
        let due = |&(last, _): &(f64, f64)| at > last && at - last >= every;
        if value.is_finite() && self.samples.back().is_none_or(due) {
            if self.samples.len() == Self::WINDOW {
                self.samples.pop_front();
            }
            self.samples.push_back((at, value));
        }
        self.warning()
    }

    /// Whether the resource leaks, as far as the window tells.
    pub fn warning(&self) -> Option<TrendWarning> {
        if self.samples.len() < Self::MIN_SAMPLES {
            return None;
        }
        let (&(first, _), &(last, _)) = (self.samples.front()?, self.samples.back()?);
        let (slope, significance) = self.slope(0..self.samples.len());
        if slope <= 0.0 || significance < Self::SIGNIFICANCE {
            return None;
        }
        let middle = self.samples.len() / 2;
        let steady = |half| self.slope(half).0 >= slope * Self::STEADY;
        if !steady(0..middle) || !steady(middle..self.samples.len()) {
            return None;
        }
        let offset = median(self.samples.iter().map(|&(t, v)| v - slope * (t - last)).collect())?;
        let noise = median(
            self.samples
                .iter()
                .map(|&(t, v)| (v - slope * (t - last) - offset).abs())
                .collect(),
        )?;
        let rise = slope * (last - first);
        if !rise.is_finite() || rise < self.config.min_rise || rise <= Self::RISE_OVER_NOISE * noise {
            return None;
        }
        let reaches_limit_in = self.config.limit.map(|limit| {
            // A time too far away for a duration is never.
            Duration::try_from_secs_f64(((limit - offset) / slope).max(0.0)).unwrap_or(Duration::MAX)
        });
        Some(TrendWarning {
            per_second: slope,
            level: offset,
            reaches_limit_in,
        })
    }

    /// The Theil-Sen slope of a part of the window, and its Mann-Kendall statistic in standard deviations.
    fn slope(&self, part: Range<usize>) -> (f64, f64) {
        let samples: Vec<_> = self.samples.range(part).collect();
        let mut slopes = Vec::with_capacity(Self::WINDOW * Self::WINDOW / 2);
        let mut score = 0.0;
        for (index, &&(t0, v0)) in samples.iter().enumerate() {
            for &&(t1, v1) in samples.iter().skip(index + 1) {
                slopes.push((v1 - v0) / (t1 - t0));
                score += f64::from(i8::from(v1 > v0) - i8::from(v1 < v0));
            }
        }
        let n = f64::from(u16::try_from(samples.len()).unwrap_or(u16::MAX));
        let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        (median(slopes).unwrap_or(0.0), score / deviation)
    }
}

/// The median of a list.
fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FD: TrendConfig = TrendConfig::FDS;

    /// Feeds one sample per second and returns the warning after each.
    fn warnings(config: TrendConfig, values: impl IntoIterator<Item = f64>) -> Vec<Option<TrendWarning>> {
        let mut trend = Trend::new(config);
        (0..)
            .zip(values)
            .map(|(second, value)| trend.feed(Duration::from_secs(second), value))
            .collect()
    }

    fn ever(config: TrendConfig, values: impl IntoIterator<Item = f64>) -> bool {
        warnings(config, values).iter().any(Option::is_some)
    }

    fn last(config: TrendConfig, values: impl IntoIterator<Item = f64>) -> Option<TrendWarning> {
        warnings(config, values).pop().flatten()
    }

    #[test]
    fn a_steady_leak_tells_when_the_limit_is_reached() {
        let warning = last(FD.with_limit(1024.0), (0..40).map(|i| 24.0 + 2.0 * f64::from(i))).unwrap();
        assert!(
            (warning.per_second - 2.0).abs() < 1e-9 && (warning.level - 102.0).abs() < 1e-9,
            "{warning:?}"
        );
        assert_eq!(warning.reaches_limit_in, Some(Duration::from_secs(461)));
        assert_eq!(
            warning.to_string(),
            "grows by 2.000 per second, now at 102, reaches its limit in 461 s"
        );
    }

    #[test]
    fn a_leak_of_one_descriptor_in_ten_samples_is_seen() {
        assert!(last(FD, (0..64).map(|i| f64::from(i / 10))).is_some());
    }

    #[test]
    fn a_limit_already_passed_is_reached_now() {
        let warning = last(FD.with_limit(10.0), (0..20).map(|i| 24.0 + f64::from(i))).unwrap();
        assert_eq!(warning.reaches_limit_in, Some(Duration::ZERO));
    }

    #[test]
    fn flat_falling_and_saw_tooth_series_do_not_warn() {
        assert!(!ever(FD, std::iter::repeat_n(100.0, 200)));
        assert!(!ever(FD, (0..200).map(|i| 1000.0 - f64::from(i))));
        assert!(!ever(FD, (0..400).map(|i| f64::from(i % 12) * 10.0)));
    }

    #[test]
    fn one_step_up_does_not_warn() {
        assert!(!ever(FD, (0..200).map(|i| if i < 100 { 50.0 } else { 90.0 })));
    }

    #[test]
    fn a_cache_that_fills_up_and_stays_full_ends_without_a_warning() {
        assert!(last(FD, (0..200).map(|i| f64::from(i.min(40)) * 100.0)).is_none());
    }

    #[test]
    fn wild_samples_do_not_hide_a_leak() {
        let series = |i: i32| if i % 9 == 4 { 1e9 } else { f64::from(i) };
        assert!(last(FD, (0..64).map(series)).is_some());
    }

    #[test]
    fn growth_too_small_to_matter_does_not_warn() {
        assert!(!ever(TrendConfig::RSS, (0..200).map(|i| 1e8 + 4096.0 * f64::from(i))));
    }

    /// Samples twice a second, as machines send them.
    fn warns_of_slab(bytes: impl Fn(f64) -> f64) -> bool {
        let mut trend = Trend::new(TrendConfig::SLAB);
        (0..1200).any(|half| {
            let at = Duration::from_millis(500 * half);
            trend.feed(at, bytes(at.as_secs_f64())).is_some()
        })
    }

    #[test]
    fn a_fresh_machine_that_warms_up_does_not_warn_and_one_that_leaks_does() {
        let warm = |at: f64| 9e6 + 13e6 * (1.0 - (-at / 40.0).exp());
        assert!(!warns_of_slab(warm));
        assert!(!warns_of_slab(|at| 9e6 + 100e3 * at.min(130.0)));
        assert!(warns_of_slab(|at| warm(at) + 150e3 * at));
    }

    #[test]
    fn samples_that_are_no_samples_are_ignored() {
        let mut trend = Trend::new(FD);
        for second in 0..40 {
            let at = Duration::from_secs(second);
            trend.feed(at, f64::NAN);
            trend.feed(at, f64::INFINITY);
            trend.feed(at, 7.0);
            trend.feed(at, 1e6);
            trend.feed(Duration::ZERO, 1e6);
        }
        assert_eq!(trend.samples.len(), 40);
        assert!(trend.warning().is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn noise_without_a_trend_never_warns(
            base in 1e3..1e9f64,
            spread in 0.0..0.5f64,
            noise in prop::collection::vec(-1.0..1.0f64, 0..150),
        ) {
            let config = TrendConfig { min_rise: 0.0, ..FD };
            prop_assert!(!ever(config, noise.into_iter().map(|n| base * (1.0 + spread * n))));
        }

        #[test]
        fn a_leak_under_noise_warns_and_is_measured_well(
            base in 1e6..1e9f64,
            rate in 1e4..1e6f64,
            noise in prop::collection::vec(-1.0..1.0f64, 64..128),
        ) {
            // Noise of a quarter of what leaks in a window.
            let amplitude = rate * 16.0;
            let values = (0..).zip(noise).map(|(i, n)| base + rate * f64::from(i) + amplitude * n);
            let warning = last(TrendConfig { min_rise: rate * 32.0, ..FD }, values);
            let rate_seen = warning.map(|w| w.per_second / rate);
            prop_assert!(rate_seen.is_some_and(|r| (0.7..1.3).contains(&r)), "{:?}", warning);
        }

        #[test]
        fn any_samples_are_taken_without_a_panic(samples in prop::collection::vec(any::<(u32, f64)>(), 0..150)) {
            let mut trend = Trend::new(FD.with_limit(1e3));
            for (millis, value) in samples {
                trend.feed(Duration::from_millis(millis.into()), value);
                prop_assert!(trend.samples.len() <= Trend::WINDOW);
            }
        }
    }
}
