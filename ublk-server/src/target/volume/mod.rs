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
use vexfs::error::{Error, IoFailure};
use vexfs::fs::record::Timestamp;
use vexfs::fs::{Fs, Patience, Preallocation, ReadPlan, WritePlan};
use vexfs::pool::Descriptor;
use vexfs::units::Ino;

pub use self::open::VolumeError;
use super::{FIRST_FILE, Io, IoError, Limits, Payload, Request, Target, range_within, within};
use crate::helpers::Helpers;
use crate::identity::Identity;
use crate::metrics::Stage;
use crate::payload::{Memory, Registration, Span};
use crate::ring::{Pinned, Transfer};
use crate::transfer::Transfer as Way;
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
    /// Reads as zeros, for the holes of a file whose bytes nobody looks at; none if it gets checksums.
    zeros: Option<File>,
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

    async fn read(&self, io: &Io<'_>, offset: u64, into: &mut Memory<'_>) -> Result<(), Error> {
        let length = into.bytes().len();
        for _ in 0..ATTEMPTS {
            let plan = io.stage(Stage::Plan, async { self.fs.plan_read(self.ino, offset, length) });
            let mut plan = Pinned::new(plan.await?);
            let fetched = if plan.length() == length {
                io.stage(Stage::Transfer, self.fetch(io, &mut plan, into)).await
            } else {
                // Somebody cut the file short.
                Err(vexfs::error::Errno::NoSuchRange.into())
            };
            let plan = plan.release();
            let finish = async { self.fs.finish_read(&plan, into.bytes(), fetched) };
            if io.stage(Stage::Commit, finish).await? {
                return Ok(());
            }
        }
        Err(vexfs::error::Errno::Busy.into())
    }

    async fn fetch(&self, io: &Io<'_>, plan: &mut Pinned<ReadPlan>, into: &mut Memory<'_>) -> Result<(), Error> {
        let registered = into.registration();
        let transfers = plan
            .transfers(into.bytes())
            .map(|(at, bytes)| Transfer::read(FIRST_FILE, at, Span::of(bytes, registered)));
        // SAFETY: the memory is the request's, which outlives the operations (`Target`), or the plan's, which is pinned;
        // both are borrowed by this future.
        let read = unsafe { io.ring.transfer_all(transfers) }.await;
        read.map_err(|errno| IoFailure::new("read of a volume's blocks", errno.into()))
    }

    async fn write(&self, io: &Io<'_>, offset: u64, from: &mut Memory<'_>) -> Result<(), Error> {
        let registered = from.registration();
        let from: &[u8] = from.bytes();
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let plan = async { self.fs.plan_write(self.ino, at, rest, now(), Patience::Refuse) };
            done += match io.stage(Stage::Plan, plan).await {
                Ok(plan) => self.write_planned(io, plan, rest, registered).await?,
                Err(Error::Posix(vexfs::error::Errno::WouldWait)) => self.write_patiently(io, at, rest).await?,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Writes what a plan covers; returns how many bytes that is.
    async fn write_planned(
        &self,
        io: &Io<'_>,
        plan: WritePlan,
        content: &[u8],
        registered: Option<Registration>,
    ) -> Result<usize, Error> {
        let plan = Pinned::new(plan);
        let stored = self.store(io, &plan, content, registered);
        if let Err(error) = io.stage(Stage::Transfer, stored).await {
            self.fs.abandon_write(plan.release());
            return Err(error);
        }
        let plan = plan.release();
        let length = plan.length();
        // Whole blocks are never planned again.
        if io.stage(Stage::Commit, self.commit(io, plan)).await? {
            Ok(length)
        } else {
            Err(vexfs::error::Errno::Busy.into())
        }
    }

    async fn commit(&self, io: &Io<'_>, mut plan: WritePlan) -> Result<bool, Error> {
        match self.fs.commit_write(&mut plan, Patience::Refuse) {
            Err(Error::Posix(vexfs::error::Errno::WouldWait)) => {
                let fs = self.fs.clone();
                let commit = move || fs.commit_write(&mut plan, Patience::Wait);
                // SAFETY: the job owns all it uses.
                unsafe { self.helpers.run(io.ring, commit) }.await.map_err(no_helper)?
            }
            committed => committed,
        }
    }

    async fn store(
        &self,
        io: &Io<'_>,
        plan: &Pinned<WritePlan>,
        content: &[u8],
        registered: Option<Registration>,
    ) -> Result<(), Error> {
        self.descriptor.check_owned()?;
        let transfers = plan
            .transfers(content)
            .map(|(at, bytes)| Transfer::write(FIRST_FILE, at, Span::from(bytes, registered), 0));
        // SAFETY: the memory is the request's, which outlives the operations (`Target`), or the plan's, which is pinned;
        // nobody changes either.
        let written = unsafe { io.ring.transfer_all(transfers) }.await;
        written.map_err(|errno| IoFailure::new("write of a volume's blocks", errno.into()))
    }

    /// Writes on a helper thread, which may wait for what makes room.
    async fn write_patiently(&self, io: &Io<'_>, at: u64, from: &[u8]) -> Result<usize, Error> {
        let (fs, ino) = (self.fs.clone(), self.ino);
        let write = move || fs.write(ino, at, from, now());
        // SAFETY: the memory is the request's, which outlives the job (`Target`), and borrowed by this future.
        unsafe { self.helpers.run(io.ring, write) }.await.map_err(no_helper)?
    }

    async fn flush(&self, io: &Io<'_>) -> Result<(), Error> {
        let fs = self.fs.clone();
        // SAFETY: the job owns all it uses.
        unsafe { self.helpers.run(io.ring, move || fs.flush()) }
            .await
            .map_err(no_helper)?
    }

    async fn change_range(&self, io: &Io<'_>, mode: Preallocation, range: ByteRange) -> Result<(), Error> {
        if range.is_empty() {
            return Ok(());
        }
        let (fs, ino) = (self.fs.clone(), self.ino);
        let change = move || fs.preallocate(ino, mode, range.start(), range.len(), now());
        // SAFETY: the job owns all it uses.
        unsafe { self.helpers.run(io.ring, change) }.await.map_err(no_helper)?
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
        let zeros = self.zeros.as_ref().map(File::as_fd);
        [Some(self.descriptor.as_fd()), zeros].into_iter().flatten().collect()
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
                    Payload::Memory(mut into) => self.read(io, offset, &mut into).await,
                    Payload::Registered(into) => self.read_unseen(io, offset, into).await,
                    Payload::Channel(_) => return Err(IoError::Unsupported),
                };
                ("reading", offset, result)
            }
            Request::Write { offset, from, .. } => {
                range_within(offset, from.len(), size)?;
                let result = match from {
                    Payload::Memory(mut from) => self.write(io, offset, &mut from).await,
                    Payload::Registered(from) => self.write_unseen(io, offset, from).await,
                    Payload::Channel(_) => return Err(IoError::Unsupported),
                };
                ("writing", offset, result)
            }
            Request::Flush => ("flushing", 0, self.flush(io).await),
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
