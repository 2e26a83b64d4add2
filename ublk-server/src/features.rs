// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the ublk driver of this machine can do.

use libublk::ctrl::UblkCtrl;
use libublk::sys;

use crate::control::Control;
use crate::error::Error;

/// Features worth knowing about, as the kernel's documentation calls them.
const NAMES: [(u32, &str); 12] = [
    (sys::UBLK_F_USER_RECOVERY, "USER_RECOVERY"),
    (sys::UBLK_F_USER_RECOVERY_REISSUE, "USER_RECOVERY_REISSUE"),
    (sys::UBLK_F_USER_COPY, "USER_COPY"),
    (sys::UBLK_F_SUPPORT_ZERO_COPY, "SUPPORT_ZERO_COPY"),
    (sys::UBLK_F_AUTO_BUF_REG, "AUTO_BUF_REG"),
    (sys::UBLK_F_PER_IO_DAEMON, "PER_IO_DAEMON"),
    (sys::UBLK_F_BATCH_IO, "BATCH_IO"),
    (sys::UBLK_F_UNPRIVILEGED_DEV, "UNPRIVILEGED_DEV"),
    (sys::UBLK_F_UPDATE_SIZE, "UPDATE_SIZE"),
    (sys::UBLK_F_QUIESCE, "QUIESCE"),
    (sys::UBLK_F_SAFE_STOP_DEV, "SAFE_STOP_DEV"),
    (sys::UBLK_F_NO_AUTO_PART_SCAN, "NO_AUTO_PART_SCAN"),
];

/// `UBLK_F_*` of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// Asks the driver; one that is too old to tell has none. An error says why devices cannot be made.
    pub fn ask() -> Result<Self, Error> {
        // Asked first, since libublk would complain on the standard error.
        drop(Control::open()?);
        Ok(Self::of_driver())
    }

    /// The same of a driver that is known to be there.
    pub(crate) fn of_driver() -> Self {
        Self(UblkCtrl::get_features().unwrap_or(0))
    }

    #[cfg(test)]
    pub(crate) const fn of(bits: u64) -> Self {
        Self(bits)
    }

    /// Whether all of these bits are there.
    pub const fn has(self, flags: u32) -> bool {
        self.0 & flags as u64 == flags as u64
    }

    /// The names of those worth knowing about.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .filter(move |(bit, _)| self.has(*bit))
            .map(|(_, name)| *name)
    }
}

/// The names of what the driver can do. An error says why devices cannot be made.
pub fn names() -> Result<Vec<&'static str>, Error> {
    Ok(Features::ask()?.names().collect())
}
