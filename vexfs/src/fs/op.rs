// SPDX-License-Identifier: MIT OR Apache-2.0

//! The language of operations: what the journal holds, what is applied, what is replayed.
//!
//! An operation carries every decision that does not follow from the state: times, inode numbers, the blocks that were
//! chosen. Applying it is therefore deterministic, and replaying a journal is applying it again.
//!
//! Several operations form a transaction: they happen together or not at all, under one sequence number.
//!
//! Bytes: a transaction is its operations one after the other. An operation is one byte that says which, then its fields
//! in the order below, little-endian, without gaps. `&[u8]` is a 4 byte length and the bytes; lists are a 4 byte
//! count and the elements; a run is start 8 and count 4.

use crate::checksum::Crc;
use crate::codec::{DecodeError, Reader, Writer};
use crate::units::{Block, FileBlock, Ino, Run};

use super::record::Timestamp;

/// Which fields a [`Op::SetAttributes`] changes.
pub mod change {
    /// Permissions.
    pub const MODE: u8 = 1;
    /// Owner.
    pub const UID: u8 = 2;
    /// Group.
    pub const GID: u8 = 4;
    /// Last read.
    pub const ACCESSED: u8 = 8;
    /// Last change of the contents.
    pub const MODIFIED: u8 = 16;
    /// File flags.
    pub const FLAGS: u8 = 32;
    /// Last change of anything. Clear only for a mere access time.
    pub const CHANGED: u8 = 64;
}

/// How a [`Op::Rename`] treats its target.
pub mod rename {
    /// The new name must not exist.
    pub const NO_REPLACE: u8 = 1;
    /// Both names must exist, and change places.
    pub const EXCHANGE: u8 = 2;
    /// The old name becomes a whiteout (a character device 0:0).
    pub const WHITEOUT: u8 = 4;
}

/// How a [`Op::SetXattr`] treats an attribute of the same name.
pub mod xattr {
    /// It must not exist.
    pub const CREATE: u8 = 1;
    /// It must exist.
    pub const REPLACE: u8 = 2;
}

/// How a [`Op::PutVectors`] treats vectors that are there.
pub mod vectors {
    /// The file must not have any in the space.
    pub const CREATE: u8 = 1;
    /// It must have some.
    pub const REPLACE: u8 = 2;
    /// Those that are not put are removed.
    pub const WHOLE: u8 = 4;
}

trait Wire<'a>: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(reader: &mut Reader<'a>, what: &'static str) -> Result<Self, DecodeError>;
}

macro_rules! scalars {
    ($($type:ty: $put:ident $take:ident ($value:ident => $raw:expr, $made:expr);)*) => {$(
        impl<'a> Wire<'a> for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let $value = *self;
                out.$put($raw);
            }

            fn take(reader: &mut Reader<'a>, what: &'static str) -> Result<Self, DecodeError> {
                let $value = reader.$take(what)?;
                Ok($made)
            }
        }
    )*};
}

scalars! {
    u8: put_u8 u8 (v => v, v);
    u16: put_u16 u16 (v => v, v);
    u32: put_u32 u32 (v => v, v);
    u64: put_u64 u64 (v => v, v);
    Ino: put_u64 u64 (v => v.0, Ino(v));
    FileBlock: put_u64 u64 (v => v.0, FileBlock(v));
    Timestamp: put_u64 u64 (v => v.0.cast_unsigned(), Timestamp(v.cast_signed()));
    Crc: put_u32 u32 (v => v.0, Crc(v));
}

impl<'a> Wire<'a> for &'a [u8] {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        out.extend_from_slice(self);
    }

    fn take(reader: &mut Reader<'a>, what: &'static str) -> Result<Self, DecodeError> {
        let count = reader.u32(what)?;
        reader.bytes(count as usize, what)
    }
}

