// SPDX-License-Identifier: MIT OR Apache-2.0

//! `dsmild` inside a machine, on a device whose firmware is a simulator on the host: real MMIO, real interrupts, real
//! doorbells. What goes wrong is told to the simulator from here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dsmil_sim::{Fault, Settings, Simulator};
use lab::host::workspace;
use lab::kernel::{self, modules};
use lab::runner::discover::cargo;
use lab::vm::{Ivshmem, Job, Machine, Spec};
use lab_guest::protocol::{Command, Exit};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
/// Emergency stops that are timed, and what the one in the middle may take.
const STOPS: usize = 5;
const SAFE_WITHIN_US: u64 = 10_000;
const SOCKET: &str = "/tmp/dsmild.sock";
const AUDIT: &str = "/tmp/audit.log";
const IVSHMEM: &str = "for d in /sys/bus/pci/devices/*; do [ $(cat $d/device) = 0x1110 ] && p=$d; done";

/// A machine with the device, the module loaded, and the firmware behind it.
struct Bench {
    machine: Machine,
    simulator: Simulator,
    modules: PathBuf,
    bin: String,
    slowness: u32,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn boot(kernel: &str, test: &str) -> Result<Self> {
        cargo()
            .args(["build", "--quiet", "--package", "dsmild", "--package", "dsmilctl"])
            .run()?;
        let kernel = kernel::ensure(kernel.parse()?, false)?;
        let built = modules::ensure(&kernel)?;
        // Paths of sockets must be short.
        let directory = tempfile::tempdir()?;
        let simulator = Simulator::start(Settings::at(directory.path().join("sim")))?;
        let mut spec = Spec::new(&kernel, workspace::machine_directory(test));
        spec.ivshmem = Some(Ivshmem::Server(simulator.socket().to_owned()));
        let mut machine = Machine::boot(&spec)?;
        // The link that the udev rule of the package makes.
        machine.succeed(
            &format!(
                "{{ modprobe uio || test -d /sys/class/uio; }} && insmod {}/uio_dsmil.ko && ln -s uio0 /dev/dsmil",
                built.display()
            ),
            LIMIT,
        )?;
        Ok(Self {
            machine,
            simulator,
            modules: built,
            bin: workspace::target().join("debug").to_string_lossy().into_owned(),
            slowness: kernel.id.slowness(),
            _directory: directory,
        })
    }

    /// Starts the driver process and waits until it serves.
    fn serve(&mut self, arguments: &[&str]) -> Result<Job> {
        let program = format!("{}/dsmild", self.bin);
        let fixed = [
            &program,
            "--device",
            "/dev/dsmil",
            "--socket",
            SOCKET,
            "--audit-log",
            AUDIT,
        ];
        let argv: Vec<&str> = fixed.into_iter().chain(arguments.iter().copied()).collect();
        let job = self.machine.start(&Command::new(argv))?;
        let start = Instant::now();
        while self.try_ctl("status")?.is_err() {
            if start.elapsed() > LIMIT * self.slowness {
                let mut said = String::new();
                self.machine.wait(job, Duration::ZERO, |_, bytes| {
                    said.push_str(&String::from_utf8_lossy(bytes));
                });
                bail!("dsmild does not serve:\n{said}");
            }
        }
        Ok(job)
    }

    /// What `dsmilctl` answers; the inner error is the server's, or that there is none.
    fn try_ctl(&mut self, command: &str) -> Result<Result<Value, String>> {
        let line = format!("{}/dsmilctl --json --socket {SOCKET} {command}", self.bin);
        let output = self.machine.shell(&line, LIMIT)?;
        let value: Value =
            serde_json::from_str(output.stdout.trim()).with_context(|| format!("{command}: {output:?}"))?;
        Ok(if output.exit == Exit::Code(0) {
            Ok(value)
        } else {
            Err(value["error"]["message"].to_string())
        })
    }

    fn ctl(&mut self, command: &str) -> Result<Value> {
        self.try_ctl(command)?
            .map_err(|message| anyhow::anyhow!("{command}: {message}"))
    }

    /// A figure of SMI operations.
    fn smi(&mut self, name: &str) -> Result<u64> {
        let status = self.ctl("status")?;
        status["telemetry"]["smi"][name]
            .as_u64()
            .with_context(|| format!("no {name} in {status}"))
    }

    /// Whether the server says so within a bound.
    fn eventually(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !holds(self)? {
            ensure!(start.elapsed() < LIMIT * self.slowness, "{what} did not happen");
        }
        Ok(())
    }

    fn end(mut self, job: Job) -> Result<()> {
        self.machine.kill(job)?;
        self.machine.wait(job, LIMIT, |_, _| {});
        self.machine.succeed("rmmod uio_dsmil", LIMIT)?;
        if let Some(report) = self.machine.take_report() {
            bail!("the kernel complains: {report}");
        }
        ensure!(self.machine.shut_down()?, "the guest did not power off by itself");
        Ok(())
    }
}

