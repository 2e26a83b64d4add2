// SPDX-License-Identifier: MIT OR Apache-2.0

//! VexFS mounted through FUSE: for machines without our kernel module.
//!
//! A mounted pool has a server and a guardian, two processes:
//!
//! ```text
//! application ── VFS ── fuse.ko ── /dev/fuse ── server (engine, no privileges) ── pool
//!                                                  │ socket
//!                 mount(2), umount(2) ───────── guardian (nothing but that privilege)
//! ```
//!
//! | module | job |
//! |---|---|
//! | `filesystem` | the kernel's requests, answered by the engine |
//! | `serve` | the one place they all pass through |
//! | [`options`] | mount options |
//! | [`daemon`] | mounting as a command: checks, background, a true answer |
//! | [`server`] | the life of the server |
//! | `control` | its control socket |
//! | `guardian`, `fusermount` | mounting and unmounting for it, as root and as a user |
//! | `write_back`, `batch` | what the kernel holds back, before a copy |
//! | `sandbox` | what the server gives up |
//! | [`unmount`] | unmounting as a command: until the pool is closed |
//! | [`mount_table`] | what is mounted where |
//! | `process` | processes: forks, descriptors, capabilities |
//!
//! # What is durable
//!
//! A write is answered by the engine, so a full pool is told to who writes, and what was answered survives the end of
//! the server. It survives a power cut after an fsync. With the option `writeback` the kernel keeps written bytes to itself
//! for a while: faster in small writes, but then a full pool is told to fsync or close instead, or to nobody. The same
//! holds always for bytes written through a shared mapping.

mod batch;
mod control;
pub mod daemon;
mod filesystem;
mod fusermount;
mod guardian;
pub mod mount_table;
pub mod options;
mod process;
mod sandbox;
mod serve;
pub mod server;
pub mod unmount;
mod write_back;

pub use serve::Operation;
