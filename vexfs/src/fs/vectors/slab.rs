// SPDX-License-Identifier: MIT OR Apache-2.0

//! The bytes of slabs.
//!
//! A slab is records of equal length one after the other, then zeros up to a whole number of blocks. A record:
//!
//! | at | size | field |
//! |---|---|---|
//! | 0 | 4 | crc of everything behind it |
//! | 4 | 4 | bytes of the vector |
//! | 8 | 8 | space |
//! | 16 | 8 | vector |
//! | 24 | 8 | ino |
//! | 32 | 4 | ordinal |
//! | 36 | 12 | zeros |
//! | 48 | – | the vector, then zeros up to a multiple of 16 |
//!
//! Blocks have checksums of their own, which say that they are what was written. The record's says whose they are: a wrong
//! address can never make a vector of one file that of another.

use crate::checksum::Crc;
use crate::codec::{Reader, Writer};
use crate::units::{BLOCK_SIZE, Ino};

/// Bytes before the vector.
pub const HEADER: usize = 48;
/// Records begin at multiples of this.
const ALIGN: usize = 16;
/// Most bytes of a slab: one transaction writes it.
pub const MAX_BYTES: usize = 1 << 20;
/// Most vectors of a slab: one operation names them.
pub const MAX_VECTORS: usize = 4096;

/// Bytes of a record with a vector of so many.
pub const fn stride(vector_bytes: usize) -> usize {
    HEADER + vector_bytes.next_multiple_of(ALIGN)
}

/// Vectors that one slab holds.
pub const fn capacity(vector_bytes: usize) -> usize {
    let fit = MAX_BYTES / stride(vector_bytes);
    if fit < MAX_VECTORS { fit } else { MAX_VECTORS }
}

/// Blocks that a slab of so many vectors has.
pub const fn blocks(vectors: usize, vector_bytes: usize) -> u64 {
    (vectors * stride(vector_bytes)).div_ceil(BLOCK_SIZE) as u64
}

/// A vector with everything that says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// The space.
    pub space: Ino,
    /// Its number there.
    pub vector: u64,
    /// The file.
    pub ino: Ino,
    /// Which of the file's.
    pub ordinal: u32,
    /// The vector.
    pub bytes: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Appends a record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u32(0);
        out.put_u32(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        for number in [self.space.0, self.vector, self.ino.0] {
            out.put_u64(number);
        }
        out.put_u32(self.ordinal);
        out.put(&[0; 12]);
        out.put(self.bytes);
        out.resize(start + stride(self.bytes.len()), 0);
        let crc = Crc::of(out.get(start + 4..).unwrap_or_default());
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&crc.0.to_le_bytes());
        }
    }

    /// The record that bytes begin with; none if it is not one.
    pub fn decode(bytes: &'a [u8], vector_bytes: usize) -> Option<Self> {
        let record = bytes.get(..stride(vector_bytes))?;
        let mut reader = Reader::new(record);
        let crc = reader.u32("crc").ok()?;
        if Crc::of(record.get(4..)?).0 != crc || reader.u32("bytes").ok()? as usize != vector_bytes {
            return None;
        }
        let (space, vector, ino) = (reader.u64("space"), reader.u64("vector"), reader.u64("ino"));
        Some(Self {
            space: Ino(space.ok()?),
            vector: vector.ok()?,
            ino: Ino(ino.ok()?),
            ordinal: reader.u32("ordinal").ok()?,
            bytes: record.get(HEADER..HEADER + vector_bytes)?,
        })
    }
}
