// SPDX-License-Identifier: MIT OR Apache-2.0

//! How well recovery works over a run, against fixed bars.
//!
//! # Contract
//!
//! What was not measured is neither met nor missed: a run without a crash says "no recoveries", not "100 %". Times
//! count for successful recoveries only, since a failed one already lowers the rate and its duration is only a timeout.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::types::Recovery;

/// One attempt to bring a machine or a service back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryAttempt {
    /// What was tried.
    pub recovery: Recovery,
    /// Whether what failed works again, verified.
    pub successful: bool,
    /// From the failure being seen to that verification.
    pub took: Duration,
}

/// Data integrity checks made after recoveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// Checks made.
    pub performed: u64,
    /// Checks that found everything as promised.
    pub passed: u64,
}

/// How much of the plan was carried out in spite of crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuity {
    /// Tests that were to run.
    pub scheduled: u64,
    /// Tests that reached a verdict of their own, good or bad.
    pub reached_verdict: u64,
}

/// What recovery must achieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bar {
    /// More than 95 % of the attempts succeed.
    SuccessRate,
    /// Every successful recovery takes less than 30 s.
    Time,
    /// Every integrity check passes.
    DataIntegrity,
    /// More than 90 % of the scheduled tests reach a verdict of their own.
    Continuity,
}

impl Bar {
    /// All bars.
    pub const ALL: [Self; 4] = [Self::SuccessRate, Self::Time, Self::DataIntegrity, Self::Continuity];
    /// Success rate to exceed, in percent.
    pub const SUCCESS_PERCENT: u64 = 95;
    /// Time to stay under.
    pub const LONGEST: Duration = Duration::from_secs(30);
    /// Continuity to exceed, in percent.
    pub const CONTINUITY_PERCENT: u64 = 90;
}

/// How a run stands against a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The bar is met.
    Met,
    /// The bar is missed.
    Missed,
    /// Nothing was measured that could meet or miss it.
    NotMeasured,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
        })
    }
}

/// How well recovery worked over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryMetrics {
    /// Recoveries attempted.
    pub attempted: u64,
    /// Recoveries that succeeded.
    pub succeeded: u64,
    /// Mean time of those that succeeded.
    pub mean_time: Option<Duration>,
    /// Longest time of those that succeeded.
    pub max_time: Option<Duration>,
    /// Data integrity.
    pub integrity: Checks,
    /// Test continuity.
    pub continuity: Continuity,
}

impl RecoveryMetrics {
    /// Computes the metrics of a run from what was recorded in it.
    pub fn new(attempts: &[RecoveryAttempt], integrity: Checks, continuity: Continuity) -> Self {
        let times: Vec<Duration> = attempts.iter().filter(|a| a.successful).map(|a| a.took).collect();
        let total = times.iter().fold(Duration::ZERO, |sum, &time| sum.saturating_add(time));
        Self {
            attempted: count(attempts.len()),
            succeeded: count(times.len()),
            mean_time: u32::try_from(times.len()).ok().and_then(|n| total.checked_div(n)),
            max_time: times.iter().max().copied(),
            integrity,
            continuity,
        }
    }

    /// How the run stands against one bar.
    pub fn standing(&self, bar: Bar) -> Standing {
        let met = match bar {
            Bar::SuccessRate => exceeds(self.succeeded, self.attempted, Bar::SUCCESS_PERCENT),
            Bar::Time => self.max_time.map(|longest| longest < Bar::LONGEST),
            Bar::DataIntegrity => {
                (self.integrity.performed > 0).then_some(self.integrity.passed == self.integrity.performed)
            }
            Bar::Continuity => exceeds(
                self.continuity.reached_verdict,
                self.continuity.scheduled,
                Bar::CONTINUITY_PERCENT,
            ),
        };
        match met {
            Some(true) => Standing::Met,
            Some(false) => Standing::Missed,
            None => Standing::NotMeasured,
        }
    }

    /// The bars that are missed.
    pub fn missed(&self) -> Vec<Bar> {
        Bar::ALL
            .into_iter()
            .filter(|&bar| self.standing(bar) == Standing::Missed)
            .collect()
    }
}

impl fmt::Display for RecoveryMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recoveries = match percent(self.succeeded, self.attempted) {
            Some(rate) => format!("{} of {} ({rate} %)", self.succeeded, self.attempted),
            None => "no recoveries".to_owned(),
        };
        let time = match (self.mean_time, self.max_time) {
            (Some(mean), Some(max)) => format!("mean {:.1} s, longest {:.1} s", mean.as_secs_f64(), max.as_secs_f64()),
            _ => "none succeeded".to_owned(),
        };
        let share = |part, whole, nothing: &str| match percent(part, whole) {
            Some(rate) => format!("{part} of {whole} ({rate} %)"),
            None => nothing.to_owned(),
        };
        let integrity = share(self.integrity.passed, self.integrity.performed, "no checks");
        let continuity = share(self.continuity.reached_verdict, self.continuity.scheduled, "no tests");
        let rows = [
            (Bar::SuccessRate, "recoveries", "> 95 %", recoveries),
            (Bar::Time, "time", "< 30 s", time),
            (Bar::DataIntegrity, "data integrity", "100 %", integrity),
            (Bar::Continuity, "continuity", "> 90 %", continuity),
        ];
        for (bar, name, target, value) in rows {
            writeln!(f, "{name:<14}  {target:<6}  {:<12}  {value}", self.standing(bar))?;
        }
        Ok(())
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Whether `part` is more than `bar` percent of `whole`, in integers so that exactly the bar is not more than it.
fn exceeds(part: u64, whole: u64, bar: u64) -> Option<bool> {
    (whole > 0).then(|| u128::from(part) * 100 > u128::from(whole) * u128::from(bar))
}

