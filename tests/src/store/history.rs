// SPDX-License-Identifier: MIT OR Apache-2.0

//! All runs that are kept, and what they say about a question.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::lines::{self, DamagedLine};
use super::record::{Begin, End, Outcome, Record, Tested};
use crate::crash::{Checks, Continuity, CrashEvent, CrashType, RecoveryAttempt, RecoveryMetrics};

/// The file of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its name, without folders.
    pub file: String,
    /// What it holds, in order.
    pub records: Vec<Record>,
    /// Lines that were lost.
    pub damaged: Vec<DamagedLine>,
}

impl Run {
    /// How it began. A file whose first line is lost has no beginning.
    pub fn begin(&self) -> Option<&Begin> {
        self.records.iter().find_map(|record| match record {
            Record::Begin(begin) => Some(begin),
            _ => None,
        })
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<&End> {
        self.records.iter().rev().find_map(|record| match record {
            Record::End(end) => Some(end),
            _ => None,
        })
    }

    /// The results of its tests.
    pub fn tested(&self) -> impl Iterator<Item = &Tested> {
        self.records.iter().filter_map(|record| match record {
            Record::Tested(tested) => Some(tested),
            _ => None,
        })
    }
}

/// All runs of a directory, the oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The runs.
    pub runs: Vec<Run>,
}

impl History {
    /// Reads a directory of runs. One that does not exist holds none.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut paths: Vec<PathBuf> = match fs::read_dir(directory) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        paths.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
        // Names begin with milliseconds since 1970, of which the number of digits does not change until 2286.
        paths.sort();
        let runs = paths.iter().map(|path| {
            let lines = lines::read(path)?;
            Ok(Run {
                file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                records: lines.records,
                damaged: lines.damaged,
            })
        });
        Ok(Self {
            runs: runs.collect::<io::Result<_>>()?,
        })
    }

    /// The newest result of each test on each kernel, repetitions left out: what the store knows of how it stands.
    pub fn newest(&self) -> BTreeMap<(&str, &str), &Tested> {
        let all = self
            .runs
            .iter()
            .flat_map(Run::tested)
            .filter(|tested| !tested.repetition);
        all.map(|tested| ((tested.test.as_str(), tested.place.as_str()), tested))
            .collect()
    }
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Nothing before this, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Only crashes of this type, and the results of tests that met one.
    pub crash: Option<CrashType>,
}

/// One run in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Its file.
    pub file: String,
    /// How it began.
    #[serde(flatten)]
    pub begin: Begin,
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed, or crashed their machine.
    pub failed: usize,
    /// Tests that could not run.
    pub skipped: usize,
    /// Crashes.
    pub crashes: usize,
    /// The longest successful recovery, in milliseconds.
    pub longest_recovery_ms: Option<u64>,
    /// How long the whole took, in milliseconds; nothing of a run that was interrupted.
    pub took_ms: Option<u64>,
    /// Lines of its file that were lost.
    pub damaged: Vec<DamagedLine>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// The runs, the oldest first.
    pub runs: Vec<Summary>,
    /// Results of tests, the oldest first.
    pub tested: Vec<Tested>,
    /// Crashes, the oldest first.
    pub crashes: Vec<CrashEvent>,
    /// Of all these recoveries together.
    pub recovery: RecoveryMetrics,
}

impl Findings {
    /// Answers a question.
    pub fn of(history: &History, question: &Question) -> Self {
        let mut findings = Gathered::default();
        for run in &history.runs {
            findings.add(run, question);
        }
        Self {
            recovery: RecoveryMetrics::new(&findings.attempts, findings.integrity, findings.continuity),
            runs: findings.runs,
            tested: findings.tested,
            crashes: findings.crashes,
        }
    }

    /// How many crashes there are of each type.
    pub fn by_type(&self) -> BTreeMap<CrashType, usize> {
        let mut counts = BTreeMap::new();
        for crash in &self.crashes {
            *counts.entry(crash.crash_type).or_default() += 1;
        }
        counts
    }
}

#[derive(Default)]
struct Gathered {
    runs: Vec<Summary>,
    tested: Vec<Tested>,
    crashes: Vec<CrashEvent>,
    attempts: Vec<RecoveryAttempt>,
    integrity: Checks,
    continuity: Continuity,
}

