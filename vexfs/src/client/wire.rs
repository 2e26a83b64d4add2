// SPDX-License-Identifier: MIT OR Apache-2.0

//! The bytes of `vexfs/kernel/vexfs_abi.h`: its structures, field by field, little-endian and without padding. What the
//! fields mean is told there and in `docs/ABI.md`. A test compiles that header and compares sizes and offsets.

use zerocopy::little_endian::{I32, I64, U16, U32, U64};

use crate::mirror::{constants, structures};

structures! {
    explained in "the header and docs/ABI.md tell what the fields mean";

    /// A window of equal pieces.
    Window = "vexfs_window" { base: U64, stride: U32, count: U32, }
    /// The windows that files have without asking.
    OwnWindows = "vexfs_own_windows" { base: U64, span: U64, count: U64, }
    /// The first block of the device.
    Super = "vexfs_super" {
        magic: U64, major: U16, minor: U16, crc: U32, incompat: U64, ro_compat: U64, uuid: [u8; 16], label: [u8; 64],
        calls: Window, log: Window, data_start: U64, data_end: U64, max_file_bytes: U64, epoch: U64,
        own: OwnWindows, reserved: [u8; 3896],
    }
    /// Starts a request.
    Request = "vexfs_request" {
        magic: U32, crc: U32, session: U64, seq: U64, after: U64, opcode: U16, slot: U16, length: U32, capacity: U32,
        reserved0: U32, reserved1: [U64; 2],
    }
    /// Starts a reply.
    Reply = "vexfs_reply" {
        magic: U32, crc: U32, session: U64, seq: U64, epoch: U64, applied: U64, credits: U64, ino_from: U64,
        ino_count: U32, status: I32, flags: U16, slot: U16, length: U32, meta_credits: U64, reserved: U64,
    }
    /// Everything about an inode.
    Attr = "vexfs_attr" {
        ino: U64, size: U64, sectors: U64, accessed: I64, modified: I64, changed: I64, born: I64, device: U64,
        parent: U64, uid: U32, gid: U32, links: U32, flags: U32, mode: U16, hints: U16, generation: U32,
        data_base: U64, data_span: U64, reserved: [U64; 2],
    }
    /// Begins a session.
    Hello = "vexfs_hello" {
        major: U16, minor: U16, read_only: U32, known_incompat: U64, known_ro_compat: U64, nonce: U64,
        reserved: [U64; 4],
    }
    /// Goes on with one.
    Resume = "vexfs_resume" { session: U64, posted: U64, credits: U64, spent: U64, reserved: [U64; 4], }
    /// The answer to both.
    Welcome = "vexfs_welcome" {
        session: U64, major: U16, minor: U16, read_only: U32, applied: U64, reserved: [U64; 5], root: Attr,
    }
    /// An inode.
    InodeRef = "vexfs_inode_ref" { ino: U64, generation: U32, reserved: U32, }
    /// An inode and a name behind it.
    Named = "vexfs_named" { ino: U64, length: U16, reserved: [U16; 3], }
    /// A part of a directory.
    Readdir = "vexfs_readdir" { ino: U64, cookie: U64, attributes: U32, reserved: U32, }
    /// Starts the answer to it.
    Listing = "vexfs_listing" { count: U32, end: U32, }
    /// An entry of it.
    Dirent = "vexfs_dirent" { ino: U64, cookie: U64, length: U16, kind: u8, reserved: [u8; 5], }
    /// Starts operations of a call.
    Apply = "vexfs_apply" { want: [U64; 4], count: U32, length: U32, }
    /// Sizes of the pool.
    Statfs = "vexfs_statfs" {
        blocks: U64, free: U64, available: U64, files: U64, files_free: U64, reserved: [U64; 3],
    }
    /// Asks for a window.
    Map = "vexfs_map" { ino: U64, bytes: U64, }
    /// A window of a file.
    Mapped = "vexfs_mapped" { base: U64, span: U64, }
    /// Asks for numbers and credits.
    Grant = "vexfs_grant" {
        inodes: U32, reserved0: U32, credits: U64, meta_credits: U64, spent: U64, reserved1: [U64; 4],
    }
    /// Bytes of a file.
    Range = "vexfs_range" { ino: U64, from: U64, length: U64, }
    /// What some of them consist of.
    Extent = "vexfs_extent" { from: U64, length: U64, place: U64, flags: U32, reserved: U32, }
    /// Looks for data or a hole.
    Seek = "vexfs_seek" { ino: U64, from: U64, what: U32, reserved: U32, }
    /// Where that is.
    Position = "vexfs_position" { position: U64, }
    /// A directory, and a name in it.
    Parent = "vexfs_parent" { attr: Attr, length: U16, reserved: [U16; 3], }
    /// A step of a request about vectors.
    Query = "vexfs_query" {
        number: U64, what: U32, lane: U32, total: U32, from: U32, count: U32, flags: U32, uid: U32, gid: U32,
    }
    /// A piece of the answer.
    Queried = "vexfs_queried" { total: U32, changed: U32, from: U32, count: U32, }
    /// Starts a batch of posted operations.
    Batch = "vexfs_batch" {
        magic: U32, crc: U32, session: U64, position: U64, count: U32, length: U32, flags: U32, reserved0: U32,
        reserved: [U64; 3],
    }
}

