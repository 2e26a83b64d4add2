// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tests that misbehave on purpose, for the tests of the runner. `kernels = "none"` keeps them out of ordinary runs.

use anyhow::Result;
use lab_guest::{kmod, sys};

#[lab_guest::test(kernels = "none")]
fn a_passes() {}

#[lab_guest::test(kernels = "none")]
fn b_fails() -> Result<()> {
    anyhow::bail!("as intended")
}

#[lab_guest::test(kernels = "none")]
fn c_is_skipped() -> Result<()> {
    lab_guest::skip!("nothing to do");
}

/// Leaves a warning on the console and a module behind: the machine can be mended without a restart.
#[lab_guest::test(kernels = "none", modules = ["vexfs"])]
fn d_damages_gently() -> Result<()> {
    // A failure on the console, as the kernel would print it: a real one would not always be mendable.
    sys::write("/dev/kmsg", "<4>WARNING: CPU: 0 PID: 1 at fixture.c:1 fixture+0x1/0x2")?;
    kmod::load("lab_leak", "limit_mib=1")
}

#[lab_guest::test(kernels = "none")]
fn e_passes_after_damage() -> Result<()> {
    anyhow::ensure!(!kmod::is_loaded("lab_leak"), "the recovery left a module behind");
    Ok(())
}

#[lab_guest::test(kernels = "none")]
fn f_panics_the_kernel() -> Result<()> {
    kmod::load("lab_panic", "")
}

#[lab_guest::test(kernels = "none")]
fn g_passes_after_a_panic() {}

#[lab_guest::test(kernels = "none", timeout = 2)]
fn h_never_ends() {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[lab_guest::test(kernels = "none")]
fn i_passes_at_last() {}

// Machines with such a disk cannot be made.

#[lab_guest::test(kernels = "none", disks = ["of-no-size"])]
fn j_finds_no_machine() {}

#[lab_guest::test(kernels = "none", disks = ["of-no-size"])]
fn k_finds_no_machine_either() {}

#[lab_guest::test(kernels = "none", disks = ["of-no-size"])]
fn l_is_not_tried_any_more() {}
