// SPDX-License-Identifier: MIT OR Apache-2.0

//! Measurements: what fio found, and the same measured repeatedly. For `vexfs-ublk bench`, which runs anywhere, and for the
//! lab's own benchmarks.

pub mod fio;
mod spread;

pub use spread::Spread;