constants! {
    /// Both sides must have the same.
    ABI_MAJOR: u16 = 1;
    /// Both sides speak the lower.
    ABI_MINOR: u16 = 0;
    /// Unit of transfers and addresses.
    ABI_BLOCK: u32 = 4096;
    /// Longest name.
    NAME_BYTES: u32 = 255;
    /// Room for a label.
    LABEL_BYTES: u32 = 64;
    /// Of [`Super`].
    SUPER_MAGIC: u64 = 0x5645_4453_4658_4556;
    /// Of [`Request`].
    REQUEST_MAGIC: u32 = 0x5152_5856;
    /// Of [`Reply`].
    REPLY_MAGIC: u32 = 0x5052_5856;
    /// Of [`Batch`].
    BATCH_MAGIC: u32 = 0x474c_5856;
    /// The WRITE of a [`Batch`] is answered when it and everything answered before is durable.
    BATCH_COMMIT: u32 = 1;
    /// The request is unknown.
    REPLY_AGAIN: u16 = 1;
    /// There is more.
    REPLY_PARTIAL: u16 = 2;
    /// The session is unknown.
    REPLY_NO_SESSION: u16 = 4;
    /// Has extended attributes.
    HINT_XATTRS: u16 = 1;
    /// Has an access list.
    HINT_ACL: u16 = 2;
    /// Has a default list.
    HINT_DEFAULT_ACL: u16 = 4;
    /// Has something of `security.`.
    HINT_SECURITY: u16 = 8;
    /// Preallocated.
    EXTENT_PROMISED: u32 = 1;
    /// Shared with others.
    EXTENT_SHARED: u32 = 2;
    /// Compressed.
    EXTENT_ENCODED: u32 = 4;
    /// In the metadata.
    EXTENT_INLINE: u32 = 8;
    /// Look for data.
    SEEK_DATA: u32 = 3;
    /// Look for a hole.
    SEEK_HOLE: u32 = 4;
    /// A piece of a request comes.
    QUERY_PIECE: u32 = 1;
    /// It is to be carried out.
    QUERY_RUN: u32 = 2;
    /// A piece of the answer is wanted.
    QUERY_ANSWER: u32 = 3;
    /// Requests at a time.
    QUERY_LANES: u32 = 4;
    /// Numbers of requests are multiples of this: those between are for the changes that one makes.
    QUERY_STEPS: u64 = 1 << 24;
    /// Longest request.
    QUERY_REQUEST_BYTES: u32 = 16 << 20;
    /// Longest answer.
    QUERY_ANSWER_BYTES: u32 = 32 << 20;
    /// The caller may do everything.
    CALLER_MAY_ALL: u32 = 1;
    /// The request may change nothing.
    CALLER_LOOKS: u32 = 2;
}

macro_rules! opcodes {
    ($($number:literal $name:ident $header:literal;)*) => {
        /// What a request asks for: `vexfs_opcode` of the header.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        #[expect(missing_docs, reason = "the header and docs/ABI.md tell what each asks for")]
        pub enum Opcode { $($name = $number,)* }

        impl Opcode {
            /// Of its number.
            pub const fn of_number(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }

        /// Numbers and names, `VEXFS_` left out.
        pub const OPCODES: &[(&str, u16)] = &[$(($header, $number),)*];
    };
}

opcodes! {
    1 Hello "HELLO";
    2 Resume "RESUME";
    3 Goodbye "GOODBYE";
    4 Lookup "LOOKUP";
    5 Getattr "GETATTR";
    6 Readdir "READDIR";
    7 Getxattr "GETXATTR";
    8 Listxattr "LISTXATTR";
    9 Apply "APPLY";
    10 Statfs "STATFS";
    11 Map "MAP";
    12 Grant "GRANT";
    13 Extents "EXTENTS";
    14 Seek "SEEK";
    15 Release "RELEASE";
    16 Parent "PARENT";
    17 Query "QUERY";
}
