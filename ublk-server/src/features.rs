// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the ublk driver of this machine can do.

use libublk::ctrl::UblkCtrl;
use libublk::sys;

use crate::control::Control;
use crate::error::Error;

/// Features worth knowing about, as the kernel's documentation calls them.
const NAMES: [(u32, &str); 8] = [
    (sys::UBLK_F_USER_RECOVERY, "USER_RECOVERY"),
    (sys::UBLK_F_USER_RECOVERY_REISSUE, "USER_RECOVERY_REISSUE"),
    (sys::UBLK_F_USER_COPY, "USER_COPY"),
    (sys::UBLK_F_SUPPORT_ZERO_COPY, "SUPPORT_ZERO_COPY"),
    (sys::UBLK_F_AUTO_BUF_REG, "AUTO_BUF_REG"),
    (sys::UBLK_F_UNPRIVILEGED_DEV, "UNPRIVILEGED_DEV"),
    (sys::UBLK_F_UPDATE_SIZE, "UPDATE_SIZE"),
    (sys::UBLK_F_QUIESCE, "QUIESCE"),
];

/// The names of what the driver can do; none if it is too old to tell. An error says why devices cannot be made.
pub fn names() -> Result<Vec<&'static str>, Error> {
    // Asked first, since libublk would complain on the standard error.
    drop(Control::open()?);
    let bits = UblkCtrl::get_features().unwrap_or(0);
    let has = |bit: u32| bits & u64::from(bit) != 0;
    Ok(NAMES
        .iter()
        .filter(|(bit, _)| has(*bit))
        .map(|(_, name)| *name)
        .collect())
}
