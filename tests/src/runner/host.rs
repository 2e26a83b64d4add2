// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests that run on the host: ordinary Rust tests, documentation tests, and lab tests that drive machines.

use std::collections::BTreeMap;
use std::io::{Read, Write, stdout};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lab_guest::measure::Measurement;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Case, Outcome, TestResult, tail, verdict_in};
use crate::host::workspace;
use crate::kernel::KernelId;
use crate::vm::EMULATOR_FAULT_SEEN;

/// Bound on one executable of ordinary tests.
const EXECUTABLE_LIMIT: Duration = Duration::from_secs(20 * 60);
/// What driving a machine may take on top of the test's own bound: kernels to boot, modules to build.
const DRIVING_ALLOWANCE: Duration = Duration::from_secs(180);

/// Runs ordinary tests, all from one executable, in one process.
pub fn run_executable(cases: &[&Case], mut each: impl FnMut(TestResult)) -> Result<()> {
    let Some(first) = cases.first() else { return Ok(()) };
    let mut command = Command::new(&first.executable);
    command.arg("--exact").args(cases.iter().map(|case| &case.name));
    // Cargo runs a package's tests in the package's folder, and says so; what it said to this program is about another.
    command
        .current_dir(&first.folder)
        .env("CARGO_MANIFEST_DIR", &first.folder);
    let start = Instant::now();
    let (output, exit) =
        run_bounded(command, EXECUTABLE_LIMIT).with_context(|| format!("running the tests of {}", first.package))?;
    let took = start.elapsed() / u32::try_from(cases.len()).unwrap_or(1);
    let seen = libtest_outcomes(&output);
    for case in cases {
        let outcome = seen
            .get(case.name.as_str())
            .cloned()
            .unwrap_or_else(|| Outcome::Crashed(format!("the test executable ended ({exit}) before this test did")));
        let own = section(&output, &case.name).unwrap_or(&output);
        each(result(&case.package, &case.name, "host", outcome, took, own));
    }
    Ok(())
}

/// Runs the documentation tests of the whole workspace.
pub fn run_doc_tests(mut each: impl FnMut(TestResult)) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["test", "--workspace", "--doc", "--quiet", "--", "--format", "pretty"])
        .current_dir(workspace::root());
    let start = Instant::now();
    let (output, exit) = run_bounded(command, EXECUTABLE_LIMIT).context("running the documentation tests")?;
    let mut outcomes = libtest_outcomes(&output);
    if outcomes.is_empty() && exit != "0" {
        outcomes.insert("all", Outcome::Failed(format!("cargo test --doc ended with {exit}")));
    }
    let took = start.elapsed() / u32::try_from(outcomes.len().max(1)).unwrap_or(1);
    for (name, outcome) in &outcomes {
        let own = section(&output, name).unwrap_or(&output);
        each(result("documentation", name, "host", outcome.clone(), took, own));
    }
    Ok(())
}

/// Runs a lab test that drives machines with this kernel. When emulation is what made it fail, its repetition counts.
pub fn run_driver(case: &Case, kernel: KernelId) -> Result<TestResult> {
    let (result, output) = drive(case, kernel)?;
    if result.outcome == Outcome::Passed || !output.contains(EMULATOR_FAULT_SEEN) {
        return Ok(result);
    }
    println!(
        "{}: {EMULATOR_FAULT_SEEN}, once more after\n{}",
        case.full_name(),
        tail(&output)
    );
    Ok(drive(case, kernel)?.0)
}

fn drive(case: &Case, kernel: KernelId) -> Result<(TestResult, String)> {
    let bound = case
        .lab
        .as_ref()
        .map_or(Duration::from_secs(60), |info| Duration::from_secs(info.timeout));
    let limit = bound * kernel.slowness() + DRIVING_ALLOWANCE;
    // Somebody asked for just that one, and watches it.
    let shown = case.lab.as_ref().is_some_and(|info| !info.filter_word.is_empty());
    let mut command = Command::new(&case.executable);
    command
        .args(["--lab-run", &case.name, "--kernel", kernel.name()])
        .current_dir(workspace::root());
    let start = Instant::now();
    let show = move |bytes: &[u8]| {
        if shown {
            let mut screen = stdout().lock();
            // Whoever looks at it may have gone.
            let _unseen = screen.write_all(bytes).and_then(|()| screen.flush());
        }
    };
    let (output, exit) = run_watched(command, limit, show).with_context(|| format!("running {}", case.full_name()))?;
    let outcome = match verdict_in(&output) {
        Some(verdict) => verdict.into(),
        None => Outcome::Failed(format!("ended without a verdict: {exit}")),
    };
    let (measurements, output) = Measurement::split(&output);
    let result = TestResult {
        measurements,
        ..result(
            &case.package,
            &case.name,
            kernel.name(),
            outcome,
            start.elapsed(),
            &output,
        )
    };
    Ok((result, output))
}