#[lab_guest::test(timeout = 240)]
fn every_operation_works_over_the_real_device_with_interrupts(kernel: &str) -> Result<()> {
    let mut bench = Bench::boot(kernel, "operations")?;
    let job = bench.serve(&["--user", "nobody"])?;
    let selftest = bench.ctl("selftest")?;
    ensure!(selftest["passed"] == true, "{selftest}");
    let status = bench.ctl("status")?;
    ensure!(
        status["telemetry"]["present"] == 84 && status["telemetry"]["chunks_mapped"] == 85,
        "{status}"
    );
    let interrupts = bench.machine.succeed("grep dsmil-84dev /proc/interrupts", LIMIT)?;
    ensure!(interrupts.contains("MSI"), "no message interrupt: {interrupts}");
    let counted = |text: &str| {
        text.split_ascii_whitespace()
            .filter_map(|word| word.parse::<u64>().ok())
            .sum::<u64>()
    };
    ensure!(counted(&interrupts) > 30, "no interrupts: {interrupts}");

    bench.ctl("activate 6 11")?;
    ensure!(bench.ctl("show 6 11")?["state"] == "active");
    ensure!(
        bench.try_ctl("write-token 5 memory 0x1234")?.is_err(),
        "a locked token was written"
    );
    bench.ctl(&format!("unlock {:#x}", 0x5200_0000_u64 + (1 + 5 * 12) * (4 << 20)))?;
    bench.ctl("write-token 5 memory 0x1234")?;
    ensure!(bench.ctl("read-token 5 memory")?["value"] == 0x1234);
    ensure!(bench.ctl("verify")?["value"] == 28);
    let audit = bench.machine.succeed(&format!("cat {AUDIT}"), LIMIT)?;
    ensure!(audit.contains("write-token") && audit.contains("unlock"), "{audit}");
    bench.end(job)
}

#[lab_guest::test(timeout = 240)]
fn the_module_that_was_built_is_valid_and_passes_its_test(kernel: &str) -> Result<()> {
    let mut bench = Bench::boot(kernel, "valid")?;
    let module = bench.modules.join("uio_dsmil.ko");
    let report = bench.ctl(&format!("validate --module {}", module.display()))?;
    ensure!(report["passed"] == true, "{report:#}");
    let other = bench.modules.join("lab_panic.ko");
    ensure!(
        bench
            .try_ctl(&format!("validate --module {}", other.display()))
            .is_ok_and(|report| report.is_err()),
        "another module is valid"
    );
    let test = format!("test-module {} --cycles 5", module.display());
    ensure!(bench.try_ctl(&test)?.is_err(), "a module that is loaded was tested");
    bench.machine.succeed("rmmod uio_dsmil", LIMIT)?;
    let report = bench.ctl(&test)?;
    ensure!(report["passed"] == true, "{report:#}");
    ensure!(bench.machine.shut_down()?, "the guest did not power off by itself");
    Ok(())
}

#[lab_guest::test(timeout = 300)]
fn every_fault_of_the_firmware_is_survived(kernel: &str) -> Result<()> {
    let mut bench = Bench::boot(kernel, "faults")?;
    let job = bench.serve(&[])?;
    let expected = bench.ctl("read-token 0 power")?;
    for (fault, figure) in [
        (Fault::Late { millis: 30 }, None),
        (Fault::Hang, Some("hangs")),
        (Fault::HangHard, Some("resets")),
        (Fault::Late { millis: 300 }, Some("retries")),
        (Fault::Corrupt, Some("corrupt")),
        (Fault::Duplicate, None),
        (Fault::LostInterrupt, None),
        (Fault::SpuriousInterrupts { count: 50 }, None),
    ] {
        let before = figure.map(|name| bench.smi(name)).transpose()?;
        bench.simulator.inject(fault)?;
        let value = bench.ctl("read-token 0 power").with_context(|| format!("{fault:?}"))?;
        ensure!(value == expected, "{fault:?}: {value}, not {expected}");
        if let (Some(name), Some(before)) = (figure, before) {
            ensure!(bench.smi(name)? > before, "{fault:?} is not among the {name}");
        }
    }
    bench.simulator.inject(Fault::Fail)?;
    ensure!(bench.try_ctl("verify")?.is_err(), "a fault was not reported");

    bench.simulator.inject(Fault::Dead { millis: 60_000 })?;
    let error = bench.try_ctl("verify")?.err().context("a dead firmware answered")?;
    ensure!(error.contains("hangs"), "{error}");
    bench.simulator.inject(Fault::Clear)?;
    bench.eventually("recovery", |bench| Ok(bench.try_ctl("verify")?.is_ok()))?;

    bench.simulator.inject(Fault::Heat {
        sensor: 2,
        to: 95_000,
        per_second: 100_000,
    })?;
    bench.eventually("blocking", |bench| {
        Ok(bench.try_ctl("verify")?.is_err_and(|error| error.contains("too hot")))
    })?;
    bench.simulator.inject(Fault::Clear)?;
    bench.eventually("cooling", |bench| Ok(bench.try_ctl("verify")?.is_ok()))?;
    bench.simulator.inject(Fault::StuckSensor { sensor: 1 })?;
    bench.eventually("distrust", |bench| Ok(bench.try_ctl("verify")?.is_err()))?;
    bench.simulator.inject(Fault::Clear)?;
    bench.eventually("trust", |bench| Ok(bench.try_ctl("verify")?.is_ok()))?;

    bench.simulator.inject(Fault::Unplug { device: 40 })?;
    bench.eventually("removal", |bench| Ok(bench.ctl("show 3 4")?["state"] == "offline"))?;
    bench.simulator.inject(Fault::Plug { device: 40 })?;
    bench.eventually("return", |bench| Ok(bench.ctl("show 3 4")?["state"] == "ready"))?;
    bench.end(job)
}

