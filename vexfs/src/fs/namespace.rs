// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names and inodes, as front ends ask for them.

use crate::checksum::Crc;
use crate::data::row::{INLINE_BYTES, Row};
use crate::error::{Damage, Errno, Error, Result};
use crate::units::Ino;

use super::engine::{Core, Fs, Mode};
use super::op::{Op, change, rename};
use super::record::{FileFlags, Inode, Kind, Timestamp};

/// Rows that one step of taking a file apart may touch.
pub(super) const STEP_ROWS: usize = 256;

/// Set-group-ID: a directory's files get its group.
const SETGID: u16 = 0o2000;
const SETUID: u16 = 0o4000;
const GROUP_EXECUTE: u16 = 0o010;

/// What `stat` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The file.
    pub ino: Ino,
    /// Everything about it.
    pub inode: Inode,
}

impl Attributes {
    /// Size in bytes, as told to users: of a directory it says something about its number of entries.
    pub fn size(&self) -> u64 {
        self.inode.size
    }

    /// With the inode number it names a file for ever: a repaired pool may give a number twice.
    pub fn generation(&self) -> u32 {
        let born = self.inode.born.0.to_le_bytes();
        Crc::of(&born).0 | 1
    }

    /// Blocks of 512 bytes, as `stat` counts. Bytes that are kept in the record count too: of a file without blocks tar
    /// believes that it is one hole, and stores zeros.
    pub fn sectors(&self) -> u64 {
        let Inode { blocks, size, .. } = self.inode;
        if blocks == 0 && size <= INLINE_BYTES as u64 && self.inode.kind() == Kind::File {
            return size.div_ceil(512);
        }
        blocks * 8
    }
}

/// What a new file is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// Type.
    pub kind: Kind,
    /// Permissions, after the umask.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group; the directory's wins if that has the set-group-ID bit.
    pub gid: u32,
    /// Of a device node.
    pub device: u64,
    /// Of a symbolic link.
    pub target: &'a [u8],
    /// Now.
    pub now: Timestamp,
}

/// Changes of a file's attributes. `None` leaves one alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetAttributes {
    /// Permissions.
    pub permissions: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last read.
    pub accessed: Option<Timestamp>,
    /// Last change of the contents.
    pub modified: Option<Timestamp>,
    /// File flags.
    pub flags: Option<FileFlags>,
    /// Now.
    pub now: Timestamp,
}

impl Fs {
    /// The file of a name.
    pub fn lookup(&self, directory: Ino, name: &[u8]) -> Result<Attributes> {
        let mut core = self.core();
        let state = &mut core.state;
        if !state.inode(directory)?.is_directory() {
            return Err(Errno::NotDirectory.into());
        }
        if name.len() > super::name::MAX_NAME {
            return Err(Errno::NameTooLong.into());
        }
        let ino = state.lookup(directory, name)?.ok_or(Error::Posix(Errno::NoEntry))?;
        let inode = state.named_inode(ino)?;
        Ok(Attributes { ino, inode })
    }

    /// The file of a path of names from the root, without following symbolic links. For tools and tests.
    pub fn resolve(&self, path: &[u8]) -> Result<Attributes> {
        let mut found = self.attributes(Ino::ROOT)?;
        for name in path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
        {
            found = if name == b".." {
                self.attributes(found.inode.parent)?
            } else {
                self.lookup(found.ino, name)?
            };
        }
        Ok(found)
    }

    /// What is known about a file.
    pub fn attributes(&self, ino: Ino) -> Result<Attributes> {
        let inode = self.core().state.inode(ino)?;
        Ok(Attributes { ino, inode })
    }

