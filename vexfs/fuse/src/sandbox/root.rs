// SPDX-License-Identifier: MIT OR Apache-2.0

//! A mount namespace of the server's own, in which there is nothing but `/dev/fuse`.
//!
//! The server's mount appears after this, in the namespace that everybody else is in. A copy of it here would keep it in
//! use after everybody else has unmounted it; so would copies of other mounts. Therefore all of them are let go.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, pivot_root};

/// On failure the namespace is the old one again.
pub(super) fn leave_all_mounts() -> io::Result<()> {
    let old = File::open("/proc/self/ns/mnt")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let result = pivot();
    if result.is_err() {
        setns(old.as_fd(), CloneFlags::CLONE_NEWNS)?;
    }
    result
}

fn pivot() -> io::Result<()> {
    const NONE: Option<&str> = None;
    // What happens here must not be seen elsewhere, nor the reverse.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let fuse = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open("/dev/fuse")?;
    // The new root needs a place for a moment: the one directory that is certainly there.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("none"), "/dev", Some("tmpfs"), flags, Some("size=16k,mode=755"))?;
    DirBuilder::new().mode(0o755).create("/dev/dev")?;
    File::create("/dev/dev/fuse")?;
    let source = format!("/proc/self/fd/{}", fuse.as_raw_fd());
    mount(Some(source.as_str()), "/dev/dev/fuse", NONE, MsFlags::MS_BIND, NONE)?;
    chdir("/dev")?;
    pivot_root(".", ".")?;
    // The old root now lies on the new one.
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
    mount(NONE, "/", NONE, read_only, NONE)?;
    Ok(())
}
