// SPDX-License-Identifier: MIT OR Apache-2.0

//! Telling a file system or a device that a range is not needed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{FallocateFlags, fallocate};

use super::offsets;

mod request {
    // `BLKDISCARD` of <linux/fs.h>: `_IO(0x12, 119)`, though it takes a pointer to start and length in bytes.
    nix::ioctl_write_ptr_bad!(discard, nix::request_code_none!(0x12, 119), [u64; 2]);
}

/// Gives a part of a regular file back; the size stays.
pub(super) fn punch(file: &File, range: &Range<u64>) -> io::Result<()> {
    let (start, length) = offsets(range)?;
    let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(file.as_fd(), how, start, length)?)
}

/// Discards a part of a block device. (`fallocate` on a device would write zeros where it cannot discard.)
pub(super) fn device(file: &File, range: &Range<u64>) -> io::Result<()> {
    let argument = [range.start, range.end - range.start];
    // SAFETY: the descriptor is open for the call, and the kernel reads the two numbers behind the pointer and no more.
    unsafe { request::discard(file.as_raw_fd(), &raw const argument) }?;
    Ok(())
}