/// The percentage with one decimal, rounded down so that 99.96 % never reads as 100 %.
fn percent(part: u64, whole: u64) -> Option<String> {
    let tenths = (u128::from(part) * 1000).checked_div(u128::from(whole))?;
    Some(if tenths % 10 == 0 {
        format!("{}", tenths / 10)
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(successful: bool, seconds: u64) -> RecoveryAttempt {
        RecoveryAttempt {
            recovery: Recovery::ReloadModule,
            successful,
            took: Duration::from_secs(seconds),
        }
    }

    fn run(good: usize, bad: usize) -> RecoveryMetrics {
        let attempts = [vec![attempt(true, 4); good], vec![attempt(false, 90); bad]].concat();
        RecoveryMetrics::new(
            &attempts,
            Checks {
                performed: 8,
                passed: 8,
            },
            Continuity {
                scheduled: 10,
                reached_verdict: 10,
            },
        )
    }

    #[test]
    fn a_run_without_recoveries_says_so() {
        let metrics = RecoveryMetrics::new(&[], Checks::default(), Continuity::default());
        for bar in Bar::ALL {
            assert_eq!(metrics.standing(bar), Standing::NotMeasured);
        }
        assert!(metrics.missed().is_empty());
        let text = metrics.to_string();
        assert!(
            text.contains("no recoveries") && text.contains("no checks") && text.contains("no tests"),
            "{text}"
        );
        assert!(!text.contains("100 %  met"), "{text}");
    }

    #[test]
    fn exactly_the_bar_is_not_more_than_the_bar() {
        assert_eq!(run(95, 5).standing(Bar::SuccessRate), Standing::Missed);
        assert_eq!(run(96, 4).standing(Bar::SuccessRate), Standing::Met);
        let nine_of_ten = Continuity {
            scheduled: 10,
            reached_verdict: 9,
        };
        let metrics = RecoveryMetrics {
            continuity: nine_of_ten,
            ..run(1, 0)
        };
        assert_eq!(metrics.missed(), [Bar::Continuity]);
    }

    #[test]
    fn one_failed_integrity_check_misses_the_bar() {
        let metrics = RecoveryMetrics {
            integrity: Checks {
                performed: 10_000,
                passed: 9_999,
            },
            ..run(1, 0)
        };
        assert_eq!(metrics.missed(), [Bar::DataIntegrity]);
        assert!(metrics.to_string().contains("99.9 %"), "{metrics}");
    }

    #[test]
    fn one_slow_recovery_misses_the_bar_however_fast_the_others_are() {
        let attempts = [vec![attempt(true, 1); 99], vec![attempt(true, 30)]].concat();
        let metrics = RecoveryMetrics::new(&attempts, Checks::default(), Continuity::default());
        assert_eq!(metrics.missed(), [Bar::Time]);
        assert_eq!(metrics.max_time, Some(Bar::LONGEST));
        assert_eq!(metrics.mean_time, Some(Duration::from_millis(1290)));
    }

    #[test]
    fn failed_attempts_have_no_part_in_the_times() {
        assert_eq!(run(2, 2).max_time, Some(Duration::from_secs(4)));
        assert_eq!(run(0, 3).mean_time, None);
        assert_eq!(run(0, 3).standing(Bar::Time), Standing::NotMeasured);
        assert_eq!(run(0, 3).standing(Bar::SuccessRate), Standing::Missed);
    }

    #[test]
    fn the_block_is_readable() {
        let text = run(20, 0).to_string();
        assert_eq!(text.lines().count(), 4);
        assert!(
            text.contains("recoveries      > 95 %  met           20 of 20 (100 %)"),
            "{text}"
        );
    }

    #[test]
    fn metrics_survive_json() {
        let metrics = run(3, 1);
        let json = serde_json::to_string(&metrics).unwrap();
        assert_eq!(serde_json::from_str::<RecoveryMetrics>(&json).unwrap(), metrics);
    }

    proptest! {
        #[test]
        fn no_recording_makes_it_panic(
            outcomes in prop::collection::vec((any::<bool>(), any::<u64>()), 0..20),
            (performed, passed, scheduled, reached_verdict) in any::<(u64, u64, u64, u64)>(),
        ) {
            let attempts: Vec<_> = outcomes.into_iter().map(|(ok, seconds)| attempt(ok, seconds)).collect();
            let metrics = RecoveryMetrics::new(
                &attempts,
                Checks { performed, passed },
                Continuity { scheduled, reached_verdict },
            );
            prop_assert_eq!(metrics.to_string().lines().count(), 4);
            prop_assert!(metrics.missed().len() <= Bar::ALL.len());
        }
    }
}
