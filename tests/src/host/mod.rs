// SPDX-License-Identifier: MIT OR Apache-2.0

//! The machine the lab runs on.

pub mod apt;
pub mod cache;
pub mod command;
pub mod progress;
pub mod workspace;