/// A result that keeps the output only where somebody will want to read it.
fn result(package: &str, name: &str, place: &str, outcome: Outcome, took: Duration, output: &str) -> TestResult {
    let output = if outcome == Outcome::Passed {
        String::new()
    } else {
        tail(output)
    };
    TestResult {
        package: package.into(),
        name: name.into(),
        place: place.into(),
        outcome,
        took,
        output,
        measurements: Vec::new(),
    }
}

/// Runs a command in a process group of its own; ends the group after `limit`. Returns both streams and how it ended.
pub(super) fn run_bounded(command: Command, limit: Duration) -> Result<(String, String)> {
    run_watched(command, limit, |_| {})
}

/// The same; `each` gets what is printed as it comes.
fn run_watched(
    mut command: Command,
    limit: Duration,
    each: impl Fn(&[u8]) + Send + 'static,
) -> Result<(String, String)> {
    use std::os::unix::process::CommandExt;

    let (mut reader, writer) = std::io::pipe().context("making a pipe")?;
    let errors = writer.try_clone().context("copying a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(errors)
        .process_group(0)
        .spawn()?;
    // The builder keeps the pipe's writing ends; while it lives the reader never sees the end.
    drop(command);
    let collector = std::thread::spawn(move || {
        let mut output = Vec::new();
        let mut piece = vec![0; 64 << 10];
        // What was read before an error is all there is to show.
        while let Ok(length @ 1..) = reader.read(&mut piece) {
            let bytes = piece.get(..length).unwrap_or_default();
            each(bytes);
            output.extend_from_slice(bytes);
        }
        String::from_utf8_lossy(&output).into_owned()
    });
    let deadline = Instant::now() + limit;
    let exit = loop {
        if let Some(status) = child.try_wait()? {
            break status
                .code()
                .map_or_else(|| status.to_string(), |code| code.to_string());
        }
        if Instant::now() > deadline {
            break format!("no end within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    // Whatever of the group is left must not hold the pipe open, nor outlive its test.
    let _gone = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
    child.wait()?;
    Ok((collector.join().unwrap_or_default(), exit))
}

/// Outcomes in libtest's pretty output: lines `test NAME ... ok`, the result possibly after output of the test's own.
fn libtest_outcomes(output: &str) -> BTreeMap<&str, Outcome> {
    let mut outcomes = BTreeMap::new();
    for line in output.lines() {
        let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) else {
            continue;
        };
        // `test name - should panic ... ok`
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        let outcome = match result {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed("see its output".into()),
            ignored if ignored.starts_with("ignored") => {
                let reason = ignored.trim_start_matches("ignored").trim_start_matches(", ");
                Outcome::Skipped(if reason.is_empty() {
                    "marked #[ignore]".into()
                } else {
                    reason.to_owned()
                })
            }
            _ => continue,
        };
        outcomes.insert(name, outcome);
    }
    outcomes
}

/// What libtest shows of one failed test: from its heading to the next one or to the list of failures.
fn section<'a>(output: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = output.split_once(&format!("---- {name} stdout ----\n"))?;
    let end = ["\n---- ", "\nfailures:\n"]
        .iter()
        .filter_map(|mark| rest.find(mark))
        .min();
    rest.get(..end.unwrap_or(rest.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_rust_tests_is_understood() {
        let output = "running 4 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored, needs a printer\n\
                      test e - should panic ... ok\ntest result: FAILED. 2 passed; 1 failed\n";
        let outcomes = libtest_outcomes(output);
        assert_eq!(outcomes["a::b"], Outcome::Passed);
        assert_eq!(outcomes["c"], Outcome::Failed("see its output".into()));
        assert_eq!(outcomes["d"], Outcome::Skipped("needs a printer".into()));
        assert_eq!(outcomes["e"], Outcome::Passed);
        assert_eq!(outcomes.len(), 4);
    }

    #[test]
    fn a_failed_test_shows_its_own_output_only() {
        let output =
            "failures:\n\n---- a stdout ----\none\ntwo\n\n---- b stdout ----\nthree\n\nfailures:\n    a\n    b\n";
        assert_eq!(section(output, "a"), Some("one\ntwo\n"));
        assert_eq!(section(output, "b"), Some("three\n"));
        assert_eq!(section(output, "c"), None);
    }

    #[test]
    fn a_command_that_does_not_end_is_ended_with_its_children() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo before; sleep 60 & sleep 60"]);
        let start = Instant::now();
        let (output, exit) = run_bounded(command, Duration::from_millis(300)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!((output.as_str(), exit.contains("no end")), ("before\n", true));
    }
}
