// SPDX-License-Identifier: MIT OR Apache-2.0

//! The records of the metadata: their keys, fields and bytes.
//!
//! Keys (after the tag, big-endian) and values (little-endian, `v` = varint, `z` = varint of the zigzag form):
//!
//! | tag | record | key | value |
//! |---|---|---|---|
//! | 1 | inode | ino 8 | version 1 · mode 2 · uid v · gid v · links v · size v · blocks v · born 8 · accessed z · modified z · changed z (each minus born) · device v · flags v · parent v · place v · marks 1 · hidden v · hidden in v |
//! | 2 | directory entry | directory 8 · cookie 8 | ino v · kind 1 (top bit: the chain goes on) · name |
//! | 3 | row of a file's map | ino 8 · chunk 8 | see [`crate::data::row`] |
//! | 4 | extended attribute | ino 8 · name | value |
//! | 5 | row of the allocation bitmap | group 8 | 512 |
//! | 6 | extra references | group of 32 blocks 8 | count v of blocks, then per block: index 1 · references beyond the first v |
//! | 7 | orphan | ino 8 | chunk to go on with v |
//! | 8 | totals | – | version 1 · next ino v · inodes v · promised blocks v |
//! | 9 | session | part 8 | see [`super::session`] |
//! | 16 | further name of a file | ino 8 · directory 8 · cookie 8 | nothing |
//!
//! Tags 17 to 22 are those of [`crate::fs::vectors::record`].
//!
//! An entry's cookie is the keyed hash of its name with the low byte replaced by its place in a chain of equal hashes.
//! An entry that is removed while the chain goes on behind it stays as a mark: inode 0, no name.

use std::fmt;

use crate::codec::{DecodeError, Reader, Writer};
use crate::meta::{Key, Record};
use crate::space::ROW_BYTES as GROUP_BYTES;
use crate::units::{Block, Ino};

type Decoded<T> = std::result::Result<T, DecodeError>;

/// Nanoseconds since 1970: the years 1678 to 2262.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From seconds and nanoseconds; what is out of range becomes the nearest that is not.
    pub fn new(seconds: i64, nanos: u32) -> Self {
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos)))
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// What is left of a second.
    #[expect(clippy::cast_possible_truncation, reason = "below 10^9 and not negative")]
    pub const fn nanos(self) -> u32 {
        self.0.rem_euclid(1_000_000_000) as u32
    }
}

/// The type of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Named pipe.
    Fifo = 1,
    /// Character device.
    Character = 2,
    /// Directory.
    Directory = 4,
    /// Block device.
    Block = 6,
    /// Regular file.
    File = 8,
    /// Symbolic link.
    Symlink = 10,
    /// Socket.
    Socket = 12,
}

impl Kind {
    /// From the type bits of a mode; the numbers are those of `d_type` too.
    pub fn of_mode(mode: u16) -> Option<Self> {
        Self::of_number((mode >> 12).to_le_bytes()[0])
    }

    /// From the number.
    pub fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Fifo,
            2 => Self::Character,
            4 => Self::Directory,
            6 => Self::Block,
            8 => Self::File,
            10 => Self::Symlink,
            12 => Self::Socket,
            _ => return None,
        })
    }

    /// The type bits of a mode.
    pub const fn mode_bits(self) -> u16 {
        (self as u16) << 12
    }
}

/// What `FS_IOC_SETFLAGS` may set, and what the engine adds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileFlags(pub u32);

