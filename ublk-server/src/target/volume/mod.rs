// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file of a pool as a disk: thin, checksummed, copy-on-write.
//!
//! # Contract
//!
//! - A read or write is planned by the engine, its bytes move on the queue's ring, and the engine verifies or commits. What
//!   would have to wait for a sync or a checkpoint runs on a helper thread instead.
//! - A write is answered after its journal record, which is appended after its bytes were written (I2, I3). A flush is the
//!   engine's (I4). FUA is left to the block layer, which sends a write and a flush.
//! - What is read passed its checksum. If it did not, the request fails with EIO, and a line in the log names file and
//!   offset.
//! - A file without checksums can be served without anybody looking at the bytes (`unseen`).
//! - Its size is that of the file when it was opened, until [`Volume::resized`] says otherwise.
//! - A full pool answers ENOSPC. A discard makes a hole; zeros that keep their space are promised it.

mod open;
mod unseen;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use vexfs::error::Error;
use vexfs::fs::record::Timestamp;
use vexfs::fs::{Author, Preallocation, Until};
use vexfs::units::Ino;

pub use self::open::VolumeError;
use super::blocks::{Blocks, memory};
use super::{Io, IoError, Limits, Payload, Request, Target, range_within, within};
use crate::identity::Identity;
use crate::transfer::Transfer as Way;
use crate::units::{ByteRange, Bytes};

/// See the module's text.
pub struct Volume {
    blocks: Blocks,
    ino: Ino,
    /// What the log calls it.
    name: String,
    /// Reads as zeros, for the holes of a file whose bytes nobody looks at; none if it gets checksums.
    zeros: Option<File>,
    limits: Limits,
    /// In bytes. Nothing else depends on it: requests beyond a size that has just changed are refused or not.
    size: AtomicU64,
    identity: Identity,
}

impl Volume {
    /// The file has another size now; a whole number of blocks.
    pub fn resized(&self, size: Bytes) {
        self.size.store(size.get(), Ordering::Relaxed);
    }

    /// How large the device may be.
    pub fn size(&self) -> Bytes {
        Bytes::new(self.size.load(Ordering::Relaxed))
    }

    async fn change_range(&self, io: &Io<'_>, mode: Preallocation, range: ByteRange) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let (fs, ino) = (self.blocks.fs().clone(), self.ino);
        let change = move || fs.preallocate(ino, mode, range.start(), range.len(), now());
        self.blocks.help(io, change).await?
    }

    /// Tells the log what is no ordinary answer of a disk, and the block layer the errno.
    fn failed(&self, what: &str, offset: u64, error: &Error) -> IoError {
        let errno = Errno::from_raw(error.errno());
        if errno == Errno::ENOSPC {
            tracing::debug!("{}: {what} at byte {offset}: {error}", self.name);
        } else {
            tracing::error!("{}: {what} at byte {offset}: {error}", self.name);
        }
        IoError::Backing(errno)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

impl Target for Volume {
    fn name(&self) -> &'static str {
        "volume"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn files(&self) -> Vec<BorrowedFd<'_>> {
        let zeros = self.zeros.as_ref().map(File::as_fd);
        [Some(self.blocks.descriptor()), zeros].into_iter().flatten().collect()
    }

    fn transfers(&self) -> &'static [Way] {
        if self.zeros.is_some() {
            &[Way::ZeroCopy, Way::Copy, Way::ZeroCopyByHand]
        } else {
            &[Way::Copy]
        }
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity)
    }

    async fn handle(&self, io: &Io<'_>, request: Request<'_>) -> Result<(), IoError> {
        let size = self.size();
        let (what, offset, result) = match request {
            Request::Read { offset, into } => {
                range_within(offset, into.len(), size)?;
                let result = match into {
                    Payload::Registered(into) => self.read_unseen(io, offset, into).await,
                    into => {
                        self.blocks
                            .read(io, self.ino, offset, &mut memory(into)?, Until::End)
                            .await
                    }
                };
                ("reading", offset, result)
            }
            Request::Write { offset, from, .. } => {
                range_within(offset, from.len(), size)?;
                let result = match from {
                    Payload::Registered(from) => self.write_unseen(io, offset, from).await,
                    from => {
                        let author = Author::Writer(now());
                        self.blocks
                            .write(io, self.ino, offset, &mut memory(from)?, author)
                            .await
                    }
                };
                ("writing", offset, result)
            }
            Request::Flush => ("flushing", 0, self.blocks.flush(io).await),
            Request::Discard { range } | Request::WriteZeroes { range, may_unmap: true } => {
                let range = within(range, size)?;
                let result = self.change_range(io, Preallocation::Punch, range).await;
                ("discarding", range.start(), result)
            }
            Request::WriteZeroes {
                range,
                may_unmap: false,
            } => {
                let range = within(range, size)?;
                let result = self
                    .change_range(io, Preallocation::Zero { keep_size: true }, range)
                    .await;
                ("zeroing", range.start(), result)
            }
        };
        result.map_err(|error| self.failed(what, offset, &error))
    }
}
