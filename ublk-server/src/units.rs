// SPDX-License-Identifier: MIT OR Apache-2.0

//! Quantities of storage as types, so that bytes, sectors and blocks cannot be mixed up.
//!
//! The driver speaks 512-byte sectors whatever the logical block size; everything in this crate speaks [`Bytes`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vexfs::size::{Size, SizeError};

/// Log2 of the sector, the unit of the driver's interface.
const SECTOR_SHIFT: u32 = 9;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    /// `n` bytes.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// How many whole 512-byte sectors fit.
    pub const fn sectors(self) -> u64 {
        self.0 >> SECTOR_SHIFT
    }

    /// Whether this is a whole number of `unit`s. Nothing is a multiple of zero.
    pub const fn is_multiple_of(self, unit: Bytes) -> bool {
        unit.0 != 0 && self.0.is_multiple_of(unit.0)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Size(self.0).fmt(f)
    }
}

impl FromStr for Bytes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|Size(bytes)| Self(bytes))
    }
}

/// A stretch of a device. Its end is always representable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    start: u64,
    len: u64,
}

impl ByteRange {
    /// `len` bytes from `start`; `None` if the end would not fit in 64 bits.
    pub const fn new(start: u64, len: u64) -> Option<Self> {
        match start.checked_add(len) {
            Some(_) => Some(Self { start, len }),
            None => None,
        }
    }

    /// The stretch a driver request names in sectors; `None` if it does not fit in 64 bits of bytes.
    pub const fn from_sectors(start: u64, count: u32) -> Option<Self> {
        match start.checked_mul(1 << SECTOR_SHIFT) {
            // A u32 of sectors is below 2^41 bytes.
            Some(start) => Self::new(start, (count as u64) << SECTOR_SHIFT),
            None => None,
        }
    }

    /// First byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Length in bytes.
    pub const fn len(self) -> u64 {
        self.len
    }

    /// Whether it covers nothing.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// One past the last byte.
    pub const fn end(self) -> u64 {
        self.start + self.len
    }
}

/// The smallest unit the device can read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockSize {
    /// 512 bytes.
    #[serde(rename = "512")]
    B512,
    /// 4096 bytes.
    #[serde(rename = "4096")]
    B4096,
}

impl BlockSize {
    /// Log2 of the size, as the driver wants it.
    pub const fn shift(self) -> u8 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// The size.
    pub const fn bytes(self) -> Bytes {
        Bytes::new(1 << self.shift())
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes().get())
    }
}

/// A block size this server does not offer.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the block size must be 512 or 4096")]
pub struct BadBlockSize;

impl FromStr for BlockSize {
    type Err = BadBlockSize;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "512" => Ok(Self::B512),
            "4096" => Ok(Self::B4096),
            _ => Err(BadBlockSize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_never_wraps() {
        assert_eq!(ByteRange::new(u64::MAX, 1), None);
        assert_eq!(ByteRange::new(u64::MAX - 1, 1).map(ByteRange::end), Some(u64::MAX));
        assert_eq!(ByteRange::from_sectors(1 << 55, 1), None);
        assert_eq!(ByteRange::from_sectors((1 << 55) - 1, 1), None, "the end is 2^64");
        let last = ByteRange::from_sectors((1 << 55) - 2, 1).unwrap();
        assert_eq!((last.start(), last.len()), (u64::MAX - 1023, 512));
        let long = ByteRange::from_sectors(3, u32::MAX).unwrap();
        assert_eq!((long.start(), long.len()), (1536, 0x1ff_ffff_fe00));
    }

    #[test]
    fn only_the_two_offered_block_sizes_parse() {
        assert_eq!("512".parse(), Ok(BlockSize::B512));
        assert_eq!("4096".parse(), Ok(BlockSize::B4096));
        for bad in ["", "1024", "4k", "-512", " 512"] {
            assert_eq!(bad.parse::<BlockSize>(), Err(BadBlockSize), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_shown_exactly() {
        assert_eq!(Bytes::new(0).to_string(), "0 bytes");
        assert_eq!(Bytes::new(1023).to_string(), "1023 bytes");
        assert_eq!(Bytes::new(1 << 30).to_string(), "1GiB");
        assert_eq!(Bytes::new((1 << 30) + 1024).to_string(), "1048577KiB");
        assert_eq!(Bytes::new(1 << 62).to_string(), "4EiB");
    }
}