impl FileFlags {
    /// Compress new data (`FS_COMPR_FL`).
    pub const COMPRESS: Self = Self(0x4);
    /// Neither change nor remove (`FS_IMMUTABLE_FL`).
    pub const IMMUTABLE: Self = Self(0x10);
    /// Only append (`FS_APPEND_FL`).
    pub const APPEND: Self = Self(0x20);
    /// Do not back up (`FS_NODUMP_FL`).
    pub const NO_DUMP: Self = Self(0x40);
    /// Do not update access times (`FS_NOATIME_FL`).
    pub const NO_ATIME: Self = Self(0x80);
    /// No checksums on new data. Not settable through an ioctl; its bit is unused there.
    pub const NO_CHECKSUM: Self = Self(0x4000_0000);
    /// Compress with zstd rather than lz4.
    pub const ZSTD: Self = Self(0x2000_0000);
    /// Every known flag.
    pub const ALL: Self = Self(
        Self::COMPRESS.0
            | Self::IMMUTABLE.0
            | Self::APPEND.0
            | Self::NO_DUMP.0
            | Self::NO_ATIME.0
            | Self::NO_CHECKSUM.0
            | Self::ZSTD.0,
    );
    /// What a new file takes over from its directory.
    pub const INHERITED: Self =
        Self(Self::COMPRESS.0 | Self::ZSTD.0 | Self::NO_ATIME.0 | Self::NO_DUMP.0 | Self::NO_CHECKSUM.0);

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Debug for FileFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileFlags({:#x})", self.0)
    }
}

/// What is known about a file besides its bytes, names and attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inode {
    /// Bytes of a file, length of a symbolic link's target, entries of a directory.
    pub size: u64,
    /// Blocks of the pool that the file's map names; several files may share one.
    pub blocks: u64,
    /// Last read.
    pub accessed: Timestamp,
    /// Last change of the contents.
    pub modified: Timestamp,
    /// Last change of anything.
    pub changed: Timestamp,
    /// Creation.
    pub born: Timestamp,
    /// Device number of a device node.
    pub device: u64,
    /// The directory that the file's first name is in; none for a file without names. Further names of a file: see
    /// [`PlaceKey`].
    pub parent: Ino,
    /// The cookie of that name's entry; none for the root and files without names.
    pub place: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; of a directory 2 and its subdirectories.
    pub links: u32,
    /// See [`FileFlags`].
    pub flags: FileFlags,
    /// Type and permissions.
    pub mode: u16,
    /// Which extended attributes there are.
    pub marks: Marks,
    /// Bytes beyond the end, from it on, that may hold something: a client has stored them and not revealed yet.
    pub hidden: u64,
    /// The session that did: its ordinal. 0 if nothing is hidden.
    pub hidden_in: u64,
}

/// What follows from a file's extended attributes, so that nobody has to ask for those that are not there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Marks(pub u8);

impl Marks {
    /// It has extended attributes.
    pub const XATTRS: Self = Self(1);
    /// `system.posix_acl_access` is among them.
    pub const ACL: Self = Self(2);
    /// `system.posix_acl_default` is.
    pub const DEFAULT_ACL: Self = Self(4);
    /// Something in `security.` is.
    pub const SECURITY: Self = Self(8);
    const ALL: u8 = 15;

