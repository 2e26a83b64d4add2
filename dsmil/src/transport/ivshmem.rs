// SPDX-License-Identifier: MIT OR Apache-2.0

//! The protocol by which QEMU's ivshmem device learns of its shared memory and its peers: 64-bit little-endian numbers
//! over a Unix socket, each with or without a descriptor. The simulator serves it, to QEMU and to [`super::Sim`] alike.
//!
//! A client receives, in this order: the protocol's version; its own number; −1 with the memory's descriptor; and then
//! pairs of a peer's number and an eventfd that interrupts that peer, its own included. A number without descriptor
//! means that the peer is gone.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The only version there is.
pub const PROTOCOL_VERSION: i64 = 0;

/// One number, and what came with it.
#[derive(Debug)]
pub struct Message {
    /// The number.
    pub number: i64,
    /// The descriptor.
    pub descriptor: Option<OwnedFd>,
}

/// Sends one message.
pub fn send(socket: impl AsFd, number: i64, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = number.to_le_bytes();
    let descriptors = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
    let control: Vec<ControlMessage<'_>> = descriptors.iter().map(|list| ControlMessage::ScmRights(list)).collect();
    let fd = socket.as_fd().as_raw_fd();
    // Eight bytes into an empty or draining socket go whole or not at all.
    let sent = sendmsg::<()>(fd, &[IoSlice::new(&bytes)], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives one message; the end of the connection is an error.
pub fn receive(socket: impl AsFd) -> io::Result<Message> {
    let mut bytes = [0; 8];
    let mut have = 0;
    let mut descriptor = None;
    while have < bytes.len() {
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let rest = bytes.get_mut(have..).unwrap_or_default();
        let mut pieces = [IoSliceMut::new(rest)];
        let fd = socket.as_fd().as_raw_fd();
        let message = recvmsg::<()>(fd, &mut pieces, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                for raw in descriptors {
                    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
                    descriptor = Some(unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
        }
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        have += message.bytes;
    }
    Ok(Message {
        number: i64::from_le_bytes(bytes),
        descriptor,
    })
}
