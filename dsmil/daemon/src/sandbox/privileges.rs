// SPDX-License-Identifier: MIT OR Apache-2.0

//! Becoming a user without rights, for good.

use std::ffi::CString;

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, getresuid, initgroups, setresgid, setresuid};

/// Becomes a user with their groups; there is no way back.
pub(super) fn become_user(name: &str) -> Result<()> {
    let user = User::from_name(name)?.context("there is no such user")?;
    initgroups(&CString::new(name)?, user.gid).context("taking the user's groups")?;
    setresgid(user.gid, user.gid, user.gid).context("taking the user's group")?;
    setresuid(user.uid, user.uid, user.uid).context("taking the user's number")?;
    let now = getresuid()?;
    ensure!(
        now.real == user.uid && now.effective == user.uid && now.saved == user.uid,
        "the kernel did not change the user"
    );
    Ok(())
}
