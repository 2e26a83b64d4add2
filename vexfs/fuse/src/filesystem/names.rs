// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names: looking them up, making, linking, moving and removing them.

use nix::libc;
use vexfs::fs::record::Kind;
use vexfs::fs::{Attributes, NewFile};
use vexfs::units::Ino;

use super::VexFilesystem;
use super::convert::now;
use crate::serve::{Failure, Outcome};

const SETGID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o010;
const MAX_TRIES: usize = 64;

/// Who asks, and for what.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) pid: u32,
    /// Type and permissions, before the umask.
    pub(super) mode: u32,
    pub(super) umask: u32,
    pub(super) device: u32,
    /// Of a symbolic link.
    pub(super) target: &'a [u8],
}

impl VexFilesystem {
    /// The file of a name, which the kernel then knows. `None`: there is no such name.
    ///
    /// `.` and `..` are asked for when the filesystem is exported over a network.
    pub(super) fn find(&self, parent: Ino, name: &[u8]) -> Outcome<Option<Attributes>> {
        for _ in 0..MAX_TRIES {
            let found = match name {
                b"." => self.fs.attributes(parent)?,
                b".." => {
                    let directory = self.fs.attributes(parent)?.inode;
                    self.fs.attributes(directory.parent)?
                }
                name => match self.fs.lookup(parent, name).map_err(Failure::from) {
                    Err(failure) if failure.is_absent() => return Ok(None),
                    found => found?,
                },
            };
            match self.lookups.add(&self.fs, found.ino).map_err(Failure::from) {
                Ok(()) => return Ok(Some(found)),
                // Removed between the two steps: perhaps the name stands for another file now.
                Err(failure) if failure.is_absent() => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Errno(libc::EBUSY))
    }

    /// Makes a file of any kind, with owner, permissions and access control lists as Linux gives them.
    pub(super) fn make(&self, parent: Ino, name: &[u8], wish: &Wish<'_>) -> Outcome<Attributes> {
        let mode = u16::try_from(wish.mode & 0o177_777).unwrap_or(0);
        let kind = match Kind::of_mode(mode) {
            Some(kind) => kind,
            None if mode & 0o170_000 == 0 => Kind::File,
            None => return Err(Failure::Errno(libc::EINVAL)),
        };
        let inherited = if kind == Kind::Symlink {
            None
        } else {
            self.inherited_lists(parent, kind, mode & 0o7777)?
        };
        let mut permissions = match &inherited {
            Some(lists) => lists.mode,
            None if kind == Kind::Symlink => 0o777,
            None => mode & 0o7777 & !u16::try_from(wish.umask & 0o777).unwrap_or(0),
        };
        // A program must not get a group's identity by being made in a directory that gives it that group.
        let both = SETGID | GROUP_EXECUTE;
        if kind != Kind::Directory && permissions & both == both {
            let directory = self.fs.attributes(parent)?.inode;
            if directory.mode & SETGID != 0 && !self.callers.is_in_group(wish.uid, wish.gid, wish.pid, directory.gid) {
                permissions &= !SETGID;
            }
        }
        let new = NewFile {
            kind,
            permissions,
            uid: wish.uid,
            gid: wish.gid,
            device: u64::from(wish.device),
            target: wish.target,
            now: now(),
        };
        let child = self
            .room
            .needing(&self.fs, || Ok(self.fs.create(parent, name, &new)?))?;
        if let Some(lists) = &inherited {
            self.room.needing(&self.fs, || self.give_lists(child.ino, lists))?;
        }
        self.lookups.add(&self.fs, child.ino)?;
        Ok(if inherited.is_some() {
            self.fs.attributes(child.ino)?
        } else {
            child
        })
    }

    pub(super) fn give_name(&self, ino: Ino, parent: Ino, name: &[u8]) -> Outcome<Attributes> {
        let linked = self
            .room
            .needing(&self.fs, || Ok(self.fs.link(ino, parent, name, now())?))?;
        self.lookups.add(&self.fs, ino)?;
        Ok(linked)
    }

    pub(super) fn remove_name(&self, parent: Ino, name: &[u8]) -> Outcome<()> {
        self.room.making(|| Ok(self.fs.unlink(parent, name, now())?))
    }

    pub(super) fn remove_directory(&self, parent: Ino, name: &[u8]) -> Outcome<()> {
        Ok(self.fs.remove_directory(parent, name, now())?)
    }

    /// The numbers of the flags are the engine's too.
    pub(super) fn move_name(&self, from: Ino, name: &[u8], to: Ino, new_name: &[u8], flags: u32) -> Outcome<()> {
        let flags = u8::try_from(flags).map_err(|_| Failure::Errno(libc::EINVAL))?;
        self.room.needing(&self.fs, || {
            Ok(self.fs.rename(from, name, to, new_name, flags, now())?)
        })
    }

    pub(super) fn target(&self, ino: Ino) -> Outcome<Vec<u8>> {
        let target = self.fs.read_link(ino)?;
        self.note_read(ino);
        Ok(target)
    }

    /// Notes that a file was read. That it could not be noted is nothing that a reader should fail for.
    pub(super) fn note_read(&self, ino: Ino) {
        if self.settings.note_reads
            && let Err(error) = self.fs.touch_accessed(ino, now())
        {
            tracing::debug!(%ino, %error, "access time");
        }
    }
}
