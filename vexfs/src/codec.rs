// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading and writing of the format's scalars: little-endian integers, varints, counted bytes.
//!
//! Everything that was read from a disk or came from another process goes through [`Reader`]: it never panics, never reads
//! past its end, and reports what it was reading when something did not fit. Keys of the metadata are big-endian instead,
//! so that their byte order is their numeric order; they are made in `meta::key`.

/// Why bytes could not be decoded. Says what, not where: the caller knows the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside a field.
    #[error("ends inside {0}")]
    Truncated(&'static str),
    /// A field holds a value that it cannot have.
    #[error("{what} has the impossible value {value:#x}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
    },
    /// Something follows where nothing may.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

impl DecodeError {
    /// An impossible value.
    pub fn invalid(what: &'static str, value: impl Into<u64>) -> Self {
        Self::Invalid {
            what,
            value: value.into(),
        }
    }
}

type Result<T> = std::result::Result<T, DecodeError>;

/// A cursor over untrusted bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8]> {
        let (now, later) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated(what))?;
        self.rest = later;
        Ok(now)
    }

    /// An array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let (now, later) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated(what))?;
        self.rest = later;
        Ok(*now)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A varint: seven bits per byte, lowest first, the top bit says that another byte follows. At most ten bytes, and no
    /// bits beyond 64.
    pub fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::invalid(what, bits));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::invalid(what, value))
    }

    /// A varint that must fit 32 bits.
    pub fn varint32(&mut self, what: &'static str) -> Result<u32> {
        let value = self.varint(what)?;
        u32::try_from(value).map_err(|_| DecodeError::invalid(what, value))
    }

    /// Bytes that their number precedes, as a varint.
    pub fn counted(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let count = self.varint(what)?;
        let count = usize::try_from(count).map_err(|_| DecodeError::invalid(what, count))?;
        self.bytes(count, what)
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(DecodeError::Trailing(more)),
        }
    }
}

/// The counterpart of [`Reader`], on top of a byte vector.
pub trait Writer {
    /// Bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Two bytes, little-endian.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    /// Four bytes, little-endian.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Eight bytes, little-endian.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// A varint, see [`Reader::varint`].
    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// Bytes with their number in front.
    fn put_counted(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

impl Writer for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_back(small: u16, middle: u32, large: u64, bytes: Vec<u8>) {
            let mut buffer = Vec::new();
            buffer.put_varint(large);
            buffer.put_u16(small);
            buffer.put_counted(&bytes);
            buffer.put_u32(middle);
            buffer.put_u64(large);
            let mut reader = Reader::new(&buffer);
            prop_assert_eq!(reader.varint("a"), Ok(large));
            prop_assert_eq!(reader.u16("b"), Ok(small));
            prop_assert_eq!(reader.counted("c"), Ok(bytes.as_slice()));
            prop_assert_eq!(reader.u32("d"), Ok(middle));
            prop_assert_eq!(reader.u64("e"), Ok(large));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.remaining() > 0 && reader.counted("x").is_ok() {}
            let _ = Reader::new(&bytes).varint("x");
        }
    }

    #[test]
    fn a_varint_holds_64_bits_and_no_more() {
        let mut longest = Vec::new();
        longest.put_varint(u64::MAX);
        assert_eq!((longest.len(), Reader::new(&longest).varint("x")), (10, Ok(u64::MAX)));
        let mut too_large = longest.clone();
        too_large[9] = 2;
        assert!(Reader::new(&too_large).varint("x").is_err());
        assert!(Reader::new(&[0x80; 11]).varint("x").is_err());
    }
}
