// SPDX-License-Identifier: MIT OR Apache-2.0

//! Runs a case of a suite in namespaces of its own.
//!
//! ```text
//! runner ── unshare ── the case (PID 1 of its namespace) ── servers, databases, …
//! ```
//!
//! The kernel ends all processes of a PID namespace with its first, drops the mounts of a mount namespace with its last
//! process, and frees loop devices with their last mount. `unshare` is ended with the runner, the case with `unshare`. So
//! nothing is left behind, also when the runner itself is killed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use lab_guest::harness::VERDICT_PREFIX;
use lab_guest::registry::Verdict;

use super::host::run_bounded;
use super::{Outcome, TestResult, tail, verdict_in};
use crate::host::workspace;
use crate::suites::target::On;
use crate::suites::{Case, Settings};

/// How suites are run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The executable and its first arguments that run a case in themselves.
    pub inner: Vec<OsString>,
    /// What is tested.
    pub on: On,
    /// The executable `vexfs-ublk`.
    pub program: PathBuf,
    /// The long run.
    pub full: bool,
    /// See [`Settings::share`].
    pub share: u32,
    /// Whatever is chosen by chance follows from it.
    pub seed: u64,
}

/// Why suites cannot run on this machine, if they cannot.
pub fn lacks(on: On) -> Option<String> {
    let needed: &[&str] = match on {
        On::Fuse => &["/dev/fuse", "/proc/self/ns/pid"],
        On::Module => &["/dev/ublk-control", "/sys/module/vexfs", "/proc/self/ns/pid"],
        On::Reference(_) => &["/dev/loop-control", "/proc/self/ns/pid"],
    };
    if let Some(lacking) = needed.iter().find(|path| !Path::new(path).exists()) {
        return Some(format!(
            "{lacking} is missing: this machine cannot mount what is tested"
        ));
    }
    // Containers often have the devices, and may not mount all the same.
    let attempt = isolated(&["mount", "-t", "tmpfs", "none", "/tmp"].map(OsString::from)).output();
    match attempt {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "this machine lets nobody mount: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("namespaces cannot be made here: {error}")),
    }
}

/// Runs one case.
pub fn run(case: &Case, plan: &Plan) -> Result<TestResult> {
    let name = case.full_name();
    let scratch = workspace::machine_directory(&name.replace("::", "-"));
    fs::create_dir_all(&scratch).with_context(|| format!("making {}", scratch.display()))?;
    let mut command = isolated(&plan.inner);
    command
        .args(["--on", plan.on.name(), "--seed", &plan.seed.to_string()])
        .args(["--share", &plan.share.to_string()])
        .arg("--program")
        .arg(&plan.program)
        .arg("--scratch")
        .arg(&scratch)
        .arg(&name);
    if plan.full {
        command.arg("--stress");
    }
    let start = Instant::now();
    let (output, exit) =
        run_bounded(command, case.limit(plan.full)).with_context(|| format!("running the case {name}"))?;
    let outcome = match verdict_in(&output) {
        Some(verdict) => verdict.into(),
        None => Outcome::Failed(format!("ended without a verdict: {exit}")),
    };
    let said: Vec<&str> = output
        .lines()
        .filter(|line| !line.starts_with(VERDICT_PREFIX))
        .collect();
    let mut output = tail(&said.join("\n"));
    if matches!(outcome, Outcome::Failed(_)) {
        let place = scratch.display();
        output.extend([format!("\nseed {}; its files are in {place}", plan.seed)]);
    } else {
        // Nothing in it is wanted any more; what cannot be removed now is swept by the next run.
        let _left = fs::remove_dir_all(&scratch);
    }
    Ok(TestResult {
        package: "suites".into(),
        name,
        place: plan.on.name().into(),
        outcome,
        took: start.elapsed(),
        output,
        measurements: Vec::new(),
    })
}

/// A command that runs `inner` as root in mount and PID namespaces that live as long as it and not longer than this
/// process.
pub fn isolated(inner: &[OsString]) -> Command {
    let root = nix::unistd::geteuid().is_root();
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.args(["--", "env"]);
        // What finds the user's tools and caches.
        for name in [
            "PATH",
            "HOME",
            "CARGO",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_TARGET_DIR",
            "VEXFS_LAB_CACHE",
        ] {
            if let Some(value) = std::env::var_os(name) {
                let mut pair = OsString::from(name);
                pair.push("=");
                pair.push(value);
                command.arg(pair);
            }
        }
    }
    command
        .args([
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .args(["--mount-proc", "--"])
        .args(inner);
    command
}

/// What runs a case once it is in its namespaces: prints its verdict as the last line, and says whether it passed.
pub fn run_inside(name: &str, settings: Settings) -> Result<bool> {
    let verdict = crate::suites::run(name, settings);
    let json = serde_json::to_string(&verdict).context("writing the verdict")?;
    println!("{VERDICT_PREFIX}{json}");
    Ok(verdict == Verdict::Passed)
}
