// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask test`: every level, one runner, one closing line.
//!
//! Levels are tests of the host, suites against a mounted filesystem, and tests of the VM. `--stress` without a level means
//! the long tests of the VM; with `--fuse`, the long runs of the suites.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use lab::crash::{Continuity, RecoveryMetrics};
use lab::host::{apt, workspace};
use lab::kernel::{self, Kernel, KernelId, modules};
use lab::runner::recovery::Ledger;
use lab::runner::report::Reporter;
use lab::runner::{Case, Outcome, TestResult, discover, guest, host};
use lab::suites::target::On;
use lab_guest::registry::{Place, TestInfo};

use super::suite;

/// Without a level: host, suites and VM. Examples:
///   cargo xtask test                             host tests, then VM tests on both stock kernels
///   cargo xtask test --fuse crash                the crash loop against our mounted filesystem
///   cargo xtask test --fuse --stress --seed 7    all suites, long, repeatable
///   cargo xtask test --fuse --on ext4            the suites themselves, against a filesystem of the kernel
///   cargo xtask test --vm --kernel debug         VM tests under KASAN, lockdep, kmemleak
///   cargo xtask test --stress --kernel 7.x load  long tests whose name contains "load"
///   cargo xtask test --vm packages               the Debian packages, in a Debian of their own
#[derive(Args)]
#[command(verbatim_doc_comment)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub(crate) struct Arguments {
    /// Tests that run on the host itself
    #[arg(long)]
    host: bool,
    /// Tests that run in, or drive, machines of the lab
    #[arg(long)]
    vm: bool,
    /// Conformance and torture suites against a mounted filesystem
    #[arg(long)]
    fuse: bool,
    /// VM tests that are too long for every run; with --fuse, the suites' long runs
    #[arg(long)]
    stress: bool,
    /// What the suites run on: fuse (ours), or as a reference ext4, xfs, btrfs
    #[arg(long, default_value = "fuse")]
    on: On,
    /// What the suites choose by chance follows from it; otherwise always the same, with --stress from
    /// the clock
    #[arg(long)]
    seed: Option<u64>,
    /// 6.12, 7.x or debug; may be repeated. Default: both stock kernels
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<KernelId>,
    /// Look for newer releases of the kernels although some are cached
    #[arg(long)]
    refresh: bool,
    /// When a test crashes its machine, give a shell in it (or QEMU's monitor) before it is recovered
    #[arg(long)]
    hold: bool,
    /// Only list the tests
    #[arg(long)]
    list: bool,
    /// Show every test that passed, also in a log (on a terminal always)
    #[arg(long, short)]
    verbose: bool,
    /// Part of `package::name`
    filter: Option<String>,
}

impl Arguments {
    fn wants_host(&self) -> bool {
        self.host || !(self.vm || self.fuse || self.stress)
    }

    fn wants_suites(&self) -> bool {
        self.fuse || !(self.host || self.vm || self.stress)
    }

    fn wants_lab(&self) -> bool {
        self.vm || !(self.host || self.fuse)
    }

    /// Whether there is anything to ask test executables for.
    fn wants_executables(&self) -> bool {
        self.wants_host() || self.wants_lab()
    }