    /// What an attribute of this name adds.
    pub fn of_name(name: &[u8]) -> Self {
        let more = match name {
            b"system.posix_acl_access" => Self::ACL.0,
            b"system.posix_acl_default" => Self::DEFAULT_ACL.0,
            _ if name.starts_with(b"security.") => Self::SECURITY.0,
            _ => 0,
        };
        Self(Self::XATTRS.0 | more)
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Inode {
    /// No file names more blocks of the pool; so counts can be added up, and told in sectors, without looking.
    pub const MAX_BLOCKS: u64 = 1 << 56;

    /// Bytes from here on are zeros, whatever the size.
    pub const fn reach(&self) -> u64 {
        self.size + self.hidden
    }

    /// Sets the size and how far the bytes reach; a session of this ordinal is under way.
    pub(super) const fn set_size(&mut self, size: u64, reach: u64, ordinal: u64) {
        self.size = size;
        self.hidden = reach.saturating_sub(size);
        self.hidden_in = if self.hidden == 0 { 0 } else { ordinal };
    }

    /// Makes the file at least so long; what was hidden there is its content now.
    pub(super) const fn grow(&mut self, end: u64) {
        if end > self.size {
            self.set_size(end, self.reach(), self.hidden_in);
        }
    }

    /// The type. Decoding has made sure that there is one.
    pub fn kind(&self) -> Kind {
        Kind::of_mode(self.mode).unwrap_or(Kind::File)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind() == Kind::Directory
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

impl Record for Inode {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(1);
        out.put_u16(self.mode);
        for value in [self.uid, self.gid, self.links] {
            out.put_varint(u64::from(value));
        }
        out.put_varint(self.size);
        out.put_varint(self.blocks);
        out.put_u64(self.born.0.cast_unsigned());
        for time in [self.accessed, self.modified, self.changed] {
            out.put_varint(zigzag(time.0.wrapping_sub(self.born.0)));
        }
        out.put_varint(self.device);
        out.put_varint(u64::from(self.flags.0));
        out.put_varint(self.parent.0);
        out.put_varint(self.place);
        out.put_u8(self.marks.0);
        out.put_varint(self.hidden);
        out.put_varint(self.hidden_in);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8("inode version")? {
            1 => {}
            other => return Err(DecodeError::invalid("inode version", other)),
        }
        let mode = reader.u16("mode")?;
        if Kind::of_mode(mode).is_none() {
            return Err(DecodeError::invalid("mode", mode));
        }
        let uid = reader.varint32("uid")?;
        let gid = reader.varint32("gid")?;
        let links = reader.varint32("links")?;
        let size = reader.varint("size")?;
        let blocks = reader.varint("blocks")?;
        let born = reader.u64("born")?.cast_signed();
        let mut time =
            |what| -> Decoded<Timestamp> { Ok(Timestamp(born.wrapping_add(unzigzag(reader.varint(what)?)))) };
        let (accessed, modified, changed) = (time("accessed")?, time("modified")?, time("changed")?);
        let inode = Self {
            mode,
            uid,
            gid,
            links,
            size,
            blocks,
            born: Timestamp(born),
            accessed,
            modified,
            changed,
            device: reader.varint("device")?,
            flags: FileFlags(reader.varint32("flags")?),
            parent: Ino(reader.varint("parent")?),
            place: reader.varint("place")?,
            marks: Marks(reader.u8("marks")?),
            hidden: reader.varint("hidden")?,
            hidden_in: reader.varint("hidden in")?,
        };
        reader.end()?;
        if size > super::MAX_FILE_BYTES {
            return Err(DecodeError::invalid("size", size));
        }
        if blocks > Inode::MAX_BLOCKS {
            return Err(DecodeError::invalid("blocks", blocks));
        }
        if inode.marks.0 > Marks::ALL {
            return Err(DecodeError::invalid("marks", inode.marks.0));
        }
        if inode.hidden > super::MAX_FILE_BYTES - size || (inode.hidden == 0) != (inode.hidden_in == 0) {
            return Err(DecodeError::invalid("hidden", inode.hidden));
        }
        Ok(inode)
    }
}

/// A name in a directory, or the mark of a removed one (inode 0).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What the name stands for.
    pub ino: Ino,
    /// Its type, so that listing needs no inodes.
    pub kind: Kind,
    /// The chain of equal hashes goes on behind this entry.
    pub chained: bool,
    /// The name.
    pub name: Box<[u8]>,
}

const CHAINED: u8 = 0x80;

impl Record for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.ino.0);
        out.put_u8(self.kind as u8 | if self.chained { CHAINED } else { 0 });
        out.put(&self.name);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let ino = Ino(reader.varint("ino")?);
        let kind = reader.u8("kind")?;
        let name = reader.bytes(reader.remaining(), "name")?;
        let entry = Self {
            ino,
            kind: Kind::of_number(kind & !CHAINED).ok_or(DecodeError::invalid("kind", kind))?,
            chained: kind & CHAINED != 0,
            name: name.into(),
        };
        if entry.ino.0 == 0 {
            if !name.is_empty() || !entry.chained {
                return Err(DecodeError::invalid("mark", name.len() as u64));
            }
        } else if super::name::check(name).is_err() {
            return Err(DecodeError::invalid("name length or bytes", name.len() as u64));
        }
        Ok(entry)
    }
}

/// Bytes that are their own encoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bytes(pub Box<[u8]>);

impl Record for Bytes {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.0);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        Ok(Self(bytes.into()))
    }
}

/// A row of the allocation bitmap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BitmapRow(pub Box<[u8; GROUP_BYTES]>);

impl Record for BitmapRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put(self.0.as_slice());
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        match bytes.try_into() {
            Ok(row) => Ok(Self(Box::new(row))),
            Err(_) => Err(DecodeError::invalid("row length", bytes.len() as u64)),
        }
    }
}

/// A file without a name that still exists: it is open, or being taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Orphan {
    /// Rows below this chunk are already gone.
    pub next_chunk: u64,
}

impl Record for Orphan {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.next_chunk);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let orphan = Self {
            next_chunk: reader.varint("next chunk")?,
        };
        reader.end()?;
        Ok(orphan)
    }
}

/// A name of a file besides its first; all there is to know is in the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Further;

impl Record for Further {
    /// The value is empty (docs/FORMAT.md, 9.9).
    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        Reader::new(bytes).end().map(|()| Self)
    }
}

