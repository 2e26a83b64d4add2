// SPDX-License-Identifier: MIT OR Apache-2.0

//! Nodes from a pool, and into one.
//!
//! Into a pool a file goes in three steps: [`Writer::place`] gives it its name, [`Writer::write`] its bytes,
//! [`Writer::finish`] the rest. What later steps of the whole copy would change or be refused because of (times of
//! directories, protection against changes) waits for [`Writer::end`].

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context, Result, bail};
use vexfs::fs::record::{FileFlags, Kind, Timestamp};
use vexfs::fs::vectors::PREFIX;
use vexfs::fs::{Attributes, Fs, NewFile, Preallocation, Seek, SetAttributes};
use vexfs::units::Ino;

use super::embeddings::{Embeddings, Putter};
use super::{ACCESS_LIST, DEFAULT_LIST, Node, PIECE, SET_IDS};
use crate::failure::failed;
use crate::place;

/// Flags that forbid changes.
const PROTECTION: u32 = FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0;

/// Everything about a file of a pool; vectors, which may be many, only if `all` is wanted.
pub(crate) fn node(fs: &Fs, found: &Attributes, all: bool) -> Result<Node> {
    let inode = &found.inode;
    let kind = inode.kind();
    let mut attributes = Vec::new();
    for name in fs.list_xattrs(found.ino)? {
        if name.starts_with(PREFIX) {
            continue;
        }
        let value = fs.get_xattr(found.ino, &name)?;
        attributes.push((name, value));
    }
    let promised = if kind == Kind::File && fs.statistics().promised_blocks > 0 {
        fs.promised_ranges(found.ino)?
    } else {
        Vec::new()
    };
    Ok(Node {
        kind,
        permissions: inode.mode & 0o7777,
        uid: inode.uid,
        gid: inode.gid,
        device: inode.device,
        target: if kind == Kind::Symlink {
            fs.read_link(found.ino)?
        } else {
            Vec::new()
        },
        size: if kind == Kind::File { inode.size } else { 0 },
        modified: inode.modified,
        accessed: Some(inode.accessed),
        born: Some(inode.born),
        flags: Some(inode.flags),
        attributes,
        embeddings: if all {
            Embeddings::of(fs, found.ino)?
        } else {
            Vec::new()
        },
        promised,
    })
}

/// The ranges of a file that hold bytes, in order; what lies between are holes.
pub(crate) fn stored(fs: &Fs, ino: Ino, size: u64) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match fs.seek(ino, at, Seek::Data) {
            Ok(start) => start,
            Err(error) if error.errno() == nix::errno::Errno::ENXIO as i32 => break,
            Err(error) => return Err(error.into()),
        };
        at = fs.seek(ino, start, Seek::Hole)?;
        ranges.push(start..at);
    }
    Ok(ranges)
}

/// Calls `each` with the bytes of a range, piece by piece.
pub(crate) fn read(
    fs: &Fs,
    ino: Ino,
    range: &Range<u64>,
    mut each: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut piece = vec![0; PIECE.min(usize::try_from(range.end - range.start).unwrap_or(PIECE))];
    let mut at = range.start;
    while at < range.end {
        let room = usize::try_from(range.end - at).unwrap_or(PIECE).min(piece.len());
        let count = fs.read(ino, at, piece.get_mut(..room).unwrap_or_default())?;
        if count == 0 {
            bail!("the file became shorter while it was read");
        }
        each(at, piece.get(..count).unwrap_or_default())?;
        at += count as u64;
    }
    Ok(())
}

/// What of a node becomes the file's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// Owner, access time, flags, promised space, extended attributes and vectors: everything. Else permissions and the time of
    /// the last change, and the file belongs to the caller.
    pub(crate) all: bool,
    /// What has the name of a regular file is removed first. Else a regular file there gets the new contents.
    pub(crate) replace: bool,
}

