// SPDX-License-Identifier: MIT OR Apache-2.0

//! The firmware's side of [`dsmil::layout`], played by a process.
//!
//! - [`firmware`]: the firmware itself. No clock, no thread, no I/O: with the same seed, the same times and the same
//!   driver it does the same.
//! - [`fault`]: what it can be told to do wrong.
//! - [`server`]: gives it memory, doorbell and interrupts, for QEMU's ivshmem device or [`dsmil::transport::Sim`], and
//!   takes commands.
//! - [`control`]: the other end of those commands.

pub mod control;
pub mod fault;
pub mod firmware;
pub mod server;

pub use fault::Fault;
pub use firmware::Firmware;
pub use server::{Settings, Simulator};
