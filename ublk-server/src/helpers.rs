// SPDX-License-Identifier: MIT OR Apache-2.0

//! Threads for work that would make a queue wait: a sync, a checkpoint, a change of many blocks.
//!
//! # Contract
//!
//! - A queue's task hands over a job and waits for its result on the queue's ring, next to all other requests; or does not
//!   wait, and the job tells by itself who wants to know.
//! - Jobs run in any order, as many at once as there are threads. One that panics is answered with EIO.
//! - The threads end when the last job has run after the [`Helpers`] were dropped.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use io_uring::{opcode, types};
use libublk::ctrl::UblkCtrl;
use nix::errno::Errno;
use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::ring::Ring;

type Job = Box<dyn FnOnce() + Send>;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Helpers {
    jobs: Sender<Job>,
}

/// Where a job leaves its result.
struct Outcome<R> {
    result: Mutex<Option<R>>,
    ended: EventFd,
}

/// Tells the queue that a job ended, however it ended.
struct Ending<R>(Arc<Outcome<R>>);

impl<R> Drop for Ending<R> {
    fn drop(&mut self) {
        // Fails if the counter is full, and then it is readable, which is the point.
        let _ = self.0.ended.write(1);
    }
}

impl Helpers {
    /// Starts the threads.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        let inbox = Arc::new(Mutex::new(inbox));
        for number in 0..count {
            let inbox = Arc::clone(&inbox);
            let work = move || {
                // As a queue's thread: its allocations must not wait for dirty memory that waits for it.
                UblkCtrl::init_queue_thread();
                while let Some(job) = next(&inbox) {
                    job();
                }
            };
            thread::Builder::new().name(format!("helper{number}")).spawn(work)?;
        }
        Ok(Self { jobs })
    }

    /// Has a job run on one of the threads, and does not wait for it.
    pub(crate) fn begin(&self, job: impl FnOnce() + Send + 'static) {
        // The threads hold the other end for as long as this one exists.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Runs a job on one of the threads.
    ///
    /// # Safety
    ///
    /// What the job borrows must stay valid until it has run, and nobody else may touch it until then, even if the future
    /// is dropped before.
    pub(crate) async unsafe fn run<'a, R: Send + 'static>(
        &self,
        ring: &Ring,
        job: impl FnOnce() -> R + Send + 'a,
    ) -> Result<R, Errno> {
        let outcome = Arc::new(Outcome {
            result: Mutex::new(None),
            ended: EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?,
        });
        let ending = Ending(Arc::clone(&outcome));
        let job: Box<dyn FnOnce() + Send + 'a> = Box::new(move || {
            let result = job();
            *ending.0.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        });
        // SAFETY: only the lifetime changes, and the caller promises that what is borrowed lives until the job has run.
        let job = unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + 'a>, Job>(job) };
        // The threads hold the other end for as long as this one exists; without any, the job is dropped, and so ended.
        let _ = self.jobs.send(job);
        let mask = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(types::Fd(outcome.ended.as_fd().as_raw_fd()), mask).build();
        // SAFETY: the operation names no memory, and the kernel keeps the descriptor's file for as long as it needs it.
        unsafe { ring.attempt(&entry) }.await?;
        let mut result = outcome.result.lock().unwrap_or_else(PoisonError::into_inner);
        result.take().ok_or(Errno::EIO)
    }
}

/// Waits for a job; none if there will be none.
fn next(inbox: &Mutex<Receiver<Job>>) -> Option<Job> {
    inbox.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
