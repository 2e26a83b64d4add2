// SPDX-License-Identifier: MIT OR Apache-2.0

//! The life of a kernel module as tests see it: its version and state machine in sysfs, cycles of load and unload.

use anyhow::{Result, ensure};

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
    const WARM_UP: u32 = 10;
    // Per-CPU caches and deferred frees move by this much without any leak; a leaked kobject per cycle would not fit.
    const NOISE: u64 = 4 << 20;
    let mut before = 0;
    for cycle in 0..WARM_UP + cycles {
        if cycle == WARM_UP {
            before = sys::slab_bytes()?;
        }
        kmod::load(module, "")?;
        check_loaded(module, version)?;
        kmod::unload(module)?;
        ensure!(!kmod::is_loaded(module), "{module} is still there after unloading");
    }
    let after = sys::slab_bytes()?;
    ensure!(
        after < before + NOISE,
        "kernel memory grew from {before} to {after} bytes over {cycles} cycles of {module}"
    );
    if let Some(leaks) = sys::kmemleak()? {
        ensure!(!leaks.contains(module), "kmemleak after {cycles} cycles:\n{leaks}");
    }
    Ok(())
}
