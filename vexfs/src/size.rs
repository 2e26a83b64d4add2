// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading and showing sizes such as `1GiB`, `512M` or `4096`.
//!
//! The rules are those of util-linux: a plain number is bytes; `K`, `M`, `G`, `T`, `P`, `E`, alone or followed by `iB`,
//! are powers of 1024; followed by `B` they are powers of 1000. Case does not matter. There are no fractions, signs or
//! thousands separators: a size that is not exactly what was written is worse than an error.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A number of bytes, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    /// Exact: the largest binary unit that divides the number, as it can be read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["EiB", "PiB", "TiB", "GiB", "MiB", "KiB"];
        for (unit, shift) in UNITS.iter().zip([60_u32, 50, 40, 30, 20, 10]) {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

/// Why a text is not a size.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SizeError {
    /// There are no digits at the start.
    #[error("a size starts with a whole number, as in 4096, 512M or 1GiB")]
    NoNumber,
    /// What follows the digits is no unit.
    #[error(
        "'{0}' is not a unit of size: use K, M, G, T, P or E (powers of 1024, also as KiB) or KB, MB, ... (powers of 1000)"
    )]
    Unit(String),
    /// The result does not fit in 64 bits.
    #[error("the size does not fit in 64 bits")]
    TooLarge,
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(SizeError::NoNumber);
        }
        // All digits and at least one of them: overflow is the only way this can fail.
        let number: u64 = number.parse().map_err(|_| SizeError::TooLarge)?;
        let factor = factor_of(unit).ok_or_else(|| SizeError::Unit(unit.to_owned()))?;
        number.checked_mul(factor).map(Self).ok_or(SizeError::TooLarge)
    }
}

/// What one `unit` is in bytes.
fn factor_of(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_uppercase();
    let (prefix, base) = match unit.as_str() {
        "" | "B" => return Some(1),
        unit => {
            if let Some(prefix) = unit.strip_suffix("IB") {
                (prefix, 1024_u64)
            } else if let Some(prefix) = unit.strip_suffix('B') {
                (prefix, 1000)
            } else {
                (unit, 1024)
            }
        }
    };
    let power = match prefix {
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    Some(base.pow(power))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_mean_what_util_linux_says() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("1K", 1 << 10),
            ("1KiB", 1 << 10),
            ("1kb", 1000),
            ("512M", 512 << 20),
            ("1GiB", 1 << 30),
            ("1g", 1 << 30),
            ("3TB", 3_000_000_000_000),
            ("2PiB", 2 << 50),
            ("15E", 15 << 60),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_says_why() {
        for text in ["", "G", "-1", "+1", " 1", "x1"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::NoNumber), "{text:?}");
        }
        for (text, unit) in [
            ("1 G", " G"),
            ("1.5G", ".5G"),
            ("1GB2", "GB2"),
            ("1iB", "iB"),
            ("1KK", "KK"),
            ("1µ", "µ"),
        ] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::Unit(unit.to_owned())), "{text:?}");
        }
        for text in ["16E", "18446744073709551616", "99999999999999999999999"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError::TooLarge), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_answered_without_a_panic(text in "\\PC*") {
            let _ = text.parse::<Size>();
        }

        #[test]
        fn what_is_shown_can_be_read_back(n in any::<u64>(), shift in 0_u32..63) {
            let size = Size(n >> shift << shift);
            let shown = size.to_string().replace(" bytes", "");
            prop_assert_eq!(shown.parse(), Ok(size));
        }
    }
}
