// SPDX-License-Identifier: MIT OR Apache-2.0

//! The only layer that touches bytes of a pool.
//!
//! A [`Disk`] is a file or block device with a volatile cache: what was written is seen by every later read of this
//! machine at once, and survives power loss only after a [`Disk::sync`] that began after the write returned. Until then
//! the pieces of it may reach the medium in any order, or not, or in part (in units of 512 bytes).
//!
//! Nobody may assume more. In particular a failed `sync` says that earlier writes may be lost *and will never be
//! reported again*: whoever sees one must stop promising things (`fs` turns the pool read-only).
//!
//! | implementation | what it is |
//! |---|---|
//! | [`FileDisk`] | a regular file or block device, locked against others |
//! | [`MemDisk`] | memory; never fails, loses nothing |
//! | [`SimDisk`] | the contract above and no more: crashes, tears, fails, all from a seed |

mod aligned;
mod file;
mod image;
mod mem;
mod rng;
#[cfg(test)]
pub(crate) mod scratch;
mod sim;

use std::io;
use std::ops::Range;

use crate::error::{IoFailure, Result};

pub use aligned::AlignedBlock;
pub(crate) use aligned::AlignedBytes;
pub use file::{Access, DirectBlock, FileDisk, Holder, Kind, OpenDiskError};
pub use mem::MemDisk;
pub use rng::SplitMix64;
pub use sim::{Operation, SimDisk};

/// Random-access storage. Implementations are shared between threads and order nothing between them.
pub trait Disk: Send + Sync + 'static {
    /// Current size in bytes.
    fn size_bytes(&self) -> u64;

    /// Fills the buffer from a byte offset, or fails as a whole.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<()>;

    /// Writes the buffer at a byte offset. After a failure the bytes there are undefined.
    fn write(&self, at: u64, from: &[u8]) -> Result<()>;

    /// Makes every write that has returned durable.
    fn sync(&self) -> Result<()>;

    /// The bytes there will not be read before they are written again. Advice: the device may keep them, and a device that
    /// cannot discard does nothing. Not ordered against writes to the same place that are under way.
    fn discard(&self, range: Range<u64>) -> Result<()>;
}

/// That `length` bytes at `at` lie inside a disk of `size` bytes.
fn check_bounds(what: &str, at: u64, length: u64, size: u64) -> Result<()> {
    if at.checked_add(length).is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(IoFailure::new(
        format_args!("{what} of {length} bytes at byte {at}"),
        io::Error::new(io::ErrorKind::InvalidInput, format!("the disk ends at byte {size}")),
    ))
}
