// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool as a device that the kernel module mounts: calls, posted operations and bytes of files at addresses of their own
//! (`docs/ABI.md`).
//!
//! # Contract
//!
//! - What messages mean is decided by [`vexfs::client::Server`]; here they come and go. Bytes of files move like those of a
//!   volume (`blocks`).
//! - What the server can do at once is done on the queue's thread; what has to wait, on a helper thread; requests about
//!   vectors on threads of their own.
//! - A READ for a reply that is not there yet is parked: it costs its tag, a timer, and no thread. The server parks one per
//!   slot, and there are fewer slots than tags.
//! - Without a session everything reads as zeros and nothing can be written.

mod open;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{opcode, types};
use nix::errno::Errno;
use nix::libc;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use vexfs::client::addresses::{self, Place};
use vexfs::client::{Bell, Handled, LATE, Server};
use vexfs::error::Error;
use vexfs::fs::{Author, Patience, Until};
use vexfs::units::Ino;

pub use self::open::FilesystemError;
use super::blocks::{Blocks, memory};
use super::{Io, IoError, Limits, Request, Target, range_within};
use crate::helpers::Helpers;
use crate::identity::Identity;
use crate::payload::Memory;

/// See the module's text.
pub struct Filesystem {
    blocks: Blocks,
    /// One for each request about vectors that there can be.
    queries: Helpers,
    server: Arc<Server>,
    /// What the log calls it.
    name: String,
    limits: Limits,
    identity: Identity,
}

impl Filesystem {
    /// The device is gone, and with it what a client could go on with.
    pub fn end_session(&self) -> Result<(), Error> {
        self.server.end_session()
    }

    async fn read(&self, io: &Io<'_>, offset: u64, buffer: &mut Memory<'_>) -> Result<(), Error> {
        match addresses::place(offset, buffer.bytes().len() as u64) {
            Place::Super => {
                buffer.bytes().copy_from_slice(&self.server.super_block());
                Ok(())
            }
            Place::Call(slot) => self.read_reply(io, slot, buffer).await,
            Place::Data(ino, at) => self.read_data(io, ino, at, buffer).await,
            Place::Mapped(address) => {
                if let Some((ino, at)) = self.window(address, buffer.bytes().len()) {
                    return self.read_data(io, ino, at, buffer).await;
                }
                buffer.bytes().fill(0);
                Ok(())
            }
            Place::Log(_) | Place::Nothing => {
                buffer.bytes().fill(0);
                Ok(())
            }
        }
    }

    async fn read_data(&self, io: &Io<'_>, ino: Ino, at: u64, buffer: &mut Memory<'_>) -> Result<(), Error> {
        if self.server.fs().session_view(0).id == 0 {
            buffer.bytes().fill(0);
            return Ok(());
        }
        self.blocks.read(io, ino, at, buffer, Until::Asked).await
    }

    /// File and offset of an address.
    fn window(&self, address: u64, length: usize) -> Option<(Ino, u64)> {
        let (base, window) = self.server.fs().window_at(address)?;
        let at = address - base;
        (at + length as u64 <= window.span).then_some((window.ino, at))
    }

    /// Answers a READ of a call slot when its reply is there, or when that has taken too long.
    async fn read_reply(&self, io: &Io<'_>, slot: u16, into: &mut Memory<'_>) -> Result<(), Error> {
        let begin = Instant::now();
        let timer = Arc::new(timer()?);
        let bell: Bell = {
            let timer = Arc::clone(&timer);
            Arc::new(move || {
                // A timer that cannot be set rings when it is late.
                if let Err(errno) = set(&timer, Duration::from_nanos(1)) {
                    tracing::warn!("ringing for a reply: {errno}");
                }
            })
        };
        let Some(ticket) = self.server.read(slot, into.bytes(), bell) else {
            return Ok(());
        };
        loop {
            self.wait_for(io, timer.as_fd()).await?;
            // Before looking: whoever rings after that is heard.
            set(&timer, LATE).map_err(no_timer)?;
            let late = begin.elapsed() >= LATE;
            if self.server.look_again(slot, ticket, late, into.bytes()) {
                return Ok(());
            }
        }
    }

