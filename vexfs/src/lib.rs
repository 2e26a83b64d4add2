// SPDX-License-Identifier: MIT OR Apache-2.0

//! The VexFS engine: a filesystem whose files carry vectors, as a user-space library.
//!
//! Layers, each knowing only those above it in this list:
//!
//! | module | job |
//! |---|---|
//! | [`units`], [`size`], [`checksum`], [`codec`], [`error`] | numbers, sizes as people write them, CRC32C, scalars of the format, errors |
//! | [`metrics`] | what an open pool counts and measures about itself |
//! | [`mirror`] | structures that C headers of the kernel module have too |
//! | [`disk`] | the only layer that touches bytes |
//! | [`pool`] | superblocks, features, formatting, exclusive open, heartbeat |
//! | [`journal`] | the ring of transactions that makes operations durable |
//! | [`meta`] | ordered maps: in memory over sorted tables inside the pool |
//! | [`space`] | which blocks are in use, shared, promised |
//! | [`data`] | which blocks hold a file's bytes; plans for reading and writing |
//! | [`vector`] | the vector index: codes, leaves, search; no I/O of its own |
//! | [`fs`] | POSIX semantics as a language of operations |
//! | [`acl`] | POSIX access control lists |
//! | [`query`] | requests about spaces and vectors, for callers with permissions |
//! | [`check`] | finding and mending damage |
//! | [`sealed`] | trees in one file that is only read, for mounting without a server |
//! | [`client`] | the language of the kernel module: its messages, and what a server does about them |
//!
//! The kernel module that mounts what this engine serves is in `vexfs/kernel`. See `docs/ARCHITECTURE.md` and
//! `docs/FORMAT.md`.

pub mod acl;
pub mod check;
pub mod checksum;
pub mod client;
pub mod codec;
pub mod data;
pub mod disk;
pub mod error;
pub mod fs;
pub mod journal;
pub mod meta;
pub mod metrics;
pub mod mirror;
pub mod pool;
pub mod query;
pub mod sealed;
pub mod size;
pub mod space;
pub mod units;
pub mod vector;
