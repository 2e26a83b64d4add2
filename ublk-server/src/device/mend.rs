// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a device ready to be taken over that a server left which died while it took the device over.
//!
//! # What is wrong
//!
//! Drivers before Linux 6.16 prepare a device for a new server only when they are told to (`START_USER_RECOVERY`), and
//! remember for each queue the task that fetches. A server that dies after telling them and before all its queues fetch
//! leaves queues that no task ever fetched from. Then these drivers
//!
//! - refuse to prepare the device again if that holds for all queues, and keep the memory map of the dead server as the only
//!   one that may see requests: no other server ever can;
//! - follow a null pointer, and take the kernel with them, if it holds for some.
//!
//! # What is done about it
//!
//! 1. Each queue is asked a question that the driver answers before it does anything: a command of a kind that it does not
//!    know. It says `EINVAL` for a queue of another task, `EOPNOTSUPP` for one of nobody.
//! 2. A queue of nobody gets a task: a thread that fetches, and ends. The device is at rest, so no request comes.
//! 3. With a dead task in every queue the device is as any server leaves it that was killed.
//!
//! A queue fetches all its tags in one system call, which a kill does not cut short. So a queue is never half prepared.

use std::fs::{File, OpenOptions};
use std::mem::{offset_of, size_of};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Instant;

use io_uring::{IoUring, opcode, squeue, types};
use libublk::sys;
use nix::errno::Errno;

use super::INTERVAL;
use crate::control::errno_of_io;

/// The room for a command in a submission of ordinary size.
const COMMAND_LEN: usize = 16;
/// Where a command has its address, which is part of a union.
const ADDRESS: usize = 8;
/// A command of another driver: `_IO('x', 0x20)`.
const NOT_OURS: u32 = (b'x' as u32) << 8 | 0x20;
/// Where a driver would copy data to, if requests came: the driver wants to see an address.
const NOWHERE: u64 = 1 << 12;

/// Gives each queue of a device at rest a task, if it had none.
pub(super) fn mend(info: &sys::ublksrv_ctrl_dev_info, deadline: Instant) -> Result<(), Errno> {
    let channel = open(info.dev_id, deadline)?;
    let mut untouched = Vec::new();
    for queue in 0..info.nr_hw_queues {
        if is_untouched(&channel, queue)? {
            untouched.push(queue);
        }
    }
    if untouched.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        "the last server of /dev/ublkb{} died while it took the device over: mending {} queues",
        info.dev_id,
        untouched.len()
    );
    for queue in untouched {
        let fetched = thread::scope(|scope| scope.spawn(|| fetch(&channel, info, queue)).join());
        // Closed after the thread has ended; for the reason see `crate::leave`.
        drop(fetched.unwrap_or(Err(Errno::EIO))?);
    }
    Ok(())
}

/// The channel to the driver, which has one at a time: it comes free when the dead server's last operation has ended.
fn open(id: u32, deadline: Instant) -> Result<File, Errno> {
    loop {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/dev/ublkc{id}"));
        match opened.map_err(|error| errno_of_io(&error)) {
            Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(INTERVAL),
            result => return result,
        }
    }
}

/// Whether no task ever fetched from a queue since the device was prepared.
fn is_untouched(channel: &File, queue: u16) -> Result<bool, Errno> {
    let mut ring = IoUring::new(1).map_err(|error| errno_of_io(&error))?;
    push(&mut ring, &entry(channel, NOT_OURS, queue, 0, 0)?)?;
    ring.submit_and_wait(1).map_err(|error| errno_of_io(&error))?;
    let answer = ring.completion().next().map(|completion| completion.result());
    match answer.map(|code| Errno::from_raw(-code)) {
        Some(Errno::EINVAL) => Ok(false),
        Some(Errno::EOPNOTSUPP) => Ok(true),
        other => Err(other.unwrap_or(Errno::EIO)),
    }
}

/// Makes this thread, which is about to end, the task of a queue. Its fetches end with the ring.
fn fetch(channel: &File, info: &sys::ublksrv_ctrl_dev_info, queue: u16) -> Result<IoUring, Errno> {
    let copies = u32::try_from(info.flags & u64::from(sys::UBLK_F_USER_COPY)).unwrap_or(0) != 0;
    let address = if copies { 0 } else { NOWHERE };
    let mut ring = IoUring::new(u32::from(info.queue_depth)).map_err(|error| errno_of_io(&error))?;
    for tag in 0..info.queue_depth {
        push(
            &mut ring,
            &entry(channel, sys::UBLK_U_IO_FETCH_REQ, queue, tag, address)?,
        )?;
    }
    ring.submit().map_err(|error| errno_of_io(&error))?;
    // What is accepted does not complete.
    let refused = ring
        .completion()
        .next()
        .map(|completion| Errno::from_raw(-completion.result()));
    refused.map_or(Ok(ring), Err)
}

fn entry(channel: &File, operation: u32, queue: u16, tag: u16, address: u64) -> Result<squeue::Entry, Errno> {
    let mut command = [0; COMMAND_LEN];
    let mut put = |offset: usize, bytes: &[u8]| {
        let place = command.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(Errno::EOVERFLOW).map(|place| place.copy_from_slice(bytes))
    };
    put(offset_of!(sys::ublksrv_io_cmd, q_id), &queue.to_ne_bytes())?;
    put(offset_of!(sys::ublksrv_io_cmd, tag), &tag.to_ne_bytes())?;
    put(ADDRESS, &address.to_ne_bytes())?;
    Ok(opcode::UringCmd16::new(types::Fd(channel.as_raw_fd()), operation)
        .cmd(command)
        .build())
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> Result<(), Errno> {
    // SAFETY: the entry names no memory of this process that anybody touches: its address is only looked at when a request
    // comes, and none comes to a device at rest. The kernel keeps the channel's file for as long as it needs it.
    unsafe { ring.submission().push(entry) }.map_err(|_| Errno::EBUSY)
}

const _: () = assert!(size_of::<sys::ublksrv_io_cmd>() == COMMAND_LEN);
