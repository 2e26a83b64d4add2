// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lab tests inside machines.
//!
//! Tests that ask for the same machine share one. Before each test the guest makes the test's number durable on the
//! checkpoint disk: after a reset that is how the run knows that nothing acknowledged was lost, and where to resume.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab_guest::measure::Measurement;
use lab_guest::protocol::{CHECKPOINT_DISK, Command, Exit};
use lab_guest::registry::TestInfo;

use super::recovery::{self, Ledger};
use super::{Case, Outcome, TestResult, tail, verdict_in};
use crate::crash::{CrashEvent, Recovery, RecoveryLevel, Report};
use crate::host::workspace;
use crate::kernel::{Kernel, modules};
use crate::vm::{Disk, Ended, Ivshmem, Machine, Medium, SharedMemory, Spec, Stream};

/// How long the guest may take to make a checkpoint durable.
const CHECKPOINT_LIMIT: Duration = Duration::from_secs(10);

/// After so many tests in a row whose machines did not boot or answer, the rest of a batch is not tried.
const BROKEN_MACHINES: u32 = 2;

/// A batch of tests for one kind of machine.
#[derive(Debug)]
pub struct Batch {
    kernel: Kernel,
    modules: PathBuf,
    watched: Vec<String>,
    directory: PathBuf,
    cases: Vec<Case>,
    hold: bool,
}

/// What passes from one test of a batch to the next.
#[derive(Default)]
struct Turn {
    machine: Option<Machine>,
    /// Tests begun.
    number: u64,
    /// Machines lost.
    lost: usize,
}

/// What happened to a machine while a test ran in it.
enum After {
    /// Fit for the next test.
    Fit,
    /// Its console reported a failure.
    Damaged(Box<Report>),
    /// It is gone.
    Lost(Box<Report>),
}

/// Sorts tests into batches by the machine they need.
pub fn batches(cases: &[Case], kernel: &Kernel, built: &Path, hold: bool) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for case in cases {
        let known = batches
            .iter_mut()
            .find(|batch| batch.cases.first().is_some_and(|first| same_machine(first, case)));
        if let Some(batch) = known {
            batch.cases.push(case.clone());
        } else {
            let name = format!("{}-{}", kernel.id, batches.len());
            batches.push(Batch {
                kernel: kernel.clone(),
                modules: built.to_owned(),
                watched: modules::WATCHED.map(str::to_owned).to_vec(),
                directory: workspace::machine_directory(&name),
                cases: vec![case.clone()],
                hold,
            });
        }
    }
    batches
}

fn same_machine(a: &Case, b: &Case) -> bool {
    let needs = |case: &Case| {
        case.lab
            .as_ref()
            .map(|info| (info.memory, info.cpus, info.disks.clone(), info.ivshmem))
    };
    needs(a) == needs(b)
}

impl Batch {
    /// Treats crashes in these modules as crashes of this project's own, too.
    pub fn watch(&mut self, modules: &[&str]) {
        self.watched.extend(modules.iter().map(|&name| name.to_owned()));
    }

    /// Runs the batch. Every test gets a result, whatever happens to its machine, and if there is none.
    pub fn run(&self, ledger: &mut Ledger, mut each: impl FnMut(TestResult)) {
        let mut turn = Turn::default();
        let mut broken = 0;
        for case in &self.cases {
            let start = Instant::now();
            if broken == BROKEN_MACHINES {
                each(self.unrun(case, start, "not run: its machines kept failing, see the tests before"));
                continue;
            }
            turn.number += 1;
            match self.take_turn(&mut turn, case, ledger) {
                Ok(result) => {
                    broken = 0;
                    ledger.tested(&result, false);
                    each(result);
                }
                Err(error) => {
                    // The next test gets a machine of its own.
                    turn.machine = None;
                    broken += 1;
                    let result = self.unrun(case, start, &format!("its machine failed: {error:#}"));
                    ledger.tested(&result, false);
                    each(result);
                }
            }
        }
        if let Some(machine) = turn.machine
            && let Err(error) = machine.shut_down()
        {
            eprintln!("after the last test of {}: {error:#}", self.directory.display());
        }
    }

    fn unrun(&self, case: &Case, start: Instant, reason: &str) -> TestResult {
        TestResult {
            package: case.package.clone(),
            name: case.name.clone(),
            place: self.kernel.id.name().to_owned(),
            outcome: Outcome::Crashed(reason.to_owned()),
            took: start.elapsed(),
            output: String::new(),
            measurements: Vec::new(),
        }
    }