impl<'a> Wire<'a> for Run {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.start.0);
        out.put_u32(self.count);
    }

    fn take(reader: &mut Reader<'a>, what: &'static str) -> Result<Self, DecodeError> {
        let run = Self::new(Block(reader.u64(what)?), reader.u32(what)?);
        if run.fits(Block::LIMIT) {
            Ok(run)
        } else {
            Err(DecodeError::invalid(what, run.start.0))
        }
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        for element in self {
            element.put(out);
        }
    }

    fn take(reader: &mut Reader<'a>, what: &'static str) -> Result<Self, DecodeError> {
        let count = reader.u32(what)? as usize;
        // Every element takes a byte at least: what cannot follow is not reserved for.
        if count > reader.remaining() {
            return Err(DecodeError::Truncated(what));
        }
        (0..count).map(|_| T::take(reader, what)).collect()
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    // Nothing that is encoded comes near 4 Gi elements: lengths are checked where operations are made.
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

/// An operation as `docs/FORMAT.md` tells it: its number, its name, and names and types of its fields in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// First byte.
    pub number: u8,
    /// See [`Op`].
    pub name: &'static str,
    /// Name and type, as the source has them.
    pub fields: &'static [(&'static str, &'static str)],
}

macro_rules! operations {
    ($($(#[$doc:meta])* $number:literal => $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        /// One operation. See the module.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Op<'a> {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type,)* },)*
        }

        /// Every operation.
        pub const LAYOUTS: &[Layout] = &[$(Layout {
            number: $number,
            name: stringify!($name),
            fields: &[$((stringify!($field), stringify!($type)),)*],
        },)*];

        impl<'a> Op<'a> {
            /// Appends the operation's bytes.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$name { $($field),* } => {
                        out.put_u8($number);
                        $($field.put(out);)*
                    })*
                }
            }

            /// The next operation of untrusted bytes.
            pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match reader.u8("operation")? {
                    $($number => Ok(Self::$name { $($field: Wire::take(reader, stringify!($field))?),* }),)*
                    other => Err(DecodeError::invalid("operation", other)),
                }
            }

            /// Its name.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => stringify!($name),)*
                }
            }
        }
    };
}

