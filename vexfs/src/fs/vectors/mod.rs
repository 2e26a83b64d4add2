// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors of files: spaces, embeddings, and where the exact bytes are.
//!
//! A *space* says what its vectors are: dimensions, elements, metric. An *embedding* is a vector of a file in a space, under
//! an *ordinal*: a file may have several, for its passages. Embeddings are changed by operations, in the same transactions
//! and the same journal as files; a file that goes takes its embeddings along.
//!
//! Every put of a vector gives it a new number in its space. Its bytes are first *growing*: a record of the metadata, durable
//! with the journal. In the background ([`seal`]) many of them are moved into a *slab*: a stretch of the space's store,
//! which is a file without names whose number is the space's. So slabs have the extents, checksums and copy-on-write of any
//! file. A slab of which less than half is alive is moved again, and what remains of it goes.
//!
//! Invariants, all of them checked by `check`:
//!
//! - an embedding names a vector, and the vector names the file and ordinal of the embedding;
//! - a vector is either growing, with a record of its bytes, or in one slab;
//! - a slab counts the vectors that are alive in it, a space all its vectors and those that grow;
//! - a slab's bytes never change, and lie behind those of all slabs made before: who reads slabs in order while vectors are
//!   moved meets each at least once.
//!
//! | module | job |
//! |---|---|
//! | `space` | what a space is, and which bytes are vectors of it |
//! | `record` | keys and records of the metadata |
//! | `slab` | the bytes of slabs |
//! | `state` | tables and primitive changes |
//! | `change` | what operations do |
//! | `calls` | what front ends call |
//! | `attribute` | vectors as extended attributes |
//! | `seal` | from records into slabs, and out of slabs that are mostly dead |
//! | `leaves` | what operations do with records of leaves |
//! | `index` | the index: searching, and keeping it up to date |
//! | `read` | getting bytes back, one vector or all |

pub(in crate::fs) mod attribute;
mod calls;
pub(in crate::fs) mod change;
pub(in crate::fs) mod index;
pub(crate) mod leaves;
mod read;
pub mod record;
pub(in crate::fs) mod seal;
pub mod slab;
pub mod space;
pub(in crate::fs) mod state;
#[cfg(test)]
mod tests;

pub use attribute::PREFIX;
pub use calls::{Alteration, Embedded, NewSpace, Put, Removal, Run, SpaceInfo, runs};
pub use index::{Accept, IndexSize, Neighbour, Neighbours, Sought};
pub use read::Found;

/// Spaces of a pool.
pub const MAX_SPACES: usize = 1024;
/// Longest name of a space.
pub const MAX_SPACE_NAME: usize = 64;
/// Vectors of one file in one space; ordinals are below.
pub const MAX_ORDINALS: u32 = 65_536;
/// Numbers of vectors are below: the index keeps them in 32 bits.
pub const MAX_VECTOR: u64 = 1 << 32;
/// Attributes that a space may declare.
pub const MAX_FIELDS: usize = 16;
