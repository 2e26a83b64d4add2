// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ending a filesystem of the kernel in the middle of its work (`ioctl(GOINGDOWN)`, known to ext4, xfs and f2fs).
//!
//! What was answered before is written out first; every call after it fails. That is what the loss of a server means for
//! ours.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};

/// Write out everything first.
const FLUSH: u32 = 0;

nix::ioctl_read!(going_down, b'X', 125, u32);

/// Ends the filesystem mounted on `directory`.
pub(super) fn shut_down(directory: &Path) -> Result<()> {
    let root = File::open(directory).with_context(|| format!("opening {}", directory.display()))?;
    let mut how = FLUSH;
    // SAFETY: the call reads the one number that `how` is, which lives until it returns, and keeps nothing.
    unsafe { going_down(root.as_raw_fd(), &raw mut how) }
        .with_context(|| format!("shutting down the filesystem on {}", directory.display()))?;
    Ok(())
}
