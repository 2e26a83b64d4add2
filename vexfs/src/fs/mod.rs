// SPDX-License-Identifier: MIT OR Apache-2.0

//! The filesystem: POSIX semantics over a pool.
//!
//! [`Fs`] is an open pool. A front end (FUSE, the ublk server, the command line) calls its methods from any thread.
//!
//! A change goes: make an operation ([`op`]) → [`apply`] it to the [`state`] → append it to the journal → answer. All of
//! this happens under one lock that is held for microseconds; file bytes are moved outside it. A flush then makes
//! everything answered before durable with one sync of the disk.
//!
//! | file | job |
//! |---|---|
//! | `op` | the language of operations and its bytes |
//! | `record`, `session` | keys and records of the metadata; what is remembered of a client |
//! | `state`, `apply` | everything known in memory; what operations do to it |
//! | `engine` | the lock, transactions, flushes, failure |
//! | `checkpoint` | moving what the journal holds into the tables |
//! | `mount`, `replay` | opening: tables, journal, and what a crash left |
//! | `inspect`, `measure` | what a scrub asks; numbers about an open pool |
//! | `file`, `read`, `write` | what a file consists of; plans of reads and writes, whose bytes the caller moves |
//! | `place` | from files to their names and paths |
//! | `changes` | which files changed, for what is remembered of them elsewhere |
//! | [`vectors`] | vectors of files, and the spaces they are in |
//! | `namespace`, `layout`, `xattr`, `directory`, `tree`, `admin` | what front ends call |
//! | `client` | what the server behind the kernel module calls |

mod admin;
pub mod apply;
mod arrival;
mod changes;
mod checkpoint;
mod client;
mod directory;
mod engine;
pub(crate) mod file;
mod inspect;
mod layout;
mod measure;
pub(crate) mod mount;
pub mod name;
mod namespace;
pub mod op;
mod place;
pub(crate) mod read;
pub mod record;
pub(crate) mod replay;
pub mod session;
pub mod state;
#[cfg(test)]
mod tests;
mod tree;
mod trim;
pub mod vectors;
mod write;
mod xattr;

pub use client::{Mark, NewSession, Seen, SeenEntry, SessionView};
pub use directory::{DirectoryEntry, Listing};
pub use engine::{Fs, Patience, Tried};
pub use file::{Extent, Source};
pub use layout::{Preallocation, Seek};
pub use measure::Statistics;
pub use mount::MountOptions;
pub use namespace::{Attributes, NewFile, SetAttributes};
pub use place::Called;
pub use read::{Placement, ReadPlan, Until};
pub use write::{Author, WritePlan};

/// Longest file: what a signed offset can tell.
pub const MAX_FILE_BYTES: u64 = i64::MAX as u64;
/// Blocks of the longest file.
pub const MAX_FILE_BLOCKS: u64 = 1 << 51;
/// Names of one file.
pub const MAX_LINKS: u32 = 65_535;
/// Longest value of an extended attribute.
pub const MAX_XATTR_VALUE: usize = 65_536;
/// Longest name of an extended attribute, namespace included.
pub const MAX_XATTR_NAME: usize = 255;
/// Blocks that one operation may preallocate or share: more is done in steps. Bounds what a forged operation can cost.
pub const MAX_STEP_BLOCKS: u64 = 32_768;
/// Rows that collapsing or inserting may move at once: 8 GiB of file without holes.
pub const MAX_MOVED_ROWS: usize = 65_536;
