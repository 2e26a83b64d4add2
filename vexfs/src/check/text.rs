// SPDX-License-Identifier: MIT OR Apache-2.0

//! How the parts of an issue read.

use std::fmt;

use crate::fs::record::{
    AttributeKey, EntryKey, GroupKey, InodeKey, Kind, OrphanKey, PlaceKey, RowKey, SessionKey, SharedKey, TotalsKey,
};
use crate::fs::vectors::record::{
    CentreKey, EmbeddingKey, GrowingKey, IndexKey, LeafKey, SlabKey, SpaceKey, SpaceNameKey, VectorKey,
};
use crate::meta::Key;
use crate::meta::base::KeyRange;
use crate::units::Ino;

/// A name, or other bytes of the pool.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub Box<[u8]>);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// Files that use one block; at most [`Owners::LIMIT`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Owners(pub Vec<Ino>);

impl Owners {
    /// More are not told.
    pub const LIMIT: usize = 8;
}

impl fmt::Display for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ino) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{ino}")?;
        }
        Ok(())
    }
}

/// The kinds of records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordKind {
    /// What is known about a file.
    Inode,
    /// A name in a directory.
    Entry,
    /// A row of a file's map.
    Row,
    /// An extended attribute.
    Attribute,
    /// A row of the bitmap.
    Bitmap,
    /// References to shared blocks.
    References,
    /// A file that is to be removed.
    Orphan,
    /// The totals.
    Totals,
    /// What is remembered of a client.
    Session,
    /// A name of a file besides its first.
    Place,
    /// A space for vectors.
    Space,
    /// The name of one.
    SpaceName,
    /// A vector of a file.
    Embedding,
    /// Where a vector is.
    Vector,
    /// Bytes of a growing vector.
    Growing,
    /// A slab of vectors.
    Slab,
    /// The index of a space.
    Index,
    /// A leaf of one.
    Leaf,
    /// The centre of a leaf.
    Centre,
}

impl RecordKind {
    /// Of a key's first byte.
    pub const fn of_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            InodeKey::TAG => Self::Inode,
            EntryKey::TAG => Self::Entry,
            RowKey::TAG => Self::Row,
            AttributeKey::TAG => Self::Attribute,
            GroupKey::TAG => Self::Bitmap,
            SharedKey::TAG => Self::References,
            OrphanKey::TAG => Self::Orphan,
            TotalsKey::TAG => Self::Totals,
            SessionKey::TAG => Self::Session,
            PlaceKey::TAG => Self::Place,
            SpaceKey::TAG => Self::Space,
            SpaceNameKey::TAG => Self::SpaceName,
            EmbeddingKey::TAG => Self::Embedding,
            VectorKey::TAG => Self::Vector,
            GrowingKey::TAG => Self::Growing,
            SlabKey::TAG => Self::Slab,
            IndexKey::TAG => Self::Index,
            LeafKey::TAG => Self::Leaf,
            CentreKey::TAG => Self::Centre,
            _ => return None,
        })
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inode => "inode",
            Self::Entry => "directory entry",
            Self::Row => "row of a file's map",
            Self::Attribute => "extended attribute",
            Self::Bitmap => "bitmap row",
            Self::References => "row of references",
            Self::Orphan => "orphan",
            Self::Totals => "totals",
            Self::Session => "session",
            Self::Place => "further name",
            Self::Space => "space",
            Self::SpaceName => "name of a space",
            Self::Embedding => "embedding",
            Self::Vector => "vector",
            Self::Growing => "growing vector",
            Self::Slab => "slab",
            Self::Index => "index",
            Self::Leaf => "leaf",
            Self::Centre => "centre of a leaf",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fifo => "named pipe",
            Self::Character => "character device",
            Self::Directory => "directory",
            Self::Block => "block device",
            Self::File => "regular file",
            Self::Symlink => "symbolic link",
            Self::Socket => "socket",
        })
    }
}

/// A key, as far as it can be told without its value.
fn key_text(key: &[u8]) -> String {
    let Some((&tag, rest)) = key.split_first() else {
        return "the start".to_owned();
    };
    let Some(kind) = RecordKind::of_tag(tag) else {
        return format!("kind {tag}");
    };
    match rest.split_first_chunk() {
        Some((number, rest)) => {
            let number = u64::from_be_bytes(*number);
            match rest.first_chunk().filter(|_| tag != AttributeKey::TAG) {
                Some(second) => format!("{kind} {number}/{}", u64::from_be_bytes(*second)),
                None => format!("{kind} {number}"),
            }
        }
        None => kind.to_string(),
    }
}

/// What a lost page may have held.
pub(super) fn records_text(keys: Option<&KeyRange>) -> String {
    match keys {
        Some((from, to)) => format!("the records from {} to {}", key_text(from), key_text(to)),
        None => "the long values".to_owned(),
    }
}
