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

use io_uring::{opcode, types};
use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use parking_lot::Mutex;

use crate::ring::{Event, Ring};

/// See the module's text.
pub(crate) struct Leave {
    /// Never read, so it stays readable.
    asked: EventFd,
    rings: Mutex<Vec<Ring>>,
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
    pub(crate) fn keep(&self, ring: Ring) {
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

    /// The event comes when that was asked. It is no operation of a task: a queue that ends otherwise does not wait for it.
    /// If it is interrupted, the queue leaves early, which costs applications a pause.
    pub(crate) fn announce(&self, ring: &Ring, event: Event) -> Result<(), Errno> {
        let mask = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(self.asked.as_fd().as_raw_fd()), mask).build();
        // SAFETY: the operation names no memory, and the kernel keeps the descriptor's file for as long as it needs it.
        unsafe { ring.start_event(entry, event) }
    }
}
