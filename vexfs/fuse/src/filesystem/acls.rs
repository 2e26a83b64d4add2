// SPDX-License-Identifier: MIT OR Apache-2.0

//! Access control lists of files: what new files inherit, and how a list and a mode follow each other.

use nix::libc;
use vexfs::error::Errno;
use vexfs::fs::SetAttributes;
use vexfs::fs::record::Kind;
use vexfs::units::Ino;

use super::VexFilesystem;
use super::convert::now;
use crate::serve::{Failure, Outcome};
use vexfs::acl::{ACCESS, Acl, DEFAULT};

const SETGID: u16 = 0o2000;

/// What a new file gets from its directory's default list.
pub(super) struct Inherited {
    /// Permissions to make it with.
    pub(super) mode: u16,
    /// Its own list, where that says more than the mode.
    access: Option<Acl>,
    /// Of a directory: what it passes on.
    default: Option<Acl>,
}

impl VexFilesystem {
    /// A list of a file. One that is stored but no valid list counts as damage.
    pub(super) fn list(&self, ino: Ino, which: &[u8]) -> Outcome<Option<Acl>> {
        match self.fs.get_xattr(ino, which) {
            Ok(value) => Acl::parse(&value).map_err(|_| Failure::Errno(libc::EIO)),
            Err(error) if error.errno() == Errno::NoAttribute.number() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a new file in a directory inherits; nothing if the directory has no default list.
    pub(super) fn inherited_lists(&self, directory: Ino, kind: Kind, mode: u16) -> Outcome<Option<Inherited>> {
        let Some(default) = self.list(directory, DEFAULT)? else {
            return Ok(None);
        };
        let mut access = default.clone();
        let mode = access.inherit(mode);
        Ok(Some(Inherited {
            mode,
            access: Some(access).filter(|access| !access.is_mode()),
            default: Some(default).filter(|_| kind == Kind::Directory),
        }))
    }

    pub(super) fn give_lists(&self, ino: Ino, lists: &Inherited) -> Outcome<()> {
        for (which, list) in [(ACCESS, &lists.access), (DEFAULT, &lists.default)] {
            if let Some(list) = list {
                self.fs.set_xattr(ino, which, &list.encode(), 0, now())?;
            }
        }
        Ok(())
    }

    /// Sets the list of who may access a file. The mode follows; a list that says no more than it is not stored.
    pub(super) fn set_access_list(&self, ino: Ino, value: &[u8], flags: u8, caller: (u32, u32, u32)) -> Outcome<()> {
        let Some(list) = Acl::parse(value).map_err(|_| Failure::Errno(libc::EINVAL))? else {
            return self.remove_list(ino, ACCESS);
        };
        let inode = self.fs.attributes(ino)?.inode;
        let mut permissions = inode.mode & 0o7000 | list.mode();
        let (uid, gid, pid) = caller;
        if permissions & SETGID != 0 && !inode.is_directory() && !self.callers.is_in_group(uid, gid, pid, inode.gid) {
            permissions &= !SETGID;
        }
        if list.is_mode() {
            self.remove_list(ino, ACCESS)?;
        } else {
            self.fs.set_xattr(ino, ACCESS, &list.encode(), flags, now())?;
        }
        let set = SetAttributes {
            permissions: Some(permissions),
            now: now(),
            ..SetAttributes::default()
        };
        self.fs.set_attributes(ino, &set)?;
        Ok(())
    }

    /// Sets the list that new files in a directory get.
    pub(super) fn set_default_list(&self, ino: Ino, value: &[u8], flags: u8) -> Outcome<()> {
        let list = Acl::parse(value).map_err(|_| Failure::Errno(libc::EINVAL))?;
        if !self.fs.attributes(ino)?.inode.is_directory() {
            let errno = if list.is_some() { libc::EACCES } else { return Ok(()) };
            return Err(Failure::Errno(errno));
        }
        match list {
            Some(list) => Ok(self.fs.set_xattr(ino, DEFAULT, &list.encode(), flags, now())?),
            None => self.remove_list(ino, DEFAULT),
        }
    }

    /// Removes a list. That there was none is no failure: a mode is a list too.
    pub(super) fn remove_list(&self, ino: Ino, which: &[u8]) -> Outcome<()> {
        match self.fs.remove_xattr(ino, which, now()) {
            Err(error) if error.errno() == Errno::NoAttribute.number() => Ok(()),
            result => Ok(result?),
        }
    }
}
