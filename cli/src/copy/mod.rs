// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files on their way between a pool, the machine around it, and archives.
//!
//! What is copied becomes a [`Node`] first: everything about one file but its name and its bytes. Each place has a module
//! that makes nodes from files there, and files there from nodes; bytes go beside them, range by range, so that holes stay
//! holes.
//!
//! | module | place |
//! |---|---|
//! | [`pool`] | a pool that is not mounted |
//! | [`host`] | the machine's own filesystems |
//! | [`crate::archive`] | a tar archive |
//!
//! [`embeddings`] are the vectors among what a node has.

pub(crate) mod embeddings;
pub(crate) mod host;
pub(crate) mod pool;

use std::ops::Range;

use vexfs::fs::record::{FileFlags, Kind, Timestamp};

use embeddings::Embeddings;

/// Bytes moved at once.
pub(crate) const PIECE: usize = 1 << 20;

/// The kernel's names of access lists as extended attributes.
pub(crate) const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
/// Of those that a directory gives to new files.
pub(crate) const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// Name and value of an extended attribute.
pub(crate) type Attribute = (Box<[u8]>, Vec<u8>);

/// Everything about one file but its name and its bytes. `None` is what the place it comes from does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Type.
    pub(crate) kind: Kind,
    /// Permissions with set-ID and sticky bits.
    pub(crate) permissions: u16,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Number of a device node, as `makedev` makes it.
    pub(crate) device: u64,
    /// Of a symbolic link.
    pub(crate) target: Vec<u8>,
    /// Bytes, of a regular file.
    pub(crate) size: u64,
    /// Last change of the contents.
    pub(crate) modified: Timestamp,
    /// Last read.
    pub(crate) accessed: Option<Timestamp>,
    /// Creation.
    pub(crate) born: Option<Timestamp>,
    /// Flags of the engine.
    pub(crate) flags: Option<FileFlags>,
    /// Extended attributes, access lists among them. From a pool, vectors are not.
    pub(crate) attributes: Vec<Attribute>,
    /// Vectors.
    pub(crate) embeddings: Vec<Embeddings>,
    /// Bytes that space is promised for, beyond the end of the file too.
    pub(crate) promised: Vec<Range<u64>>,
}

impl Node {
    /// A file of this type that nothing else is known of.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            permissions: 0o644,
            uid: 0,
            gid: 0,
            device: 0,
            target: Vec::new(),
            size: 0,
            modified: Timestamp::default(),
            accessed: None,
            born: None,
            flags: None,
            attributes: Vec::new(),
            embeddings: Vec::new(),
            promised: Vec::new(),
        }
    }
}

/// Whether files of a type are copied without being asked for.
pub(crate) fn is_ordinary(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Directory | Kind::Symlink)
}

/// Set-user-ID and set-group-ID. They are kept only with the owner whose rights they give away.
pub(crate) const SET_IDS: u16 = 0o6000;

/// Things to tell at the end of long work: the first ones by name, the rest by number.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    told: Vec<String>,
    more: u64,
}

impl Notes {
    const MOST: usize = 10;

    pub(crate) fn add(&mut self, text: String) {
        if self.told.len() < Self::MOST {
            self.told.push(text);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl std::fmt::Display for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told.join(", "))?;
        if self.more > 0 {
            write!(f, " and {} more", self.more)?;
        }
        Ok(())
    }
}
