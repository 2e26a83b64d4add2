// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublk`, the command line: make, add, mount, check and search pools.
//!
//! The crate has no code yet.
