// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ublk server: presents a [`Target`] as the block device `/dev/ublkbN`.
//!
//! # Who does what
//!
//! | part | job |
//! |---|---|
//! | [`target`] | what a device *is*: its limits, and how one request is answered. Knows nothing of ublk |
//! | [`device`] | a device's life: add, start, watch, stop, delete, and be taken over from a dead server. One thread owns it |
//! | [`daemon`] | a process that serves several devices of one pool or file, and what it can be asked to do |
//! | [`args`] | the options of a device on a command line |
//! | [`identity`] | what a device is made of, so that nothing else is served in its place |
//! | `queue` | a thread per hardware queue, or several: a task per tag, and the driver's commands |
//! | [`transfer`] | how driver and server move data and deliver requests: wished, offered, agreed on |
//! | `request`, `payload`, `buffer` | the driver's view of one request turned into a checked [`Request`], with its data |
//! | `ring` | a queue's `io_uring`: the tasks that wait on it, and the operations of targets |
//! | [`metrics`] | what devices count and measure about themselves |
//! | `helpers` | threads for what would make a queue wait |
//! | `leave` | asking queues to leave their device to another server |
//! | [`features`] | what the driver of this machine can do |
//! | [`signals`] | SIGTERM, SIGINT and SIGHUP as something to wait for, without a signal handler |
//!
//! # Contract
//!
//! - [`Device::start`] either returns a device that is open for I/O, or an error and no device.
//! - A device lives as long as its [`Device`]: dropping it stops and deletes the device. Only `kill -9` and
//!   [`Device::release`] leave one behind. If what it held is still there, applications wait until another process has
//!   taken it over.
//! - Everything the driver reports about a request is checked before a target sees it. Targets check ranges once more,
//!   because they are the ones who would be wrong in memory.
//!
//! [`Target`]: target::Target
//! [`Request`]: target::Request
//! [`Device`]: device::Device
//! [`Device::start`]: device::Device::start
//! [`Device::release`]: device::Device::release

pub mod args;
mod buffer;
mod control;
pub mod daemon;
pub mod device;
pub mod error;
pub mod features;
mod helpers;
pub mod identity;
mod leave;
mod map;
pub mod metrics;
pub mod options;
mod payload;
mod queue;
mod request;
mod ring;
pub mod signals;
pub mod target;
pub mod transfer;
pub mod units;