impl Gathered {
    fn add(&mut self, run: &Run, question: &Question) {
        let Some(begin) = run.begin() else { return };
        let wanted = |event: &&CrashEvent| {
            event.timestamp >= question.since && question.crash.is_none_or(|kind| kind == event.crash_type)
        };
        let crashes: Vec<CrashEvent> = run
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Crash(event) => Some(event),
                _ => None,
            })
            .filter(wanted)
            .cloned()
            .collect();
        let about = |context: &str| {
            question.crash.is_none() || crashes.iter().any(|event| event.test_context.starts_with(context))
        };
        let tested: Vec<Tested> = run
            .tested()
            .filter(|tested| tested.at >= question.since && about(&tested.test))
            .cloned()
            .collect();
        // A run that began before the moment asked for counts with what it did after it.
        if begin.at < question.since && tested.is_empty() && crashes.is_empty() {
            return;
        }
        if question.crash.is_some() && crashes.is_empty() {
            return;
        }
        let recovered = run.records.iter().filter_map(|record| match record {
            Record::Recovery { at, context, attempt } if *at >= question.since && about(context) => Some(*attempt),
            _ => None,
        });
        let attempts: Vec<RecoveryAttempt> = recovered.chain(tested.iter().flat_map(Tested::recoveries)).collect();
        let longest = attempts.iter().filter(|a| a.successful).map(|a| a.took).max();
        let count = |of: fn(&Outcome) -> bool| {
            let own = tested.iter().filter(|tested| !tested.repetition);
            own.filter(|tested| of(&tested.outcome)).count()
        };
        self.runs.push(Summary {
            file: run.file.clone(),
            begin: begin.clone(),
            passed: count(|outcome| matches!(outcome, Outcome::Passed)),
            failed: count(|outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Crashed(_))),
            skipped: count(|outcome| matches!(outcome, Outcome::Skipped(_))),
            crashes: crashes.len(),
            longest_recovery_ms: longest.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
            took_ms: run.end().map(|end| end.at.saturating_sub(begin.at)),
            damaged: run.damaged.clone(),
        });
        if let Some(end) = run.end() {
            self.integrity.performed += end.metrics.integrity.performed;
            self.integrity.passed += end.metrics.integrity.passed;
            self.continuity.scheduled += end.continuity.scheduled;
            self.continuity.reached_verdict += end.continuity.reached_verdict;
        }
        self.tested.extend(tested);
        self.crashes.extend(crashes);
        self.attempts.extend(attempts);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lab_guest::measure::Measurement;
    use proptest::prelude::*;

    use super::*;
    use crate::crash::{Bar, Classifier, Recovery, Standing};
    use crate::store::record::RunLog;

    fn tested(at: u64, test: &str, outcome: Outcome) -> Record {
        Record::Tested(Tested {
            at,
            test: test.into(),
            place: "6.12".into(),
            outcome,
            took_ms: 100,
            repetition: false,
            measurements: vec![Measurement::Recovery {
                what: "the server".into(),
                took_ms: at,
                successful: true,
            }],
        })
    }

    fn crash(at: u64, line: &str, context: &str) -> Record {
        let mut classifier = Classifier::new(&["vexfs"]);
        classifier.feed_line(line, Duration::ZERO);
        Record::Crash(CrashEvent::new(&classifier.report().unwrap(), at, context))
    }

    fn end(at: u64) -> Record {
        let continuity = Continuity {
            scheduled: 2,
            reached_verdict: 1,
        };
        Record::End(End {
            at,
            passed: false,
            continuity,
            metrics: RecoveryMetrics::new(&[], Checks::default(), continuity),
        })
    }

    const PANIC: &str = "[    1.000000] Kernel panic - not syncing: sysrq triggered crash";
    const BUG: &str = "[    1.000000] kernel BUG at /src/vexfs/kernel/inode.c:1!";

    fn run(at: u64, records: Vec<Record>) -> Run {
        let begin = Record::Begin(Begin {
            at,
            command: "run".into(),
            revision: "abc".into(),
        });
        Run {
            file: format!("{at}-1.jsonl"),
            records: [vec![begin], records].concat(),
            damaged: Vec::new(),
        }
    }

    fn history() -> History {
        History {
            runs: vec![
                run(
                    1000,
                    vec![
                        tested(1100, "p::a", Outcome::Passed),
                        tested(1200, "p::b", Outcome::Crashed("panic".into())),
                        crash(1200, PANIC, "p::b"),
                        end(1300),
                    ],
                ),
                run(
                    5000,
                    vec![
                        tested(5100, "p::a", Outcome::Failed("no".into())),
                        tested(5200, "p::b", Outcome::Passed),
                        crash(5150, BUG, "p::a"),
                    ],
                ),
            ],
        }
    }

    fn ask(since: u64, crash: Option<CrashType>) -> Findings {
        Findings::of(&history(), &Question { since, crash })
    }

    #[test]
    fn without_limits_everything_is_answered() {
        let all = ask(0, None);
        assert_eq!((all.runs.len(), all.tested.len(), all.crashes.len()), (2, 4, 2));
        assert_eq!((all.runs[0].passed, all.runs[0].failed, all.runs[0].crashes), (1, 1, 1));
        assert_eq!((all.runs[0].took_ms, all.runs[1].took_ms), (Some(300), None));
        assert_eq!(all.runs[1].longest_recovery_ms, Some(5200));
        assert_eq!((all.recovery.attempted, all.recovery.succeeded), (4, 4));
        assert_eq!(all.recovery.standing(Bar::Continuity), Standing::Missed);
    }

    #[test]
    fn a_moment_leaves_out_what_was_before_it() {
        let later = ask(2000, None);
        assert_eq!((later.runs.len(), later.tested.len(), later.crashes.len()), (1, 2, 1));
        // In the middle of a run: the rest of it.
        let rest = ask(1150, None);
        assert_eq!((rest.runs.len(), rest.tested.len()), (2, 3));
        assert!(ask(6000, None).runs.is_empty());
    }

    #[test]
    fn a_crash_type_leaves_its_crashes_and_who_met_them() {
        let panics = ask(0, Some(CrashType::KernelPanic));
        assert_eq!((panics.runs.len(), panics.crashes.len()), (1, 1));
        assert_eq!(
            panics.tested.iter().map(|t| t.test.as_str()).collect::<Vec<_>>(),
            ["p::b"]
        );
        assert_eq!(panics.by_type(), [(CrashType::KernelPanic, 1)].into());
        assert!(ask(0, Some(CrashType::Deadlock)).runs.is_empty());
        assert!(ask(2000, Some(CrashType::KernelPanic)).crashes.is_empty());
    }

    #[test]
    fn the_newest_result_of_a_test_is_how_it_stands() {
        let history = history();
        let newest = history.newest();
        assert_eq!(newest[&("p::a", "6.12")].outcome, Outcome::Failed("no".into()));
        assert_eq!(newest[&("p::b", "6.12")].outcome, Outcome::Passed);
    }

    #[test]
    fn a_run_is_read_back_from_its_file_and_a_torn_last_line_is_told() {
        let directory = std::env::temp_dir().join(format!("lab-runs-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        assert_eq!(History::read(&directory).unwrap(), History::default());
        let records = [
            tested(7, "p::a", Outcome::Crashed("why".into())),
            crash(8, PANIC, "p::a"),
            Record::Recovery {
                at: 9,
                context: "p::a".into(),
                attempt: RecoveryAttempt {
                    recovery: Recovery::VmRestart,
                    successful: true,
                    took: Duration::from_millis(3500),
                },
            },
            end(10),
        ];
        let mut log = RunLog::begin(&directory, "run", "abc+").unwrap();
        for record in &records {
            log.append(record).unwrap();
        }
        let read = History::read(&directory).unwrap();
        assert_eq!(read.runs[0].records[1..], records);
        assert_eq!(read.runs[0].begin().unwrap().revision, "abc+");

        let whole = fs::read(log.path()).unwrap();
        fs::write(log.path(), &whole[..whole.len() - 5]).unwrap();
        let read = History::read(&directory).unwrap();
        assert_eq!(read.runs[0].records[1..], records[..3]);
        assert!(read.runs[0].end().is_none() && read.runs[0].damaged[0].torn);
        let findings = Findings::of(&read, &Question::default());
        assert_eq!(findings.runs[0].damaged.len(), 1);
        fs::remove_dir_all(&directory).unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_file_of_records(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let lines = lines::parse::<Record>(&bytes[..]).unwrap();
            let run = Run { file: "x".into(), records: lines.records, damaged: lines.damaged };
            let _ = Findings::of(&History { runs: vec![run] }, &Question::default());
        }
    }
}
