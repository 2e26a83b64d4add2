// SPDX-License-Identifier: MIT OR Apache-2.0

//! How requests come from the driver, and answers go to it.
//!
//! | way | request | answer |
//! |---|---|---|
//! | [`Single`] | a completion each | a command each, which also asks for the tag's next request |
//! | [`Batch`](super::batch::Batch) | many tags in one completion | many in one command |
//!
//! Either way a tag's task calls [`Commands::next`] again and again.

use std::mem::offset_of;

use io_uring::squeue;
use io_uring::{opcode, types};
use libublk::sys;
use nix::errno::Errno;

use super::batch::Batch;
use crate::ring::{Operation, Ring};
use crate::transfer::Transfer;

/// The channel to the driver among the registered files.
pub(super) const CHANNEL: types::Fixed = types::Fixed(0);

/// A tag's buffer, as commands name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Memory of the server.
    Address(u64),
    /// The ring's buffer with the number of the tag, to be registered by the driver.
    Registered,
    /// None: the data stays where it is.
    None,
}

/// One of the two ways.
pub(super) enum Commands<'r> {
    Single(Single<'r>),
    Batch(Box<Batch<'r>>),
}

impl Commands<'_> {
    /// Answers the tag's request, if it has one, and waits for the next: `ENODEV` says that there will be none.
    ///
    /// # Safety
    ///
    /// The driver may use the memory at the place until the command has completed, even if the future is dropped before.
    pub(super) async unsafe fn next(&self, tag: u16, answer: Option<i32>, place: Place) -> Result<(), Errno> {
        match self {
            // SAFETY: as the caller promises.
            Self::Single(single) => unsafe { single.next(tag, answer, place) }?.await,
            // SAFETY: as the caller promises.
            Self::Batch(batch) => unsafe { batch.next(tag, answer, place) }.await,
        }
        .result()
    }
}

/// Turns what completions carry into what system calls return.
trait Code {
    fn result(self) -> Result<(), Errno>;
}

impl Code for i32 {
    fn result(self) -> Result<(), Errno> {
        match self {
            0 => Ok(()),
            code => Err(Errno::from_raw(-code)),
        }
    }
}

/// A command per request.
pub(super) struct Single<'r> {
    pub(super) ring: &'r Ring,
    pub(super) queue: u16,
}

impl<'r> Single<'r> {
    /// # Safety
    ///
    /// As for [`Commands::next`].
    unsafe fn next(&self, tag: u16, answer: Option<i32>, place: Place) -> Result<Operation<'r>, Errno> {
        let operation = if answer.is_some() {
            sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ
        } else {
            sys::UBLK_U_IO_FETCH_REQ
        };
        let address = if let Place::Address(address) = place {
            address
        } else {
            0
        };
        let mut entry = opcode::UringCmd16::new(CHANNEL, operation).cmd(command(self.queue, tag, answer, address));
        if place == Place::Registered {
            entry = entry.addr(Some(register_as(tag)));
        }
        // SAFETY: as the caller promises.
        unsafe { self.ring.start(&entry.build()) }
    }
}

/// Registers the pages of a tag's request with the ring, or takes them out again.
pub(super) async fn register(ring: &Ring, queue: u16, tag: u16, registered: bool) -> Result<(), Errno> {
    let operation = if registered {
        sys::UBLK_U_IO_REGISTER_IO_BUF
    } else {
        sys::UBLK_U_IO_UNREGISTER_IO_BUF
    };
    let entry: squeue::Entry = opcode::UringCmd16::new(CHANNEL, operation)
        .cmd(command(queue, tag, None, tag.into()))
        .build();
    // SAFETY: the command names no memory.
    unsafe { ring.attempt(&entry) }.await.map(drop)
}

/// What the driver is told of the buffer it is to register: the number, and that it may say that it could not.
const fn register_as(tag: u16) -> u64 {
    tag as u64 | (sys::UBLK_AUTO_BUF_REG_FALLBACK as u64) << 16
}

/// Whether a request's pages have yet to be registered.
pub(super) const fn is_unregistered(desc: &sys::ublksrv_io_desc, transfer: Transfer) -> bool {
    match transfer {
        Transfer::ZeroCopy => desc.op_flags & sys::UBLK_IO_F_NEED_REG_BUF != 0,
        Transfer::ZeroCopyByHand => true,
        Transfer::Copy | Transfer::UserCopy => false,
    }
}

/// `struct ublksrv_io_cmd`
fn command(queue: u16, tag: u16, answer: Option<i32>, address: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&queue.to_ne_bytes());
    bytes[2..4].copy_from_slice(&tag.to_ne_bytes());
    bytes[4..8].copy_from_slice(&answer.unwrap_or(0).to_ne_bytes());
    bytes[8..].copy_from_slice(&address.to_ne_bytes());
    bytes
}

const _: () = assert!(
    offset_of!(sys::ublksrv_io_cmd, q_id) == 0
        && offset_of!(sys::ublksrv_io_cmd, tag) == 2
        && offset_of!(sys::ublksrv_io_cmd, result) == 4
        && size_of::<sys::ublksrv_io_cmd>() == 16
        && sys::UBLK_IO_RES_OK == 0
);