#[lab_guest::test(timeout = 240)]
fn the_emergency_stop_works_while_an_operation_hangs(kernel: &str) -> Result<()> {
    let mut bench = Bench::boot(kernel, "estop")?;
    let job = bench.serve(&[])?;
    let line = format!("{}/dsmilctl --json --socket {SOCKET} verify", bench.bin);
    // What is measured is a few instructions of an emulated processor, which its host may put off in their midst: the
    // bound is on the stop in the middle of several.
    let mut safe_after = Vec::new();
    for round in 0..STOPS {
        if round > 0 {
            bench.ctl("resume")?;
        }
        bench.simulator.inject(Fault::HangHard)?;
        let hanging = bench.machine.start(&Command::shell(&line))?;
        let stopped = bench.ctl("estop test")?;
        ensure!(stopped["acknowledged"] == true, "{stopped}");
        let took = stopped["safe_after_us"].as_u64();
        safe_after.push(took.context("a stop that does not say how long it took")?);
        bench.machine.wait(hanging, LIMIT, |_, _| {});
        let error = bench
            .try_ctl("verify")?
            .err()
            .context("an operation passed the emergency stop")?;
        ensure!(error.contains("emergency stop"), "{error}");
    }
    safe_after.sort_unstable();
    ensure!(safe_after[STOPS / 2] < SAFE_WITHIN_US, "{safe_after:?} µs");
    bench.ctl("resume")?;
    bench.ctl("verify")?;
    bench.end(job)
}

#[lab_guest::test(timeout = 240)]
fn a_driver_process_that_is_killed_in_mid_operation_is_replaced_by_another(kernel: &str) -> Result<()> {
    let mut bench = Bench::boot(kernel, "kill")?;
    let mut job = bench.serve(&[])?;
    bench.ctl("unlock 0x52400000")?;
    bench.ctl("write-token 0 power 77")?;
    for _ in 0..3 {
        bench.simulator.inject(Fault::HangHard)?;
        let line = format!("{}/dsmilctl --json --socket {SOCKET} verify", bench.bin);
        let hanging = bench.machine.start(&Command::shell(&line))?;
        bench.machine.succeed("sleep 0.05; pkill -KILL -x dsmild", LIMIT)?;
        bench.machine.wait(job, LIMIT, |_, _| {});
        bench.machine.wait(hanging, LIMIT, |_, _| {});
        job = bench.serve(&[])?;
        ensure!(bench.ctl("read-token 0 power")?["value"] == 77);
    }
    bench.end(job)
}

#[lab_guest::test(timeout = 240)]
fn a_device_that_is_pulled_under_the_driver_process_is_taken_up_again_when_it_returns(kernel: &str) -> Result<()> {
    let mut bench = Bench::boot(kernel, "pull")?;
    let job = bench.serve(&[])?;
    for _ in 0..3 {
        bench.ctl("verify")?;
        bench
            .machine
            .succeed(&format!("{IVSHMEM}; echo 1 > $p/remove"), LIMIT)?;
        let error = bench
            .try_ctl("verify")?
            .err()
            .context("a device that is gone answered")?;
        ensure!(error.contains("gone"), "{error}");
        bench
            .machine
            .succeed("echo 1 > /sys/bus/pci/rescan; ls /dev/uio0", LIMIT)?;
        bench.eventually("return", |bench| Ok(bench.try_ctl("verify")?.is_ok()))?;
    }
    bench.end(job)
}