operations! {
    /// A new file of any kind with its first name; without a parent (inode 0) it is an orphan from the start.
    1 => Create {
        /// Directory, or 0.
        parent: Ino,
        /// Its number: the next that was never used, or a later one.
        ino: Ino,
        /// Type and permissions.
        mode: u16,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Of a device node.
        device: u64,
        /// See `FileFlags`.
        flags: u32,
        /// Now.
        time: Timestamp,
        /// Name, or nothing.
        name: &'a [u8],
        /// Of a symbolic link.
        target: &'a [u8],
    }
    /// Another name for a file.
    2 => Link {
        /// The file.
        ino: Ino,
        /// Directory.
        parent: Ino,
        /// Now.
        time: Timestamp,
        /// Name.
        name: &'a [u8],
    }
    /// Removes a name of anything but a directory.
    3 => Unlink {
        /// Directory.
        parent: Ino,
        /// Now.
        time: Timestamp,
        /// Name.
        name: &'a [u8],
    }
    /// Removes an empty directory.
    4 => RemoveDirectory {
        /// The directory it is in.
        parent: Ino,
        /// Now.
        time: Timestamp,
        /// Name.
        name: &'a [u8],
    }
    /// Moves a name.
    5 => Rename {
        /// Directory of the old name.
        from: Ino,
        /// Directory of the new name.
        to: Ino,
        /// See [`rename`].
        flags: u8,
        /// Number of the whiteout, or 0.
        whiteout: Ino,
        /// Now.
        time: Timestamp,
        /// Old name.
        name: &'a [u8],
        /// New name.
        new_name: &'a [u8],
    }
    /// Changes fields of an inode.
    6 => SetAttributes {
        /// The file.
        ino: Ino,
        /// Which of the following count; see [`change`].
        fields: u8,
        /// Permissions, without type.
        mode: u16,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// File flags.
        flags: u32,
        /// Last read.
        accessed: Timestamp,
        /// Last change of the contents.
        modified: Timestamp,
        /// Last change of anything.
        changed: Timestamp,
    }
    /// Sets the size; what is beyond it is gone.
    7 => Truncate {
        /// The file.
        ino: Ino,
        /// New size.
        size: u64,
        /// Now.
        time: Timestamp,
    }
    /// Sets an extended attribute.
    8 => SetXattr {
        /// The file.
        ino: Ino,
        /// See [`xattr`].
        flags: u8,
        /// Now.
        time: Timestamp,
        /// Full name.
        name: &'a [u8],
        /// Value.
        value: &'a [u8],
    }
    /// Removes an extended attribute.
    9 => RemoveXattr {
        /// The file.
        ino: Ino,
        /// Now.
        time: Timestamp,
        /// Full name.
        name: &'a [u8],
    }
    /// Whole blocks of a file now are these blocks of the pool.
    10 => Write {
        /// The file.
        ino: Ino,
        /// First block of the file.
        at: FileBlock,
        /// The file is at least so long afterwards.
        end: u64,
        /// Now.
        time: Timestamp,
        /// Where the bytes are, in order.
        runs: Vec<Run>,
        /// One per block; none at all for a file without checksums.
        checksums: Vec<Crc>,
    }
    /// The bytes of a small file.
    11 => WriteInline {
        /// The file.
        ino: Ino,
        /// Where.
        at: u32,
        /// Now.
        time: Timestamp,
        /// What.
        bytes: &'a [u8],
    }
    /// Whole blocks of a file, compressed, inside one chunk.
    12 => WritePacked {
        /// The file.
        ino: Ino,
        /// First block of the file.
        at: FileBlock,
        /// Blocks of the file.
        count: u8,
        /// How.
        algorithm: u8,
        /// Length of the compressed bytes.
        bytes: u32,
        /// Of the compressed bytes.
        checksum: Crc,
        /// The file is at least so long afterwards.
        end: u64,
        /// Now.
        time: Timestamp,
        /// Where the bytes are.
        runs: Vec<Run>,
    }
    /// Promises space to every hole of a range.
    13 => Preallocate {
        /// The file.
        ino: Ino,
        /// First block.
        from: FileBlock,
        /// Blocks, at most [`MAX_STEP_BLOCKS`](super::MAX_STEP_BLOCKS).
        count: u64,
        /// The file is at least so long afterwards.
        end: u64,
        /// Now.
        time: Timestamp,
    }
    /// Makes a hole. The size stays.
    14 => Punch {
        /// The file.
        ino: Ino,
        /// First block.
        from: FileBlock,
        /// Blocks.
        count: u64,
        /// Now.
        time: Timestamp,
    }
    /// Takes blocks out of a file; what follows moves down.
    15 => Collapse {
        /// The file.
        ino: Ino,
        /// First block.
        from: FileBlock,
        /// Blocks.
        count: u64,
        /// Now.
        time: Timestamp,
    }
    /// Moves what follows up; a hole is left.
    16 => Insert {
        /// The file.
        ino: Ino,
        /// First block.
        from: FileBlock,
        /// Blocks.
        count: u64,
        /// Now.
        time: Timestamp,
    }
    /// Blocks of one file become blocks of another too.
    17 => Clone {
        /// Source.
        from: Ino,
        /// First block of the source.
        from_block: FileBlock,
        /// Target; may be the source if the ranges do not overlap.
        to: Ino,
        /// First block of the target.
        to_block: FileBlock,
        /// Blocks, at most [`MAX_STEP_BLOCKS`](super::MAX_STEP_BLOCKS).
        count: u64,
        /// The target is at least so long afterwards.
        end: u64,
        /// Now.
        time: Timestamp,
    }
    /// Takes an orphan apart: the rows below a chunk, or all that is left and the orphan itself.
    18 => Purge {
        /// The orphan.
        ino: Ino,
        /// First chunk that stays; the largest number for the last step.
        until: u64,
    }
    /// Gives an orphan that was created without a name one.
    19 => Adopt {
        /// The orphan.
        ino: Ino,
        /// Directory.
        parent: Ino,
        /// Now.
        time: Timestamp,
        /// Name.
        name: &'a [u8],
    }
    /// The file is longer: bytes that were stored beyond its end are its bytes now.
    20 => Extend {
        /// The file.
        ino: Ino,
        /// It is at least so long afterwards.
        size: u64,
        /// Last change of the contents.
        modified: Timestamp,
        /// Last change of anything.
        changed: Timestamp,
    }
    /// Whole blocks of a file, written by a client: neither size nor times change.
    21 => Store {
        /// The file.
        ino: Ino,
        /// First block of the file.
        at: FileBlock,
        /// Of these blocks, bytes from this one of the file on are zeros.
        reach: u64,
        /// Where the bytes are, in order.
        runs: Vec<Run>,
        /// One per block; none at all for a file without checksums.
        checksums: Vec<Crc>,
    }
    /// The same, compressed, inside one chunk.
    22 => StorePacked {
        /// The file.
        ino: Ino,
        /// First block of the file.
        at: FileBlock,
        /// Blocks of the file.
        count: u8,
        /// How.
        algorithm: u8,
        /// Length of the compressed bytes.
        bytes: u32,
        /// Of the compressed bytes.
        checksum: Crc,
        /// Of these blocks, bytes from this one of the file on are zeros.
        reach: u64,
        /// Where the bytes are.
        runs: Vec<Run>,
    }
    /// A client begins; the session before it must have ended.
    23 => BeginSession {
        /// Its number, not 0.
        session: u64,
        /// What the client called the request.
        hello: u64,
        /// Call slots.
        slots: u16,
        /// 1: nothing will be changed.
        read_only: u8,
    }
    /// The client is gone: its windows and unused numbers go too.
    24 => EndSession {
        /// Its number.
        session: u64,
    }
    /// The call that the rest of the transaction carries out.
    25 => Answered {
        /// Slot of the call.
        slot: u16,
        /// Number of the call.
        seq: u64,
    }
    /// Posted operations before a position are applied with the transaction.
    26 => Posted {
        /// The position.
        position: u64,
    }
    /// Gives the client the next inode numbers.
    27 => Grant {
        /// How many.
        count: u32,
    }
    /// Gives a file a window.
    28 => Map {
        /// The file.
        ino: Ino,
        /// Its first address.
        base: u64,
        /// Bytes.
        span: u64,
    }
    /// The client knows the file no more: its windows go.
    29 => Unmap {
        /// The file.
        ino: Ino,
    }
    /// Makes a space for vectors; see [`vectors`](super::vectors).
    40 => CreateSpace {
        /// Its number, which is that of the file that its slabs are in: claimed as for a new file.
        space: Ino,
        /// Elements of a vector.
        dimensions: u32,
        /// What they are.
        element: u8,
        /// How vectors are compared.
        metric: u8,
        /// How much searches do; 0: what is built in.
        effort: u16,
        /// Now.
        time: Timestamp,
        /// Name.
        name: &'a [u8],
        /// Declared attributes: the number of the use, then the name.
        fields: Vec<&'a [u8]>,
    }
    /// Changes a space.
    41 => AlterSpace {
        /// The space.
        space: Ino,
        /// How much searches do.
        effort: u16,
        /// Now.
        time: Timestamp,
        /// Name, also if it stays.
        name: &'a [u8],
        /// Declared attributes, also if they stay.
        fields: Vec<&'a [u8]>,
    }
    /// Takes a space's name; what remains is to be drained.
    42 => DropSpace {
        /// The space.
        space: Ino,
        /// Now.
        time: Timestamp,
    }
    /// Takes a dropped space apart: the vectors below a number, or all that is left and the space itself.
    43 => DrainSpace {
        /// The space.
        space: Ino,
        /// First vector that stays; the largest number for the last step.
        until: u64,
    }
    /// Gives a file vectors.
    44 => PutVectors {
        /// The file.
        ino: Ino,
        /// The space.
        space: Ino,
        /// See [`vectors`].
        flags: u8,
        /// Of the first; the others follow.
        ordinal: u32,
        /// When the contents were modified that they were made of.
        of: Timestamp,
        /// Now.
        time: Timestamp,
        /// Vectors back to back.
        bytes: &'a [u8],
    }
    /// Takes vectors of a file.
    45 => RemoveVectors {
        /// The file.
        ino: Ino,
        /// The space.
        space: Ino,
        /// First ordinal.
        from: u32,
        /// Ordinals.
        count: u32,
        /// Now.
        time: Timestamp,
    }
    /// Vectors are now in a slab that the transaction wrote to the space's store.
    46 => SealVectors {
        /// The space.
        space: Ino,
        /// Where the slab begins in the store.
        at: FileBlock,
        /// Their numbers, in the order of the slab.
        vectors: Vec<u64>,
    }
    /// A slab without living vectors goes.
    47 => DropSlab {
        /// The space.
        space: Ino,
        /// Where it begins.
        at: FileBlock,
    }
    /// What the index of a space is from now on.
    48 => SetIndex {
        /// The space.
        space: Ino,
        /// The record.
        record: &'a [u8],
    }
    /// Leaves of an index are now where the transaction wrote them in the space's store, others are gone.
    49 => PutLeaves {
        /// The space.
        space: Ino,
        /// Leaves; see `encode_leaf`.
        leaves: Vec<&'a [u8]>,
        /// Numbers of leaves that go.
        dropped: Vec<u64>,
        /// Vectors that are in leaves now and were not.
        placed: Vec<u64>,
    }
    /// Leaves of an index that is being built go: those below a number. Their blocks stay.
    50 => ForgetLeaves {
        /// The space.
        space: Ino,
        /// First leaf that stays.
        until: u64,
    }
}

