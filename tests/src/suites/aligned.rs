// SPDX-License-Identifier: MIT OR Apache-2.0

//! Memory as `O_DIRECT` wants it.

use std::io;

/// What `O_DIRECT` wants memory, offsets and lengths to be a multiple of, at most.
const BLOCK: usize = 4096;

/// A copy of the bytes at a multiple of the block size, for `write`.
pub fn aligned<T>(bytes: &[u8], write: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
    let mut room = vec![0; bytes.len() + BLOCK];
    let start = room.as_ptr().align_offset(BLOCK);
    let copy = room
        .get_mut(start..start + bytes.len())
        .ok_or_else(|| io::Error::other("memory cannot be aligned"))?;
    copy.copy_from_slice(bytes);
    write(copy)
}
