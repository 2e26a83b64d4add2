// SPDX-License-Identifier: MIT OR Apache-2.0

//! A test's result against what its scenario expects.
//!
//! A test that passed is not enough: each promise that the scenario says is measured must have been measured, and what was
//! measured must have held. What the test found by its own assertions, and what the console said, is in its outcome.

use std::fmt;

use lab::store::when::Day;
use lab::store::{Outcome, Tested};
use lab_guest::measure::{Measurement, Promise};

use crate::known::Known;
use crate::scenario::{How, Scenario};

/// What became of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything held.
    Held,
    /// Something did not.
    Broken(Vec<String>),
    /// It took its machine down; it runs alone from now on, until it passes.
    Isolated(String),
    /// Something did not, which is known, until a day.
    Known(String),
    /// It could not run here.
    Skipped(String),
    /// No kernel that was asked for is one of its test's.
    NotHere,
}

impl Verdict {
    /// Whether the run fails over it.
    pub const fn fails(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Isolated(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::Broken(reasons) => write!(f, "BROKEN: {}", reasons.join("; ")),
            Self::Isolated(reason) => write!(f, "ISOLATED: {reason}"),
            Self::Known(reason) => write!(f, "known: {reason}"),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
            Self::NotHere => f.write_str("not on this kernel"),
        }
    }
}

/// Judges one result.
pub fn judge(scenario: &Scenario, tested: Option<&Tested>) -> Verdict {
    let Some(tested) = tested else {
        return Verdict::NotHere;
    };
    match &tested.outcome {
        Outcome::Skipped(reason) => return Verdict::Skipped(reason.clone()),
        Outcome::Crashed(reason) => return Verdict::Isolated(reason.clone()),
        Outcome::Failed(reason) => return Verdict::Broken(vec![reason.clone()]),
        Outcome::Passed => {}
    }
    let mut reasons = Vec::new();
    for expectation in scenario.expectations() {
        if let How::Measured(how) = expectation.how
            && !is_measured(tested, expectation.promise)
        {
            reasons.push(format!("{} was not measured ({how})", expectation.promise));
        }
    }
    for measurement in &tested.measurements {
        match measurement {
            Measurement::Check {
                promise,
                held: false,
                detail,
            } => reasons.push(format!("{promise}: {detail}")),
            Measurement::Recovery {
                what,
                took_ms,
                successful,
            } if !successful || u128::from(*took_ms) >= scenario.recovery.as_millis() => {
                reasons.push(format!("recovery of {what} took {took_ms} ms"));
            }
            _ => {}
        }
    }
    if reasons.is_empty() {
        Verdict::Held
    } else {
        Verdict::Broken(reasons)
    }
}

/// The same, with failures that are known taken out.
pub fn judge_with(known: &Known, today: Day, scenario: &Scenario, tested: Option<&Tested>) -> Verdict {
    let verdict = judge(scenario, tested);
    let place = tested.map_or("", |tested| tested.place.as_str());
    match known.excuse(&scenario.name(), place, today) {
        Some(entry) if verdict.fails() => Verdict::Known(format!("{} (until {})", entry.reason, entry.until)),
        _ => verdict,
    }
}

fn is_measured(tested: &Tested, wanted: Promise) -> bool {
    let about =
        |measurement: &Measurement| matches!(measurement, Measurement::Check { promise, .. } if *promise == wanted);
    tested.measurements.iter().any(about)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::scenarios;

    fn scenario() -> Scenario {
        scenarios()
            .into_iter()
            .find(|scenario| scenario.name() == "surroundings::failing-device::fuse")
            .unwrap()
    }

    /// A result in which everything that the scenario measures held.
    fn good() -> Tested {
        let mut measurements: Vec<_> = scenario()
            .expects
            .iter()
            .map(|expectation| Measurement::Check {
                promise: expectation.promise,
                held: true,
                detail: "fine".into(),
            })
            .collect();
        measurements.push(Measurement::Recovery {
            what: "the mount".into(),
            took_ms: 2000,
            successful: true,
        });
        Tested {
            at: 1,
            test: scenario().test.full_name(),
            place: "6.12".into(),
            outcome: Outcome::Passed,
            took_ms: 1,
            repetition: false,
            measurements,
        }
    }

    fn broken(tested: &Tested) -> String {
        match judge(&scenario(), Some(tested)) {
            Verdict::Broken(reasons) => reasons.join("; "),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_held_and_was_measured_held() {
        assert_eq!(judge(&scenario(), Some(&good())), Verdict::Held);
        assert_eq!(judge(&scenario(), None), Verdict::NotHere);
    }

    #[test]
    fn a_promise_that_nobody_measured_is_broken_although_the_test_passed() {
        for expectation in scenario().expects {
            let mut tested = good();
            tested.measurements.retain(
                |found| !matches!(found, Measurement::Check { promise, .. } if *promise == expectation.promise),
            );
            assert!(broken(&tested).contains(&format!("{} was not measured", expectation.promise)));
        }
    }

    #[test]
    fn a_check_that_failed_and_a_slow_recovery_are_broken() {
        let mut tested = good();
        tested.measurements.push(Measurement::Check {
            promise: Promise::CleanUp,
            held: false,
            detail: "a device is left".into(),
        });
        assert!(broken(&tested).contains("a device is left"));
        let mut tested = good();
        tested.measurements.push(Measurement::Recovery {
            what: "the mount".into(),
            took_ms: 30_000,
            successful: true,
        });
        assert!(broken(&tested).contains("30000 ms"));
    }

    #[test]
    fn outcomes_of_the_test_are_the_scenarios_own() {
        let with = |outcome| Tested { outcome, ..good() };
        let verdict = |outcome| judge(&scenario(), Some(&with(outcome)));
        assert_eq!(
            verdict(Outcome::Skipped("no dm".into())),
            Verdict::Skipped("no dm".into())
        );
        assert!(verdict(Outcome::Failed("no".into())).fails());
        assert_eq!(
            verdict(Outcome::Crashed("panic".into())),
            Verdict::Isolated("panic".into())
        );
    }

    #[test]
    fn a_known_failure_does_not_fail_the_run_until_its_day_has_passed() {
        let text = "[[failure]]\nscenario = \"surroundings::failing-device::fuse\"\nuntil = \"2026-11-22\"\nreason = \"a bug\"";
        let known: Known = toml::from_str(text).unwrap();
        let failed = Tested {
            outcome: Outcome::Failed("no".into()),
            ..good()
        };
        let on = |day: &str, tested: &Tested| judge_with(&known, day.parse().unwrap(), &scenario(), Some(tested));
        assert_eq!(
            on("2026-11-22", &failed),
            Verdict::Known("a bug (until 2026-11-22)".into())
        );
        assert!(on("2026-11-23", &failed).fails());
        assert_eq!(on("2026-11-22", &good()), Verdict::Held);
    }
}
