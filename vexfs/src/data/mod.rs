// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which blocks of the pool hold a file's bytes.
//!
//! A file's map is cut into chunks of [`CHUNK_BLOCKS`] blocks, one [`row::Row`] of metadata each; a chunk without a row is a
//! hole. A row names a block and its checksum for each of its file blocks. So every operation touches a number of rows that
//! follows from its length alone, whatever the file's history, and nothing is ever split or merged. Blocks that
//! lie side by side are described together when a row is encoded.
//!
//! Nothing is overwritten in place: a write goes to new blocks, and the map is changed when it has arrived. What is
//! preallocated is therefore not blocks but the promise that there will be some.
//!
//! This layer plans; the caller moves the bytes.

pub mod compress;
pub mod row;

/// Blocks per row: 128 KiB of a file.
pub const CHUNK_BLOCKS: u64 = 32;
/// The same, as a number of things in memory.
pub const CHUNK_LEN: usize = 32;

/// The chunk a file block is in, and its place there.
pub const fn chunk_of(block: crate::units::FileBlock) -> (u64, usize) {
    (block.0 / CHUNK_BLOCKS, (block.0 % CHUNK_BLOCKS) as usize)
}
