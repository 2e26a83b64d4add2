// SPDX-License-Identifier: MIT OR Apache-2.0

//! Any bytes in a pool give a clear error or a correct mount; never a panic, a loop, or unbounded memory (I7).
//!
//! | module | damage |
//! |---|---|
//! | `raw` | anything anywhere; checksums find most of it |
//! | `sealed` | in superblocks, journal batches, manifests and pages, with every checksum above it made right again |
//! | `forged` | records and operations of impossible content, written by the engine's own code |
//! | `bodies`, `fuzz` | the bodies of the fuzz targets in `vexfs/fuzz`, over random bytes and a small corpus |
//!
//! A case is a number. What fails names it; `VEXFS_HOSTILE_SEED=<first> VEXFS_HOSTILE_CASES=1 cargo test -p vexfs --test
//! hostile <test>` runs it alone. `VEXFS_HOSTILE_CASES` is in percent of the default: 10000 for a night.

#![expect(clippy::unwrap_used, reason = "a test: what cannot happen may panic")]

#[expect(unreachable_pub, reason = "the fuzz targets of `vexfs/fuzz` reach it")]
mod bodies;
mod forged;
mod fuzz;
mod images;
mod layout;
mod limits;
mod raw;
mod sealed;
mod walk;
