// SPDX-License-Identifier: MIT OR Apache-2.0

//! Does the kernel module load, say what it should of itself, and unload?

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};

use crate::report::Report;

const SYSFS: &str = "/sys/module/uio_dsmil";

#[derive(Args)]
#[expect(clippy::doc_markdown, reason = "shown on the command line as it is")]
pub(crate) struct Arguments {
    /// The module, uio_dsmil.ko; the module uio must be loaded
    module: PathBuf,
    /// Its parameters, as on insmod's command line
    #[arg(long, default_value = "")]
    parameters: String,
    /// How often to load and unload it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    cycles: u32,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<ExitCode> {
    if Path::new(SYSFS).exists() {
        bail!("uio_dsmil is loaded already: unload it first");
    }
    let mut report = Report::default();
    let mut done = 0;
    let outcome = (0..arguments.cycles).try_for_each(|_| {
        cycle(arguments)?;
        done += 1;
        anyhow::Ok(())
    });
    report.check(
        "loads, is INITIALIZED in its version with its five parameters, unloads",
        outcome
            .map(|()| format!("{done} times"))
            .with_context(|| format!("cycle {} of {}", done + 1, arguments.cycles)),
    );
    Ok(report.finish(json))
}

fn cycle(arguments: &Arguments) -> Result<()> {
    let path = &arguments.module;
    let file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let parameters = CString::new(arguments.parameters.as_str()).context("a parameter holds a NUL byte")?;
    finit_module(file, &parameters, ModuleInitFlags::empty()).context("loading")?;
    let checked = check();
    delete_module(c"uio_dsmil", DeleteModuleFlags::O_NONBLOCK).context("unloading")?;
    ensure!(!Path::new(SYSFS).exists(), "it is still there after unloading");
    checked
}

fn check() -> Result<()> {
    let expect = |file: &str, wanted: &str| {
        let path = Path::new(SYSFS).join(file);
        let found = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            found.trim_end() == wanted,
            "{file} is {:?}, not {wanted:?}",
            found.trim_end()
        );
        Ok(())
    };
    expect("version", env!("CARGO_PKG_VERSION"))?;
    expect("lifecycle/state", "INITIALIZED")?;
    for parameter in ["base", "debug", "irq", "ports", "size"] {
        let path = Path::new(SYSFS).join("parameters").join(parameter);
        ensure!(path.exists(), "it has no parameter {parameter}");
    }
    Ok(())
}
