// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel module `uio_dsmil` inside a lab machine.

use lab_guest::lifecycle;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[lab_guest::test(modules = ["uio_dsmil"])]
fn the_module_reports_its_version_and_state() -> anyhow::Result<()> {
    lifecycle::check_loaded("uio_dsmil", VERSION)
}

#[lab_guest::test]
fn the_module_survives_100_cycles_of_load_and_unload() -> anyhow::Result<()> {
    lifecycle::cycle("uio_dsmil", VERSION, 100)
}

#[lab_guest::test(stress = true, timeout = 600)]
fn the_module_survives_1000_cycles_of_load_and_unload() -> anyhow::Result<()> {
    lifecycle::cycle("uio_dsmil", VERSION, 1000)
}

#[lab_guest::test(modules = ["uio_dsmil"])]
fn the_module_answers_to_the_names_of_the_old_drivers() -> anyhow::Result<()> {
    let aliases = lab_guest::sys::output(
        "modinfo",
        &["-F", "alias", &lab_guest::kmod::path_of("uio_dsmil")?.to_string_lossy()],
    )?;
    for alias in ["dsmil-84dev", "dsmil-72dev"] {
        anyhow::ensure!(
            aliases.lines().any(|line| line == alias),
            "{alias} is not among the aliases:\n{aliases}"
        );
    }
    Ok(())
}

lab_guest::main!();