    fn wants(&self, info: &TestInfo) -> bool {
        if !info.filter_word.is_empty() {
            let filter = self.filter.as_ref();
            return filter.is_some_and(|filter| filter.contains(&info.filter_word));
        }
        if info.stress {
            self.stress
        } else {
            self.vm || !(self.host || self.fuse || self.stress)
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let start = Instant::now();
    if arguments.wants_executables() {
        apt::ensure(apt::UBLK_BUILD)?;
    }
    if arguments.wants_host() {
        apt::ensure(apt::C_TESTS)?;
    }
    if arguments.wants_lab() {
        apt::ensure(apt::LAB)?;
    }
    let cases = select(arguments)?;
    let suites = if arguments.wants_suites() {
        suite::select(arguments.filter.as_deref())
    } else {
        Vec::new()
    };
    if arguments.list {
        for case in &cases {
            let kernels = case.lab.as_ref().map_or("host", |info| info.kernels.as_str());
            println!("{kernels:5} {}", case.full_name());
        }
        for case in &suites {
            println!("{:5} suites::{}", arguments.on.name(), case.full_name());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut reporter = Reporter::new(arguments.verbose || std::io::stdout().is_terminal());
    let results = workspace::results();
    std::fs::create_dir_all(&results)?;
    workspace::sweep_machines();
    let (lab, ordinary): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(|case| case.lab.is_some());
    run_ordinary(
        &ordinary,
        arguments.filter.is_none() && arguments.wants_host(),
        &mut reporter,
    )?;
    let choice = suite::Choice {
        on: arguments.on,
        full: arguments.stress,
        seed: arguments.seed,
    };
    suite::run_all(&suites, &choice, &mut reporter)?;
    let kernels = if arguments.kernels.is_empty() {
        KernelId::STOCK.to_vec()
    } else {
        arguments.kernels.clone()
    };
    let mut parts = Vec::new();
    for id in kernels {
        let wanted = lab
            .iter()
            .filter(|case| case.lab.as_ref().is_some_and(|info| id.is_named_by(&info.kernels)));
        let wanted: Vec<Case> = wanted.cloned().collect();
        if !wanted.is_empty() {
            parts.push(OnKernel::prepare(id, wanted, arguments.refresh)?);
        }
    }
    let scheduled: usize = parts.iter().map(|part| part.cases.len()).sum();
    let ledger = run_lab(
        &parts,
        arguments.hold,
        &results.join("crash-events.jsonl"),
        &mut reporter,
    )?;
    let of_a_kernel = |result: &&TestResult| result.place != "host" && result.package != suite::PACKAGE;
    let lab_results = || reporter.results().iter().filter(of_a_kernel);
    let reached = lab_results()
        .filter(|result| !matches!(result.outcome, Outcome::Crashed(_)))
        .count();
    let continuity = Continuity {
        scheduled: scheduled as u64,
        reached_verdict: reached as u64,
    };
    let metrics = RecoveryMetrics::new(&ledger.attempts, ledger.integrity, continuity);
    reporter.finish();
    reporter.write(&results, &metrics, &ledger.events)?;
    let counts = reporter.counts();
    if scheduled > 0 {
        println!("\n{metrics}");
    }
    println!(
        "results: {0}/results.json, {0}/junit.xml; {1:.0} s",
        results.display(),
        start.elapsed().as_secs_f64()
    );
    if counts.passed + counts.failed + counts.skipped == 0 {
        bail!("no test matches; --list shows what there is");
    }
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    Ok(if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The tests that the arguments ask for.
fn select(arguments: &Arguments) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    if !arguments.wants_executables() {
        return Ok(cases);
    }
    for executable in discover::build()? {
        let wanted = if executable.lab {
            arguments.wants_lab()
        } else {
            arguments.wants_host()
        };
        if wanted {
            cases.extend(discover::list(&executable)?);
        }
    }
    cases.retain(|case| {
        let level = case.lab.as_ref().is_none_or(|info| arguments.wants(info));
        level
            && arguments
                .filter
                .as_ref()
                .is_none_or(|part| case.full_name().contains(part.as_str()))
    });
    Ok(cases)
}

fn run_ordinary(cases: &[Case], with_documentation: bool, reporter: &mut Reporter) -> Result<()> {
    let mut executables: BTreeMap<_, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        executables.entry(&case.executable).or_default().push(case);
    }
    for cases in executables.values() {
        host::run_executable(cases, |result| reporter.add(result))?;
    }
    if with_documentation {
        host::run_doc_tests(|result| reporter.add(result))?;
    }
    Ok(())
}

/// The tests of one kernel, and what their machines are made of.
struct OnKernel {
    kernel: Kernel,
    modules: PathBuf,
    cases: Vec<Case>,
}

impl OnKernel {
    fn prepare(id: KernelId, cases: Vec<Case>, refresh: bool) -> Result<Self> {
        let kernel = kernel::ensure(id, refresh)?;
        let modules = modules::ensure(&kernel)?;
        Ok(Self { kernel, modules, cases })
    }

    fn at(&self, wanted: Place) -> impl Iterator<Item = &Case> {
        let is_there = move |case: &&Case| case.lab.as_ref().is_some_and(|info| info.place == wanted);
        self.cases.iter().filter(is_there)
    }

    fn run(&self, hold: bool, ledger: &mut Ledger, mut each: impl FnMut(TestResult)) -> Result<()> {
        let inside: Vec<Case> = self.at(Place::Guest).cloned().collect();
        for batch in guest::batches(&inside, &self.kernel, &self.modules, hold) {
            batch.run(ledger, &mut each);
        }
        for case in self.at(Place::Host) {
            each(host::run_driver(case, self.kernel.id)?);
        }
        Ok(())
    }
}

/// Runs the kernels' tests, those of one kernel beside those of the others: they wait for something much of the time. Who
/// wants to look into a machine gets one after the other.
fn run_lab(parts: &[OnKernel], hold: bool, log: &Path, reporter: &mut Reporter) -> Result<Ledger> {
    let mut whole = Ledger::open(log)?;
    let at_once = if hold { 1 } else { parts.len().max(1) };
    for group in parts.chunks(at_once) {
        let (sender, results) = mpsc::channel();
        thread::scope(|scope| -> Result<()> {
            let mut running = Vec::new();
            for part in group {
                let sender = sender.clone();
                running.push(scope.spawn(move || -> Result<Ledger> {
                    let mut ledger = Ledger::open(log)?;
                    // The other end listens until all have ended.
                    part.run(hold, &mut ledger, |result| drop(sender.send(result)))?;
                    Ok(ledger)
                }));
            }
            drop(sender);
            for result in results {
                reporter.add(result);
            }
            for thread in running {
                let ledger = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                whole.absorb(ledger?);
            }
            Ok(())
        })?;
    }
    Ok(whole)
}
