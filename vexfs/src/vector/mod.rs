// SPDX-License-Identifier: MIT OR Apache-2.0

//! The vector index: finds the vectors of a space that are nearest to a query.
//!
//! A library without I/O: it reads through traits, and returns what is to be kept as changes that its caller makes part of
//! its transactions. Everything in it follows from the exact vectors. `docs/VECTORS.md` tells how it works and how to tune it.
//!
//! | module | job |
//! |---|---|
//! | [`kernels`] | the arithmetic, in the widest instructions the machine has; the only `unsafe` |
//! | [`space`] | dimension, elements, metric; checks of bytes; exact distances |
//! | [`codec`] | codes of vectors, blocks of leaves |
//! | `sums` | sums over rows, in plain code |
//! | [`cluster`] | k-means |
//! | [`filter`] | hints, masks, the planner |
//! | [`index`] | leaves, routing, searching, maintenance, bulk build |

pub mod cluster;
pub mod codec;
pub mod filter;
pub mod index;
pub mod kernels;
pub mod space;
mod sums;
