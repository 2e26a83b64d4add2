// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can be asked of the firmware, in types that hold nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::{CHUNK_SIZE, Opcode, REGION_BASE, REGION_SIZE};
use crate::registry::{DeviceId, Mode};

/// The four tokens of a group. The numbers are part of the C interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum TokenPosition {
    /// Power management, at device position 0.
    Power = 0,
    /// Memory control, at device position 3.
    Memory = 1,
    /// Storage control, at device position 6.
    Storage = 2,
    /// Sensor hub, at device position 9.
    Sensors = 3,
}

impl TokenPosition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Power, Self::Memory, Self::Storage, Self::Sensors];

    /// The device position that carries the token.
    pub fn device_position(self) -> u8 {
        self as u8 * 3
    }
}

impl TryFrom<u8> for TokenPosition {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|&position| position as u8 == number)
            .ok_or(Error::NoSuchToken(number))
    }
}

/// One token: a position of a group that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The device that carries it.
    pub device: DeviceId,
    /// Which of the group's tokens.
    pub position: TokenPosition,
}

impl Token {
    /// The token at a position of a group.
    pub fn new(mode: Mode, group: u8, position: TokenPosition) -> Result<Self> {
        let device = mode.device(group, position.device_position())?;
        Ok(Self { device, position })
    }

    /// The command's argument word.
    fn argument(self) -> u32 {
        u32::from(self.device.group()) << 8 | u32::from(self.device.position())
    }
}

/// An address inside the region, as the firmware counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegionAddress(u64);

impl RegionAddress {
    /// The address, if it is inside.
    pub fn new(address: u64) -> Result<Self> {
        match address.checked_sub(REGION_BASE) {
            Some(offset) if offset < REGION_SIZE as u64 => Ok(Self(address)),
            _ => Err(Error::BadAddress(address)),
        }
    }

    /// The first address of a device's chunk.
    pub fn of_device(device: DeviceId) -> Self {
        Self(REGION_BASE + (crate::layout::device_chunk(device.index()) * CHUNK_SIZE) as u64)
    }

    /// As a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Read a token.
    Read(Token),
    /// Write a token.
    Write(Token, u32),
    /// Unlock the tokens of the group in whose chunks the address is.
    Unlock(RegionAddress),
    /// Check all tokens.
    Verify,
}

impl Request {
    /// Opcode, argument, low and high data word.
    pub(super) fn words(self) -> (Opcode, u32, u32, u32) {
        match self {
            Self::Read(token) => (Opcode::Read, token.argument(), 0, 0),
            Self::Write(token, value) => (Opcode::Write, token.argument(), value, 0),
            Self::Unlock(address) => {
                let address = address.get();
                let (low, high) = (address & u64::from(u32::MAX), address >> 32);
                (Opcode::Unlock, 0, half(low), half(high))
            }
            Self::Verify => (Opcode::Verify, 0, 0, 0),
        }
    }
}

/// Half an address as a word: its upper bits are 0.
fn half(bits: u64) -> u32 {
    u32::try_from(bits).unwrap_or(u32::MAX)
}

/// How long the firmware may take for one attempt: 50 to 200 ms, whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeout(Duration);

impl Timeout {
    /// The shortest.
    pub const MIN: Self = Self(Duration::from_millis(50));
    /// The longest.
    pub const MAX: Self = Self(Duration::from_millis(200));

    /// A timeout of known length; one outside the range does not compile.
    pub const fn of_millis<const MILLIS: u64>() -> Self {
        const {
            assert!(MILLIS >= 50 && MILLIS <= 200, "a timeout is between 50 and 200 ms");
        }
        Self(Duration::from_millis(MILLIS))
    }

    /// As a duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<Duration> for Timeout {
    type Error = Error;

    fn try_from(duration: Duration) -> Result<Self> {
        if duration < Self::MIN.0 || duration > Self::MAX.0 {
            return Err(Error::BadTimeout(duration));
        }
        Ok(Self(duration))
    }
}

impl Default for Timeout {
    fn default() -> Self {
        Self::of_millis::<100>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_holds_50_to_200_ms_and_nothing_else() {
        for (millis, fits) in [
            (0, false),
            (49, false),
            (50, true),
            (125, true),
            (200, true),
            (201, false),
        ] {
            assert_eq!(
                Timeout::try_from(Duration::from_millis(millis)).is_ok(),
                fits,
                "{millis}"
            );
        }
        assert!(Timeout::try_from(Timeout::MAX.get() + Duration::from_nanos(1)).is_err());
        assert!(Timeout::try_from(Duration::from_nanos(49_999_999)).is_err());
    }

    #[test]
    fn token_positions_are_the_four_of_the_c_interface() {
        for number in 0..=u8::MAX {
            assert_eq!(
                TokenPosition::try_from(number).ok().map(|position| position as u8),
                (number < 4).then_some(number)
            );
        }
        assert_eq!(TokenPosition::ALL.map(TokenPosition::device_position), [0, 3, 6, 9]);
    }

    #[test]
    fn addresses_are_those_of_the_region() {
        let last = REGION_BASE + REGION_SIZE as u64 - 1;
        for (address, fits) in [
            (0, false),
            (REGION_BASE - 1, false),
            (REGION_BASE, true),
            (last, true),
            (last + 1, false),
        ] {
            assert_eq!(RegionAddress::new(address).is_ok(), fits, "{address:#x}");
        }
        assert!(RegionAddress::new(u64::MAX).is_err());
    }

    #[test]
    fn an_address_is_carried_in_two_words() {
        let address = RegionAddress::of_device(Mode::Full.device(6, 11).unwrap());
        let (opcode, _, low, high) = Request::Unlock(address).words();
        assert_eq!(opcode, Opcode::Unlock);
        assert_eq!(u64::from(high) << 32 | u64::from(low), address.get());
    }
}