    /// Creates a file of any kind.
    pub fn create(&self, parent: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Attributes> {
        let mut core = self.shared.writable()?;
        let directory = core.state.directory(parent)?;
        core.forbid_immutable(&directory)?;
        let (mut mode, mut gid) = (new.kind.mode_bits() | new.permissions & 0o7777, new.gid);
        if directory.mode & SETGID != 0 {
            gid = directory.gid;
            if new.kind == Kind::Directory {
                mode |= SETGID;
            }
        }
        let inherited = match new.kind {
            Kind::File | Kind::Directory => directory.flags.0 & FileFlags::INHERITED.0,
            _ => 0,
        };
        let ino = core.state.totals.next_ino;
        core.perform(&[Op::Create {
            parent,
            ino,
            mode,
            uid: new.uid,
            gid,
            device: new.device,
            flags: inherited,
            time: new.now,
            name,
            target: new.target,
        }])?;
        let inode = core.state.inode(ino)?;
        self.shared.request_checkpoint(core)?;
        Ok(Attributes { ino, inode })
    }

    /// Creates a regular file without a name and holds it. It gets one with [`Self::adopt`] or goes with its last holder.
    pub fn create_unnamed(&self, directory: Ino, new: &NewFile<'_>) -> Result<Attributes> {
        let mut core = self.shared.writable()?;
        let parent = core.state.directory(directory)?;
        let gid = if parent.mode & SETGID != 0 { parent.gid } else { new.gid };
        let ino = core.state.totals.next_ino;
        core.perform(&[Op::Create {
            parent: Ino(0),
            ino,
            mode: Kind::File.mode_bits() | new.permissions & 0o7777,
            uid: new.uid,
            gid,
            device: 0,
            flags: parent.flags.0 & FileFlags::INHERITED.0,
            time: new.now,
            name: b"",
            target: b"",
        }])?;
        core.holders.insert(ino, 1);
        let inode = core.state.inode(ino)?;
        self.shared.request_checkpoint(core)?;
        Ok(Attributes { ino, inode })
    }

    /// Gives another name to a file; to one without names, its first.
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8], now: Timestamp) -> Result<Attributes> {
        let mut core = self.shared.writable()?;
        let inode = core.state.inode(ino)?;
        let directory = core.state.directory(parent)?;
        core.forbid_immutable(&directory)?;
        core.forbid_change(&inode)?;
        let unnamed = inode.links == 0 && core.state.orphan(ino)?.is_some();
        let time = now;
        core.perform(&[if unnamed {
            Op::Adopt {
                ino,
                parent,
                time,
                name,
            }
        } else {
            Op::Link {
                ino,
                parent,
                time,
                name,
            }
        }])?;
        let inode = core.state.inode(ino)?;
        self.shared.request_checkpoint(core)?;
        Ok(Attributes { ino, inode })
    }

    /// Removes a name of anything but a directory.
    pub fn unlink(&self, parent: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        self.remove(
            parent,
            name,
            Op::Unlink {
                parent,
                time: now,
                name,
            },
        )
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, parent: Ino, name: &[u8], now: Timestamp) -> Result<()> {
        self.remove(
            parent,
            name,
            Op::RemoveDirectory {
                parent,
                time: now,
                name,
            },
        )
    }

    fn remove(&self, parent: Ino, name: &[u8], operation: Op<'_>) -> Result<()> {
        let mut core = self.shared.writable()?;
        let directory = core.state.directory(parent)?;
        core.forbid_change(&directory)?;
        let Some(ino) = core.state.lookup(parent, name)? else {
            super::name::check(name)?;
            return Err(Errno::NoEntry.into());
        };
        let inode = core.state.named_inode(ino)?;
        core.forbid_change(&inode)?;
        let last = inode.links == 1 || inode.is_directory();
        let leftover = core.remove_with(&[operation], last.then_some(ino))?;
        self.shared.request_checkpoint(core)?;
        leftover.map_or(Ok(()), |ino| self.purge(ino))
    }

    /// Moves a name. `flags` as in [`rename`].
    pub fn rename(&self, from: Ino, name: &[u8], to: Ino, new_name: &[u8], flags: u8, now: Timestamp) -> Result<()> {
        let mut core = self.shared.writable()?;
        let directory = core.state.directory(from)?;
        core.forbid_change(&directory)?;
        let directory = core.state.directory(to)?;
        core.forbid_immutable(&directory)?;
        if core.state.lookup(to, new_name)?.is_some() {
            // Adding a name to a directory that may only be added to is right, taking one away is not.
            core.forbid_change(&directory)?;
        }
        let mut last = None;
        for (directory, name) in [(from, name), (to, new_name)] {
            if let Some(ino) = core.state.lookup(directory, name)? {
                let inode = core.state.named_inode(ino)?;
                core.forbid_change(&inode)?;
                let replaced = directory == to && name == new_name && flags & rename::EXCHANGE == 0;
                last = (replaced && (inode.links == 1 || inode.is_directory())).then_some(ino);
            } else {
                last = None;
            }
        }
        if from == to && name == new_name {
            last = None;
        }
        let whiteout = flags & rename::WHITEOUT != 0;
        let whiteout = if whiteout { core.state.totals.next_ino } else { Ino(0) };
        let operation = Op::Rename {
            from,
            to,
            flags,
            whiteout,
            time: now,
            name,
            new_name,
        };
        let leftover = core.remove_with(&[operation], last)?;
        self.shared.request_checkpoint(core)?;
        leftover.map_or(Ok(()), |ino| self.purge(ino))
    }

    /// Changes attributes. Changing the owner takes the set-ID bits away, as a caller without privileges expects; one with
    /// them sets the permissions again in the same call.
    pub fn set_attributes(&self, ino: Ino, set: &SetAttributes) -> Result<Attributes> {
        let mut core = self.shared.writable()?;
        let inode = core.state.inode(ino)?;
        let only_flags = set.permissions.is_none() && set.uid.is_none() && set.gid.is_none();
        let times = set.accessed.is_some() || set.modified.is_some();
        if inode.flags.has(FileFlags::IMMUTABLE) && (!only_flags || times) {
            return Err(Errno::NotPermitted.into());
        }
        let mut fields = change::CHANGED;
        let mut mark = |present: bool, field: u8| {
            if present {
                fields |= field;
            }
        };
        let mut permissions = set.permissions;
        if (set.uid.is_some() || set.gid.is_some()) && permissions.is_none() && inode.kind() == Kind::File {
            let mut cleared = inode.mode & 0o7777 & !SETUID;
            if cleared & GROUP_EXECUTE != 0 {
                cleared &= !SETGID;
            }
            permissions = (cleared != inode.mode & 0o7777).then_some(cleared);
        }
        mark(permissions.is_some(), change::MODE);
        mark(set.uid.is_some(), change::UID);
        mark(set.gid.is_some(), change::GID);
        mark(set.accessed.is_some(), change::ACCESSED);
        mark(set.modified.is_some(), change::MODIFIED);
        mark(set.flags.is_some(), change::FLAGS);
        core.perform(&[Op::SetAttributes {
            ino,
            fields,
            mode: permissions.unwrap_or(0) & 0o7777,
            uid: set.uid.unwrap_or(0),
            gid: set.gid.unwrap_or(0),
            flags: set.flags.unwrap_or_default().0,
            accessed: set.accessed.unwrap_or_default(),
            modified: set.modified.unwrap_or_default(),
            changed: set.now,
        }])?;
        let inode = core.state.inode(ino)?;
        self.shared.request_checkpoint(core)?;
        Ok(Attributes { ino, inode })
    }

    /// Notes that a file was read, if that is worth noting: when it was not since the last change, or for a day.
    pub fn touch_accessed(&self, ino: Ino, now: Timestamp) -> Result<()> {
        const DAY: i64 = 86_400;
        let mut core = self.core();
        if core.mode != Mode::Writable {
            return Ok(());
        }
        let inode = core.state.inode(ino)?;
        let stale = inode.accessed <= inode.modified
            || inode.accessed <= inode.changed
            || now.seconds().saturating_sub(inode.accessed.seconds()) >= DAY;
        if !stale || inode.flags.has(FileFlags::NO_ATIME) {
            return Ok(());
        }
        if core.is_stuffed() {
            // A read does not wait for room in the journal, and must not use up what changes count on.
            if self.shared.background {
                self.shared.wanted.notify_all();
                return Ok(());
            }
            drop(core);
            core = self.shared.writable()?;
        }
        core.perform(&[Op::SetAttributes {
            ino,
            fields: change::ACCESSED,
            mode: 0,
            uid: 0,
            gid: 0,
            flags: 0,
            accessed: now,
            modified: now,
            changed: now,
        }])?;
        self.shared.request_checkpoint(core)
    }

    /// What a symbolic link points to.
    pub fn read_link(&self, ino: Ino) -> Result<Vec<u8>> {
        let mut core = self.core();
        if core.state.inode(ino)?.kind() != Kind::Symlink {
            return Err(Errno::Invalid.into());
        }
        match core.state.row(ino, 0)? {
            Some(Row::Inline(target)) => Ok(target.to_vec()),
            _ => Err(Damage::new(ino, "a symbolic link without a target")),
        }
    }

    /// Takes a file without names apart, in bounded steps.
    pub(super) fn purge(&self, ino: Ino) -> Result<()> {
        loop {
            let mut core = self.shared.writable()?;
            if core.holders.contains_key(&ino) {
                return Ok(());
            }
            // Somebody else may be doing the same.
            let Some(step) = core.next_purge(ino)? else {
                return Ok(());
            };
            core.perform(&[step])?;
            self.shared.request_checkpoint(core)?;
        }
    }

    /// Takes apart what lost its last name and its last holder; if a client may hold it, only what it let go already.
    pub(super) fn purge_orphans(&self) -> Result<()> {
        use super::record::OrphanKey;
        let mut from = OrphanKey { ino: Ino(0) };
        loop {
            let orphans = {
                let core = self.core();
                let end = OrphanKey { ino: Ino(u64::MAX) };
                core.state
                    .tables
                    .orphans
                    .scan(&core.state.base, &from, &end, STEP_ROWS)?
            };
            let Some((last, _)) = orphans.last() else {
                return Ok(());
            };
            from = OrphanKey {
                ino: Ino(last.ino.0 + 1),
            };
            let held = self.core().state.session.is_live();
            for (key, _) in orphans.iter().filter(|(_, orphan)| !held || orphan.next_chunk > 0) {
                self.purge(key.ino)?;
            }
        }
    }
}

