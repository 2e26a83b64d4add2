// SPDX-License-Identifier: MIT OR Apache-2.0

//! One block, read from and written to the medium instead of the page cache: another machine writes it too.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc;

use super::FileDisk;
use crate::disk::AlignedBlock;
use crate::units::BLOCK_SIZE;

/// See the module's text. Where the file system refuses `O_DIRECT`, the page cache is written back and dropped instead,
/// which serves the same end on one machine.
#[derive(Debug)]
pub struct DirectBlock {
    file: File,
    byte_at: u64,
    direct: bool,
    /// On the heap: an array of this alignment would move with the value.
    buffer: Box<AlignedBlock>,
}

impl DirectBlock {
    pub(super) fn open(disk: &FileDisk, byte_at: u64) -> io::Result<Self> {
        let open = |flags| disk.reopen(flags);
        let (file, direct) = match open(libc::O_DIRECT) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (open(0)?, false),
            opened => (opened?, true),
        };
        let mut block = Self {
            file,
            byte_at,
            direct,
            buffer: Box::new(AlignedBlock([0; BLOCK_SIZE])),
        };
        // Some file systems accept the flag and refuse the transfer.
        if block.direct
            && block
                .read_direct()
                .is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
        {
            block.file = open(0)?;
            block.direct = false;
        }
        Ok(block)
    }

    /// Whether transfers really pass by the page cache.
    pub const fn is_direct(&self) -> bool {
        self.direct
    }

    /// What the medium holds now.
    pub fn read(&mut self) -> io::Result<&[u8; BLOCK_SIZE]> {
        if !self.direct {
            self.drop_cache()?;
        }
        self.read_direct()?;
        Ok(&self.buffer.0)
    }

    /// Returns when the medium (or its cache) has it.
    pub fn write(&mut self, bytes: &[u8; BLOCK_SIZE]) -> io::Result<()> {
        self.buffer.0 = *bytes;
        self.file.write_all_at(&self.buffer.0, self.byte_at)?;
        if !self.direct {
            self.file.sync_data()?;
            self.drop_cache()?;
        }
        Ok(())
    }

    fn read_direct(&mut self) -> io::Result<()> {
        self.file.read_exact_at(&mut self.buffer.0, self.byte_at)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let at = i64::try_from(self.byte_at).map_err(|_| Errno::EFBIG)?;
        let length = i64::try_from(BLOCK_SIZE).map_err(|_| Errno::EFBIG)?;
        posix_fadvise(self.file.as_fd(), at, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }
}
