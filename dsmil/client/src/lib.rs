// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is said at `dsmild`'s socket, and a client that blocks.
//!
//! - [`protocol`]: the messages: one JSON document a line, in both directions.
//! - [`Client`]: asks one thing after the other.

mod client;
pub mod protocol;

pub use client::{Client, Failure, default_socket};
