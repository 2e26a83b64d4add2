// SPDX-License-Identifier: MIT OR Apache-2.0

//! The VM lab.

pub mod crash;
