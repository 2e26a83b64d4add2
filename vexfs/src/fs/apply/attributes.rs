// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations on what is known about a file: modes, owners, times, flags, extended attributes.

use crate::error::{Errno, Error, Result};
use crate::units::Ino;

use super::super::op::{Op, change, xattr};
use super::super::record::{FileFlags, Marks, Timestamp};
use super::super::state::State;
use super::super::vectors::attribute;
use super::super::{MAX_XATTR_NAME, MAX_XATTR_VALUE};

pub(super) fn set(state: &mut State, operation: &Op<'_>) -> Result<()> {
    let Op::SetAttributes {
        ino,
        fields,
        mode,
        uid,
        gid,
        flags,
        accessed,
        modified,
        changed,
    } = *operation
    else {
        return Err(Errno::Invalid.into());
    };
    let mut inode = state.inode(ino)?;
    let has = |field| fields & field != 0;
    if has(change::MODE) {
        if mode & !0o7777 != 0 {
            return Err(Errno::Invalid.into());
        }
        inode.mode = inode.mode & !0o7777 | mode;
    }
    if has(change::UID) {
        inode.uid = uid;
    }
    if has(change::GID) {
        inode.gid = gid;
    }
    if has(change::FLAGS) {
        if flags & !FileFlags::ALL.0 != 0 {
            return Err(Errno::Invalid.into());
        }
        inode.flags = FileFlags(flags);
    }
    if has(change::ACCESSED) {
        inode.accessed = accessed;
    }
    if has(change::MODIFIED) {
        inode.modified = modified;
    }
    if has(change::CHANGED) {
        inode.changed = changed;
    }
    state.put_inode(ino, Some(inode));
    Ok(())
}

pub(super) fn set_xattr(
    state: &mut State,
    ino: Ino,
    flags: u8,
    time: Timestamp,
    name: &[u8],
    value: &[u8],
) -> Result<()> {
    if name.is_empty() || name.contains(&0) || flags & !(xattr::CREATE | xattr::REPLACE) != 0 {
        return Err(Errno::Invalid.into());
    }
    if name.len() > MAX_XATTR_NAME {
        return Err(Errno::NameTooLong.into());
    }
    if value.len() > MAX_XATTR_VALUE {
        return Err(Errno::AttributeTooLarge.into());
    }
    let mut inode = state.inode(ino)?;
    if let Some(space) = attribute::space_of(name) {
        attribute::set(state, ino, space, flags, value)?;
        inode.changed = time;
        state.put_inode(ino, Some(inode));
        return Ok(());
    }
    let exists = state.attribute(ino, name)?.is_some();
    if exists && flags & xattr::CREATE != 0 {
        return Err(Errno::Exists.into());
    }
    if !exists && flags & xattr::REPLACE != 0 {
        return Err(Errno::NoAttribute.into());
    }
    state.put_attribute(ino, name, Some(value));
    inode.marks = inode.marks.with(Marks::of_name(name));
    inode.changed = time;
    state.put_inode(ino, Some(inode));
    Ok(())
}

pub(super) fn remove_xattr(state: &mut State, ino: Ino, time: Timestamp, name: &[u8]) -> Result<()> {
    let mut inode = state.inode(ino)?;
    if let Some(space) = attribute::space_of(name) {
        attribute::remove(state, ino, space)?;
    } else if state.attribute(ino, name)?.is_none() {
        return Err(Error::Posix(Errno::NoAttribute));
    } else {
        state.put_attribute(ino, name, None);
        inode.marks = state.marks_of(ino)?;
    }
    inode.changed = time;
    state.put_inode(ino, Some(inode));
    Ok(())
}
