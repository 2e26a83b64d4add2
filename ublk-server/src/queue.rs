// SPDX-License-Identifier: MIT OR Apache-2.0

//! One hardware queue: a thread, its `io_uring`, and an async task for each tag.
//!
//! # The life of a tag
//!
//! 1. *Fetch*: hand the driver a buffer and wait for the first request.
//! 2. Reclaim the buffer, decode the request, let the target handle it.
//! 3. *Commit and fetch*: hand the buffer back with the outcome, and wait for the next request. Go to 2.
//!
//! A command completed with `ENODEV` is the end: the device was stopped, and there was no request in this tag.
//!
//! # Leaving
//!
//! When the queue is asked to leave the device to another server ([`crate::leave`]), requests that the target has are
//! finished and answered; those that arrive later are left alone, and the driver sends them again to the next server.
//!
//! # Order of destruction
//!
//! Tasks borrow the queue, so the executor is dropped first. The queue itself is only dropped when no command is left. When the loop ends early, dropping a task that waits for
//! the driver or an operation of its target leaks its buffer (see [`crate::buffer`]); the ring ends with the thread, which makes the driver give up
//! the requests that were out.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;

use async_executor::LocalExecutor;
use io_uring::{IoUring, cqueue, squeue};
use libublk::io::{UblkDev, UblkQueue};
use libublk::uring_async::ublk_wake_task;
use libublk::{UblkError, sys, ublk_init_task_ring, with_task_io_ring_mut};
use nix::errno::Errno;

use crate::buffer::TagBuffer;
use crate::control::errno_of;
use crate::error::QueueError;
use crate::leave::Leave;
use crate::request::{completion, decode};
use crate::ring;
use crate::target::Target;
use crate::units::Bytes;

/// Serves queue `id` of `device` until the device is stopped. Calls `ready` when the driver has accepted all fetches,
/// which is what it wants to see of every queue before it starts the device. Also ends when it is asked to leave.
pub(crate) fn serve<T: Target>(
    id: u16,
    device: &UblkDev,
    target: &T,
    leave: &Leave,
    ready: impl FnOnce(),
) -> Result<(), QueueError> {
    make_ring(device.dev_info.queue_depth)?;
    let queue = UblkQueue::new(id, device).map_err(|error| QueueError::Map(errno_of(&error)))?;
    let tasks = Tasks {
        running: Cell::new(0),
        busy: Cell::new(0),
        leaving: Cell::new(false),
        failure: RefCell::new(None),
    };
    let result = serve_tags(&queue, device, target, leave, &tasks, ready);
    if tasks.running.get() > 0 {
        // The driver has commands, which end with the ring. libublk would wait for them before it lets go of the files they
        // use.
        std::mem::forget(queue);
        leave.keep(take_ring()?);
    }
    result
}

fn serve_tags<T: Target>(
    queue: &UblkQueue<'_>,
    device: &UblkDev,
    target: &T,
    leave: &Leave,
    tasks: &Tasks,
    ready: impl FnOnce(),
) -> Result<(), QueueError> {
    let buffer_len = usize::try_from(device.dev_info.max_io_buf_bytes).unwrap_or(usize::MAX);
    let executor = LocalExecutor::new();
    for tag in queue.tags() {
        let buffer = new_buffer(buffer_len)?;
        tasks.running.set(tasks.running.get() + 1);
        executor
            .spawn(async move { tasks.finished(serve_tag(queue, tag, target, buffer, tasks).await) })
            .detach();
    }

    // Submit the fetches without waiting for requests. Those the driver does not accept complete at once.
    while executor.try_tick() {}
    reap(queue, 0)?;
    while executor.try_tick() {}
    tasks.check()?;
    device.notify_buffer_registration_complete(false);
    ready();
    // Only now: what the driver gets in one system call is there as a whole, whenever this process is killed.
    executor
        .spawn(async move {
            leave.asked().await;
            tasks.leaving.set(true);
        })
        .detach();
    while executor.try_tick() {}

    while tasks.running.get() > 0 && !tasks.have_left() {
        // With every command ended, operations of targets may still be under way.
        if !reap(queue, 1)? && !ring::drain().map_err(QueueError::Wait)? {
            return Err(QueueError::Abandoned(tasks.running.get()));
        }
        while executor.try_tick() {}
        tasks.check()?;
    }
    if tasks.have_left() {
        // The last answers.
        reap(queue, 0)?;
    }
    Ok(())
}

