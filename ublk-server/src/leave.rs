// SPDX-License-Identifier: MIT OR Apache-2.0

//! Asking the queues of a device to leave it to another server.
//!
//! One [`Leave`] is shared by all queues of a device. Each waits for it on its ring, next to the driver's commands; once
//! asked, it stays asked.
//!
//! # Rings
//!
//! A queue that ends while the driver has commands leaves its ring here, to be closed when its thread has ended. A ring that
//! the thread itself closes confuses Linux 6.12, which reports a reference count of the thread below zero:
//!
//! 1. The thread closes the ring; a thread of the kernel begins to cancel the commands, and to release what they hold of the
//!    thread.
//! 2. The thread ends, and settles the same account.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{IoUring, opcode, types};
use libublk::UblkUringData;
use libublk::uring_async::ublk_submit_sqe_async;
use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

/// See the module's text.
pub(crate) struct Leave {
    /// Never read, so it stays readable.
    asked: EventFd,
    rings: Mutex<Vec<IoUring>>,
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leave").finish_non_exhaustive()
    }
}

impl Leave {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            asked: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            rings: Mutex::default(),
        })
    }

    /// Takes the ring of a queue that is about to end.
    pub(crate) fn keep(&self, ring: IoUring) {
        self.rings.lock().push(ring);
    }

    /// Closes the rings of queues whose threads have ended, all of them.
    pub(crate) fn close_rings(&self) {
        self.rings.lock().clear();
    }

    /// Asks every queue, also those that begin to wait later.
    pub(crate) fn ask(&self) {
        // Fails if the counter is full, and then it is readable, which is the point.
        let _ = self.asked.write(1);
    }

    /// Waits on this thread's ring until that was asked. It is no operation of a target: a queue that ends otherwise does
    /// not wait for it.
    pub(crate) async fn asked(&self) {
        let mask = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(self.asked.as_fd().as_raw_fd()), mask).build();
        // Interrupted, the queue leaves early, which costs applications a pause.
        let _ = ublk_submit_sqe_async(entry, UblkUringData::Target as u64).await;
    }
}
