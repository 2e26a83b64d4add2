// SPDX-License-Identifier: MIT OR Apache-2.0

//! Asking the queues of a device to leave it to another server.
//!
//! One [`Leave`] is shared by all queues of a device. Each waits for it on its ring, next to the driver's commands; once
//! asked, it stays asked.

use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, types};
use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::ring::{Event, Ring};

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

    /// The event comes when that was asked. It is no operation of a task: a queue that ends otherwise does not wait for it.
    /// If it is interrupted, the queue leaves early, which costs applications a pause.
    pub(crate) fn announce(&self, ring: &Ring, event: Event) -> Result<(), Errno> {
        let mask = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(self.0.as_fd().as_raw_fd()), mask).build();
        // SAFETY: the operation names no memory, and the kernel keeps the descriptor's file for as long as it needs it.
        unsafe { ring.start_event(entry, event) }
    }
}
