// SPDX-License-Identifier: MIT OR Apache-2.0

//! The metadata: ordered maps from byte keys to byte values.
//!
//! [`base`] is their durable part: sorted tables inside the pool.

pub mod base;