    /// One test: in the machine of the test before it if that is fit, and with everything that recovery takes.
    fn take_turn(&self, turn: &mut Turn, case: &Case, ledger: &mut Ledger) -> Result<TestResult> {
        let number = turn.number;
        let mut running = match turn.machine.take() {
            Some(machine) => machine,
            None => self.boot()?,
        };
        let (mut result, after) = self.run_one(&mut running, case, number)?;
        let report = match after {
            After::Fit => {
                if let Some(report) = running.take_leak_warning() {
                    eprintln!("early warning after {}: {}", case.full_name(), report.verdict.line);
                    ledger.record(recovery::event(&report, &mut running, &case.full_name()))?;
                }
                // What a failed test left behind, mounted or loaded, must not fail the next one.
                if !matches!(result.outcome, Outcome::Failed(_)) {
                    turn.machine = Some(running);
                }
                return Ok(result);
            }
            After::Damaged(ref report) | After::Lost(ref report) => report.clone(),
        };
        let is_lost = matches!(after, After::Lost(_));
        result.outcome = Outcome::Crashed(report.verdict.to_string());
        result.output = format!("{}\n{report}", result.output);
        if self.hold {
            running.hold(&environment(&self.modules))?;
        }
        let mut event = recovery::event(&report, &mut running, &case.full_name());
        let mut repetition = None;
        let start = Instant::now();
        let level = report.recovery().level();
        let modules = case.lab.as_ref().map(|info| info.modules.clone()).unwrap_or_default();
        if level != RecoveryLevel::SystemReset && !is_lost && recovery::graceful(&mut running, &self.modules, &modules)
        {
            ledger.tried(&mut event, report.recovery(), start, true);
            turn.machine = Some(running);
        } else {
            turn.lost += 1;
            recovery::keep_console(&running, turn.lost)?;
            turn.machine = Some(Self::reset(running, number, ledger, &mut event, &report)?);
            let (again, repeated) = self.isolate(case, &mut event, &mut result)?;
            ledger.tested(&again, true);
            repetition = repeated;
            // It blames nobody, so the repetition counts instead.
            if report.is_of_emulation() {
                result = again;
            }
        }
        for event in std::iter::once(event).chain(repetition) {
            ledger.record(event)?;
        }
        Ok(result)
    }

    fn spec(&self, directory: &Path) -> Result<Spec> {
        let info = self.needs()?;
        std::fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        let mut disks = vec![Disk::create(directory, CHECKPOINT_DISK, 1)?];
        for text in &info.disks {
            let (name, size) = text
                .split_once(':')
                .with_context(|| format!("disk {text:?}: write it as \"name:MiB\""))?;
            let size = size
                .parse()
                .with_context(|| format!("disk {text:?}: write it as \"name:MiB\""))?;
            disks.push(Disk::create(directory, name, size)?);
        }
        Ok(Spec {
            memory: info.memory,
            cpus: info.cpus,
            disks,
            ivshmem: if info.ivshmem {
                Some(Ivshmem::Memory(SharedMemory::create(directory)?))
            } else {
                None
            },
            watched: self.watched.clone(),
            ..Spec::new(&self.kernel, directory)
        })
    }

    fn needs(&self) -> Result<&TestInfo> {
        let first = self.cases.first().and_then(|case| case.lab.as_ref());
        first.context("a batch of lab tests holds none")
    }

    fn boot(&self) -> Result<Machine> {
        Machine::boot(&self.spec(&self.directory)?)
    }

