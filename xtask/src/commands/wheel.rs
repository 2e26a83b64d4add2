// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask wheel`: the Python client as a wheel, built without network by `packaging/python/backend`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::host::command::command;
use lab::host::{cache, workspace};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The wheel is in target/wheel; pip installs it, and Python can use it as it is.
#[derive(Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    let results = workspace::target().join("wheel");
    let again = workspace::target().join("wheel-again");
    let wheel = results.join(build(&results)?);
    ensure!(
        wheel.ends_with(format!("vexfs-{VERSION}-py3-none-any.whl")),
        "packaging/python/pyproject.toml and Cargo.toml are of different versions: {} is not of {VERSION}",
        wheel.display()
    );
    let other = again.join(build(&again)?);
    let bytes = fs::read(&wheel).with_context(|| wheel.display().to_string())?;
    let same = bytes == fs::read(&other).with_context(|| other.display().to_string())?;
    ensure!(same, "{} and {} should be the same", wheel.display(), other.display());
    cache::remove(&again)?;
    // As whoever gets it would.
    let said = command("python3")
        .args([
            "-I",
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); import vexfs; print(vexfs.__version__)",
        ])
        .arg(&wheel)
        .read()
        .context("using the wheel")?;
    ensure!(said.trim() == VERSION, "the wheel says that it is version {said:?}");
    println!("{}", wheel.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds it in an empty directory, and returns its name.
fn build(results: &Path) -> Result<String> {
    cache::remove(results)?;
    fs::create_dir_all(results).with_context(|| format!("making {}", results.display()))?;
    let name = command("python3")
        .args(["-B", "packaging/python/backend/vexfs_build.py"])
        .arg(results)
        .dir(workspace::root())
        .read()
        .context("building the wheel, which needs Python 3.11 or newer")?;
    Ok(name.trim().to_owned())
}
