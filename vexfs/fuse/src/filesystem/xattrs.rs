// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extended attributes. Which namespace a caller may write to is the kernel's to decide; which it may see is decided here.

use nix::libc;
use vexfs::fs::op::xattr;
use vexfs::units::Ino;

use super::VexFilesystem;
use super::convert::now;
use crate::serve::{Failure, Outcome};
use vexfs::acl::{ACCESS, DEFAULT};

/// What a caller with a buffer of some size is answered.
pub(super) enum Answer {
    /// The size it must have.
    Size(u32),
    /// The bytes.
    Bytes(Vec<u8>),
}

impl Answer {
    /// A buffer of size 0 asks for the size.
    fn of(bytes: Vec<u8>, room: u32) -> Outcome<Self> {
        let size = u32::try_from(bytes.len()).map_err(|_| Failure::Errno(libc::E2BIG))?;
        if room == 0 {
            Ok(Self::Size(size))
        } else if size > room {
            Err(Failure::Errno(libc::ERANGE))
        } else {
            Ok(Self::Bytes(bytes))
        }
    }
}

impl VexFilesystem {
    pub(super) fn attribute(&self, ino: Ino, name: &[u8], room: u32) -> Outcome<Answer> {
        Answer::of(self.fs.get_xattr(ino, name)?, room)
    }

    /// All names, each ended by a zero byte. `trusted.` is for the administrator alone.
    pub(super) fn attribute_names(&self, ino: Ino, uid: u32, room: u32) -> Outcome<Answer> {
        let mut all = Vec::new();
        for name in self.fs.list_xattrs(ino)? {
            if uid == 0 || !name.starts_with(b"trusted.") {
                all.extend(name);
                all.push(0);
            }
        }
        Answer::of(all, room)
    }

    pub(super) fn set_attribute(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        flags: i32,
        caller: (u32, u32, u32),
    ) -> Outcome<()> {
        let flags = match flags {
            0 => 0,
            libc::XATTR_CREATE => xattr::CREATE,
            libc::XATTR_REPLACE => xattr::REPLACE,
            _ => return Err(Failure::Errno(libc::EINVAL)),
        };
        match name {
            ACCESS => self.set_access_list(ino, value, flags, caller),
            DEFAULT => self.set_default_list(ino, value, flags),
            name => self
                .room
                .needing(&self.fs, || Ok(self.fs.set_xattr(ino, name, value, flags, now())?)),
        }
    }

    pub(super) fn remove_attribute(&self, ino: Ino, name: &[u8]) -> Outcome<()> {
        match name {
            ACCESS | DEFAULT => self.remove_list(ino, name),
            name => Ok(self.fs.remove_xattr(ino, name, now())?),
        }
    }
}
