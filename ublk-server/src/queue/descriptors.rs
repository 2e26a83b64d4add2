// SPDX-License-Identifier: MIT OR Apache-2.0

//! The driver's descriptors of a queue's requests, which it shares with the server as memory.

use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use libublk::sys;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::map::page_size;

/// One descriptor per tag.
pub(super) struct Descriptors {
    start: NonNull<sys::ublksrv_io_desc>,
    depth: u16,
}

impl Descriptors {
    pub(super) fn map(channel: BorrowedFd<'_>, queue: u16, depth: u16) -> Result<Self, Errno> {
        // Each queue's are at the place that the largest depth would need.
        let stride = bytes(sys::UBLK_MAX_QUEUE_DEPTH as usize);
        let offset = sys::UBLKSRV_CMD_BUF_OFFSET as usize + usize::from(queue) * stride.get();
        let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: without MAP_FIXED and an address hint, the kernel picks a place that is not in use.
        let start = unsafe { mmap(None, bytes(depth.into()), ProtFlags::PROT_READ, flags, channel, offset) }?;
        Ok(Self {
            start: start.cast(),
            depth,
        })
    }

    /// What the driver says about the request of a tag that was fetched and not answered yet.
    pub(super) fn get(&self, tag: u16) -> sys::ublksrv_io_desc {
        assert!(tag < self.depth, "tag {tag} of {}", self.depth);
        // SAFETY: just checked: inside the mapping.
        let place = unsafe { self.start.as_ptr().add(tag.into()) };
        // SAFETY: the mapping is aligned to a page and lives as long as `self`. The driver wrote the descriptor before it
        // completed the command, and leaves it alone until the request was answered.
        unsafe { place.read_volatile() }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody borrows from it: descriptors are handed out as copies.
        if let Err(errno) = unsafe { munmap(self.start.cast(), bytes(self.depth.into()).get()) } {
            tracing::warn!("unmapping the descriptors of a queue failed: {errno}");
        }
    }
}

/// What so many descriptors take: whole pages.
fn bytes(depth: usize) -> NonZeroUsize {
    let page = page_size();
    let length = (depth * size_of::<sys::ublksrv_io_desc>()).next_multiple_of(page.get());
    NonZeroUsize::new(length).unwrap_or(page)
}
