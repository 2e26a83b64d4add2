// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crash record. [`crate::store`] keeps it, with everything else of its run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::report::Report;
use super::types::{CrashType, Recovery, Severity};

/// One crash, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashEvent {
    /// When, in milliseconds since the Unix epoch.
    pub timestamp: u64,
    /// What kind of failure.
    pub crash_type: CrashType,
    /// How bad.
    pub severity: Severity,
    /// What was being tested: the test's name, its scenario, its place in the run.
    pub test_context: String,
    /// What the machine looked like: kernel, memory, load, mounts, whatever could be captured.
    pub system_state: BTreeMap<String, Value>,
    /// The recovery that was tried, if any.
    pub recovery_attempted: Option<Recovery>,
    /// Whether it worked; nothing if none was tried.
    pub recovery_successful: Option<bool>,
    /// Everything else worth keeping: the pattern, the line, the cause, blamed modules.
    pub additional_info: BTreeMap<String, Value>,
}

impl CrashEvent {
    /// The event of a report, with no recovery tried yet.
    pub fn new(report: &Report, timestamp: u64, test_context: impl Into<String>) -> Self {
        let info = [
            ("pattern", Value::from(report.verdict.pattern.as_str())),
            ("line", Value::from(report.verdict.line.as_str())),
            ("effect", Value::from(report.verdict.effect.to_string())),
            ("modules", Value::from(report.modules.clone())),
            ("cause", Value::from(report.cause.pattern.as_str())),
            ("cause_line", Value::from(report.cause.line.as_str())),
            ("console", Value::from(report.context.clone())),
        ];
        Self {
            timestamp,
            crash_type: report.verdict.crash,
            severity: report.verdict.severity,
            test_context: test_context.into(),
            system_state: BTreeMap::new(),
            recovery_attempted: None,
            recovery_successful: None,
            additional_info: info.map(|(key, value)| (key.to_owned(), value)).into(),
        }
    }

    /// Notes how the recovery went.
    pub fn recovered(&mut self, recovery: Recovery, successful: bool) {
        self.recovery_attempted = Some(recovery);
        self.recovery_successful = Some(successful);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::crash::Classifier;

    fn event(timestamp: u64) -> CrashEvent {
        let mut classifier = Classifier::new(&["vexfs"]);
        classifier.feed_line(
            "[    1.000000] kernel BUG at /src/vexfs/kernel/inode.c:1!",
            Duration::ZERO,
        );
        classifier.feed_line("[    1.000010] RIP: 0010:vexfs_iget+0x1/0x2 [vexfs]", Duration::ZERO);
        CrashEvent::new(&classifier.report().unwrap(), timestamp, "mount::cycles")
    }

    #[test]
    fn an_event_has_exactly_the_promised_fields() {
        let json: serde_json::Map<String, Value> = serde_json::to_value(event(7)).unwrap().as_object().unwrap().clone();
        let mut fields: Vec<&str> = json.keys().map(String::as_str).collect();
        fields.sort_unstable();
        let mut promised = [
            "timestamp",
            "crash_type",
            "severity",
            "test_context",
            "system_state",
            "recovery_attempted",
            "recovery_successful",
            "additional_info",
        ];
        promised.sort_unstable();
        assert_eq!(fields, promised);
        assert_eq!(json["crash_type"], "module-crash");
        assert_eq!(json["severity"], "moderate");
        assert_eq!(json["additional_info"]["modules"], serde_json::json!(["vexfs"]));
    }
}
