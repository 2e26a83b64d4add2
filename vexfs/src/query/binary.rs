// SPDX-License-Identifier: MIT OR Apache-2.0

//! The compact form of putting many vectors: their exact bytes, and no text around them. All numbers little-endian.
//!
//! | part | bytes |
//! |---|---|
//! | `VXQ1` | 4 |
//! | length of the space's name, the name | 2, any |
//! | number of items | 4 |
//! | of each item: length of the path, the path | 2, any |
//! | first ordinal | 4 |
//! | flags: 1 the file has no others afterwards, 2 a time follows | 4 |
//! | with flag 2: when the contents were modified that they are made of, nanoseconds | 8 |
//! | length of the vectors, the vectors back to back | 4, any |

use super::{Outcome, Refusal};
use crate::codec::{DecodeError, Reader, Writer};
use crate::error::Errno;

const MAGIC: &[u8] = b"VXQ1";
const WHOLE: u32 = 1;
const HAS_TIME: u32 = 2;

/// Vectors for one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Absolute, inside the pool.
    pub path: &'a str,
    /// Of the first.
    pub ordinal: u32,
    /// The file has no others afterwards.
    pub whole: bool,
    /// When the contents were modified that they are made of.
    pub of: Option<i64>,
    /// Back to back.
    pub bytes: &'a [u8],
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutMany<'a> {
    /// The space.
    pub space: &'a str,
    /// In order.
    pub items: Vec<Item<'a>>,
}

/// Whether a request has this form.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl PutMany<'_> {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        let long = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut out = MAGIC.to_vec();
        out.put_u16(short(self.space.len()));
        out.put(self.space.as_bytes());
        out.put_u32(long(self.items.len()));
        for item in &self.items {
            out.put_u16(short(item.path.len()));
            out.put(item.path.as_bytes());
            out.put_u32(item.ordinal);
            let whole = if item.whole { WHOLE } else { 0 };
            out.put_u32(whole | if item.of.is_some() { HAS_TIME } else { 0 });
            if let Some(of) = item.of {
                out.put_u64(of.cast_unsigned());
            }
            out.put_u32(long(item.bytes.len()));
            out.put(item.bytes);
        }
        out
    }
}

/// The request of untrusted bytes.
pub(super) fn parse(bytes: &[u8]) -> Outcome<PutMany<'_>> {
    decode(bytes).map_err(|error| Refusal::new(Errno::Invalid, format!("the compact request {error}")))
}

/// Whether bytes are the beginning of a request and not all of it.
pub(super) fn is_incomplete(bytes: &[u8]) -> bool {
    matches!(decode(bytes), Err(DecodeError::Truncated(_)))
}

fn decode(bytes: &[u8]) -> Result<PutMany<'_>, DecodeError> {
    fn text<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a str, DecodeError> {
        let length = reader.u16(what)?;
        let bytes = reader.bytes(usize::from(length), what)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::invalid(what, length))
    }
    let mut reader = Reader::new(bytes);
    reader.bytes(MAGIC.len(), "magic")?;
    let space = text(&mut reader, "space")?;
    let count = reader.u32("items")?;
    let mut items = Vec::new();
    for _ in 0..count {
        let path = text(&mut reader, "path")?;
        let ordinal = reader.u32("ordinal")?;
        let flags = reader.u32("flags")?;
        if flags & !(WHOLE | HAS_TIME) != 0 {
            return Err(DecodeError::invalid("flags", flags));
        }
        let of = if flags & HAS_TIME == 0 {
            None
        } else {
            Some(reader.u64("time")?.cast_signed())
        };
        let length = reader.u32("length")?;
        items.push(Item {
            path,
            ordinal,
            whole: flags & WHOLE != 0,
            of,
            bytes: reader.bytes(length as usize, "vectors")?,
        });
    }
    reader.end()?;
    Ok(PutMany { space, items })
}
