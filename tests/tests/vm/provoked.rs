// SPDX-License-Identifier: MIT OR Apache-2.0

//! Failures provoked for real: each must be seen, with the right class, in time.
//!
//! Every test prints the class and the time from the provocation to the verdict.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::crash::{CrashType, Report};
use lab::vm::Machine;
use lab_guest::protocol::Command;

use crate::Bench;

/// From a panic or oops to the verdict.
const AT_ONCE: Duration = Duration::from_secs(5);
/// On top of a detector's own bound.
const SLACK: Duration = Duration::from_secs(5);
/// For what is over at once.
const SHORT: Duration = Duration::from_secs(30);

/// Runs a shell command that is not expected to end well, and waits for the verdict.
fn provoke(machine: &mut Machine, script: &str, within: Duration) -> Result<(Report, Duration)> {
    let start = Instant::now();
    machine.start(&Command::shell(script))?;
    let report = machine
        .wait_for_report(within)
        .with_context(|| format!("no verdict within {within:?}"))?;
    let took = start.elapsed();
    println!(
        "{}: {} after {:.2} s: {}",
        script.trim(),
        report.verdict.crash,
        took.as_secs_f64(),
        report.verdict.line
    );
    Ok((report, took))
}

fn expect(report: &Report, class: CrashType) -> Result<()> {
    ensure!(
        report.verdict.crash == class,
        "taken for {} instead of {class}:\n{report}",
        report.verdict.crash
    );
    Ok(())
}

#[lab_guest::test]
fn a_panic_through_sysrq_is_a_kernel_panic(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "sysrq")?;
    let mut machine = Machine::boot(&bench.spec)?;
    let bound = AT_ONCE * bench.kernel.id.slowness();
    let (report, took) = provoke(&mut machine, "echo c > /proc/sysrq-trigger", SHORT)?;
    expect(&report, CrashType::KernelPanic)?;
    ensure!(took <= bound, "the verdict took {took:?}, more than {bound:?}");
    Ok(())
}

#[lab_guest::test]
fn a_null_dereference_in_a_watched_module_is_a_module_crash(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "null")?;
    let mut machine = Machine::boot(&bench.spec)?;
    let bound = AT_ONCE * bench.kernel.id.slowness();
    let (report, took) = provoke(&mut machine, &bench.insmod("lab_null_deref"), SHORT)?;
    expect(&report, CrashType::ModuleCrash)?;
    ensure!(
        report.modules.iter().any(|name| name == "lab_null_deref"),
        "blamed {:?}",
        report.modules
    );
    ensure!(took <= bound, "the verdict took {took:?}, more than {bound:?}");
    // The machine itself goes on: that is what makes a graceful recovery possible.
    machine.succeed("true", SHORT)?;
    Ok(())
}

#[lab_guest::test]
fn the_same_crash_in_a_module_nobody_watches_is_a_kernel_bug(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "unwatched")?;
    bench.spec.watched.clear();
    let mut machine = Machine::boot(&bench.spec)?;
    let (report, _) = provoke(&mut machine, &bench.insmod("lab_null_deref"), SHORT)?;
    expect(&report, CrashType::KernelBug)
}

#[lab_guest::test]
fn a_deadlock_is_a_deadlock_within_the_hung_task_bound(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "deadlock")?;
    bench.spec.bounds.hung_task = Duration::from_secs(10) * bench.kernel.id.slowness();
    let mut machine = Machine::boot(&bench.spec)?;
    let bound = bench.spec.bounds.hung_task + SLACK * bench.kernel.id.slowness();
    let (report, took) = provoke(&mut machine, &bench.insmod("lab_deadlock"), bound + SHORT)?;
    expect(&report, CrashType::Deadlock)?;
    ensure!(took <= bound, "the verdict took {took:?}, more than {bound:?}");
    Ok(())
}

#[lab_guest::test]
fn a_spinning_cpu_is_a_system_hang_within_the_soft_lockup_bound(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "spin")?;
    bench.spec.bounds.soft_lockup = Duration::from_secs(10) * bench.kernel.id.slowness().min(3);
    let mut machine = Machine::boot(&bench.spec)?;
    let bound = bench.spec.bounds.soft_lockup + SLACK * bench.kernel.id.slowness();
    let (report, took) = provoke(&mut machine, &bench.insmod("lab_spin"), bound + SHORT)?;
    expect(&report, CrashType::SystemHang)?;
    ensure!(took <= bound, "the verdict took {took:?}, more than {bound:?}");
    Ok(())
}

