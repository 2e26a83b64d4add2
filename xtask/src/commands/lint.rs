// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask lint`: everything that can be said about the sources without running them.
//!
//! Every check runs, whatever the ones before it found.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use lab::host::{apt, cache, command, workspace};
use lab::kernel::{self, KernelId, modules};
use lab::runner::discover::cargo;

/// The checker of licences and advisories, at the version it was set up with.
const CARGO_DENY: &str = "0.20.2";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Leave out what needs a kernel tree: building the modules with W=1, and sparse
    #[arg(long)]
    no_kernel: bool,
    /// Leave out cargo-deny, which needs the network for its advisory database
    #[arg(long)]
    no_deny: bool,
}

type Check = (&'static str, fn() -> Result<()>);

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    apt::ensure(apt::UBLK_BUILD)?;
    let mut checks: Vec<Check> = vec![
        ("format", format),
        ("clippy", clippy),
        ("licence headers", headers),
        ("kernel style", kernel_style),
    ];
    if !arguments.no_deny {
        checks.push(("licences and sources", deny));
    }
    if !arguments.no_kernel {
        checks.push(("kernel modules", kernel_modules));
    }
    let mut failed = 0;
    for (name, check) in checks {
        match check() {
            Ok(()) => println!("ok   {name}"),
            Err(error) => {
                failed += 1;
                println!("FAIL {name}\n{error:#}");
            }
        }
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn format() -> Result<()> {
    cargo().args(["fmt", "--all", "--check"]).run()
}

fn clippy() -> Result<()> {
    cargo()
        .args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ])
        .run()
}

fn deny() -> Result<()> {
    let tool = cache::entry(&format!("tools/cargo-deny-{CARGO_DENY}"), |directory| {
        cargo()
            .args([
                "install",
                "--quiet",
                "--locked",
                "--version",
                CARGO_DENY,
                "cargo-deny",
                "--root",
            ])
            .arg(directory)
            .run_shown()
    })?;
    command::command(tool.join("bin/cargo-deny"))
        .args(["--workspace", "check", "licenses", "bans", "sources"])
        .dir(workspace::root())
        .run()
}

/// Files that git tracks or would track, with their contents.
fn sources(endings: &[&str]) -> Result<Vec<(String, String)>> {
    let listing = command::command("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .dir(workspace::root())
        .read()?;
    let wanted = listing
        .lines()
        .filter(|path| endings.iter().any(|ending| path.ends_with(ending)));
    let existing = wanted.filter(|path| workspace::root().join(path).is_file());
    existing
        .map(|path| {
            let text = fs::read_to_string(workspace::root().join(path)).with_context(|| format!("reading {path}"))?;
            Ok((path.to_owned(), text))
        })
        .collect()
}

/// Every source file says its licence in its first lines; kernel code says GPL-2.0-only, the rest MIT OR Apache-2.0. A header
/// of both says both.
fn headers() -> Result<()> {
    let mut wrong = Vec::new();
    for (path, text) in sources(&[".rs", ".c", ".h", "Kbuild", "Makefile", ".sh", "debug.config"])? {
        let licence = if path.contains("/kernel/") && Path::new(&path).extension().is_none_or(|end| end != "rs") {
            "GPL-2.0-only"
        } else {
            "MIT OR Apache-2.0"
        };
        let says = |line: &str| {
            let found = line.split_once("SPDX-License-Identifier: ");
            found.is_some_and(|(_, found)| found.contains(licence))
        };
        if !text.lines().take(2).any(says) {
            wrong.push(format!("{path}: the first lines do not name the licence `{licence}`"));
        }
    }
    fail_if_any(&wrong)
}

/// What checkpatch is most often right about, checked without a kernel tree.
fn kernel_style() -> Result<()> {
    let mut wrong = Vec::new();
    for (path, text) in sources(&[".c", ".h"])? {
        if !path.contains("/kernel/") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let mut complain = |what: &str| wrong.push(format!("{path}:{}: {what}", number + 1));
            if line.ends_with([' ', '\t']) {
                complain("white space at the end of the line");
            }
            if line.starts_with("    ") {
                complain("indented with spaces: the kernel indents with tabs");
            }
            if line.chars().map(|c| if c == '\t' { 8 } else { 1 }).sum::<usize>() > 100 {
                complain("longer than 100 columns");
            }
            if line.trim_start().starts_with("//") && !line.contains("SPDX") {
                complain("a // comment: the kernel writes /* */");
            }
            if line.contains("LINUX_VERSION_CODE") && !path.ends_with("compat.h") {
                complain("a kernel version outside compat.h");
            }
        }
    }
    fail_if_any(&wrong)
}

/// The modules build for every stock kernel with W=1, and sparse has nothing to say.
fn kernel_modules() -> Result<()> {
    apt::ensure(apt::LAB)?;
    for id in KernelId::STOCK {
        let kernel = kernel::ensure(id, false)?;
        modules::ensure(&kernel)?;
        // Debian's headers of 7.x lack the script through which the kernel's build calls sparse.
        if id == KernelId::Lts {
            modules::sparse(&kernel)?;
        }
    }
    Ok(())
}

fn fail_if_any(wrong: &[String]) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}
