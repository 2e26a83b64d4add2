// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cloning a whole directory tree: a snapshot that shares every block with the original.

use std::collections::{HashMap, HashSet};

use crate::error::{Errno, Error, Result};
use crate::units::Ino;

use super::apply::Chain;
use super::engine::Fs;
use super::namespace::{Attributes, NewFile, SetAttributes};
use super::op::xattr;
use super::record::{FileFlags, Kind, Timestamp};
use super::vectors::{Put, runs};

impl Fs {
    /// Makes a copy of a file or of everything below a directory, under a new name. Blocks are shared, hard links inside
    /// the tree stay hard links. The copy gets its name last: it appears complete or not at all.
    ///
    /// What protects the originals (immutable, append-only) does not protect the copies.
    ///
    /// Changes that others make meanwhile may or may not be in the copy; each file is as it was at one moment as long as it
    /// is not larger than what one operation shares.
    pub fn clone_tree(&self, source: Ino, parent: Ino, name: &[u8], now: Timestamp) -> Result<Attributes> {
        let root = self.attributes(source)?;
        super::name::check(name)?;
        match self.lookup(parent, name) {
            Ok(_) => return Err(Errno::Exists.into()),
            Err(error) if error.errno() == Errno::NoEntry.number() => {}
            Err(error) => return Err(error),
        }
        self.forbid_inside(source, parent)?;
        // The draft's name will be taken away again.
        self.forbid_protected(parent)?;
        // Built under a name of its own beside the target, moved when complete.
        let draft = format!(".clone-{}-{}", source.0, self.statistics().newest);
        let mut links = HashMap::new();
        let built = self.clone_into(&root, parent, draft.as_bytes(), now, &mut links);
        let moved = built.and_then(|copy| {
            let no_replace = super::op::rename::NO_REPLACE;
            self.rename(parent, draft.as_bytes(), parent, name, no_replace, now)?;
            self.attributes(copy.ino)
        });
        if moved.is_err() {
            // The reason is what the caller must hear; what cannot be removed stays visible under its draft name.
            if let Err(error) = self.remove_tree(parent, draft.as_bytes(), now) {
                tracing::warn!(%error, draft, "an incomplete copy stays");
            }
        }
        moved
    }

    /// That names may be taken away in a directory.
    fn forbid_protected(&self, directory: Ino) -> Result<()> {
        let mut core = self.core();
        let directory = core.state.directory(directory)?;
        core.forbid_change(&directory)
    }

    fn forbid_inside(&self, source: Ino, parent: Ino) -> Result<()> {
        let mut at = parent;
        let mut chain = Chain::new(parent);
        loop {
            if at == source {
                return Err(Errno::Invalid.into());
            }
            if at == Ino::ROOT {
                return Ok(());
            }
            at = self.attributes(at)?.inode.parent;
            chain.goes_on(at)?;
        }
    }

    fn clone_into(
        &self,
        source: &Attributes,
        parent: Ino,
        name: &[u8],
        now: Timestamp,
        links: &mut HashMap<Ino, Ino>,
    ) -> Result<Attributes> {
        if let Some(&copy) = links.get(&source.ino) {
            return self.link(copy, parent, name, now);
        }
        // Depth is bounded by the heap, not by the stack: directories to do are kept in a list.
        let top = self.clone_one(source, parent, name, now, links)?;
        let mut pending = vec![(source.ino, top.ino)];
        let mut seen = HashSet::from([source.ino]);
        while let Some((from, to)) = pending.pop() {
            if !self.attributes(from)?.inode.is_directory() {
                continue;
            }
            for entry in self.list_all(from)? {
                if let Some(&copy) = links.get(&entry.ino) {
                    self.link(copy, to, &entry.name, now)?;
                    continue;
                }
                if entry.kind == Kind::Directory {
                    meet(&mut seen, entry.ino)?;
                }
                let child = self.attributes(entry.ino)?;
                let copy = self.clone_one(&child, to, &entry.name, now, links)?;
                if entry.kind == Kind::Directory {
                    pending.push((entry.ino, copy.ino));
                }
            }
            self.copy_attributes(from, to, now)?;
        }
        self.attributes(top.ino)
    }

