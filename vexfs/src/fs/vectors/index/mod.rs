// SPDX-License-Identifier: MIT OR Apache-2.0

//! The indexes of an open pool: what [`crate::vector::index`] needs of a store, and when it is asked to change.
//!
//! What is stored of an index are records (see [`super::record`]) and leaves, which are stretches of the space's store like
//! slabs. Opening a pool reads nothing of it; the first search of a space reads the records of its leaves, and leaves and
//! vectors are read as searches come to them.
//!
//! Vectors that are in no leaf are in the growing segment in memory. When there are enough of them they are moved into
//! leaves, in the background or by who brings more: transactions of a few MiB, each of which leaves everything in exactly
//! one place. The first leaves of a space are built from all its vectors at once, and so they are after the index was lost:
//! a damaged leaf is one way to lose it.
//!
//! # Locks
//!
//! `changing` is held by who changes an index, and taken first. Then: `sealing` (the end of a store), the memory of one
//! space, the map of open spaces, `core`, what is known of numbers. Searches take the memory of their space for reading.
//! What passes a filter is found before that, with no other lock held.
//!
//! | module | job |
//! |---|---|
//! | `cache` | leaves and vectors in memory, in bounded space |
//! | `memory` | what is known of an open index; opening one |
//! | `view` | leaves and vectors as the index library reads them |
//! | `search` | searching |
//! | `matches` | which vectors pass a filter |
//! | `upkeep` | flushes, splits, merges |
//! | `build` | an index from all vectors |

mod build;
mod cache;
mod matches;
pub(in crate::fs) mod memory;
mod search;
mod upkeep;
mod view;

pub use matches::Accept;
pub use search::{IndexSize, Neighbour, Neighbours, Sought};

/// With so many vectors a space gets an index; with fewer all are in the growing segment.
const WORTH_IT: u64 = 4096;
/// Vectors that are searched without an index, at most, by what is built in memory.
const WITHOUT: u64 = 4 * WORTH_IT;
