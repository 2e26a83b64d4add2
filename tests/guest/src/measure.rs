// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a test measured, told to the runner on its standard output.
//!
//! A measurement is a line that starts with [`PREFIX`] and goes on as JSON. The runner takes these lines out of a test's
//! output and keeps them with its result, whether it passed or not; they say by what a promise was judged. A check that does
//! not hold is told, and then it is the test's error too, so nobody can measure a failure and pass.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Starts a line that carries a measurement.
pub const PREFIX: &str = "lab-measure: ";
/// Within this whatever failed must work again.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(30);

/// What must hold whatever is done to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// Who asks for what cannot be had is told so, in bounded time.
    GracefulError,
    /// The error is the one that the cause calls for.
    RightErrno,
    /// Neither the kernel nor a server of ours complains, hangs or dies of it.
    Stability,
    /// Nothing is left: mounts, devices, processes, modules, files.
    CleanUp,
    /// What was promised to be kept reads back, and the pool is sound.
    Integrity,
    /// What failed works again in time.
    Recovery,
    /// Nothing grows with time: memory, descriptors, threads, slab, latency.
    FlatTrend,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::GracefulError,
        Self::RightErrno,
        Self::Stability,
        Self::CleanUp,
        Self::Integrity,
        Self::Recovery,
        Self::FlatTrend,
    ];

    /// The word for tables and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GracefulError => "graceful-error",
            Self::RightErrno => "right-errno",
            Self::Stability => "stability",
            Self::CleanUp => "clean-up",
            Self::Integrity => "integrity",
            Self::Recovery => "recovery",
            Self::FlatTrend => "flat-trend",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "measure", rename_all = "kebab-case")]
pub enum Measurement {
    /// A promise was looked at.
    Check {
        /// Which.
        promise: Promise,
        /// Whether it held.
        held: bool,
        /// What was looked at, and what was found.
        detail: String,
    },
    /// Something that had failed was brought back.
    Recovery {
        /// What.
        what: String,
        /// From the fault's end, or the attempt's begin, until it worked.
        took_ms: u64,
        /// Whether it works.
        successful: bool,
    },
    /// How a resource was used.
    Series {
        /// Which, with its unit.
        resource: String,
        /// Milliseconds since the beginning, and values.
        points: Vec<(u64, f64)>,
        /// What must not be reached.
        limit: Option<f64>,
    },
    /// A resource was on its way to its limit, or grew without end.
    Warning {
        /// Which.
        resource: String,
        /// Milliseconds since the beginning.
        at_ms: u64,
        /// In words.
        text: String,
    },
}

impl Measurement {
    /// Tells the runner.
    pub fn tell(&self) -> Result<()> {
        println!("{PREFIX}{}", serde_json::to_string(self)?);
        Ok(())
    }

    /// Takes the measurements out of what a test printed. What looks like one and is none stays in the text, for people.
    pub fn split(output: &str) -> (Vec<Self>, String) {
        let mut found = Vec::new();
        let mut rest = String::with_capacity(output.len());
        for line in output.split_inclusive('\n') {
            let parsed = line.trim_end().strip_prefix(PREFIX).map(serde_json::from_str);
            match parsed {
                Some(Ok(measurement)) => found.push(measurement),
                _ => rest.push_str(line),
            }
        }
        (found, rest)
    }
}

/// Says whether a promise held, and ends the test if it did not.
pub fn check(promise: Promise, held: bool, detail: impl Into<String>) -> Result<()> {
    let detail = detail.into();
    Measurement::Check {
        promise,
        held,
        detail: detail.clone(),
    }
    .tell()?;
    if !held {
        bail!("{promise} does not hold: {detail}");
    }
    Ok(())
}

/// Says that something works again, since `begin`; too late counts as a recovery that failed.
pub fn recovered(what: &str, begin: Instant) -> Result<()> {
    let took = begin.elapsed();
    let successful = took < RECOVERY_LIMIT;
    Measurement::Recovery {
        what: what.to_owned(),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        successful,
    }
    .tell()?;
    check(Promise::Recovery, successful, format!("{what}: {took:.1?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_taken_out_of_the_output_and_all_else_stays() {
        let warning = Measurement::Warning {
            resource: "fds".into(),
            at_ms: 7,
            text: "grows".into(),
        };
        let series = Measurement::Series {
            resource: "rss".into(),
            points: vec![(0, 1.0), (500, 2.5)],
            limit: Some(10.0),
        };
        let json = |measurement: &Measurement| serde_json::to_string(measurement).unwrap();
        let output = format!(
            "first\n{PREFIX}{}\nsecond {PREFIX}x\n{PREFIX}not json\n{PREFIX}{}\nlast",
            json(&warning),
            json(&series)
        );
        let (found, rest) = Measurement::split(&output);
        assert_eq!(found, [warning, series]);
        assert_eq!(rest, format!("first\nsecond {PREFIX}x\n{PREFIX}not json\nlast"));
    }

    #[test]
    fn a_promise_that_does_not_hold_is_an_error() {
        check(Promise::CleanUp, true, "nothing is left").unwrap();
        let error = check(Promise::CleanUp, false, "a mount is left").unwrap_err();
        assert!(error.to_string().contains("clean-up does not hold: a mount is left"));
    }

    #[test]
    fn a_recovery_that_takes_too_long_is_none() {
        recovered("a server", Instant::now()).unwrap();
        let long_ago = Instant::now().checked_sub(RECOVERY_LIMIT);
        assert!(long_ago.is_none_or(|begin| recovered("a server", begin).is_err()));
    }

    #[test]
    fn names_in_json_and_in_text_are_the_same() {
        for promise in Promise::ALL {
            assert_eq!(serde_json::to_string(&promise).unwrap(), format!("\"{promise}\""));
        }
    }
}
