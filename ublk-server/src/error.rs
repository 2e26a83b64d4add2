// SPDX-License-Identifier: MIT OR Apache-2.0

//! What can go wrong in the life of a device. Each message is one line: what failed, where, and what to do about it.

use std::io;

use nix::errno::Errno;
use thiserror::Error;

use crate::options::OptionsError;
use crate::transfer::ModeError;
use crate::units::Bytes;

/// Why a device could not be made, or did not end well.
#[derive(Debug, Error)]
pub enum Error {
    /// A value the driver would refuse.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// What was asked for cannot be had.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// The driver is not there.
    #[error(
        "/dev/ublk-control is missing: load the driver with 'modprobe ublk_drv' (it needs a kernel with CONFIG_BLK_DEV_UBLK)"
    )]
    NoDriver,
    /// The driver is there, but not for us.
    #[error("no permission to {0}: run as root, or with CAP_SYS_ADMIN and access to /dev/ublk-control")]
    Denied(&'static str),
    /// The control device cannot be opened for another reason.
    #[error("cannot open /dev/ublk-control: {0}")]
    Control(#[source] io::Error),
    /// The kernel has no `io_uring` for us.
    #[error("cannot set up io_uring: {0} (if it is not permitted, see /proc/sys/kernel/io_uring_disabled)")]
    Ring(#[source] io::Error),
    /// The requested number is taken.
    #[error("device id {0} is in use: choose another with --id, leave it out, or delete /dev/ublkc{0} first")]
    IdInUse(u32),
    /// The driver refused to add the device.
    #[error("the driver refused to add a device: {0} (the kernel log may say why)")]
    Add(Errno),
    /// The channel to the driver did not open.
    #[error("cannot open {path}: {errno} (udev must leave the device node to root)")]
    Channel {
        /// The character device.
        path: String,
        /// What libublk made of it.
        errno: Errno,
    },
    /// A resource of the server itself.
    #[error("cannot {what}: {errno}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// A queue did not come up, or broke later.
    #[error("queue {queue} of {path}: {source}")]
    Queue {
        /// The queue's number.
        queue: u16,
        /// The character device.
        path: String,
        /// What happened.
        source: QueueError,
    },
    /// The driver refused to start the device.
    #[error("the driver refused to start {path}: {errno} (the kernel log may say why)")]
    Start {
        /// The block device.
        path: String,
        /// What the driver said.
        errno: Errno,
    },
    /// There is nothing to take over or delete.
    #[error("there is no ublk device {0}: 'vexfs-ublk list' shows those there are")]
    NoDevice(u32),
    /// Somebody serves it.
    #[error("device {id} is served by process {pid}: end that first")]
    Served {
        /// The number of the device.
        id: u32,
        /// Its server.
        pid: i32,
    },
    /// It does not wait for a server.
    #[error("device {0} cannot be taken over, it did not outlive its server: remove it with 'vexfs-ublk del {0}'")]
    NotRecoverable(u32),
    /// Another program made it.
    #[error("device {0} is none of ours: use the program that made it")]
    NotOurs(u32),
    /// It is not for this target.
    #[error("device {id} does not belong to this target: {how}; name what it was made of")]
    Mismatch {
        /// The number of the device.
        id: u32,
        /// What differs.
        how: String,
    },
    /// The driver refused to hand it over.
    #[error("the driver refused to hand over {path}: {errno} (if that stays, delete it and make it anew)")]
    TakeOver {
        /// The block device.
        path: String,
        /// What the driver said.
        errno: Errno,
    },
    /// It is live, but of no use.
    #[error("{path} is live but cannot be {what}: {errno} (the log may say why)")]
    Unusable {
        /// The block device.
        path: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// Its record cannot be written.
    #[error("cannot write the record of device {id}: {source}")]
    Record {
        /// The number of the device.
        id: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The device is live, but nobody made its node.
    #[error("{0} did not appear: the device is live, but /dev is not a devtmpfs and no udev created the node")]
    NoNode(String),
}

/// What can go wrong in a queue.
#[derive(Debug, Error)]
pub enum QueueError {
    /// There is no ring for it.
    #[error("cannot set up its io_uring: {0} (more open files may be needed: ulimit -n)")]
    Ring(#[source] io::Error),
    /// The descriptors of requests cannot be reached.
    #[error("cannot map its request descriptors: {0}")]
    Map(Errno),
    /// The ring does not take something that requests need.
    #[error("cannot register {what} with its io_uring: {errno} (use less --depth, or raise ulimit -l)")]
    Register {
        /// What was registered.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// There is no memory for data.
    #[error("cannot reserve {size} per request for data: {errno} (use less --depth or --io-size, or raise ulimit -v)")]
    Buffer {
        /// The size of one buffer.
        size: Bytes,
        /// What the kernel said.
        errno: Errno,
    },
    /// The driver refused a command, which it never does to a server that keeps the protocol.
    #[error("the driver refused a command for tag {tag}: {errno}")]
    Command {
        /// The request slot.
        tag: u16,
        /// What the driver said.
        errno: Errno,
    },
    /// The driver refused a command for many requests.
    #[error("the driver refused a batch of requests: {errno}")]
    Batch {
        /// What the driver said.
        errno: Errno,
    },
    /// The ring broke.
    #[error("waiting for requests failed: {0}")]
    Wait(Errno),
    /// A bug, reported by the panic message.
    #[error("its thread panicked")]
    Panicked,
}
