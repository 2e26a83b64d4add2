// SPDX-License-Identifier: MIT OR Apache-2.0

//! Block devices as people make and use them, with the real ublk driver, inside a lab machine.
//!
//! | module | what holds |
//! |---|---|
//! | [`scene`] | pools, commands and loads for all of them |
//! | [`devices`] | adding, listing, deleting |
//! | [`filesystem`] | pools that are mounted by the kernel module |
//! | [`volumes`] | making, resizing and removing volumes, served or not |
//! | [`recovery`] | daemons that are killed, stopped, replaced |
//! | [`trouble`] | what is below fails |
//! | [`unit`] | daemons that systemd runs |
//! | [`power`] | the machine loses power |

mod devices;
mod filesystem;
mod power;
mod recovery;
mod scene;
#[path = "../common/systemd.rs"]
#[allow(clippy::unwrap_used, reason = "a panic is the report")]
mod systemd;
mod trouble;
mod unit;
mod volumes;

lab_guest::main!();
