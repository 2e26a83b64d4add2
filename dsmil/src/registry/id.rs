// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of devices: groups of 12, seven of them or six in legacy mode.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Positions in a group.
pub const POSITIONS: u8 = 12;
/// Devices of the larger mode.
pub const DEVICES: usize = 84;

/// How many groups there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// 7 groups, 84 devices.
    Full,
    /// 6 groups, 72 devices, as older firmware has.
    Legacy,
}

impl Mode {
    /// The mode of a firmware with so many groups.
    pub fn from_groups(groups: u32) -> Option<Self> {
        match groups {
            7 => Some(Self::Full),
            6 => Some(Self::Legacy),
            _ => None,
        }
    }

    /// Groups.
    pub fn groups(self) -> u8 {
        match self {
            Self::Full => 7,
            Self::Legacy => 6,
        }
    }

    /// Devices.
    pub fn devices(self) -> usize {
        usize::from(self.groups() * POSITIONS)
    }

    /// The device at a position of a group.
    pub fn device(self, group: u8, position: u8) -> Result<DeviceId> {
        if group >= self.groups() || position >= POSITIONS {
            return Err(Error::NoSuchDevice {
                group,
                position,
                groups: self.groups(),
            });
        }
        Ok(DeviceId(group * POSITIONS + position))
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = DeviceId> {
        (0..self.groups() * POSITIONS).map(DeviceId)
    }
}

/// A device's number: 12 × group + position. It exists in some mode; [`Mode::device`] is the only way to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct DeviceId(u8);

impl DeviceId {
    /// Its group.
    pub fn group(self) -> u8 {
        self.0 / POSITIONS
    }

    /// Its position in the group.
    pub fn position(self) -> u8 {
        self.0 % POSITIONS
    }

    /// Its number among all.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The same, for indexing.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.group(), self.position())
    }
}
