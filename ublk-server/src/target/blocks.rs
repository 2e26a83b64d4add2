// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bytes of files of a pool, moved by the queues: what volumes and filesystems share.
//!
//! A read or write is planned by the engine, its bytes move on the queue's ring, and the engine verifies or commits (I2, I3).
//! What would have to wait for a sync or a checkpoint runs on a helper thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use vexfs::error::{Error, IoFailure};
use vexfs::fs::{Author, Fs, Patience, ReadPlan, Until, WritePlan};
use vexfs::pool::Descriptor;
use vexfs::units::Ino;

use super::{FIRST_FILE, Io, IoError, Payload};
use crate::helpers::Helpers;
use crate::metrics::Stage;
use crate::payload::{Memory, Registration, Span};
use crate::ring::{Pinned, Transfer};

/// How often a read is planned anew when others change the same blocks.
pub(super) const ATTEMPTS: usize = 64;

/// See the module's text.
pub(super) struct Blocks {
    /// Reads and writes of the queues go here. Declared before the pool, which outlives it.
    descriptor: Descriptor,
    fs: Fs,
    helpers: Helpers,
}

impl Blocks {
    /// Of an open pool, with so many helper threads.
    pub(super) fn new(fs: Fs, helpers: usize) -> Result<Self, (&'static str, io::Error)> {
        let descriptor = fs
            .descriptor()
            .and_then(|descriptor| descriptor.ok_or_else(|| io::ErrorKind::Unsupported.into()))
            .map_err(|error| ("share the pool's file", error))?;
        let helpers = Helpers::start(helpers).map_err(|error| ("start helper threads", error))?;
        Ok(Self {
            descriptor,
            fs,
            helpers,
        })
    }

    /// The pool.
    pub(super) const fn fs(&self) -> &Fs {
        &self.fs
    }

    /// To be registered as [`FIRST_FILE`].
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Fails if somebody else has taken the pool: nothing may be written to it then. Waits while that is not certain.
    pub(super) async fn check_owned(&self, io: &Io<'_>) -> Result<(), Error> {
        match self.descriptor.in_doubt() {
            None => Ok(()),
            Some(ownership) => {
                let ownership = ownership.clone();
                self.help(io, move || ownership.require("write")).await?
            }
        }
    }

    /// Fills memory with bytes of a file.
    pub(super) async fn read(
        &self,
        io: &Io<'_>,
        ino: Ino,
        offset: u64,
        buffer: &mut Memory<'_>,
        until: Until,
    ) -> Result<(), Error> {
        let length = buffer.bytes().len();
        for _ in 0..ATTEMPTS {
            let plan = io.stage(Stage::Plan, async { self.fs.plan_read(ino, offset, length, until) });
            let mut plan = Pinned::new(plan.await?);
            let fetched = if plan.length() == length {
                io.stage(Stage::Transfer, self.fetch(io, &mut plan, buffer)).await
            } else {
                // Somebody cut the file short.
                Err(vexfs::error::Errno::NoSuchRange.into())
            };
            let plan = plan.release();
            let finish = async { self.fs.finish_read(&plan, buffer.bytes(), fetched) };
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
        read.map_err(|errno| IoFailure::new("read of blocks of the pool", errno.into()))
    }

    /// Stores memory as bytes of a file: whole blocks.
    pub(super) async fn write(
        &self,
        io: &Io<'_>,
        ino: Ino,
        offset: u64,
        from: &mut Memory<'_>,
        author: Author,
    ) -> Result<(), Error> {
        let registered = from.registration();
        let from: &[u8] = from.bytes();
        let mut done = 0;
        while let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let plan = async { self.fs.plan_write(ino, at, rest, author, Patience::Refuse) };
            done += match io.stage(Stage::Plan, plan).await {
                Ok(plan) => self.write_planned(io, plan, rest, registered).await?,
                Err(Error::Posix(vexfs::error::Errno::WouldWait)) => {
                    self.write_patiently(io, ino, at, rest, author).await?
                }
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

    /// Makes what was written the file's. See [`Fs::commit_write`].
    pub(super) async fn commit(&self, io: &Io<'_>, mut plan: WritePlan) -> Result<bool, Error> {
        match self.fs.commit_write(&mut plan, Patience::Refuse) {
            Err(Error::Posix(vexfs::error::Errno::WouldWait)) => {
                let fs = self.fs.clone();
                self.help(io, move || fs.commit_write(&mut plan, Patience::Wait))
                    .await?
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
        self.check_owned(io).await?;
        let transfers = plan
            .transfers(content)
            .map(|(at, bytes)| Transfer::write(FIRST_FILE, at, Span::from(bytes, registered), 0));
        // SAFETY: the memory is the request's, which outlives the operations (`Target`), or the plan's, which is pinned;
        // nobody changes either.
        let written = unsafe { io.ring.transfer_all(transfers) }.await;
        written.map_err(|errno| IoFailure::new("write of blocks of the pool", errno.into()))
    }

    /// Writes on a helper thread, which may wait for what makes room.
    async fn write_patiently(
        &self,
        io: &Io<'_>,
        ino: Ino,
        at: u64,
        from: &[u8],
        author: Author,
    ) -> Result<usize, Error> {
        let fs = self.fs.clone();
        let write = move || match author {
            Author::Writer(now) => fs.write(ino, at, from, now),
            Author::Client => fs.store(ino, at, from).map(|()| from.len()),
        };
        // SAFETY: the memory is the request's, which outlives the job (`Target`), and borrowed by this future.
        unsafe { self.helpers.run(io.ring, write) }.await.map_err(no_helper)?
    }

    /// Makes everything answered before durable.
    pub(super) async fn flush(&self, io: &Io<'_>) -> Result<(), Error> {
        let fs = self.fs.clone();
        self.help(io, move || fs.flush()).await?
    }

    /// Does on a helper thread what may wait. The job owns all it uses.
    pub(super) async fn help<R: Send + 'static>(
        &self,
        io: &Io<'_>,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Error> {
        // SAFETY: the job borrows nothing.
        unsafe { self.helpers.run(io.ring, job) }.await.map_err(no_helper)
    }
}

/// Checksums are made of bytes, so these must be at hand.
pub(super) fn memory(payload: Payload<'_>) -> Result<Memory<'_>, IoError> {
    match payload {
        Payload::Memory(memory) => Ok(memory),
        Payload::Channel(_) | Payload::Registered(_) => Err(IoError::Unsupported),
    }
}

/// The job panicked, or there is no descriptor left to wait with.
fn no_helper(errno: Errno) -> Error {
    IoFailure::new("work on a helper thread", errno.into())
}
