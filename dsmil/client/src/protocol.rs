// SPDX-License-Identifier: MIT OR Apache-2.0

//! The protocol, version [`VERSION`].
//!
//! The server speaks first: a [`Greeting`]. Then the client sends [`Request`]s, one a line, and gets one [`Reply`] each, in
//! the same order. After [`Request::Watch`] the server sends replies with events until the connection ends.
//!
//! A line is at most [`LINE_LIMIT`] bytes. Requests have no optional parts: a field that the server does not know is an
//! error, so a newer client is never half understood. Replies may gain fields within a version.
//!
//! Values of replies, by request: [`Request::List`]: [`Device`]s; [`Request::Show`], [`Request::Activate`],
//! [`Request::Deactivate`]: a [`Device`]; [`Request::ReadToken`], [`Request::Verify`]: [`Word`];
//! [`Request::Thermal`]: [`Thermal`]; [`Request::Stop`]: [`Stopped`]; [`Request::Events`] and [`Request::Watch`]: JSON
//! objects with `number` and `event`; [`Request::Status`]: [`Status`]; [`Request::Metrics`]: [`Text`]; others: null.

use dsmil::driver::Telemetry;
use dsmil::registry::Mode;
use dsmil::smi::TokenPosition;
use dsmil::thermal::{Level, Sensor, Thresholds};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version that both sides must agree on.
pub const VERSION: u32 = 1;
/// Bytes in a line, its end included.
pub const LINE_LIMIT: usize = 64 << 10;

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Look, and pull the emergency stop.
    Read,
    /// Everything.
    Operate,
}

/// The server's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// [`VERSION`].
    pub dsmild: u32,
    /// Of the program.
    pub version: String,
    /// What this client may do.
    pub access: Access,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub enum Request {
    /// All devices.
    List {},
    /// One device.
    Show {
        /// Its group.
        group: u8,
        /// Its position.
        position: u8,
    },
    /// Puts a device in use.
    Activate {
        /// Its group.
        group: u8,
        /// Its position.
        position: u8,
    },
    /// Takes a device out of use.
    Deactivate {
        /// Its group.
        group: u8,
        /// Its position.
        position: u8,
    },
    /// Reads a token.
    ReadToken {
        /// Its group.
        group: u8,
        /// Which of the group's tokens.
        token: TokenPosition,
    },
    /// Writes a token.
    WriteToken {
        /// Its group.
        group: u8,
        /// Which of the group's tokens.
        token: TokenPosition,
        /// Its new value.
        value: u32,
    },
    /// Unlocks the region that holds an address.
    Unlock {
        /// The address.
        address: u64,
    },
    /// Has the firmware check all tokens.
    Verify {},
    /// Sensors, thresholds, level.
    Thermal {},
    /// Pulls the emergency stop.
    Stop {
        /// Why, for the log.
        reason: String,
    },
    /// Releases it.
    Resume {},
    /// Events that were kept, after this number.
    Events {
        /// 0 for all.
        after: u64,
    },
    /// The same, and then those to come.
    Watch {
        /// 0 for all.
        after: u64,
    },
    /// The driver's figures.
    Status {},
    /// The same for Prometheus.
    Metrics {},
    /// Suspends the device.
    Suspend {},
    /// Wakes it.
    Wake {},
}

impl Request {
    /// What a client must be allowed to make it.
    pub fn access(&self) -> Access {
        match self {
            // A stop endangers nobody, and whoever sees danger shall not look for an operator first.
            Self::List {}
            | Self::Show { .. }
            | Self::ReadToken { .. }
            | Self::Verify {}
            | Self::Thermal {}
            | Self::Stop { .. }
            | Self::Events { .. }
            | Self::Watch { .. }
            | Self::Status {}
            | Self::Metrics {} => Access::Read,
            Self::Activate { .. }
            | Self::Deactivate { .. }
            | Self::WriteToken { .. }
            | Self::Unlock { .. }
            | Self::Resume {}
            | Self::Suspend {}
            | Self::Wake {} => Access::Operate,
        }
    }

    /// Whether it changes the device, and so is audited.
    pub fn is_audited(&self) -> bool {
        self.access() == Access::Operate || matches!(self, Self::Stop { .. })
    }
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It was done.
    Ok(Value),
    /// It was not.
    Error {
        /// Why, as a number.
        errno: i32,
        /// Why, as a sentence.
        message: String,
    },
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its group.
    pub group: u8,
    /// Its position.
    pub position: u8,
    /// Its number among all.
    pub number: u8,
    /// Its state.
    pub state: dsmil::registry::State,
    /// The address of its chunk.
    pub address: u64,
    /// Its capabilities.
    pub capabilities: u32,
}

/// A word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Its value.
    pub value: u32,
}

/// How hot it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thermal {
    /// The level.
    pub level: Level,
    /// The hottest trusted sensor, in thousandths of a degree.
    pub hottest: Option<i32>,
    /// All sensors.
    pub sensors: Vec<Sensor>,
    /// The thresholds.
    pub thresholds: Thresholds,
}

/// How an emergency stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Whether it was this request that stopped it.
    pub first: bool,
    /// From the request's arrival until no command could reach the hardware any more, in microseconds.
    pub safe_after_us: u64,
    /// Whether the firmware has confirmed it.
    pub acknowledged: bool,
}

/// The driver's figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The device's name; empty while there is none.
    pub device: String,
    /// How many groups there are; unknown before the device was seen.
    pub mode: Option<Mode>,
    /// The figures; unknown before the device was seen.
    pub telemetry: Option<Telemetry>,
    /// Clients that are connected.
    pub clients: usize,
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The text.
    pub text: String,
}
