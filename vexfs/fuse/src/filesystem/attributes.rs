// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attributes: permissions, owner, times, size, flags.
//!
//! Whether the caller may is the kernel's to decide (`default_permissions`). Ours is what follows from a change: a `chmod`
//! changes the access control list too, a change of bytes or of the owner takes set-ID bits away.

use fuser::{INodeNo, TimeOrNow};
use vexfs::fs::record::Timestamp;
use vexfs::fs::{Attributes, SetAttributes};
use vexfs::units::Ino;

use super::VexFilesystem;
use super::convert::{now, time_or_now};
use crate::serve::Outcome;
use vexfs::acl::ACCESS;

const SET_IDS: u16 = 0o6000;

/// What `setattr` is asked to change.
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) accessed: Option<TimeOrNow>,
    pub(super) modified: Option<TimeOrNow>,
    /// Only with a cache that writes back, which keeps times itself.
    pub(super) changed: Option<Timestamp>,
    /// The caller may keep set-ID bits of what it truncates.
    pub(super) privileged: bool,
}

impl VexFilesystem {
    pub(super) fn set(&self, ino: Ino, changes: &Changes) -> Outcome<Attributes> {
        let now = now();
        if let Some(size) = changes.size {
            self.change_bytes(ino, changes.privileged, || Ok(self.fs.truncate(ino, size, now)?))?;
            let nothing_else = changes.mode.is_none()
                && changes.uid.is_none()
                && changes.gid.is_none()
                && changes.accessed.is_none()
                && changes.modified.is_none();
            if nothing_else {
                return Ok(self.fs.attributes(ino)?);
            }
        }
        let permissions = changes.mode.map(|mode| u16::try_from(mode & 0o7777).unwrap_or(0));
        if let Some(permissions) = permissions {
            self.let_list_follow(ino, permissions)?;
        }
        let set = SetAttributes {
            permissions,
            uid: changes.uid,
            gid: changes.gid,
            accessed: changes.accessed.map(|time| time_or_now(time, now)),
            modified: changes.modified.map(|time| time_or_now(time, now)),
            flags: None,
            now: changes.changed.unwrap_or(now),
        };
        Ok(self.fs.set_attributes(ino, &set)?)
    }

    /// After a `chmod` the access control list says the same as the mode.
    fn let_list_follow(&self, ino: Ino, permissions: u16) -> Outcome<()> {
        let Some(mut list) = self.list(ino, ACCESS)? else {
            return Ok(());
        };
        list.set_mode(permissions);
        Ok(self.fs.set_xattr(ino, ACCESS, &list.encode(), 0, now())?)
    }

    /// Runs a change of a file's bytes. The engine takes set-ID bits away with every such change; a caller who may keep
    /// them (`CAP_FSETID`) gets them back. Where they went, the kernel must be told, since it does not take that for granted.
    pub(super) fn change_bytes<T>(&self, ino: Ino, keep: bool, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let before = self.fs.attributes(ino)?.inode;
        let done = work()?;
        if before.mode & SET_IDS != 0 {
            if keep {
                let set = SetAttributes {
                    permissions: Some(before.mode & 0o7777),
                    now: now(),
                    ..SetAttributes::default()
                };
                self.fs.set_attributes(ino, &set)?;
            } else {
                self.forget_attributes(ino);
            }
        }
        Ok(done)
    }

    /// Makes the kernel ask for the attributes of a file again.
    pub(super) fn forget_attributes(&self, ino: Ino) {
        // A negative offset leaves the cached bytes alone.
        if let Some(notifier) = self.notifier.get()
            && let Err(error) = notifier.inval_inode(INodeNo(ino.0), -1, 0)
        {
            tracing::debug!(%ino, %error, "the kernel did not take back what it knew");
        }
    }
}