/// How the tasks of a queue are doing.
struct Tasks {
    running: Cell<usize>,
    /// Those whose request the target has.
    busy: Cell<usize>,
    /// Whether new requests are left to another server.
    leaving: Cell<bool>,
    failure: RefCell<Option<QueueError>>,
}

impl Tasks {
    fn finished(&self, outcome: Result<(), QueueError>) {
        self.running.set(self.running.get() - 1);
        if let Err(error) = outcome {
            self.failure.borrow_mut().get_or_insert(error);
        }
    }

    /// Whether the queue was asked to leave, and owes nobody an answer.
    fn have_left(&self) -> bool {
        self.leaving.get() && self.busy.get() == 0
    }

    /// The first failure, if there was one.
    fn check(&self) -> Result<(), QueueError> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }
}

async fn serve_tag<T: Target>(
    queue: &UblkQueue<'_>,
    tag: u16,
    target: &T,
    buffer: TagBuffer,
    tasks: &Tasks,
) -> Result<(), QueueError> {
    let mut lent = buffer.lend();
    let mut fetched = queue.submit_io_prep_cmd(tag, lent.descriptor(), -1, None).await;
    loop {
        let failed = match fetched {
            Ok(0) => None,
            Ok(code) => Some(Errno::from_raw(-code)),
            Err(UblkError::QueueIsDown) => {
                // The command is complete: the buffer is ours again, and can go.
                drop(lent.reclaim());
                return Ok(());
            }
            Err(error) => Some(errno_of(&error)),
        };
        if let Some(errno) = failed {
            return Err(QueueError::Command { tag, errno });
        }
        if tasks.leaving.get() {
            // The driver sends it again to who comes next. The buffer is leaked, which the process ends soon.
            return Ok(());
        }
        tasks.busy.set(tasks.busy.get() + 1);
        let mut busy = lent.reclaim().occupy();
        let desc = *queue.get_iod(tag);
        let outcome = match decode(&desc, busy.as_mut_slice()) {
            Ok(request) => target.handle(request).await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tracing::debug!(queue = queue.get_qid(), tag, ?desc, "{error}");
        }
        tasks.busy.set(tasks.busy.get() - 1);
        lent = busy.reclaim().lend();
        fetched = queue
            .submit_io_commit_cmd(tag, lent.descriptor(), completion(&desc, outcome))
            .await;
    }
}

/// Submits what the tasks queued, waits for `at_least` completions, and wakes their tasks. False if the device is gone
/// and nothing is left to wait for.
fn reap(queue: &UblkQueue<'_>, at_least: usize) -> Result<bool, QueueError> {
    match queue.flush_and_wake_io_tasks(|data, completion, _| ublk_wake_task(data, completion), at_least) {
        Ok(_) => Ok(true),
        Err(UblkError::QueueIsDown) => Ok(false),
        Err(error) => match errno_of(&error) {
            // Interrupted, or the kernel is short of something for the moment: nothing is lost, try again.
            Errno::EINTR | Errno::EAGAIN | Errno::EBUSY => Ok(true),
            errno => Err(QueueError::Wait(errno)),
        },
    }
}

/// Gives this thread a ring for `depth` requests. Only this thread uses it, and only looks at completions when it asks
/// for them, which spares the kernel interrupting it for each.
fn make_ring(depth: u16) -> Result<(), QueueError> {
    let ring = IoUring::<squeue::Entry, cqueue::Entry>::builder()
        .setup_cqsize(u32::from(depth))
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(u32::from(depth))
        .map_err(QueueError::Ring)?;
    // Only fails if the thread has a ring already; queue threads are new.
    ublk_init_task_ring(|cell| {
        cell.set(RefCell::new(ring))
            .map_err(|_| UblkError::OtherError(-(Errno::EEXIST as i32)))
    })
    .map_err(|error| QueueError::Map(errno_of(&error)))
}

/// Takes this thread's ring, to be closed when the thread has ended.
fn take_ring() -> Result<IoUring, QueueError> {
    let mut ring = IoUring::new(1).map_err(QueueError::Ring)?;
    with_task_io_ring_mut(|own| std::mem::swap(own, &mut ring));
    Ok(ring)
}

fn new_buffer(len: usize) -> Result<TagBuffer, QueueError> {
    let error = |errno| QueueError::Buffer {
        size: Bytes::new(len as u64),
        errno,
    };
    TagBuffer::new(NonZeroUsize::new(len).ok_or_else(|| error(Errno::EINVAL))?).map_err(error)
}

// The loop above compares with a bare 0.
const _: () = assert!(sys::UBLK_IO_RES_OK == 0);
