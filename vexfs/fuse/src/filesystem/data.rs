// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bytes of files.

use std::cell::RefCell;

use fuser::{ReplyData, WriteFlags};
use nix::libc;
use vexfs::fs::{Preallocation, Seek};
use vexfs::units::{BLOCK_SIZE, Ino};

use super::VexFilesystem;
use super::convert::now;
use super::negotiate::MAX_TRANSFER;
use crate::serve::{Failure, Outcome};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// A copy is answered at the latest after so many bytes that had to be moved, or shared: who wants more asks again, and
/// can be interrupted in between.
const MOVED_AT_ONCE: u64 = 16 << 20;
const SHARED_AT_ONCE: u64 = 1 << 30;

thread_local! {
    /// Where bytes on their way to the kernel are: one allocation per thread.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls with a buffer of at least so many bytes, whatever they hold.
fn with_buffer<T>(bytes: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        work(buffer.get_mut(..bytes).unwrap_or_default())
    })
}

/// Part of a file.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) ino: Ino,
    pub(super) at: u64,
}

/// What the kernel makes of a write of which only a part found room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It tells the caller how much was written.
    Told,
    /// It must not be told so. Past the page cache it would call that an I/O error, and of pages that it wrote back it
    /// would not notice. An error has it cut off again what a write past the cache left behind the end of the file.
    Refused,
}

impl Part {
    pub(super) fn of(write: WriteFlags, flags: i32) -> Self {
        if write.contains(WriteFlags::FUSE_WRITE_CACHE) || flags & libc::O_DIRECT != 0 {
            Self::Refused
        } else {
            Self::Told
        }
    }
}

impl Place {
    const fn plus(self, bytes: u64) -> Self {
        Self {
            ino: self.ino,
            at: self.at + bytes,
        }
    }
}

impl VexFilesystem {
    /// Reads and answers: the bytes go from the thread's buffer to the kernel.
    pub(super) fn read_and_answer(
        &self,
        from: Place,
        size: u32,
        flags: i32,
        reply: ReplyData,
        serve: impl FnOnce(&mut dyn FnMut() -> Outcome<usize>) -> Result<usize, fuser::Errno>,
    ) {
        let size = usize::try_from(size).unwrap_or(0).min(MAX_TRANSFER);
        with_buffer(size, |buffer| {
            let result = serve(&mut || {
                let count = self.fs.read(from.ino, from.at, buffer)?;
                if flags & libc::O_NOATIME == 0 {
                    self.note_read(from.ino);
                }
                Ok(count)
            });
            match result {
                Ok(count) => reply.data(buffer.get(..count).unwrap_or_default()),
                Err(errno) => reply.error(errno),
            }
        });
    }

    /// Writes. With `O_SYNC` or `O_DSYNC` also makes it durable, since the kernel does not ask for that where the page
    /// cache is passed by. Says how much of it found room, which is less than all only where [`Part`] allows that.
    pub(super) fn write(&self, to: Place, bytes: &[u8], keep_set_ids: bool, flags: i32, part: Part) -> Outcome<u32> {
        let count = self.change_bytes(to.ino, keep_set_ids, || {
            let mut done = 0;
            while let Some(rest) = bytes.get(done..).filter(|rest| done == 0 || !rest.is_empty()) {
                let at = to.plus(done as u64).at;
                let written = self
                    .room
                    .needing(&self.fs, || Ok(self.fs.write(to.ino, at, rest, now())?));
                match written {
                    Ok(0) => break,
                    Ok(count) => done += count,
                    Err(failure) if done == 0 || part == Part::Refused => return Err(failure),
                    Err(_) => break,
                }
            }
            Ok(done)
        })?;
        if flags & libc::O_DSYNC != 0 {
            self.fs.flush()?;
        }
        u32::try_from(count).map_err(|_| Failure::Errno(libc::EIO))
    }