/// A copy into a pool.
pub(crate) struct Writer<'a> {
    fs: &'a Fs,
    keep: Keep,
    owner: (u32, u32),
    now: Timestamp,
    vectors: Putter<'a>,
    /// Each file once, however often an archive names it.
    directories: HashMap<Ino, SetAttributes>,
    protected: HashMap<Ino, FileFlags>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(fs: &'a Fs, keep: Keep) -> Self {
        let now = place::now();
        Self {
            fs,
            keep,
            owner: (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()),
            now,
            vectors: Putter::new(fs, now),
            directories: HashMap::new(),
            protected: HashMap::new(),
        }
    }

    /// Makes the file, in place of another of that name if that is none or both are directories.
    pub(crate) fn place(&mut self, parent: Ino, name: &[u8], node: &Node) -> Result<Ino> {
        if let Some(found) = self.existing(parent, name)? {
            let there = found.inode.kind();
            let reused = match node.kind {
                Kind::Directory => there == Kind::Directory,
                Kind::File => there == Kind::File && !self.keep.replace,
                _ => false,
            };
            if reused {
                if there == Kind::File {
                    self.fs.truncate(found.ino, 0, self.now)?;
                }
                self.adopt(found.ino, node)?;
                return Ok(found.ino);
            }
            self.remove(&found, parent, name)?;
        }
        let (uid, gid) = self.owner_of(node);
        let made = self.fs.create(
            parent,
            name,
            &NewFile {
                kind: node.kind,
                permissions: node.permissions & 0o777,
                uid,
                gid,
                device: node.device,
                target: &node.target,
                // A file is created when its creation time says; everything else is set later.
                now: node.born.filter(|_| self.keep.all).unwrap_or(self.now),
            },
        )?;
        self.set_flags(made.ino, node)?;
        Ok(made.ino)
    }

    /// Takes a directory that is there for the one to be made.
    pub(crate) fn adopt(&self, ino: Ino, node: &Node) -> Result<()> {
        if self.keep.all {
            self.drop_lists(ino, node)?;
        }
        self.set_flags(ino, node)
    }

    /// Makes another name of a file, in place of what had it.
    pub(crate) fn link(&mut self, ino: Ino, parent: Ino, name: &[u8]) -> Result<()> {
        if let Some(found) = self.existing(parent, name)? {
            if found.ino == ino {
                return Ok(());
            }
            self.remove(&found, parent, name)?;
        }
        self.fs.link(ino, parent, name, self.now)?;
        Ok(())
    }

    fn remove(&mut self, found: &Attributes, parent: Ino, name: &[u8]) -> Result<()> {
        if found.inode.is_directory() {
            bail!("a directory of that name is there; remove it first, or choose another place");
        }
        if found.inode.links == 1 {
            self.protected.remove(&found.ino);
        }
        Ok(self.fs.unlink(parent, name, self.now)?)
    }

    fn existing(&self, parent: Ino, name: &[u8]) -> Result<Option<Attributes>> {
        match self.fs.lookup(parent, name) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.errno() == nix::errno::Errno::ENOENT as i32 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes all of the bytes.
    pub(crate) fn write(&self, ino: Ino, at: u64, bytes: &[u8]) -> Result<()> {
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let written = self.fs.write(ino, at, rest, self.now)?;
            at += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Size, promised space, extended attributes, vectors, owner, permissions, times.
    pub(crate) fn finish(&mut self, ino: Ino, node: &Node) -> Result<()> {
        if node.kind == Kind::File && self.fs.attributes(ino)?.size() != node.size {
            self.fs.truncate(ino, node.size, self.now)?;
        }
        if self.keep.all {
            for range in &node.promised {
                let mode = Preallocation::Allocate { keep_size: true };
                self.fs
                    .preallocate(ino, mode, range.start, range.end - range.start, self.now)?;
            }
            for (name, value) in &node.attributes {
                self.set_attribute(ino, name, value)?;
            }
            for embeddings in &node.embeddings {
                self.vectors.put(ino, embeddings).with_context(|| embeddings.shown())?;
            }
            if let Some(flags) = node.flags.filter(|flags| flags.any(FileFlags(PROTECTION))) {
                self.protected.insert(ino, flags);
            }
        }
        let (uid, gid) = self.owner_of(node);
        let permissions = if self.keep.all {
            node.permissions
        } else {
            node.permissions & !SET_IDS
        };
        let set = SetAttributes {
            permissions: (node.kind != Kind::Symlink || self.keep.all).then_some(permissions),
            uid: Some(uid),
            gid: Some(gid),
            accessed: node.accessed.filter(|_| self.keep.all),
            modified: Some(node.modified),
            flags: None,
            now: self.now,
        };
        if node.kind == Kind::Directory {
            self.directories.insert(ino, set);
        } else {
            self.fs.set_attributes(ino, &set)?;
        }
        Ok(())
    }

    /// What had to wait for everything else.
    pub(crate) fn end(self) -> Result<()> {
        for (ino, set) in &self.directories {
            self.fs.set_attributes(*ino, set)?;
        }
        for (ino, flags) in self.protected {
            let set = SetAttributes {
                flags: Some(flags),
                now: self.now,
                ..SetAttributes::default()
            };
            self.fs.set_attributes(ino, &set)?;
        }
        Ok(())
    }

    fn set_attribute(&self, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
        match self.fs.set_xattr(ino, name, value, 0, self.now) {
            Err(error) if error.errno() == nix::errno::Errno::EOPNOTSUPP as i32 && name.starts_with(PREFIX) => {
                let space = String::from_utf8_lossy(name.get(PREFIX.len()..).unwrap_or_default());
                Err(failed(
                    format!("there is no space {space} for its vectors"),
                    "make it first: vexfs-ublk space create",
                ))
            }
            other => Ok(other?),
        }
    }

    fn owner_of(&self, node: &Node) -> (u32, u32) {
        if self.keep.all {
            (node.uid, node.gid)
        } else {
            self.owner
        }
    }

    /// The flags decide how bytes are stored, so they come before the bytes; those that forbid changes come last.
    fn set_flags(&self, ino: Ino, node: &Node) -> Result<()> {
        let Some(flags) = node.flags.filter(|_| self.keep.all) else {
            return Ok(());
        };
        let flags = FileFlags(flags.0 & !PROTECTION);
        if self.fs.attributes(ino)?.inode.flags != flags {
            let set = SetAttributes {
                flags: Some(flags),
                now: self.now,
                ..SetAttributes::default()
            };
            self.fs.set_attributes(ino, &set)?;
        }
        Ok(())
    }

    /// Takes away the access lists of a directory that was there, if its original has none: they would let others in.
    fn drop_lists(&self, ino: Ino, node: &Node) -> Result<()> {
        for name in [ACCESS_LIST, DEFAULT_LIST] {
            let kept = node.attributes.iter().any(|(kept, _)| **kept == *name);
            if !kept && self.fs.get_xattr(ino, name).is_ok() {
                self.fs.remove_xattr(ino, name, self.now)?;
            }
        }
        Ok(())
    }
}
