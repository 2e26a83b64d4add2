// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine, and one step after the other in it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::vm::{Ended, Job, Machine, Spec};
use lab_guest::protocol::{Command, Exit};

/// What every step begins with.
const PRELUDE: &str = include_str!("prelude.sh");
/// What is asked of a machine in which a step failed.
const STATE: &str = "systemctl --failed --no-pager --no-legend; systemctl list-jobs --no-pager --no-legend; \
    findmnt --real --noheadings; tail -n 30 /var/lib/dkms/*/*/build/make.log; journalctl --boot --no-pager --lines 100";
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Guest {
    machine: Option<Machine>,
    /// Beside it another kernel may be tested, whose lines come between.
    kernel: &'static str,
    directory: PathBuf,
    boots: u32,
}

impl Guest {
    pub(super) fn boot(spec: Spec) -> Result<Self> {
        let mut guest = Self {
            kernel: spec.kernel.id.name(),
            directory: spec.directory.clone(),
            machine: None,
            boots: 0,
        };
        guest.power_on(spec, "boot")?;
        Ok(guest)
    }

    /// The console of each boot is kept.
    fn power_on(&mut self, mut spec: Spec, name: &str) -> Result<()> {
        let begun = Instant::now();
        self.boots += 1;
        spec.directory = self.directory.join(format!("boot-{}", self.boots));
        self.machine = Some(Machine::boot(&spec)?);
        // The agent comes long before the end of the boot.
        self.succeed("systemd comes to its end", spec.bounds.boot, "came_up")?;
        self.tell(begun, name);
        Ok(())
    }

    fn tell(&self, begun: Instant, what: &str) {
        println!("{:5} {:8.1} s  {what}", self.kernel, begun.elapsed().as_secs_f64());
    }

    fn machine(&mut self) -> Result<&mut Machine> {
        self.machine.as_mut().context("the machine is off")
    }

    /// A script that must succeed, while the kernel complains of nothing.
    pub(super) fn step(&mut self, name: &str, limit: Duration, script: &str) -> Result<()> {
        let said = self.ask(name, limit, script)?;
        for line in said.lines() {
            println!("{:5}             {line}", self.kernel);
        }
        Ok(())
    }

    /// The same for a script whose output is looked at.
    pub(super) fn ask(&mut self, name: &str, limit: Duration, script: &str) -> Result<String> {
        let begun = Instant::now();
        let said = self.succeed(name, limit, script)?;
        self.tell(begun, name);
        Ok(said)
    }

    /// What it prints on the standard output is for people.
    fn succeed(&mut self, name: &str, limit: Duration, script: &str) -> Result<String> {
        let machine = self.machine()?;
        let output = machine.shell(&format!("{PRELUDE}\n{script}"), limit);
        let output = output.with_context(|| name.to_owned());
        if let Some(report) = machine.take_report() {
            bail!("{name}: the kernel complains: {report}");
        }
        let wrong = match output {
            Ok(output) if output.exit == Exit::Code(0) => return Ok(output.stdout),
            Ok(output) => anyhow::anyhow!("{name}: {:?}\n{}{}", output.exit, output.stdout, output.stderr),
            Err(error) => error,
        };
        let state = machine.shell(STATE, PATIENCE).map(|output| output.stdout);
        bail!("{wrong:#}\n--- its state\n{}", state.unwrap_or_default());
    }

    /// Starts a script that goes on beside the steps.
    pub(super) fn start(&mut self, script: &str) -> Result<Job> {
        let script = format!("{PRELUDE}\n{script}");
        self.machine()?.start(&Command::shell(&script))
    }

    pub(super) fn still_runs(&mut self, job: Job, what: &str) -> Result<()> {
        let mut said = String::new();
        let ended = self.machine()?.wait(job, Duration::from_secs(2), |_, bytes| {
            said.push_str(&String::from_utf8_lossy(bytes));
        });
        ensure!(matches!(ended, Ended::TimedOut), "{what}: {ended:?}\n{said}");
        Ok(())
    }

    pub(super) fn ends(&mut self, job: Job, limit: Duration) -> Result<()> {
        let mut said = String::new();
        let ended = self.machine()?.wait(job, limit, |_, bytes| {
            said.push_str(&String::from_utf8_lossy(bytes));
        });
        ensure!(
            matches!(ended, Ended::Exit(Exit::Code(0))),
            "the application: {ended:?}\n{said}"
        );
        print!("{said}");
        Ok(())
    }

    /// Down in order, and up again on the same disks.
    pub(super) fn reboot(&mut self, name: &str) -> Result<()> {
        let begun = Instant::now();
        let spec = self.machine()?.spec().clone();
        self.shut_down()?;
        self.tell(begun, &format!("{name}: down"));
        self.power_on(spec, &format!("{name}: up"))
    }

    pub(super) fn shut_down(&mut self) -> Result<()> {
        let machine = self.machine.take().context("the machine is off")?;
        let log = machine.console_log();
        ensure!(
            machine.shut_down()?,
            "the system does not go down; its console is in {}",
            log.display()
        );
        Ok(())
    }
}