#[lab_guest::test]
fn a_guest_that_falls_silent_is_a_system_hang_within_the_silence_bound(kernel: &str) -> Result<()> {
    let mut bench = Bench::new(kernel, "silence")?;
    // One CPU, interrupts off: no detector of the guest's own gets to run.
    bench.spec.cpus = 1;
    bench.spec.bounds.silence = Duration::from_secs(5) * bench.kernel.id.slowness();
    let mut machine = Machine::boot(&bench.spec)?;
    let bound = bench.spec.bounds.silence + SLACK * bench.kernel.id.slowness();
    let (report, took) = provoke(
        &mut machine,
        &format!("{} irqs_off=1", bench.insmod("lab_spin")),
        bound + SHORT,
    )?;
    expect(&report, CrashType::SystemHang)?;
    ensure!(took <= bound, "the verdict took {took:?}, more than {bound:?}");
    Ok(())
}

#[lab_guest::test(kernels = "stock")]
fn a_leak_is_a_resource_leak_long_before_memory_runs_out(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "leak")?;
    let mut machine = Machine::boot(&bench.spec)?;
    let calm = machine.wait_for_leak_warning(Duration::from_secs(10));
    ensure!(calm.is_none(), "an idle machine is said to leak: {calm:?}");
    machine.succeed(&bench.insmod("lab_leak"), SHORT)?;
    let start = Instant::now();
    let report = machine
        .wait_for_leak_warning(Duration::from_secs(60))
        .context("no early warning within a minute")?;
    println!(
        "leak: {} after {:.2} s: {}",
        report.verdict.crash,
        start.elapsed().as_secs_f64(),
        report.verdict.line
    );
    expect(&report, CrashType::ResourceLeak)?;
    machine.succeed("rmmod lab_leak", SHORT)?;
    Ok(())
}

#[lab_guest::test(kernels = "debug")]
fn a_leak_is_named_by_kmemleak(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "kmemleak")?;
    let mut machine = Machine::boot(&bench.spec)?;
    machine.succeed(&format!("{} limit_mib=1", bench.insmod("lab_leak")), SHORT)?;
    // Only objects that were not touched for a few seconds are reported, and a trace has names only while the module
    // is loaded.
    let scan = "cd /sys/kernel/debug; sleep 6; echo scan > kmemleak; sleep 6; echo scan > kmemleak; cat kmemleak";
    let leaks = machine.succeed(scan, SHORT * 10)?;
    ensure!(
        leaks.contains("lab_leak"),
        "kmemleak does not name the module:\n{leaks}"
    );
    let report = machine.take_report().context("the console said nothing of the leak")?;
    expect(&report, CrashType::ResourceLeak)
}

#[lab_guest::test(kernels = "debug")]
fn a_use_after_free_is_a_memory_corruption(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "uaf")?;
    let mut machine = Machine::boot(&bench.spec)?;
    let (report, _) = provoke(&mut machine, &bench.insmod("lab_uaf"), SHORT * 4)?;
    expect(&report, CrashType::MemoryCorruption)?;
    ensure!(
        report.verdict.line.contains("KASAN"),
        "not seen by KASAN: {}",
        report.verdict.line
    );
    ensure!(
        report.modules.iter().any(|name| name == "lab_uaf"),
        "blamed {:?}",
        report.modules
    );
    Ok(())
}

#[lab_guest::test(kernels = "debug")]
fn a_lock_inversion_is_a_deadlock_before_it_happens(kernel: &str) -> Result<()> {
    let bench = Bench::new(kernel, "inversion")?;
    let mut machine = Machine::boot(&bench.spec)?;
    let (report, _) = provoke(&mut machine, &bench.insmod("lab_inversion"), SHORT * 4)?;
    expect(&report, CrashType::Deadlock)?;
    ensure!(
        report.verdict.line.contains("circular locking"),
        "not seen by lockdep: {}",
        report.verdict.line
    );
    Ok(())
}
