// SPDX-License-Identifier: MIT OR Apache-2.0

//! The agent's binary: built statically, once per change, beside the ordinary build.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::host::command::command;
use crate::host::{cache, workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the agent if it changed, and says where it is.
pub(super) fn ensure() -> Result<PathBuf> {
    // Its own target directory: other flags in the shared one would rebuild everything on every switch.
    let directory = workspace::target().join("lab-agent");
    let _lock = cache::lock("agent")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    command(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "lab-guest",
            "--bin",
            "lab-agent",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&directory)
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-C target-feature=+crt-static",
        )
        .dir(workspace::root())
        .run()
        .context("building the guest's agent")?;
    Ok(directory.join(TARGET).join("release/lab-agent"))
}