impl Op<'_> {
    /// Blocks of the pool that the operation brings contents in.
    pub fn written_blocks(&self) -> u64 {
        match self {
            Self::Write { runs, .. }
            | Self::WritePacked { runs, .. }
            | Self::Store { runs, .. }
            | Self::StorePacked { runs, .. } => runs.iter().map(|run| u64::from(run.count)).sum(),
            _ => 0,
        }
    }
}

/// Decodes a whole transaction.
pub fn decode_transaction(bytes: &[u8]) -> Result<Vec<Op<'_>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut operations = Vec::with_capacity(1);
    while reader.remaining() > 0 {
        operations.push(Op::decode(&mut reader)?);
    }
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_transaction_decodes_to_what_was_encoded() {
        let operations = vec![
            Op::Create {
                parent: Ino(1),
                ino: Ino(2),
                mode: 0o100_644,
                uid: 3,
                gid: 4,
                device: 0,
                flags: 0,
                time: Timestamp(-5),
                name: b"name",
                target: b"",
            },
            Op::Write {
                ino: Ino(2),
                at: FileBlock(7),
                end: 40_000,
                time: Timestamp(9),
                runs: vec![Run::new(Block(100), 2), Run::new(Block(7), 1)],
                checksums: vec![Crc(1), Crc(2), Crc(3)],
            },
        ];
        let mut bytes = Vec::new();
        for operation in &operations {
            operation.encode(&mut bytes);
        }
        assert_eq!(decode_transaction(&bytes), Ok(operations));
        assert!(decode_transaction(&bytes[..bytes.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
            if let Ok(operations) = decode_transaction(&bytes) {
                let mut again = Vec::new();
                for operation in operations {
                    operation.encode(&mut again);
                }
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
