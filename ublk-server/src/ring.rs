// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations that targets put on their queue's `io_uring`, next to the commands of the driver.
//!
//! # Contract
//!
//! The kernel reads and writes the memory an operation names until the operation has completed, whatever becomes of the
//! future that waits for it. So whatever names memory here is `unsafe`: whoever calls it owes that memory for that long.
//!
//! - The data of a request is safe to name: its buffer is leaked, not freed, when its task ends before the target did (see
//!   [`crate::buffer`]).
//! - Memory of a target's own is put into [`Pinned`] first, with the same effect.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

use io_uring::{opcode, squeue, types};
use libublk::UblkUringData;
use libublk::uring_async::{ublk_submit_sqe_async, ublk_wake_task};
use libublk::with_task_io_ring_mut;
use nix::errno::Errno;

use crate::control::{errno_of, errno_of_io};

thread_local! {
    /// Operations of this thread that have not completed.
    static IN_FLIGHT: Cell<usize> = const { Cell::new(0) };
}

/// How often an operation that the kernel could not do at once is tried again before it counts as failed.
const TRIES: u32 = 64;

/// Something whose memory operations name. Dropping it leaks it, since they may still be under way.
#[derive(Debug)]
pub(crate) struct Pinned<T>(ManuallyDrop<T>);

impl<T> Pinned<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    /// To be called when every operation has completed.
    pub(crate) fn release(self) -> T {
        ManuallyDrop::into_inner(self.0)
    }
}

impl<T> Deref for Pinned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Fills the buffer from a byte of a registered file, or fails as a whole: with EIO if the file ends before.
///
/// # Safety
///
/// As for [`attempt`].
pub(crate) async unsafe fn read(file: types::Fixed, at: u64, into: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Read::new(file, rest.as_mut_ptr(), length)
            .offset(at + done as u64)
            .build();
        // SAFETY: the memory is borrowed from the caller, who promises that it stays.
        done += moved(unsafe { attempt(&entry) }.await?)?;
    }
    Ok(())
}

/// Writes the buffer at a byte of a registered file, with `RWF_*` flags. After a failure the bytes there are undefined.
///
/// # Safety
///
/// As for [`attempt`].
pub(crate) async unsafe fn write(file: types::Fixed, at: u64, from: &[u8], flags: i32) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Write::new(file, rest.as_ptr(), length)
            .offset(at + done as u64)
            .rw_flags(flags)
            .build();
        // SAFETY: the memory is borrowed from the caller, who promises that it stays.
        done += moved(unsafe { attempt(&entry) }.await?)?;
    }
    Ok(())
}

/// A transfer that moves nothing would be repeated for ever.
fn moved(bytes: u32) -> Result<usize, Errno> {
    usize::try_from(bytes).ok().filter(|&bytes| bytes > 0).ok_or(Errno::EIO)
}

/// Carries out an operation on the ring of this queue thread, and begins again if it was interrupted or could not be
/// started. Returns what a system call would have returned.
///
/// # Safety
///
/// The memory that the entry names must stay valid until the operation has completed, and nobody else may touch it until
/// then, even if the future is dropped before.
pub(crate) async unsafe fn attempt(entry: &squeue::Entry) -> Result<u32, Errno> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        IN_FLIGHT.set(IN_FLIGHT.get() + 1);
        let result = ublk_submit_sqe_async(entry.clone(), UblkUringData::Target as u64).await;
        // Not reached if the future is dropped: then the operation is still under way, and so it counts.
        IN_FLIGHT.set(IN_FLIGHT.get() - 1);
        let code = result.map_err(|error| errno_of(&error))?;
        match u32::try_from(code).map_err(|_| Errno::from_raw(-code)) {
            Err(Errno::EINTR | Errno::EAGAIN) if tries > 0 => {}
            result => return result,
        }
    }
}

/// Waits for operations of targets when the driver's commands have all ended. False if there are none to wait for.
pub(crate) fn drain() -> Result<bool, Errno> {
    if IN_FLIGHT.get() == 0 {
        return Ok(false);
    }
    with_task_io_ring_mut(|ring| match ring.submit_and_wait(1) {
        Ok(_) => {
            for completion in ring.completion() {
                ublk_wake_task(completion.user_data(), &completion);
            }
            Ok(true)
        }
        Err(error) => match errno_of_io(&error) {
            Errno::EINTR | Errno::EAGAIN | Errno::EBUSY => Ok(true),
            errno => Err(errno),
        },
    })
}
