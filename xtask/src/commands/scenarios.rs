// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask test --stress list|run|report`: the scenario catalogue, its runs, and what they have found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use lab::crash::{Continuity, CrashType};
use lab::host::{apt, workspace};
use lab::kernel::KernelId;
use lab::runner::recovery::Ledger;
use lab::runner::report::Reporter;
use lab::runner::{Case, Outcome, TestResult, discover};
use lab::store::when::{Day, Since, now_ms, shown};
use lab::store::{Findings, History, Question, Tested, page};
use lab_scenarios::judge::{Verdict, judge_with};
use lab_scenarios::known::Known;
use lab_scenarios::{Scenario, catalogue, table};

use super::kernels::{self, Machines, OnKernel};

/// What may be done with scenarios.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the catalogue: what is covered for whom, and where the gaps are
    List {
        /// Show the scenarios whose name contains this, in full
        filter: Option<String>,
    },
    /// Run scenarios in machines, judge them, keep what they measured
    Run {
        /// Part of a scenario's name
        filter: Option<String>,
    },
    /// Say what runs have found
    Report(Report),
}

impl Command {
    /// The word it is called by.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::List { .. } => "list",
            Self::Run { .. } => "run",
            Self::Report(_) => "report",
        }
    }
}

#[derive(Args)]
pub(crate) struct Report {
    /// Nothing before this day (2026-11-22), or not longer ago than this (90m, 36h, 14d)
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Crashes of this type only, and the tests that met one
    #[arg(long = "type", value_name = "CRASH")]
    crash: Option<CrashType>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    /// Where the page with pictures goes; target/lab/report.html unless said otherwise
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

pub(crate) fn run(command: &Command, machines: &Machines) -> Result<ExitCode> {
    match command {
        Command::List { filter } => list(filter.as_deref()),
        Command::Run { filter } => run_scenarios(filter.as_deref(), machines),
        Command::Report(report) => tell(report),
    }
}

fn select(filter: Option<&str>) -> Result<Vec<Scenario>> {
    let mut found = catalogue::scenarios();
    found.retain(|scenario| filter.is_none_or(|part| scenario.name().contains(part)));
    if found.is_empty() {
        bail!("no scenario matches; `list` shows what there is");
    }
    Ok(found)
}

fn list(filter: Option<&str>) -> Result<ExitCode> {
    let found = select(filter)?;
    if filter.is_some() {
        for scenario in &found {
            println!("{}", table::details(scenario));
        }
    } else {
        for scenario in &found {
            println!("{:48} {}", scenario.name(), scenario.test.full_name());
        }
        print!("\n{}", table::matrix(&found));
    }
    Ok(ExitCode::SUCCESS)
}

/// The lab tests that do the scenarios, by their full names.
fn tests_of(scenarios: &[Scenario]) -> Result<BTreeMap<String, Case>> {
    let mut found = BTreeMap::new();
    for executable in discover::build()?.iter().filter(|executable| executable.lab) {
        for case in discover::list(executable)? {
            found.insert(case.full_name(), case);
        }
    }
    let mut wanted = BTreeMap::new();
    for scenario in scenarios {
        let name = scenario.test.full_name();
        let case = found
            .get(&name)
            .with_context(|| format!("{} is to be run by {name}, and there is no such test", scenario.name()))?;
        wanted.insert(name, case.clone());
    }
    Ok(wanted)
}

/// The results of one kernel, by test.
#[derive(Default)]
struct Results {
    tested: BTreeMap<String, Tested>,
    /// What became of those that failed, run again alone.
    again: BTreeMap<String, &'static str>,
}

fn run_scenarios(filter: Option<&str>, machines: &Machines) -> Result<ExitCode> {
    let wanted = select(filter)?;
    let names: Vec<String> = catalogue::scenarios().iter().map(Scenario::name).collect();
    let known = Known::of_checkout(|name| names.iter().any(|known| known == name))?;
    apt::ensure(apt::UBLK_BUILD)?;
    apt::ensure(apt::LAB)?;
    let cases = tests_of(&wanted)?;
    let history = History::read(&workspace::runs()).context("reading the runs that are kept")?;
    workspace::sweep_machines();
    let all: Vec<Case> = cases.into_values().collect();
    let parts = machines.parts(&all)?;
    if parts.is_empty() {
        bail!("none of these scenarios runs on these kernels");
    }
    let mut ledger = kernels::begin_run()?;
    let mut reporter = Reporter::new(true);
    let done = kernels::beside_each_other(
        &parts,
        machines.hold,
        &mut ledger,
        &mut reporter,
        |part, ledger, each| run_on(part, machines.hold, &history, ledger, each),
    )?;
    let mut verdicts: Vec<(String, KernelId, Verdict)> = Vec::new();
    let mut continuity = Continuity::default();
    let today = Day::of(now_ms());
    for (part, results) in parts.iter().zip(done) {
        continuity.scheduled += part.cases.len() as u64;
        let reached = results.tested.values().filter(|tested| !is_crash(tested)).count();
        continuity.reached_verdict += reached as u64;
        for scenario in &wanted {
            let name = scenario.test.full_name();
            let mut verdict = judge_with(&known, today, scenario, results.tested.get(&name));
            if let (Verdict::Broken(reasons), Some(finding)) = (&mut verdict, results.again.get(&name)) {
                reasons.push((*finding).to_owned());
            }
            verdicts.push((scenario.name(), part.id(), verdict));
        }
    }
    reporter.finish();
    println!();
    for (name, id, verdict) in &verdicts {
        println!("{:5} {name:48} {verdict}", id.name());
    }
    let mut passed = !verdicts.iter().any(|(_, _, verdict)| verdict.fails());
    for entry in known.expired(today) {
        passed = false;
        println!(
            "known failure {} has expired on {}: {}",
            entry.scenario, entry.until, entry.reason
        );
    }
    let metrics = ledger.end(passed, continuity);
    let missed = metrics.missed();
    println!("\n{metrics}");
    reporter.write(&workspace::results(), &metrics, &ledger.events)?;
    println!(
        "this run: {}; all runs: `cargo xtask test --stress report`",
        ledger.path().display()
    );
    let count = |wanted: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, _, verdict)| wanted(verdict)).count();
    println!(
        "{} held, {} broken, {} known, {} skipped, {} not on that kernel",
        count(|verdict| *verdict == Verdict::Held),
        count(Verdict::fails),
        count(|verdict| matches!(verdict, Verdict::Known(_))),
        count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        count(|verdict| *verdict == Verdict::NotHere),
    );
    Ok(if passed && missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the tests of one kernel. What crashed its machine when it last ran is isolated: it runs behind the others, on a machine
/// of its own. What fails runs once more, alone.
fn run_on(
    part: &OnKernel,
    hold: bool,
    history: &History,
    ledger: &mut Ledger,
    each: &mut dyn FnMut(TestResult),
) -> Result<Results> {
    let newest = history.newest();
    let kernel = part.id().name();
    let isolated = |case: &Case| {
        let name = case.full_name();
        newest
            .get(&(name.as_str(), kernel))
            .is_some_and(|tested| is_crash(tested))
    };
    let (alone, together): (Vec<Case>, Vec<Case>) = part.cases.iter().cloned().partition(isolated);
    let mut results = Results::default();
    let mut batches = vec![together];
    for case in alone {
        println!("{} is isolated: it took its machine down on {kernel}", case.full_name());
        batches.push(vec![case]);
    }
    for batch in batches.iter().filter(|batch| !batch.is_empty()) {
        part.run(batch, hold, ledger, |result| {
            results.tested.insert(result.full_name(), result.recorded(false));
            each(result);
        })?;
    }
    ledger.repeating = true;
    for case in &part.cases {
        let name = case.full_name();
        let failed = |tested: &Tested| matches!(tested.outcome, Outcome::Failed(_));
        if !results.tested.get(&name).is_some_and(failed) {
            continue;
        }
        println!("{name} failed on {kernel}; once more, alone");
        let mut finding = "did not come to a result when run again alone";
        part.run(std::slice::from_ref(case), hold, ledger, |result| {
            finding = match result.outcome {
                Outcome::Passed => "passed when run again alone: it does not always fail",
                _ => "failed again when run alone",
            };
        })?;
        results.again.insert(name, finding);
    }
    ledger.repeating = false;
    Ok(results)
}

const fn is_crash(tested: &Tested) -> bool {
    matches!(tested.outcome, Outcome::Crashed(_))
}

fn tell(report: &Report) -> Result<ExitCode> {
    let directory = workspace::runs();
    let history = History::read(&directory).with_context(|| format!("reading {}", directory.display()))?;
    let now = now_ms();
    let question = Question {
        since: report.since.map_or(0, |since| since.ms(now)),
        crash: report.crash,
    };
    let findings = Findings::of(&history, &question);
    if report.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", in_words(&findings));
    let mut asked = report.since.map_or("all that is kept".to_owned(), |since| {
        format!("since {} UTC", shown(since.ms(now)))
    });
    if let Some(crash) = report.crash {
        asked = format!("{asked}, crashes of type {crash}");
    }
    let path = report
        .html
        .clone()
        .unwrap_or_else(|| workspace::results().join("report.html"));
    std::fs::write(&path, page::html(&findings, &asked, now)).with_context(|| format!("writing {}", path.display()))?;
    println!("with pictures: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The findings for a terminal: runs, crashes, what does not pass.
fn in_words(findings: &Findings) -> String {
    let mut lines = Vec::new();
    for run in &findings.runs {
        let end = run
            .took_ms
            .map_or("interrupted".to_owned(), |ms| format!("{} s", ms / 1000));
        let lost = match run.damaged.len() {
            0 => String::new(),
            count => format!(", {count} lines of its file are lost"),
        };
        lines.push(format!(
            "{}  {:4} passed {:4} failed {:4} skipped {:3} crashes  {end}  {} ({}){lost}",
            shown(run.begin.at),
            run.passed,
            run.failed,
            run.skipped,
            run.crashes,
            run.begin.command,
            run.begin.revision
        ));
    }
    for (kind, count) in findings.by_type() {
        lines.push(format!("{count:5} {kind}"));
    }
    for crash in &findings.crashes {
        let line = crash.additional_info.get("line").and_then(|line| line.as_str());
        lines.push(format!(
            "{}  {} in {}: {}",
            shown(crash.timestamp),
            crash.crash_type,
            crash.test_context,
            line.unwrap_or_default()
        ));
    }
    for tested in &findings.tested {
        if let Outcome::Failed(reason) | Outcome::Crashed(reason) = &tested.outcome {
            let again = if tested.repetition { " (alone, again)" } else { "" };
            lines.push(format!(
                "{}  {:5} {}{again}: {reason}",
                shown(tested.at),
                tested.place,
                tested.test
            ));
        }
    }
    lines.push(format!("{} runs\n{}", findings.runs.len(), findings.recovery));
    lines.join("\n")
}
