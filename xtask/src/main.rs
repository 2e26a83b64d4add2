// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask`: the project's one entry point.
//!
//! It builds on a machine that has only Rust, and each command installs the Debian packages it needs before it does
//! anything else. The commands themselves are in [`commands`]; what they are made of is the `lab` library.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    version,
    about = "Show, test, measure and package vexfs-ublk",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what the project does, for real: a machine, modules, a ublk device, fio
    Demo(commands::demo::Arguments),
    /// Run the tests: host, VM, or all that fits in an ordinary run
    Test(commands::test::Arguments),
    /// Check formatting, lints, licences, advisories and kernel code
    Lint(commands::lint::Arguments),
    /// Boot a lab machine and run a command or a shell in it
    Vm(commands::vm::Arguments),
    /// Measure, side by side with peers, in one machine
    Bench(commands::bench::Arguments),
    /// Build the Debian packages
    Deb(commands::deb::Arguments),
    /// Build the Python client as a wheel
    Wheel(commands::wheel::Arguments),
    /// Build the debug kernel (KASAN, lockdep, kmemleak, fault injection)
    KernelDebug(commands::kernel_debug::Arguments),
    #[command(hide = true)]
    Suite(commands::suite::Arguments),
    /// Say what this machine offers, and how to get what it lacks
    Doctor(commands::doctor::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(arguments) => commands::demo::run(&arguments),
        Command::Test(arguments) => commands::test::run(&arguments),
        Command::Lint(arguments) => commands::lint::run(&arguments),
        Command::Vm(arguments) => commands::vm::run(&arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
        Command::Deb(arguments) => commands::deb::run(&arguments),
        Command::Wheel(arguments) => commands::wheel::run(&arguments),
        Command::KernelDebug(arguments) => commands::kernel_debug::run(&arguments),
        Command::Suite(arguments) => commands::suite::run(&arguments),
        Command::Doctor(arguments) => commands::doctor::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
