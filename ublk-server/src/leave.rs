// SPDX-License-Identifier: MIT OR Apache-2.0

//! Asking the queues of a device to leave it to another server.
//!
//! One [`Leave`] is shared by all queues of a device. Each waits for it on its ring, next to the driver's commands; once
//! asked, it stays asked.

use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};
use libublk::UblkUringData;
use libublk::uring_async::ublk_submit_sqe_async;
use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Leave(EventFd);

impl Leave {
    pub(crate) fn new() -> Result<Self, Errno> {
        // Never read, so it stays readable.
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Self)
    }

    /// Asks every queue, also those that begin to wait later.
    pub(crate) fn ask(&self) {
        // Fails if the counter is full, and then it is readable, which is the point.
        let _ = self.0.write(1);
    }

    /// Waits on this thread's ring until that was asked. It is no operation of a target: a queue that ends otherwise does
    /// not wait for it.
    pub(crate) async fn asked(&self) {
        let mask = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(self.0.as_fd().as_raw_fd()), mask).build();
        // Interrupted, the queue leaves early, which costs applications a pause.
        let _ = ublk_submit_sqe_async(entry, UblkUringData::Target as u64).await;
    }
}