    /// Everything of one file but what is below it.
    fn clone_one(
        &self,
        source: &Attributes,
        parent: Ino,
        name: &[u8],
        now: Timestamp,
        links: &mut HashMap<Ino, Ino>,
    ) -> Result<Attributes> {
        let inode = &source.inode;
        let kind = inode.kind();
        let target = if kind == Kind::Symlink {
            self.read_link(source.ino)?
        } else {
            Vec::new()
        };
        let copy = self.create(
            parent,
            name,
            &NewFile {
                kind,
                permissions: inode.mode & 0o7777,
                uid: inode.uid,
                gid: inode.gid,
                device: inode.device,
                target: &target,
                now,
            },
        )?;
        if inode.links > 1 && kind != Kind::Directory {
            links.insert(source.ino, copy.ino);
        }
        if kind == Kind::File && inode.size > 0 {
            self.clone_range(source.ino, 0, copy.ino, 0, 0, now)?;
        }
        if kind != Kind::Directory {
            self.copy_attributes(source.ino, copy.ino, now)?;
        }
        Ok(copy)
    }

    /// All vectors, under the same ordinals.
    fn copy_vectors(&self, from: Ino, to: Ino, now: Timestamp) -> Result<()> {
        for space in self.spaces_of(from)? {
            let vectors = match self.vectors_of(from, space) {
                Err(Error::Posix(Errno::NoEntry)) => continue,
                other => other?,
            };
            for run in runs(&vectors) {
                self.put_vectors(&Put {
                    ino: to,
                    space,
                    ordinal: run.ordinal,
                    whole: false,
                    of: Some(run.of),
                    bytes: &run.bytes,
                    now,
                })?;
            }
        }
        Ok(())
    }

    /// Extended attributes, owner, permissions, flags and times; last, since writing changes some of them.
    fn copy_attributes(&self, from: Ino, to: Ino, now: Timestamp) -> Result<()> {
        self.copy_vectors(from, to, now)?;
        for name in self.list_xattrs(from)? {
            if name.starts_with(super::vectors::PREFIX) {
                continue;
            }
            let value = self.get_xattr(from, &name)?;
            self.set_xattr(to, &name, &value, xattr::CREATE, now)?;
        }
        let inode = self.attributes(from)?.inode;
        // A protected copy could get no further names, nor its final one, nor be removed when a later step fails.
        let protection = FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0;
        self.set_attributes(
            to,
            &SetAttributes {
                permissions: Some(inode.mode & 0o7777),
                uid: Some(inode.uid),
                gid: Some(inode.gid),
                accessed: Some(inode.accessed),
                modified: Some(inode.modified),
                flags: Some(FileFlags(inode.flags.0 & !protection)),
                now,
            },
        )?;
        Ok(())
    }

    /// Removes a name and everything below it.
    pub fn remove_tree(&self, parent: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        let top = self.lookup(parent, name)?;
        if !top.inode.is_directory() {
            return self.unlink(parent, name, now);
        }
        // Found out before the tree is empty, not when its last name is to go.
        self.forbid_protected(parent)?;
        // A directory is removed when it is met again empty.
        let mut pending: Vec<(Ino, Ino, Box<[u8]>)> = vec![(parent, top.ino, name.into())];
        let mut seen = HashSet::from([top.ino]);
        while let Some((parent, directory, name)) = pending.last().cloned() {
            let some = self.list(directory, 2, 1024)?;
            if some.is_empty() {
                self.remove_directory(parent, &name, now)?;
                pending.pop();
                continue;
            }
            for entry in some {
                if entry.kind == Kind::Directory {
                    meet(&mut seen, entry.ino)?;
                    pending.push((directory, entry.ino, entry.name));
                } else {
                    self.unlink(directory, &entry.name, now)?;
                }
            }
        }
        Ok(())
    }
}

/// Notes that a walk met a directory. One that is met twice was moved by somebody, or is its own ancestor in a damaged
/// pool, where the walk would not end.
fn meet(seen: &mut HashSet<Ino>, directory: Ino) -> Result<()> {
    if seen.insert(directory) {
        Ok(())
    } else {
        Err(Errno::TooDeep.into())
    }
}
