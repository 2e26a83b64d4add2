// SPDX-License-Identifier: MIT OR Apache-2.0

//! The VexFS engine: a filesystem whose files carry vectors, as a user-space library.
//!
//! Layers, each knowing only those below it: `fs` (POSIX semantics as operations), `vector` (spaces, segments, search),
//! `data` (extent maps, checksums, copy-on-write plans), `space` (allocation), `meta` (ordered maps), `journal`,
//! `pool` (superblocks, regions) and `disk` (the only layer that touches bytes). See `docs/ARCHITECTURE.md`.
//!
//! The crate has no code yet. The kernel module that mounts what this engine serves is in `vexfs/kernel`.