    async fn wait_for(&self, io: &Io<'_>, timer: BorrowedFd<'_>) -> Result<(), Error> {
        let mask = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(timer.as_raw_fd()), mask).build();
        // SAFETY: the operation names no memory, and the kernel keeps the descriptor's file for as long as it needs it.
        let polled = unsafe { io.ring.attempt(&entry) }.await;
        polled.map(drop).map_err(no_timer)
    }

    async fn write(&self, io: &Io<'_>, offset: u64, from: &mut Memory<'_>) -> Result<(), Error> {
        match addresses::place(offset, from.bytes().len() as u64) {
            Place::Call(slot) => {
                match self.server.request(slot, from.bytes(), Patience::Refuse) {
                    Handled::Done => {}
                    handled => self.run(io, handled, from.bytes().to_vec()).await?,
                }
                self.run_ready(io).await
            }
            Place::Log(_) => {
                let commit = Server::wants_commit(from.bytes());
                if self.server.post(from.bytes(), Patience::Refuse)? == Handled::Wait {
                    let (server, batch) = (Arc::clone(&self.server), from.bytes().to_vec());
                    self.blocks
                        .help(io, move || server.post(&batch, Patience::Wait))
                        .await??;
                }
                // Who waits for what is applied does not wait for the disk.
                self.run_ready(io).await?;
                if commit { self.blocks.flush(io).await } else { Ok(()) }
            }
            Place::Data(ino, at) => self.write_data(io, ino, at, from).await,
            Place::Mapped(address) => match self.window(address, from.bytes().len()) {
                Some((ino, at)) => self.write_data(io, ino, at, from).await,
                None => Err(refused()),
            },
            Place::Super | Place::Nothing => Err(refused()),
        }
    }

    async fn write_data(&self, io: &Io<'_>, ino: Ino, at: u64, from: &mut Memory<'_>) -> Result<(), Error> {
        let session = self.server.fs().session_view(0);
        if session.id == 0 || session.read_only {
            return Err(refused());
        }
        self.blocks.write(io, ino, at, from, Author::Client).await
    }

    /// Carries out a request that was refused, on a helper thread.
    async fn run(&self, io: &Io<'_>, refused: Handled, request: Vec<u8>) -> Result<(), Error> {
        let server = Arc::clone(&self.server);
        let job = move || {
            server.run(&request, Patience::Wait);
        };
        match refused {
            // Its reply tells of its end. What is written here may be a batch that it waited for, and others wait for that.
            Handled::Long => {
                self.queries.begin(job);
                Ok(())
            }
            Handled::Wait | Handled::Done => self.blocks.help(io, job).await,
        }
    }

    /// Carries out requests that waited for operations which are applied now.
    async fn run_ready(&self, io: &Io<'_>) -> Result<(), Error> {
        while let Some(request) = self.server.ready() {
            match self.server.run(&request, Patience::Refuse) {
                Handled::Done => {}
                handled => self.run(io, handled, request).await?,
            }
        }
        Ok(())
    }

    /// Tells the log what is no ordinary answer, and the block layer the errno.
    fn failed(&self, what: &str, offset: u64, error: &Error) -> IoError {
        let errno = Errno::from_raw(error.errno());
        match error {
            Error::Posix(_) => tracing::debug!("{}: {what} at {offset:#x}: {error}", self.name),
            Error::Damaged(_) | Error::Io(_) => tracing::error!("{}: {what} at {offset:#x}: {error}", self.name),
        }
        IoError::Backing(errno)
    }
}

/// What no client writes to.
fn refused() -> Error {
    vexfs::error::Errno::NotPermitted.into()
}

fn no_timer(errno: Errno) -> Error {
    vexfs::error::IoFailure::new("a timer for a reply", errno.into())
}

fn timer() -> Result<TimerFd, Error> {
    let timer = TimerFd::new(
        ClockId::CLOCK_MONOTONIC,
        TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
    );
    let timer = timer.map_err(no_timer)?;
    set(&timer, LATE).map_err(no_timer)?;
    Ok(timer)
}

fn set(timer: &TimerFd, after: Duration) -> Result<(), Errno> {
    timer.set(
        Expiration::OneShot(TimeSpec::from_duration(after)),
        TimerSetTimeFlags::empty(),
    )
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        // No queue waits for these; the pool may be closed next.
        self.server.stop_queries();
    }
}

impl Target for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn files(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.blocks.descriptor()]
    }

    fn identity(&self) -> Option<Identity> {
        Some(self.identity)
    }

    async fn handle(&self, io: &Io<'_>, request: Request<'_>) -> Result<(), IoError> {
        let size = self.limits.size;
        let (what, offset, result) = match request {
            Request::Read { offset, into } => {
                range_within(offset, into.len(), size)?;
                let mut into = memory(into)?;
                ("reading", offset, self.read(io, offset, &mut into).await)
            }
            Request::Write { offset, from, .. } => {
                range_within(offset, from.len(), size)?;
                let mut from = memory(from)?;
                ("writing", offset, self.write(io, offset, &mut from).await)
            }
            Request::Flush => ("flushing", 0, self.blocks.flush(io).await),
            Request::Discard { .. } | Request::WriteZeroes { .. } => return Err(IoError::Unsupported),
        };
        result.map_err(|error| self.failed(what, offset, &error))
    }
}
