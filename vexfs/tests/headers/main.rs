// SPDX-License-Identifier: MIT OR Apache-2.0

//! The headers of the kernel module and their mirrors in Rust say the same.

#![expect(clippy::unwrap_used, reason = "a test: what cannot happen may panic")]

mod abi;
mod header;
mod sealed;
