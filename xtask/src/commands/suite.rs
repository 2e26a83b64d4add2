// SPDX-License-Identifier: MIT OR Apache-2.0

//! The suites of [`lab::suites`]: which are run, what they need, and the command that runs one case.
//!
//! `cargo xtask test` calls [`select`] and [`run_all`]. `cargo xtask suite` is what [`lab::runner::suite`] starts for each
//! case in namespaces of its own; it is not for people.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use lab::host::progress::Step;
use lab::host::workspace;
use lab::runner::discover::cargo;
use lab::runner::report::Reporter;
use lab::runner::suite::{self, Plan};
use lab::runner::{Outcome, TestResult};
use lab::suites::target::On;
use lab::suites::{Case, Settings, cases, tools};

/// The package under which results of suites are filed.
pub(crate) const PACKAGE: &str = "suites";

const ORDINARY_SEED: u64 = 1;

/// How the suites are run.
pub(crate) struct Choice {
    /// What is tested.
    pub(crate) on: On,
    /// The long run.
    pub(crate) full: bool,
    /// Whatever is chosen by chance follows from it.
    pub(crate) seed: Option<u64>,
}

/// The cases whose full name, as people see it, contains `filter`.
pub(crate) fn select(filter: Option<&str>) -> Vec<Case> {
    let matches = |case: &Case| filter.is_none_or(|part| format!("{PACKAGE}::{}", case.full_name()).contains(part));
    cases().into_iter().filter(matches).collect()
}

/// Makes ready what suites of these names need in machines, which cannot install anything.
pub(crate) fn prepare(names: &[&str]) -> Result<()> {
    let needed: Vec<_> = cases().into_iter().filter(|case| names.contains(&case.suite)).collect();
    tools::ensure(&needed, On::Module)
}

/// Makes ready what the cases need, and runs them one after the other.
pub(crate) fn run_all(cases: &[Case], choice: &Choice, reporter: &mut Reporter) -> Result<()> {
    if cases.is_empty() {
        return Ok(());
    }
    if let Some(reason) = suite::lacks(choice.on) {
        for case in cases {
            reporter.add(TestResult {
                package: PACKAGE.into(),
                name: case.full_name(),
                place: choice.on.name().into(),
                outcome: Outcome::Skipped(reason.clone()),
                took: Duration::ZERO,
                output: String::new(),
                measurements: Vec::new(),
            });
        }
        return Ok(());
    }
    tools::ensure(cases, choice.on)?;
    // The ordinary run is the same each time; the long one looks elsewhere each time, and its seed is short enough to be typed.
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let chosen = if choice.full {
        clock.as_secs() % 1_000_000
    } else {
        ORDINARY_SEED
    };
    let seed = choice.seed.unwrap_or(chosen);
    println!("suites on {}, seed {seed}", choice.on.name());
    let plan = Plan {
        inner: vec![
            std::env::current_exe().context("finding this executable")?.into(),
            "suite".into(),
        ],
        on: choice.on,
        program: build_command_line(false)?,
        full: choice.full,
        share: 1,
        seed,
    };
    for case in cases {
        let result = suite::run(case, &plan)?;
        let notes = result.output.clone();
        let passed = result.outcome == Outcome::Passed;
        reporter.add(result);
        for line in notes.lines().filter(|_| passed) {
            println!("    {line}");
        }
    }
    Ok(())
}

/// Builds `vexfs-ublk` and says where it is.
pub(crate) fn build_command_line(release: bool) -> Result<PathBuf> {
    let step = Step::start("building vexfs-ublk");
    cargo()
        .args(["build", "--package", "vexfs-cli", "--bin", "vexfs-ublk"])
        .args(release.then_some("--release"))
        .lines(|line| step.now(line.trim().to_owned()))?;
    step.done();
    let profile = if release { "release" } else { "debug" };
    Ok(workspace::target().join(profile).join("vexfs-ublk"))
}

#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    on: On,
    #[arg(long)]
    program: PathBuf,
    #[arg(long)]
    stress: bool,
    #[arg(long)]
    share: u32,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    scratch: PathBuf,
    case: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let settings = Settings {
        on: arguments.on,
        program: arguments.program.clone(),
        full: arguments.stress,
        share: arguments.share,
        seed: arguments.seed,
        scratch: arguments.scratch.clone(),
    };
    let passed = suite::run_inside(&arguments.case, settings)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
