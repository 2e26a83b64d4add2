// SPDX-License-Identifier: MIT OR Apache-2.0

//! DSMIL: a hardware driver as a library and a process of its own, over UIO.
//!
//! From the bottom up, each module knowing only those above it in this list:
//!
//! - [`error`]: what can go wrong, and its errno.
//! - [`layout`]: the hardware interface: where everything is, who writes it, in which order.
//! - [`gate`]: what every command passes and the emergency stop shuts.
//! - [`memory`]: 360 MiB as 90 chunks, mapped on first use, pinned, capped. All `unsafe` of memory access.
//! - [`thermal`]: levels, hysteresis, sensors that cannot be believed. [`power`]: the order of suspend and resume.
//! - [`registry`]: the devices, their states, what has happened.
//! - [`smi`]: token operations: types, and the engine with deadlines, retries, abort and reset.
//! - [`transport`]: `/dev/uioN`, or a simulator.
//! - [`driver`]: all of it together.
//!
//! Beside this library: `dsmil-sim` plays the firmware, `dsmild` serves a device to other processes, `dsmil-client` is
//! their end, `dsmilctl` the command line, `dsmil-capi` the C interface.

pub mod driver;
pub mod error;
pub mod gate;
pub mod layout;
pub mod memory;
pub mod power;
pub mod registry;
pub mod smi;
mod sync;
pub mod thermal;
pub mod transport;

pub use driver::{Config, Driver, Service};
pub use error::{Error, Result};
