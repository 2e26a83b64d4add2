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
//! - Its size is that of the file when it was opened, until [`Volume::resized`] says otherwise.
//! - A full pool answers ENOSPC. A discard makes a hole; zeros that keep their space are promised it.

mod open;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use vexfs::error::{Error, IoFailure};
use vexfs::fs::record::Timestamp;
use vexfs::fs::{Fs, Patience, Preallocation, ReadPlan, WritePlan};
use vexfs::pool::Descriptor;
use vexfs::units::Ino;

pub use self::open::VolumeError;
use super::{FIRST_FILE, IoError, Limits, Request, Target, range_within, within};
use crate::helpers::Helpers;
use crate::identity::Identity;
use crate::ring::{self, Pinned};
use crate::units::{ByteRange, Bytes};

/// How often a read is planned anew when others change the same blocks.
const ATTEMPTS: usize = 64;

/// See the module's text.
pub struct Volume {
    /// Reads and writes of the queues go here. Declared before the pool, which outlives it.
    descriptor: Descriptor,
    fs: Fs,
    ino: Ino,
    /// What the log calls it.
    name: String,
    helpers: Helpers,
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

    async fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let mut plan = Pinned::new(self.fs.plan_read(self.ino, offset, into.len())?);
            let fetched = if plan.length() == into.len() {
                self.fetch(&mut plan, into).await
            } else {
                // Somebody cut the file short.
                Err(vexfs::error::Errno::NoSuchRange.into())
            };
            let plan = plan.release();
            if self.fs.finish_read(&plan, into, fetched)? {
                return Ok(());
            }
        }
        Err(vexfs::error::Errno::Busy.into())
    }

    async fn fetch(&self, plan: &mut Pinned<ReadPlan>, into: &mut [u8]) -> Result<(), Error> {
        for (at, bytes) in plan.transfers(into) {
            let length = bytes.len();
            // SAFETY: the memory is the request's, which outlives the operation (`Target`), or the plan's, which is
            // pinned; both are borrowed by this future.
            let read = unsafe { ring::read(FIRST_FILE, at, bytes) }.await;
            read.map_err(|errno| IoFailure::new(format_args!("read of {length} bytes at byte {at}"), errno.into()))?;
        }
        Ok(())
    }

    async fn write(&self, offset: u64, from: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            done += match self.fs.plan_write(self.ino, at, rest, now(), Patience::Refuse) {
                Ok(plan) => self.write_planned(plan, rest).await?,
                Err(Error::Posix(vexfs::error::Errno::WouldWait)) => self.write_patiently(at, rest).await?,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Writes what a plan covers; returns how many bytes that is.
    async fn write_planned(&self, plan: WritePlan, content: &[u8]) -> Result<usize, Error> {
        let plan = Pinned::new(plan);
        let stored = self.store(&plan, content).await;
        if let Err(error) = stored {
            self.fs.abandon_write(plan.release());
            return Err(error);
        }
        let mut plan = plan.release();
        let length = plan.length();
        let committed = match self.fs.commit_write(&mut plan, Patience::Refuse) {
            Err(Error::Posix(vexfs::error::Errno::WouldWait)) => {
                let fs = self.fs.clone();
                let commit = move || fs.commit_write(&mut plan, Patience::Wait);
                // SAFETY: the job owns all it uses.
                unsafe { self.helpers.run(commit) }.await.map_err(no_helper)??
            }
            committed => committed?,
        };
        // Whole blocks are never planned again.
        if committed {
            Ok(length)
        } else {
            Err(vexfs::error::Errno::Busy.into())
        }
    }

    async fn store(&self, plan: &Pinned<WritePlan>, content: &[u8]) -> Result<(), Error> {
        for (at, bytes) in plan.transfers(content) {
            self.descriptor.check_owned()?;
            // SAFETY: the memory is the request's, which outlives the operation (`Target`), or the plan's, which is
            // pinned; nobody changes either.
            let written = unsafe { ring::write(FIRST_FILE, at, bytes, 0) }.await;
            let what = format_args!("write of {} bytes at byte {at}", bytes.len());
            written.map_err(|errno| IoFailure::new(what, errno.into()))?;
        }
        Ok(())
    }

    /// Writes on a helper thread, which may wait for what makes room.
    async fn write_patiently(&self, at: u64, from: &[u8]) -> Result<usize, Error> {
        let (fs, ino) = (self.fs.clone(), self.ino);
        let write = move || fs.write(ino, at, from, now());
        // SAFETY: the memory is the request's, which outlives the job (`Target`), and borrowed by this future.
        unsafe { self.helpers.run(write) }.await.map_err(no_helper)?
    }

    async fn flush(&self) -> Result<(), Error> {
        let fs = self.fs.clone();
        // SAFETY: the job owns all it uses.
        unsafe { self.helpers.run(move || fs.flush()) }
            .await
            .map_err(no_helper)?
    }

    async fn change_range(&self, mode: Preallocation, range: ByteRange) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let (fs, ino) = (self.fs.clone(), self.ino);
        let change = move || fs.preallocate(ino, mode, range.start(), range.len(), now());
        // SAFETY: the job owns all it uses.
        unsafe { self.helpers.run(change) }.await.map_err(no_helper)?
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

/// The job panicked, or there is no descriptor left to wait with.
fn no_helper(errno: Errno) -> Error {
    IoFailure::new("work on a helper thread", errno.into())
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
        vec![self.descriptor.as_fd()]
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity)
    }

    async fn handle(&self, request: Request<'_>) -> Result<(), IoError> {
        let size = self.size();
        let (what, offset, result) = match request {
            Request::Read { offset, into } => {
                range_within(offset, into.len(), size)?;
                ("reading", offset, self.read(offset, into).await)
            }
            Request::Write { offset, from, .. } => {
                range_within(offset, from.len(), size)?;
                ("writing", offset, self.write(offset, from).await)
            }
            Request::Flush => ("flushing", 0, self.flush().await),
            Request::Discard { range } | Request::WriteZeroes { range, may_unmap: true } => {
                let range = within(range, size)?;
                let result = self.change_range(Preallocation::Punch, range).await;
                ("discarding", range.start(), result)
            }
            Request::WriteZeroes {
                range,
                may_unmap: false,
            } => {
                let range = within(range, size)?;
                let result = self.change_range(Preallocation::Zero { keep_size: true }, range).await;
                ("zeroing", range.start(), result)
            }
        };
        result.map_err(|error| self.failed(what, offset, &error))
    }
}
