// SPDX-License-Identifier: MIT OR Apache-2.0

//! What happens when a test damages its machine.
//!
//! 1. **Graceful**: on the same machine, clean up what the test left, unload this project's modules, load them again,
//!    verify that they reach their working state; three attempts with growing pauses.
//! 2. **System reset**: capture the machine's state, end it, boot again on the same disks, verify that what the guest
//!    had acknowledged as durable is there, resume with the next test.
//! 3. **Isolation**: run the test once more, alone on a fresh machine. If it crashes again it is a reproducible crasher:
//!    marked and reported, never repeated, while the others go on.
//!
//! The crash's type names the level to begin with; a level that fails leads to the next.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab_guest::kmod::MODULES_ENV;
use lab_guest::protocol::{CHECKPOINT_RECORD, decode_checkpoint};

use super::TestResult;
use crate::crash::{Checks, Continuity, CrashEvent, Recovery, RecoveryAttempt, RecoveryMetrics, Report};
use crate::store::when::now_ms;
use crate::store::{End, Record, RunLog};
use crate::vm::Machine;

/// Pauses before the attempts of level 1.
const BACKOFF: [Duration; 3] = [Duration::ZERO, Duration::from_millis(300), Duration::from_secs(1)];
/// Bound on one attempt of level 1.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// What a run learns about tests, crashes and recoveries, in memory and in the run's file.
#[derive(Debug)]
pub struct Ledger {
    log: RunLog,
    /// Whether tests that run now had failed, and run again alone.
    pub repeating: bool,
    /// Every recovery that was tried.
    pub attempts: Vec<RecoveryAttempt>,
    /// Checks that acknowledged data survived a reset.
    pub integrity: Checks,
    /// All events of this run.
    pub events: Vec<CrashEvent>,
}

impl Ledger {
    /// An empty ledger; everything is also appended to the run's file.
    pub fn new(log: RunLog) -> Self {
        Self {
            log,
            repeating: false,
            attempts: Vec::new(),
            integrity: Checks::default(),
            events: Vec::new(),
        }
    }

    /// The run's file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// An empty ledger for what runs beside this, into the same file; see [`Ledger::absorb`].
    pub fn beside(&self) -> Result<Self> {
        let path = self.log.path();
        let log = RunLog::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self::new(log))
    }

    /// Adds what was learned beside this.
    pub fn absorb(&mut self, other: Self) {
        self.attempts.extend(other.attempts);
        self.integrity.performed += other.integrity.performed;
        self.integrity.passed += other.integrity.passed;
        self.events.extend(other.events);
    }

    /// Records a finished event.
    pub fn record(&mut self, event: CrashEvent) -> Result<()> {
        self.log
            .append(&Record::Crash(event.clone()))
            .context("writing the run's file")?;
        self.events.push(event);
        Ok(())
    }

    /// Records a test's result, and the recoveries that it measured.
    pub fn tested(&mut self, result: &TestResult, repetition: bool) {
        let record = result.recorded(repetition || self.repeating);
        self.attempts.extend(record.recoveries());
        self.keep(&Record::Tested(record));
    }

    /// Records the end of the run.
    pub fn end(&mut self, passed: bool, continuity: Continuity) -> RecoveryMetrics {
        let metrics = RecoveryMetrics::new(&self.attempts, self.integrity, continuity);
        self.keep(&Record::End(End {
            at: now_ms(),
            passed,
            continuity,
            metrics,
        }));
        metrics
    }

    /// A file that takes no more must not keep the run from its end: what it found is also in its results.
    fn keep(&mut self, record: &Record) {
        if let Err(error) = self.log.append(record) {
            eprintln!("{}: {error}", self.log.path().display());
        }
    }

    /// Records a recovery that was tried.
    pub fn tried(&mut self, event: &mut CrashEvent, recovery: Recovery, start: Instant, successful: bool) {
        event.recovered(recovery, successful);
        let attempt = RecoveryAttempt {
            recovery,
            successful,
            took: start.elapsed(),
        };
        self.attempts.push(attempt);
        self.keep(&Record::Recovery {
            at: now_ms(),
            context: event.test_context.clone(),
            attempt,
        });
    }
}

