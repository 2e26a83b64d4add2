// SPDX-License-Identifier: MIT OR Apache-2.0

//! Results for people and for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Outcome, TestResult};
use crate::crash::{CrashEvent, RecoveryMetrics};
use crate::markup::escape;

/// Collects results, showing them as they come: what did not pass in full, what passed one by one for somebody who watches
/// and as one line per package and place for a log.
#[derive(Debug, Default)]
pub struct Reporter {
    results: Vec<TestResult>,
    each: bool,
    /// By place: the tests of one run beside those of another.
    passed: BTreeMap<String, Passed>,
}

/// Tests of one package that passed one after the other.
#[derive(Debug)]
struct Passed {
    package: String,
    count: usize,
    took: Duration,
}

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Passed.
    pub passed: usize,
    /// Failed or crashed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

#[derive(Serialize)]
struct Document<'a> {
    counts: Counts,
    results: &'a [TestResult],
    recovery: &'a RecoveryMetrics,
    crash_events: &'a [CrashEvent],
}

impl Passed {
    fn show(&self, place: &str) {
        println!(
            "{} {place:5} {}: {} ({:.2} s)",
            colour("32", "PASS "),
            self.package,
            if self.count == 1 {
                "1 test".to_owned()
            } else {
                format!("{} tests", self.count)
            },
            self.took.as_secs_f64()
        );
    }
}

impl Reporter {
    /// With `each`, every test that passed has a line of its own.
    pub fn new(each: bool) -> Self {
        Self {
            each,
            ..Self::default()
        }
    }

    /// Takes a result and shows it.
    pub fn add(&mut self, result: TestResult) {
        let quiet = result.outcome == Outcome::Passed && !self.each;
        let same = self
            .passed
            .get(&result.place)
            .is_some_and(|passed| quiet && passed.package == result.package);
        if !same && let Some(passed) = self.passed.remove(&result.place) {
            passed.show(&result.place);
        }
        if quiet {
            let passed = self.passed.entry(result.place.clone()).or_insert_with(|| Passed {
                package: result.package.clone(),
                count: 0,
                took: Duration::ZERO,
            });
            passed.count += 1;
            passed.took += result.took;
        } else {
            println!("{}", line(&result));
            if result.is_failure() {
                for line in result.output.lines() {
                    println!("    | {line}");
                }
            }
        }
        self.results.push(result);
    }

    /// Shows once more, in a line each, what went wrong: the end of a log is what people see first.
    pub fn finish(&mut self) {
        for (place, passed) in std::mem::take(&mut self.passed) {
            passed.show(&place);
        }
        for result in self.results.iter().filter(|result| result.is_failure()) {
            println!("{}", line(result));
        }
    }

    /// All results so far.
    pub fn results(&self) -> &[TestResult] {
        &self.results
    }

    /// How many ended how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for result in &self.results {
            match result.outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Failed(_) | Outcome::Crashed(_) => counts.failed += 1,
                Outcome::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }

    /// Writes `results.json` and `junit.xml` into `directory`.
    pub fn write(&self, directory: &Path, recovery: &RecoveryMetrics, events: &[CrashEvent]) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let document = Document {
            counts: self.counts(),
            results: &self.results,
            recovery,
            crash_events: events,
        };
        let json = serde_json::to_string_pretty(&document).context("writing results as JSON")?;
        for (name, text) in [("results.json", json), ("junit.xml", self.junit())] {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// The results in the form that CI servers read: one suite per package and place.
    fn junit(&self) -> String {
        let mut suites: BTreeMap<String, Vec<&TestResult>> = BTreeMap::new();
        for result in &self.results {
            suites
                .entry(format!("{}@{}", result.package, result.place))
                .or_default()
                .push(result);
        }
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        for (suite, results) in suites {
            let count = |want: fn(&Outcome) -> bool| results.iter().filter(|result| want(&result.outcome)).count();
            let failures = count(|outcome| matches!(outcome, Outcome::Failed(_)));
            let errors = count(|outcome| matches!(outcome, Outcome::Crashed(_)));
            let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
            let seconds: f64 = results.iter().map(|result| result.took.as_secs_f64()).sum();
            let (name, tests) = (escape(&suite), results.len());
            // Writing to a String cannot fail.
            let _ = writeln!(
                xml,
                r#"  <testsuite name="{name}" tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}" time="{seconds:.3}">"#
            );
            for result in results {
                let _ = write!(
                    xml,
                    r#"    <testcase classname="{name}" name="{}" time="{:.3}">"#,
                    escape(&result.name),
                    result.took.as_secs_f64()
                );
                let output = escape(&result.output);
                let _ = match &result.outcome {
                    Outcome::Passed => Ok(()),
                    Outcome::Failed(reason) => {
                        write!(xml, r#"<failure message="{}">{output}</failure>"#, escape(reason))
                    }
                    Outcome::Crashed(reason) => write!(xml, r#"<error message="{}">{output}</error>"#, escape(reason)),
                    Outcome::Skipped(reason) => write!(xml, r#"<skipped message="{}"/>"#, escape(reason)),
                };
                xml.push_str("</testcase>\n");
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }
}

fn colour(code: &str, word: &str) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{code}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}

/// A result in one line.
fn line(result: &TestResult) -> String {
    let (word, reason) = match &result.outcome {
        Outcome::Passed => (colour("32", "PASS "), ""),
        Outcome::Failed(reason) => (colour("31", "FAIL "), reason.as_str()),
        Outcome::Skipped(reason) => (colour("33", "SKIP "), reason.as_str()),
        Outcome::Crashed(reason) => (colour("35", "CRASH"), reason.as_str()),
    };
    format!(
        "{word} {:5} {} {} ({:.2} s) {reason}",
        result.place,
        result.package,
        result.name,
        result.took.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, outcome: Outcome) -> TestResult {
        TestResult {
            package: "p".into(),
            name: name.into(),
            place: "host".into(),
            outcome,
            took: Duration::from_millis(1500),
            output: "a < b \u{1b}[0m & \"c\"".into(),
            measurements: Vec::new(),
        }
    }

    #[test]
    fn every_outcome_is_counted_and_written() {
        let mut reporter = Reporter::default();
        reporter.add(result("a", Outcome::Passed));
        reporter.add(result("b", Outcome::Failed("1 != 2".into())));
        reporter.add(result("c", Outcome::Skipped("no printer".into())));
        reporter.add(result("d", Outcome::Crashed("panic <here>".into())));
        assert_eq!(
            reporter.counts(),
            Counts {
                passed: 1,
                failed: 2,
                skipped: 1
            }
        );
        let xml = reporter.junit();
        assert!(
            xml.contains(r#"<testsuite name="p@host" tests="4" failures="1" errors="1" skipped="1" time="6.000">"#),
            "{xml}"
        );
        assert!(xml.contains(r#"<skipped message="no printer"/>"#));
        assert!(xml.contains("panic &lt;here&gt;"));
        assert!(xml.contains("a &lt; b \u{fffd}[0m &amp; &quot;c&quot;"));
    }
}
