// SPDX-License-Identifier: MIT OR Apache-2.0

//! The kernel module `uio_dsmil`, and everything above it, in lab machines.
//!
//! - [`module`]: the module alone: parameters, aliases, binding and unbinding, what it refuses. Inside the guest.
//! - [`served`]: `dsmild` on a device whose firmware is a simulator on the host, with real interrupts. From the host.

mod module;
mod served;

lab_guest::main!();