/// Numbers about the whole pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// The next file gets this number; numbers are never used twice.
    pub next_ino: Ino,
    /// Files of all kinds.
    pub inodes: u64,
    /// Blocks promised to preallocated ranges.
    pub promised: u64,
}

impl Record for Totals {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(1);
        out.put_varint(self.next_ino.0);
        out.put_varint(self.inodes);
        out.put_varint(self.promised);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        match reader.u8("totals version")? {
            1 => {}
            other => return Err(DecodeError::invalid("totals version", other)),
        }
        let totals = Self {
            next_ino: Ino(reader.varint("next ino")?),
            inodes: reader.varint("inodes")?,
            promised: reader.varint("promised")?,
        };
        reader.end()?;
        if totals.next_ino <= Ino::ROOT || totals.next_ino.0 > Totals::LAST_INO {
            return Err(DecodeError::invalid("next ino", totals.next_ino.0));
        }
        if totals.inodes > Totals::LAST_INO {
            return Err(DecodeError::invalid("inodes", totals.inodes));
        }
        if totals.promised > Block::LIMIT {
            return Err(DecodeError::invalid("promised", totals.promised));
        }
        Ok(totals)
    }
}

impl Totals {
    /// Inode numbers stay below this, so that they fit whatever is told about them.
    pub const LAST_INO: u64 = 1 << 62;
}

pub(in crate::fs) fn be64(reader: &mut Reader<'_>, what: &'static str) -> Decoded<u64> {
    reader.array(what).map(u64::from_be_bytes)
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $tag:literal { $($field:ident: $type:ident),* } owner $owner:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name { $(#[doc = stringify!($field)] pub $field: $type),* }

        impl Key for $name {
            const TAG: u8 = $tag;

            fn encode(&self, out: &mut Vec<u8>) {
                $(out.put(&keys!(@raw $type self.$field).to_be_bytes());)*
                let _ = out;
            }

            fn decode(bytes: &[u8]) -> Decoded<Self> {
                let mut reader = Reader::new(bytes);
                let key = Self { $($field: keys!(@make $type be64(&mut reader, stringify!($field))?)),* };
                let _ = &mut reader;
                reader.end()?;
                Ok(key)
            }

            fn owner(&self) -> Option<Ino> {
                let owner: fn(&Self) -> Option<Ino> = $owner;
                owner(self)
            }
        }
    )*};
    (@raw Ino $value:expr) => { $value.0 };
    (@raw u64 $value:expr) => { $value };
    (@make Ino $value:expr) => { Ino($value) };
    (@make u64 $value:expr) => { $value };
}
pub(in crate::fs) use keys;

keys! {
    /// Key of an [`Inode`].
    InodeKey = 1 { ino: Ino } owner |key| Some(key.ino);
    /// Key of an [`Entry`].
    EntryKey = 2 { directory: Ino, cookie: u64 } owner |key| Some(key.directory);
    /// Key of a row of a file's map.
    RowKey = 3 { ino: Ino, chunk: u64 } owner |key| Some(key.ino);
    /// Key of a [`BitmapRow`].
    GroupKey = 5 { group: u64 } owner |_| None;
    /// Key of extra references.
    SharedKey = 6 { group: u64 } owner |_| None;
    /// Key of an [`Orphan`].
    OrphanKey = 7 { ino: Ino } owner |key| Some(key.ino);
    /// Key of the [`Totals`].
    TotalsKey = 8 { } owner |_| None;
    /// Key of a [`SessionRecord`](super::session::SessionRecord): 0, or the base of a window.
    SessionKey = 9 { part: u64 } owner |_| None;
    /// Key of a [`Further`] name: the entry it is.
    PlaceKey = 16 { ino: Ino, directory: Ino, cookie: u64 } owner |key| Some(key.ino);
}

/// Key of an extended attribute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttributeKey {
    /// The file.
    pub ino: Ino,
    /// Full name with its namespace.
    pub name: Box<[u8]>,
}

impl Key for AttributeKey {
    const TAG: u8 = 4;

    fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.ino.0.to_be_bytes());
        out.put(&self.name);
    }

    fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let ino = Ino(be64(&mut reader, "ino")?);
        let name = reader.bytes(reader.remaining(), "name")?;
        Ok(Self { ino, name: name.into() })
    }

    fn owner(&self) -> Option<Ino> {
        Some(self.ino)
    }
}
