// SPDX-License-Identifier: MIT OR Apache-2.0

//! One module per command: its arguments and what it does.

pub(crate) mod bench;
pub(crate) mod deb;
pub(crate) mod demo;
mod demo_fuse;
pub(crate) mod doctor;
pub(crate) mod kernel_debug;
mod kernels;
pub(crate) mod lint;
pub(crate) mod scenarios;
pub(crate) mod suite;
pub(crate) mod test;
pub(crate) mod vm;
pub(crate) mod wheel;