impl Core {
    /// Performs operations that may take a file's last name; if nobody holds it and it is small, takes it apart at
    /// once, else returns it to be taken apart in steps.
    fn remove_with(&mut self, operations: &[Op<'_>], last: Option<Ino>) -> Result<Option<Ino>> {
        let Some(ino) = last.filter(|ino| !self.holders.contains_key(ino)) else {
            self.perform(operations)?;
            return Ok(None);
        };
        let rows = self.state.rows(ino, 0, u64::MAX, STEP_ROWS + 1)?;
        let vectors = self.state.embeddings(ino, STEP_ROWS + 1)?;
        if rows.len() > STEP_ROWS || vectors.len() > STEP_ROWS {
            self.perform(operations)?;
            return Ok(Some(ino));
        }
        let mut operations = operations.to_vec();
        operations.push(Op::Purge { ino, until: u64::MAX });
        self.perform(&operations)?;
        Ok(None)
    }

    /// The next step of taking an orphan apart: its vectors while there are many, then its rows, the last with all that
    /// is left.
    pub(super) fn next_purge(&mut self, ino: Ino) -> Result<Option<Op<'static>>> {
        let Some(orphan) = self.state.orphan(ino)? else {
            return Ok(None);
        };
        let vectors = self.state.embeddings(ino, STEP_ROWS + 1)?;
        if let (Some((first, _)), Some((next, _))) = (vectors.first(), vectors.get(STEP_ROWS)) {
            let until = if next.space == first.space {
                next.ordinal
            } else {
                u64::from(super::vectors::MAX_ORDINALS)
            };
            let number = |ordinal: u64| u32::try_from(ordinal).unwrap_or(super::vectors::MAX_ORDINALS);
            return Ok(Some(Op::RemoveVectors {
                ino,
                space: first.space,
                from: number(first.ordinal),
                count: number(until - first.ordinal),
                time: self.state.inode(ino)?.changed,
            }));
        }
        let rows = self.state.rows(ino, orphan.next_chunk, u64::MAX, STEP_ROWS + 1)?;
        let until = rows.get(STEP_ROWS).map_or(u64::MAX, |(chunk, _)| *chunk);
        Ok(Some(Op::Purge { ino, until }))
    }

    #[expect(clippy::unused_self, reason = "reads as one of the checks of a change")]
    pub(super) fn forbid_immutable(&self, inode: &Inode) -> Result<()> {
        if inode.flags.has(FileFlags::IMMUTABLE) {
            return Err(Errno::NotPermitted.into());
        }
        Ok(())
    }

    pub(super) fn forbid_change(&self, inode: &Inode) -> Result<()> {
        self.forbid_immutable(inode)?;
        if inode.flags.has(FileFlags::APPEND) {
            return Err(Errno::NotPermitted.into());
        }
        Ok(())
    }
}
