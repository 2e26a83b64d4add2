// SPDX-License-Identifier: MIT OR Apache-2.0

//! Fuzz targets for libFuzzer. Their bodies belong to the ordinary test `hostile`, which runs them over random bytes.
//!
//! ```sh
//! cargo install cargo-fuzz
//! cd vexfs && cargo +nightly fuzz run <target> -- -max_len=65536
//! ```
//!
//! | target | bytes |
//! |---|---|
//! | `superblock` | a superblock, its magic and checksum put right |
//! | `journal` | a ring; then the payload of batches whose headers are right |
//! | `tables` | changes of pages, guides and manifest of a real pool, sealed again |
//! | `decoding` | a record, a key, a transaction, a compressed unit, a heartbeat |
//! | `image` | changes of a real pool, which is then used in every way |
//!
//! What a run found goes to `vexfs/tests/hostile/corpus/<target>/`: the ordinary test replays it from then on.

#[path = "../../tests/hostile/bodies.rs"]
pub mod bodies;
#[path = "../../tests/hostile/images.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod images;
#[path = "../../tests/hostile/layout.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod layout;
#[path = "../../tests/hostile/walk.rs"]
#[expect(dead_code, reason = "shared with the tests, which use all of it")]
mod walk;
