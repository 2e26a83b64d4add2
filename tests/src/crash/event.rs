// SPDX-License-Identifier: MIT OR Apache-2.0

//! The crash record and the file it is kept in.
//!
//! # Contract
//!
//! * A [`CrashEvent`] is one line of JSON. [`EventLog`] only ever appends, one `write` per record, so that a reader or
//!   a second writer never sees two records mixed.
//! * The host can die in the middle of a write too. A torn last line costs that record and no other: the writer
//!   completes it with a line end before it appends, and [`read_events`] reports the damaged line and goes on.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

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

/// Appends crash events to a file.
#[derive(Debug)]
pub struct EventLog {
    file: File,
}

impl EventLog {
    /// Opens the log, creating it if need be. What a dead writer left unfinished is completed to a line of its own.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { file })
    }

    /// Appends one event. It is in the operating system's hands when this returns.
    pub fn append(&mut self, event: &CrashEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.flush()
    }
}

/// A line of the log that is no crash event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRecord {
    /// Line number, counted from 1.
    pub line: usize,
    /// Whether it is the unfinished last line of the file.
    pub torn: bool,
    /// Why it could not be read.
    pub reason: String,
}

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventHistory {
    /// The readable events, in order.
    pub events: Vec<CrashEvent>,
    /// The lines that were lost.
    pub damaged: Vec<DamagedRecord>,
}

/// Reads a log. Damaged lines are reported, not fatal; a missing file is an error like any other.
pub fn read_events(path: &Path) -> io::Result<EventHistory> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut history = EventHistory::default();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        let torn = bytes.last() != Some(&b'\n');
        match serde_json::from_slice(&bytes) {
            Ok(event) => history.events.push(event),
            Err(_) if bytes == b"\n" => {}
            Err(error) => history.damaged.push(DamagedRecord {
                line,
                torn,
                reason: error.to_string(),
            }),
        }
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::crash::Classifier;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("crash-events-{}-{name}.jsonl", std::process::id()));
            let _ = std::fs::remove_file(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

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

    #[test]
    fn what_is_appended_is_read_back_across_writers() {
        let scratch = Scratch::new("roundtrip");
        let mut second = event(2);
        second.recovered(Recovery::ReloadModule, true);
        EventLog::open(&scratch.0).unwrap().append(&event(1)).unwrap();
        EventLog::open(&scratch.0).unwrap().append(&second).unwrap();
        let history = read_events(&scratch.0).unwrap();
        assert_eq!(
            history,
            EventHistory {
                events: vec![event(1), second],
                damaged: vec![]
            }
        );
    }

    #[test]
    fn a_torn_last_line_costs_that_record_only() {
        let scratch = Scratch::new("torn");
        EventLog::open(&scratch.0).unwrap().append(&event(1)).unwrap();
        let whole = std::fs::read(&scratch.0).unwrap();
        for cut in 1..whole.len() {
            std::fs::write(&scratch.0, [&whole, &whole[..cut]].concat()).unwrap();
            let before = read_events(&scratch.0).unwrap();
            // All of the record but its line end is still the whole record.
            let complete = cut == whole.len() - 1;
            assert_eq!(before.events.len(), 1 + usize::from(complete), "cut at {cut}");
            assert_eq!(
                before.damaged.iter().filter(|d| d.torn && d.line == 2).count(),
                usize::from(!complete)
            );

            EventLog::open(&scratch.0).unwrap().append(&event(3)).unwrap();
            let after = read_events(&scratch.0).unwrap();
            assert_eq!(after.events.last(), Some(&event(3)), "cut at {cut}");
            assert_eq!(after.events.len(), before.events.len() + 1);
            assert!(after.damaged.iter().all(|d| !d.torn && d.line == 2));
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_a_damaged_line() {
        let scratch = Scratch::new("bytes");
        std::fs::write(&scratch.0, b"\xff\xfe\n\n{}\n").unwrap();
        let history = read_events(&scratch.0).unwrap();
        assert!(history.events.is_empty());
        assert_eq!(history.damaged.iter().map(|d| d.line).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_missing_log_is_an_error_and_not_an_empty_history() {
        let error = read_events(Path::new("/nonexistent/events.jsonl")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
