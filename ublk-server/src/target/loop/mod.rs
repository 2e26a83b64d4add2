// SPDX-License-Identifier: MIT OR Apache-2.0

//! A regular file or a block device as a disk.
//!
//! # Contract
//!
//! - The file is locked as the engine's disks are: no second server, pool or mount can have it.
//! - Every request becomes operations on the queue's ring, on a registered file, between it and the application's own pages
//!   where the driver can do that. Nothing blocks or allocates per request.
//! - A short read or write is continued. One that makes no progress is EIO: somebody cut the file short.
//! - FUA is `RWF_DSYNC`, a flush is `fdatasync`. After a sync failed once, flushes fail for ever: the kernel has marked
//!   the pages clean, and a second attempt would succeed without having written them.
//! - Offered is only what the file can do; see [`open`].

mod open;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use io_uring::{opcode, types};
use nix::errno::Errno;
use nix::libc;
use vexfs::disk::FileDisk;

pub use self::open::LoopError;
use super::{FIRST_FILE, Io, IoError, Limits, Payload, Request, Target, range_within, within};
use crate::identity::Identity;
use crate::ring::Transfer as Moving;
use crate::transfer::Transfer;
use crate::units::ByteRange;

/// See the module's text.
#[derive(Debug)]
pub struct Loop {
    /// What the queues read and write.
    file: File,
    /// Holds the lock, together with `file`.
    _disk: FileDisk,
    limits: Limits,
    identity: Identity,
    sync_failed: AtomicBool,
}

/// How a stretch is made to read as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeros {
    /// Its space is given up.
    Hole,
    /// Its space stays.
    Kept,
}

impl Zeros {
    /// The mode of `fallocate`.
    const fn mode(self) -> i32 {
        match self {
            Self::Hole => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Self::Kept => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
        }
    }
}

impl Loop {
    async fn read(&self, io: &Io<'_>, offset: u64, mut into: Payload<'_>) -> Result<(), IoError> {
        range_within(offset, into.len(), self.limits.size)?;
        let span = into.span().ok_or(IoError::Unsupported)?;
        // SAFETY: the memory is the request's, which outlives the operation (`Target`), and borrowed by this future.
        let read = unsafe { io.ring.transfer(Moving::read(FIRST_FILE, offset, span)) }.await;
        read.map_err(IoError::Backing)
    }

    async fn write(&self, io: &Io<'_>, offset: u64, mut from: Payload<'_>, fua: bool) -> Result<(), IoError> {
        range_within(offset, from.len(), self.limits.size)?;
        let flags = if fua { libc::RWF_DSYNC } else { 0 };
        let span = from.span().ok_or(IoError::Unsupported)?;
        // SAFETY: the memory is the request's, which outlives the operation (`Target`), and borrowed by this future.
        let written = unsafe { io.ring.transfer(Moving::write(FIRST_FILE, offset, span, flags)) }.await;
        if fua && written.is_err() {
            // It may have been the sync that failed, and taken with it the news of earlier writes.
            self.sync_failed.store(true, Ordering::Release);
        }
        written.map_err(IoError::Backing)
    }

    async fn flush(&self, io: &Io<'_>) -> Result<(), IoError> {
        if self.sync_failed.load(Ordering::Acquire) {
            return Err(IoError::Backing(Errno::EIO));
        }
        let entry = opcode::Fsync::new(FIRST_FILE)
            .flags(types::FsyncFlags::DATASYNC)
            .build();
        // SAFETY: the operation names no memory.
        let result = unsafe { io.ring.attempt(&entry) }.await;
        if result.is_err() {
            self.sync_failed.store(true, Ordering::Release);
        }
        result.map(drop).map_err(IoError::Backing)
    }

    async fn zero(&self, io: &Io<'_>, range: ByteRange, how: Zeros) -> Result<(), IoError> {
        let range = within(range, self.limits.size)?;
        if range.is_empty() {
            return Ok(());
        }
        let entry = opcode::Fallocate::new(FIRST_FILE, range.len())
            .offset(range.start())
            .mode(how.mode())
            .build();
        // SAFETY: the operation names no memory.
        let zeroed = unsafe { io.ring.attempt(&entry) }.await;
        zeroed.map(drop).map_err(IoError::Backing)
    }
}

impl Target for Loop {
    fn name(&self) -> &'static str {
        "loop"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn files(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.file.as_fd()]
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity)
    }

    fn transfers(&self) -> &'static [Transfer] {
        &[Transfer::ZeroCopy, Transfer::Copy, Transfer::ZeroCopyByHand]
    }

    async fn handle(&self, io: &Io<'_>, request: Request<'_>) -> Result<(), IoError> {
        match request {
            Request::Read { offset, into } => self.read(io, offset, into).await,
            Request::Write { offset, from, fua } => self.write(io, offset, from, fua).await,
            Request::Flush => self.flush(io).await,
            Request::Discard { range } => self.zero(io, range, Zeros::Hole).await,
            Request::WriteZeroes { range, may_unmap } => {
                let how = if may_unmap { Zeros::Hole } else { Zeros::Kept };
                self.zero(io, range, how).await
            }
        }
    }
}
