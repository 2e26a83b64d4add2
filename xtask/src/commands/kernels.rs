// SPDX-License-Identifier: MIT OR Apache-2.0

//! Lab tests on kernels, those of one kernel beside those of the others: they wait for something much of the time.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use lab::host::workspace;
use lab::kernel::{self, Kernel, KernelId, modules};
use lab::runner::recovery::Ledger;
use lab::runner::report::Reporter;
use lab::runner::{Case, TestResult, guest, host};
use lab::store::RunLog;
use lab_guest::registry::Place;

/// Which machines, and how they are used.
pub(crate) struct Machines {
    /// The kernels that were asked for; none means both stock ones.
    pub(crate) kernels: Vec<KernelId>,
    /// Look for newer releases.
    pub(crate) refresh: bool,
    /// Keep a machine that was damaged for a look.
    pub(crate) hold: bool,
}

impl Machines {
    /// Prepares each kernel's part of some tests; kernels of which no test is are left out.
    pub(crate) fn parts(&self, cases: &[Case]) -> Result<Vec<OnKernel>> {
        let kernels = if self.kernels.is_empty() {
            &KernelId::STOCK[..]
        } else {
            &self.kernels
        };
        let mut parts = Vec::new();
        for &id in kernels {
            let named = |case: &&Case| case.lab.as_ref().is_some_and(|info| id.is_named_by(&info.kernels));
            let wanted: Vec<Case> = cases.iter().filter(named).cloned().collect();
            if !wanted.is_empty() {
                parts.push(OnKernel::prepare(id, wanted, self.refresh)?);
            }
        }
        Ok(parts)
    }
}

/// The tests of one kernel, and what their machines are made of.
pub(crate) struct OnKernel {
    kernel: Kernel,
    modules: PathBuf,
    /// The tests.
    pub(crate) cases: Vec<Case>,
}

impl OnKernel {
    fn prepare(id: KernelId, cases: Vec<Case>, refresh: bool) -> Result<Self> {
        let kernel = kernel::ensure(id, refresh)?;
        let modules = modules::ensure(&kernel)?;
        Ok(Self { kernel, modules, cases })
    }

    /// The kernel.
    pub(crate) fn id(&self) -> KernelId {
        self.kernel.id
    }

    /// Runs some of the tests: those inside machines in batches, then those that drive machines.
    pub(crate) fn run(
        &self,
        cases: &[Case],
        hold: bool,
        ledger: &mut Ledger,
        mut each: impl FnMut(TestResult),
    ) -> Result<()> {
        let at = |wanted: Place| {
            let is_there = move |case: &&Case| case.lab.as_ref().is_some_and(|info| info.place == wanted);
            cases.iter().filter(is_there)
        };
        let inside: Vec<Case> = at(Place::Guest).cloned().collect();
        for batch in guest::batches(&inside, &self.kernel, &self.modules, hold) {
            batch.run(ledger, &mut each);
        }
        for case in at(Place::Host) {
            let result = host::run_driver(case, self.kernel.id)?;
            ledger.tested(&result, false);
            each(result);
        }
        Ok(())
    }
}

/// Begins a run: its file, named in the store by the time.
pub(crate) fn begin_run() -> Result<Ledger> {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let directory = workspace::runs();
    let log = RunLog::begin(&directory, &command.join(" "), &workspace::revision())
        .with_context(|| format!("beginning a file in {}", directory.display()))?;
    Ok(Ledger::new(log))
}

/// Does the work of all kernels, each in a thread with a ledger of its own; results are shown as they come. Who wants to look
/// into a machine gets one after the other.
pub(crate) fn beside_each_other<T: Send>(
    parts: &[OnKernel],
    hold: bool,
    ledger: &mut Ledger,
    reporter: &mut Reporter,
    work: impl Fn(&OnKernel, &mut Ledger, &mut dyn FnMut(TestResult)) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut done = Vec::new();
    let at_once = if hold { 1 } else { parts.len().max(1) };
    for group in parts.chunks(at_once) {
        let (sender, results) = mpsc::channel();
        thread::scope(|scope| -> Result<()> {
            let mut running = Vec::new();
            for part in group {
                let sender = sender.clone();
                let mut own = ledger.beside()?;
                let work = &work;
                running.push(scope.spawn(move || -> Result<(T, Ledger)> {
                    // The other end listens until all have ended.
                    let value = work(part, &mut own, &mut |result| drop(sender.send(result)))?;
                    Ok((value, own))
                }));
            }
            drop(sender);
            for result in results {
                reporter.add(result);
            }
            for thread in running {
                let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let (value, own) = ended?;
                ledger.absorb(own);
                done.push(value);
            }
            Ok(())
        })?;
    }
    Ok(done)
}