    pub(super) fn preallocate(&self, ino: Ino, at: u64, length: u64, mode: i32, keep_set_ids: bool) -> Outcome<()> {
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let mode = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => Preallocation::Allocate { keep_size },
            libc::FALLOC_FL_PUNCH_HOLE if keep_size => Preallocation::Punch,
            libc::FALLOC_FL_ZERO_RANGE => Preallocation::Zero { keep_size },
            libc::FALLOC_FL_COLLAPSE_RANGE if !keep_size => Preallocation::Collapse,
            libc::FALLOC_FL_INSERT_RANGE if !keep_size => Preallocation::Insert,
            _ => return Err(Failure::Errno(libc::EOPNOTSUPP)),
        };
        self.change_bytes(ino, keep_set_ids, || {
            self.room
                .needing(&self.fs, || Ok(self.fs.preallocate(ino, mode, at, length, now())?))
        })
    }

    pub(super) fn seek(&self, ino: Ino, at: i64, whence: i32) -> Outcome<i64> {
        let what = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Failure::Errno(libc::EINVAL)),
        };
        let at = u64::try_from(at).map_err(|_| Failure::Errno(libc::ENXIO))?;
        let found = self.fs.seek(ino, at, what)?;
        i64::try_from(found).map_err(|_| Failure::Errno(libc::EOVERFLOW))
    }

    /// Copies bytes from file to file; returns how many. Whole blocks at the same place in their block are shared instead
    /// of copied.
    pub(super) fn copy(&self, from: Place, to: Place, length: u64, keep_set_ids: bool) -> Outcome<u32> {
        let size = self.fs.attributes(from.ino)?.inode.size;
        let length = length.min(size.saturating_sub(from.at));
        let copied = self.change_bytes(to.ino, keep_set_ids, || {
            self.room.needing(&self.fs, || {
                if from.at % BLOCK == to.at % BLOCK && length >= BLOCK {
                    self.copy_sharing(from, to, length.min(SHARED_AT_ONCE), size)
                } else {
                    self.copy_bytes(from, to, length.min(MOVED_AT_ONCE))
                }
            })
        })?;
        u32::try_from(copied).map_err(|_| Failure::Errno(libc::EIO))
    }

    fn copy_sharing(&self, from: Place, to: Place, length: u64, size: u64) -> Outcome<u64> {
        let head = (BLOCK - from.at % BLOCK) % BLOCK;
        let mut done = self.copy_bytes(from, to, head.min(length))?;
        if done < head.min(length) {
            return Ok(done);
        }
        let rest = length - done;
        let target_size = self.fs.attributes(to.ino)?.inode.size;
        // The last block can be shared in part if nothing follows it in either file.
        let ends_both = from.at + length == size && to.at + length >= target_size;
        let whole = if ends_both { rest } else { rest - rest % BLOCK };
        if whole > 0 {
            let (source, target) = (from.plus(done), to.plus(done));
            match self
                .fs
                .clone_range(source.ino, source.at, target.ino, target.at, whole, now())
            {
                Ok(()) => done += whole,
                Err(error) if done == 0 => return Err(error.into()),
                Err(_) => return Ok(done),
            }
        }
        let tail = length - done;
        if tail > 0 {
            match self.copy_bytes(from.plus(done), to.plus(done), tail) {
                Ok(count) => done += count,
                Err(failure) if done == 0 => return Err(failure),
                Err(_) => {}
            }
        }
        Ok(done)
    }

    /// Copies by reading and writing. What was copied before a failure is told.
    fn copy_bytes(&self, from: Place, to: Place, length: u64) -> Outcome<u64> {
        let mut done = 0;
        while done < length {
            let count = usize::try_from(length - done).unwrap_or(MAX_TRANSFER).min(MAX_TRANSFER);
            let copied = with_buffer(count, |buffer| -> Outcome<usize> {
                let count = self.fs.read(from.ino, from.at + done, buffer)?;
                let bytes = buffer.get(..count).unwrap_or_default();
                Ok(self.fs.write(to.ino, to.at + done, bytes, now())?)
            });
            match copied {
                Ok(0) => break,
                Ok(count) => done += count as u64,
                Err(failure) if done == 0 => return Err(failure),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}
