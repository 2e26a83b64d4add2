// SPDX-License-Identifier: MIT OR Apache-2.0

//! The life of a device.
//!
//! ```text
//! OFFLINE ──attach──▶ INITIALIZING ──initialized──▶ READY ◀──▶ ACTIVE     (activate, deactivate)
//!    ▲                  ▲      │                      │           │
//!    │                reset   fail                  lock/unlock  lock, fail
//!  remove               │      ▼                      ▼           ▼
//! (from all)          ERROR ◀────────fail──────────  LOCKED / ERROR
//! ```
//!
//! [`State::after`] is the whole truth; it is compared with a table in the tests, and the typestate in
//! [`super::device`] offers the same steps to code that knows the state when it is compiled.

use serde::{Deserialize, Serialize};

/// What a device is. The numbers are part of the C interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum State {
    /// Not there.
    Offline = 0,
    /// There, and being looked at.
    Initializing = 1,
    /// Usable.
    Ready = 2,
    /// In use.
    Active = 3,
    /// Broken.
    Error = 4,
    /// Usable again only after it was unlocked.
    Locked = 5,
}

/// What happens to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was plugged in.
    Attach,
    /// It answered as it should.
    Initialized,
    /// Somebody wants it.
    Activate,
    /// Nobody wants it any more.
    Deactivate,
    /// It broke.
    Fail,
    /// A broken one is tried again.
    Reset,
    /// It shall not be used.
    Lock,
    /// It may be used again.
    Unlock,
    /// It was pulled.
    Remove,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Offline,
        Self::Initializing,
        Self::Ready,
        Self::Active,
        Self::Error,
        Self::Locked,
    ];

    /// What a device in this state becomes; `None` if the change is not possible in it.
    pub fn after(self, change: Change) -> Option<Self> {
        match (self, change) {
            (Self::Offline, Change::Attach) | (Self::Error, Change::Reset) => Some(Self::Initializing),
            (Self::Initializing, Change::Initialized)
            | (Self::Active, Change::Deactivate)
            | (Self::Locked, Change::Unlock) => Some(Self::Ready),
            (Self::Ready, Change::Activate) => Some(Self::Active),
            (Self::Ready | Self::Active, Change::Lock) => Some(Self::Locked),
            (Self::Initializing | Self::Ready | Self::Active | Self::Locked, Change::Fail) => Some(Self::Error),
            (Self::Initializing | Self::Ready | Self::Active | Self::Error | Self::Locked, Change::Remove) => {
                Some(Self::Offline)
            }
            _ => None,
        }
    }
}

impl Change {
    /// All changes.
    pub const ALL: [Self; 9] = [
        Self::Attach,
        Self::Initialized,
        Self::Activate,
        Self::Deactivate,
        Self::Fail,
        Self::Reset,
        Self::Lock,
        Self::Unlock,
        Self::Remove,
    ];
}