/// A new event for what the console reported, with the machine's state as far as it can still be had.
pub fn event(report: &Report, machine: &mut Machine, context: &str) -> CrashEvent {
    let mut event = CrashEvent::new(report, now_ms(), context);
    let vitals = machine.vitals();
    let mut state = |key: &str, value: serde_json::Value| {
        event.system_state.insert(key.to_owned(), value);
    };
    state("kernel", machine.spec().kernel.release.clone().into());
    state("uptime_ms", vitals.uptime_ms.into());
    state("memory_available", vitals.available.into());
    state("slab", vitals.slab.into());
    state("open_files", vitals.open_files.into());
    state(
        "console_log",
        machine.console_log().to_string_lossy().into_owned().into(),
    );
    // QEMU answers even when the guest does not: where each CPU is, says most about a hang.
    match machine.monitor().human("info registers -a") {
        Ok(registers) => {
            let positions = registers
                .lines()
                .filter(|line| line.contains("RIP="))
                .collect::<Vec<_>>()
                .join("\n");
            state("cpus", positions.into());
        }
        Err(error) => state("cpus", format!("unknown: {error:#}").into()),
    }
    event
}

/// Level 1. `modules` are those the damaged test uses. Says whether the machine is fit for the next test.
pub fn graceful(machine: &mut Machine, modules_directory: &Path, modules: &[String]) -> bool {
    BACKOFF.into_iter().any(|pause| {
        std::thread::sleep(pause);
        reload(machine, modules_directory, modules).is_ok()
    })
}

/// Unloads every module of this project, then loads, verifies and unloads those in question.
fn reload(machine: &mut Machine, directory: &Path, modules: &[String]) -> Result<()> {
    let script = format!(
        r#"export {MODULES_ENV}='{directory}'
        for file in "${MODULES_ENV}"/*.ko; do
            name=$(basename "$file" .ko)
            if [ -e "/sys/module/$name/initstate" ]; then rmmod "$name"; fi
        done
        for name in {names}; do
            insmod "${MODULES_ENV}/$name.ko"
            if [ -e "/sys/module/$name/lifecycle/state" ]; then
                [ "$(cat "/sys/module/$name/lifecycle/state")" = INITIALIZED ]
            fi
            rmmod "$name"
        done"#,
        directory = directory.display(),
        names = modules.join(" "),
    );
    let limit = ATTEMPT_LIMIT * machine.spec().kernel.id.slowness();
    machine.succeed(&script, limit)?;
    match machine.take_report() {
        Some(report) => bail!("the console reports again: {}", report.verdict),
        None => Ok(()),
    }
}

/// Whether the checkpoint disk holds at least `acknowledged`, read from outside while no machine runs.
pub fn checkpoint_survived(disk: &Path, acknowledged: u64) -> Result<bool> {
    let file = File::open(disk).with_context(|| format!("opening {}", disk.display()))?;
    let mut newest = None;
    for slot in 0..2 {
        let mut record = [0; CHECKPOINT_RECORD];
        file.read_exact_at(&mut record, slot * 4096)
            .with_context(|| format!("reading {}", disk.display()))?;
        newest = newest.max(decode_checkpoint(&record));
    }
    Ok(newest >= Some(acknowledged))
}

/// Keeps a lost machine's console where the next boot does not overwrite it.
pub fn keep_console(machine: &Machine, number: usize) -> Result<()> {
    let log = machine.console_log();
    let kept = log.with_file_name(format!("console-lost-{number}.log"));
    let mut copy = File::create(&kept).with_context(|| format!("making {}", kept.display()))?;
    copy.write_all(&std::fs::read(&log)?)
        .with_context(|| format!("writing {}", kept.display()))
}