    fn run_one(&self, machine: &mut Machine, case: &Case, number: u64) -> Result<(TestResult, After)> {
        let info = case
            .lab
            .as_ref()
            .with_context(|| format!("{} is no lab test", case.full_name()))?;
        let slowness = self.kernel.id.slowness();
        let start = Instant::now();
        let mut output = Vec::new();
        let command = Command {
            argv: vec![
                case.executable.to_string_lossy().into_owned(),
                "--lab-run".into(),
                case.name.clone(),
            ],
            env: environment(&self.modules),
            cwd: workspace::root().to_string_lossy().into_owned(),
            terminal: None,
        };
        let limit = Duration::from_secs(info.timeout) * slowness;
        let ended = match machine.checkpoint(number, CHECKPOINT_LIMIT * slowness) {
            Ok(()) => {
                let job = machine.start(&command)?;
                let mut ended = machine.wait(job, limit, |_: Stream, bytes| output.extend_from_slice(bytes));
                if matches!(ended, Ended::TimedOut) {
                    machine.kill(job)?;
                    // Killed processes that stay are stuck in the kernel: then the machine is no longer fit.
                    let grace = Duration::from_secs(5) * slowness;
                    ended = match machine.wait(job, grace, |_, bytes| output.extend_from_slice(bytes)) {
                        Ended::Exit(_) => Ended::TimedOut,
                        Ended::TimedOut => Ended::Lost(Box::new(machine.declare_hung(&format!(
                            "{} did not end within {} s and cannot be killed",
                            case.full_name(),
                            limit.as_secs()
                        )))),
                        lost @ Ended::Lost(_) => lost,
                    };
                }
                ended
            }
            Err(error) => Ended::Lost(Box::new(machine.declare_hung(&format!("{error:#}")))),
        };
        let (measurements, text) = Measurement::split(&String::from_utf8_lossy(&output));
        let (outcome, after) = match ended {
            Ended::Lost(report) => (Outcome::Crashed(String::new()), After::Lost(report)),
            Ended::TimedOut => (
                Outcome::Failed(format!("no end within {} s", limit.as_secs())),
                After::Fit,
            ),
            Ended::Exit(exit) => (outcome_of(&exit, &text), After::Fit),
        };
        let after = match after {
            After::Fit => machine
                .take_report()
                .map_or(After::Fit, |report| After::Damaged(Box::new(report))),
            after => after,
        };
        let output = if outcome == Outcome::Passed {
            String::new()
        } else {
            tail(&text)
        };
        let result = TestResult {
            package: case.package.clone(),
            name: case.name.clone(),
            place: self.kernel.id.name().to_owned(),
            outcome,
            took: start.elapsed(),
            output,
            measurements,
        };
        Ok((result, after))
    }

    /// Level 2. Returns the machine to resume with.
    fn reset(
        machine: Machine,
        acknowledged: u64,
        ledger: &mut Ledger,
        event: &mut CrashEvent,
        report: &Report,
    ) -> Result<Machine> {
        let start = Instant::now();
        let spec = machine.power_cut()?;
        let checkpoint = spec.disks.iter().find(|disk| disk.name == CHECKPOINT_DISK);
        let survived = match checkpoint.map(|disk| &disk.medium) {
            Some(Medium::File(path)) => recovery::checkpoint_survived(path, acknowledged)?,
            _ => false,
        };
        ledger.integrity.performed += 1;
        ledger.integrity.passed += u64::from(survived);
        let recovery = match report.recovery() {
            // Level 1 was tried first, or the guest was gone before it could be.
            recovery if recovery.level() != RecoveryLevel::SystemReset => Recovery::ForcedReset,
            recovery => recovery,
        };
        let booted = Machine::boot(&spec);
        ledger.tried(event, recovery, start, booted.is_ok());
        booted.context("booting again after a reset")
    }

    /// Level 3: does the test crash again, alone on a fresh machine? Returns the repetition and its crash, if any.
    fn isolate(
        &self,
        case: &Case,
        event: &mut CrashEvent,
        result: &mut TestResult,
    ) -> Result<(TestResult, Option<CrashEvent>)> {
        let directory = self.directory.join("isolated");
        let mut machine = Machine::boot(&self.spec(&directory)?)?;
        let (again, after) = self.run_one(&mut machine, case, 1)?;
        let crashed = !matches!(after, After::Fit);
        let finding = match (&after, &again.outcome) {
            (After::Fit, Outcome::Passed) => "passed when repeated alone: not reproducible",
            (After::Fit, _) => "did not crash when repeated alone, but did not pass either",
            _ => "crashed again when repeated alone: a reproducible crasher, isolated",
        };
        event.additional_info.insert("isolation".into(), finding.into());
        event.additional_info.insert("reproducible".into(), crashed.into());
        if let Outcome::Crashed(reason) = &mut result.outcome {
            *reason = format!("{reason} [{finding}]");
        }
        let repeated = match after {
            After::Damaged(report) | After::Lost(report) => {
                let context = format!("{} (repeated alone)", case.full_name());
                Some(recovery::event(&report, &mut machine, &context))
            }
            After::Fit => None,
        };
        machine.power_cut()?;
        Ok((again, repeated))
    }
}

/// What commands in the guest find in their environment.
pub fn environment(modules: &Path) -> Vec<(String, String)> {
    let variables = [
        (lab_guest::kmod::MODULES_ENV, modules.to_string_lossy().into_owned()),
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        ),
        ("HOME", "/root".to_owned()),
        ("TERM", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned())),
        ("RUST_BACKTRACE", "1".to_owned()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

fn outcome_of(exit: &Exit, output: &str) -> Outcome {
    match (verdict_in(output), exit) {
        (Some(verdict), _) => verdict.into(),
        (None, Exit::NotStarted(why)) => Outcome::Failed(format!("could not be started: {why}")),
        (None, exit) => Outcome::Failed(format!("ended without a verdict: {exit:?}")),
    }
}
