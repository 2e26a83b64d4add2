// SPDX-License-Identifier: MIT OR Apache-2.0

//! Scenarios that no other test does: each on a real mount, inside a lab machine.
//!
//! | module | what goes wrong |
//! |---|---|
//! | [`world`] | a pool, its mount and its server, for all of them; nothing is left of it afterwards |
//! | [`work`] | who works meanwhile, with books of what was promised |
//! | [`mounts`] | what cannot be mounted, by whom not, and several at once |
//! | [`cycles`] | mounts come and go beside work |
//! | [`limits`] | descriptors, processes, memory and processor time run out |
//! | [`disks`] | the disk is slow, fails, is full |
//! | [`damage`] | bytes of the pool change |
//! | [`servers`] | the server of a FUSE mount dies or stands still |
//! | [`clock`] | the clock jumps |
//! | [`power`] | the machine loses power; from the host |
//!
//! They are long, so an ordinary run leaves them out; `cargo xtask test --stress run` runs them.

mod clock;
mod cycles;
mod damage;
mod disks;
mod limits;
mod mounts;
mod power;
mod servers;
mod work;
mod world;

lab_guest::main!();
