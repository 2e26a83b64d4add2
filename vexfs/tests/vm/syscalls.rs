// SPDX-License-Identifier: MIT OR Apache-2.0

//! System calls that no crate of this workspace wraps: file handles, and mounts that map owners.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc::{self, c_long};

/// `MAX_HANDLE_SZ`
const HANDLE_BYTES: usize = 128;

/// What an NFS server keeps of a file: `struct file_handle`.
#[derive(Debug, Clone)]
#[repr(C)]
pub(crate) struct Handle {
    bytes: u32,
    kind: i32,
    content: [u8; HANDLE_BYTES],
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn descriptor(result: c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(result).map_err(io::Error::other)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn done(result: c_long) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The handle of a file.
pub(crate) fn handle_of(path: &Path) -> io::Result<Handle> {
    let name = text(path)?;
    let mut handle = Handle {
        bytes: u32::try_from(HANDLE_BYTES).map_err(io::Error::other)?,
        kind: 0,
        content: [0; HANDLE_BYTES],
    };
    let mut mount_id = 0;
    // SAFETY: the name ends with a zero, and handle and number may be written for as long as the call lasts.
    let result = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount_id,
            0,
        )
    };
    done(result).map(|()| handle)
}

/// Opens a file by its handle, in the file system of another open file.
pub(crate) fn open_handle(beside: &File, handle: &Handle, flags: i32) -> io::Result<File> {
    let mut handle = handle.clone();
    // SAFETY: the handle is memory of this function, of the size it says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            beside.as_raw_fd(),
            &raw mut handle,
            flags | libc::O_CLOEXEC,
        )
    };
    descriptor(result).map(File::from)
}

/// Mounts what is mounted at one place at another too, with owners mapped as in a user namespace.
pub(crate) fn mount_mapped(from: &Path, to: &Path, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let (from, to, nothing) = (text(from)?, text(to)?, c"");
    // SAFETY: the name ends with a zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned(),
        )
    };
    let tree = descriptor(result)?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: the name ends with a zero, and the attributes live as long as the call, which is told their size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            nothing.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    done(result)?;
    // SAFETY: both names end with a zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            nothing.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    done(result)
}
