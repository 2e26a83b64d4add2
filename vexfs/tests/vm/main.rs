// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel module `vexfs` and pools on block devices, inside lab machines.

mod compiled;
mod images;
mod interfaces;
mod listed;
mod mounted;
mod pool;
mod posted;
mod query;
mod served;
mod storms;
mod syscalls;
mod unanswered;

use lab_guest::lifecycle;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[lab_guest::test(modules = ["vexfs"])]
fn the_module_reports_its_version_and_state() -> anyhow::Result<()> {
    lifecycle::check_loaded("vexfs", VERSION)
}

#[lab_guest::test(timeout = 180)]
fn the_module_survives_100_cycles_of_load_and_unload() -> anyhow::Result<()> {
    lifecycle::cycle("vexfs", VERSION, 100)
}

#[lab_guest::test(stress = true, timeout = 1800)]
fn the_module_survives_1000_cycles_of_load_and_unload() -> anyhow::Result<()> {
    lifecycle::cycle("vexfs", VERSION, 1000)
}

#[lab_guest::test]
fn the_state_machine_allows_exactly_its_transitions_and_one_winner_of_a_race() -> anyhow::Result<()> {
    // The module checks itself while it loads, and refuses to load at the first transition that is not as it should be.
    lab_guest::kmod::load("lab_lifecycle", "")?;
    lab_guest::kmod::unload("lab_lifecycle")
}

lab_guest::main!();
