// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask kernel-debug`: the kernel with every checker on.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use lab::host::apt;
use lab::kernel::{self, KernelId, modules};

#[derive(Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    apt::ensure(apt::LAB)?;
    let kernel = kernel::ensure(KernelId::Debug, false)?;
    let built = modules::ensure(&kernel)?;
    println!(
        "{} in {}; modules in {}",
        kernel.release,
        kernel.image.display(),
        built.display()
    );
    println!("boot it:  cargo xtask vm --kernel debug --shell");
    println!("test it:  cargo xtask test --vm --kernel debug");
    Ok(ExitCode::SUCCESS)
}
