// SPDX-License-Identifier: MIT OR Apache-2.0

//! Ordered maps that hold everything a pool knows besides file bytes.
//!
//! One map per kind of record ([`Table`]), each made of layers, newest first:
//!
//! | layer | what | where |
//! |---|---|---|
//! | `active` | changes since the last freeze | memory, and the journal |
//! | `frozen` | changes a running checkpoint is writing | memory, and the journal |
//! | [`base`] | everything older | sorted tables in the pool |
//!
//! All maps share one [`base::Base`], told apart by the first byte of their keys ([`Key::TAG`]).

pub mod base;
mod table;

pub use table::{Frozen, Previous, Table, encoded};

use crate::codec::DecodeError;
use crate::units::Ino;

/// A key of one kind of record. The order of the encoded bytes is the order of the values.
pub trait Key: Ord + Clone + std::hash::Hash + std::fmt::Debug {
    /// First byte of the encoded key; no two kinds share one.
    const TAG: u8;

    /// Appends everything after the tag, big-endian.
    fn encode(&self, out: &mut Vec<u8>);

    /// The reverse, of untrusted bytes.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// The inode the record belongs to, for records that cannot be older than their inode.
    fn owner(&self) -> Option<Ino>;
}

/// A record.
pub trait Record: Sized {
    /// Appends the record's bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// The reverse, of untrusted bytes.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A key with its tag.
pub fn encode_key<K: Key>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    bytes.push(K::TAG);
    key.encode(&mut bytes);
    bytes
}
