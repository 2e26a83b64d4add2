// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the process gives up before it serves anybody. In this order, because each step needs what the next takes away:
//!
//! 1. core dumps, which would hold the device's secrets;
//! 2. its user, for one without rights, if one is given: [`privileges`];
//! 3. gaining rights by executing something;
//! 4. the file system, but for the device and what leads to it: [`files`];
//! 5. system calls that serving does not need: [`syscalls`].
//!
//! A step that fails ends the start, except where the kernel does not know it at all; then the log says so.

mod files;
mod privileges;
mod syscalls;

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, setrlimit};

use crate::settings::Settings;

/// See the module.
pub(crate) fn enter(settings: &Settings) -> Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("giving up core dumps")?;
    if let Some(user) = &settings.user {
        privileges::become_user(user).with_context(|| format!("becoming the user {user}"))?;
    }
    nix::sys::prctl::set_no_new_privs().context("giving up new privileges")?;
    if !files::restrict(&settings.device).context("giving up the file system")? {
        tracing::info!("this kernel has no Landlock: the file system is not given up");
    }
    syscalls::restrict().context("giving up system calls")
}
