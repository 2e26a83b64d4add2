// SPDX-License-Identifier: MIT OR Apache-2.0

//! The life of a kernel module as tests see it: its version and state machine in sysfs, cycles of load and unload.

use anyhow::{Context, Result, ensure};

use crate::{kmod, sys};

/// Reads an attribute of a loaded module's state machine: `state`, `transitions` or `refused`.
pub fn attribute(module: &str, name: &str) -> Result<String> {
    sys::read(format!("/sys/module/{module}/lifecycle/{name}"))
}

/// Checks what a freshly loaded module says of itself.
pub fn check_loaded(module: &str, version: &str) -> Result<()> {
    let said = sys::read(format!("/sys/module/{module}/version"))?;
    ensure!(said == version, "{module} reports version {said:?}, not {version:?}");
    let state = attribute(module, "state")?;
    ensure!(state == "INITIALIZED", "{module} is {state:?} after loading");
    // UNINITIALIZED → INITIALIZING → INITIALIZED
    let transitions = attribute(module, "transitions")?;
    ensure!(
        transitions == "2",
        "{module} counts {transitions} transitions after loading"
    );
    let refused = attribute(module, "refused")?;
    ensure!(refused == "0", "{module} refused {refused} transitions while loading");
    Ok(())
}

/// Loads, checks and unloads a module `cycles` times; kernel memory must not grow with the cycles.
pub fn cycle(module: &str, version: &str, cycles: u32) -> Result<()> {
    // The first cycles fill caches that stay.
    for _ in 0..10 {
        cycle_once(module, version)?;
    }
    let check = sys::LeakCheck::start()?;
    for _ in 0..cycles {
        cycle_once(module, version)?;
    }
    check
        .finish()
        .with_context(|| format!("after {cycles} cycles of {module}"))
}

fn cycle_once(module: &str, version: &str) -> Result<()> {
    kmod::load(module, "")?;
    check_loaded(module, version)?;
    kmod::unload(module)?;
    ensure!(!kmod::is_loaded(module), "{module} is still there after unloading");
    Ok(())
}
