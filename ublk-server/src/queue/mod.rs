// SPDX-License-Identifier: MIT OR Apache-2.0

//! One hardware queue, or a share of one: a thread, its ring, and a task for each tag.
//!
//! # The life of a tag
//!
//! 1. *Fetch*: hand the driver the tag's buffer, if it has one, and wait for the first request.
//! 2. Take the buffer back, decode the request, let the target handle it.
//! 3. *Answer*: hand the buffer back with the outcome, and wait for the next request. Go to 2.
//!
//! `ENODEV` is the end: the device was stopped, and there was no request in this tag.
//!
//! # A turn of the thread
//!
//! One system call submits what all tasks have queued, and waits. Then every task that has something to go on with runs
//! until it waits again. Nothing is allocated in a turn, no clock is read but once when it begins and once before it ends,
//! and no lock is taken; what targets do may be another matter.
//!
//! # Leaving
//!
//! When the queue is asked to leave the device to another server ([`crate::leave`]), requests that the target has are
//! finished and answered; those that arrive later are left alone, and the driver sends them again to the next server.
//!
//! # Order of destruction
//!
//! Tasks borrow the ring, so they are dropped first. When the loop ends early, dropping a task that waits for the driver or
//! an operation of its target leaks its buffer (see [`crate::buffer`]); the ring ends with the thread, which makes the
//! driver give up the requests that were out.

mod batch;
mod commands;
mod descriptors;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use libublk::io::UblkDev;
use libublk::sys;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tracing::{Instrument, Level};

use self::batch::Batch;
use self::commands::{Commands, Place, Single, is_unregistered, register};
use self::descriptors::Descriptors;
use crate::buffer::{BusyBuffer, LentBuffer, TagBuffer};
use crate::error::QueueError;
use crate::leave::Leave;
use crate::metrics::{Operation, QueueMetrics};
use crate::payload::{Channel, Memory, Payload, Registered, Registration};
use crate::request::{completion, decode};
use crate::ring::{Event, Ring, Task};
use crate::target::{Io, IoError, Request, Target};
use crate::transfer::{Delivery, Mode, Transfer};
use crate::units::Bytes;

/// So much of each tag's buffer is registered with the ring, where targets use the ring: registered memory is taken from
/// the machine at once and for good, and larger requests gain little by it. A tag registers its part with its first
/// request: most devices never use most of their tags, and a new server is to take over a killed one's queues quickly.
const REGISTERED: usize = 64 << 10;

/// The queue is to leave. The other events are of batches.
const LEAVE: Event = Event(64);

/// Which queue, and which of its threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) queue: u16,
    pub(crate) thread: u16,
    /// Threads of the queue: each has every so many-th tag, since neighbours are busy at the same time.
    pub(crate) threads: u16,
}

impl Part {
    fn tags(self, depth: u16) -> impl Iterator<Item = u16> + Clone {
        (self.thread..depth).step_by(self.threads.max(1).into())
    }
}

/// Keeps this thread to some processors: those whose requests it gets. To be called before it touches memory of its own,
/// which then is near as well: the kernel takes the memory of first use from the node of the processor.
pub(crate) fn stay_near(processors: &[usize]) {
    let mut set = CpuSet::new();
    let known = processors.iter().all(|&processor| set.set(processor).is_ok());
    if processors.is_empty() || !known {
        return;
    }
    if let Err(errno) = sched_setaffinity(Pid::from_raw(0), &set) {
        // The processors may be another container's. The thread works anywhere.
        tracing::info!("a queue is not kept to processors {processors:?}: {errno}");
    }
}

/// Serves a part of `device` until the device is stopped, or the queue is asked to leave. Calls `ready` when the driver has accepted all fetches, which is
/// what it wants to see of every queue before it starts the device.
pub(crate) fn serve<T: Target>(
    device: &UblkDev,
    part: Part,
    mode: Mode,
    target: &T,
    meter: &QueueMetrics,
    leave: &Leave,
    ready: impl FnOnce(),
) -> Result<(), QueueError> {
    let depth = device.dev_info.queue_depth;
    let tags: Vec<u16> = part.tags(depth).collect();
    let ring = Ring::new(u16::try_from(tags.len()).unwrap_or(u16::MAX)).map_err(QueueError::Ring)?;
    // SAFETY: the device owns the file and outlives the queue.
    let channel = unsafe { BorrowedFd::borrow_raw(device.tgt.fds[0]) };
    let descriptors = Descriptors::map(channel, part.queue, depth).map_err(QueueError::Map)?;
    let files = target.files();
    let registered: Vec<_> = [channel].iter().chain(&files).map(AsRawFd::as_raw_fd).collect();
    let registering = |what| move |errno| QueueError::Register { what, errno };
    ring.register(|ring| ring.register_files(&registered))
        .map_err(registering("files"))?;
    let seats = match mode.transfer {
        Transfer::Copy => seats_with_buffers(device, &tags)?,
        Transfer::UserCopy => tags.iter().map(|&tag| Seat::without_buffer(tag)).collect(),
        Transfer::ZeroCopy | Transfer::ZeroCopyByHand => {
            ring.register(|ring| ring.register_buffers_sparse(depth.into()))
                .map_err(registering("a table of buffers"))?;
            tags.iter().map(|&tag| Seat::without_buffer(tag)).collect()
        }
    };
    let registering_buffers = mode.transfer == Transfer::Copy
        && !files.is_empty()
        && allow(ring.register(|ring| ring.register_buffers_sparse(tags.len().try_into().unwrap_or(u32::MAX))));
    let commands = match mode.delivery {
        Delivery::Single => Commands::Single(Single {
            ring: &ring,
            queue: part.queue,
        }),
        Delivery::Batch => {
            let place = Place::of(mode.transfer, 0);
            let batch = Batch::new(&ring, part.queue, depth, place).map_err(registering("buffers for tags"))?;
            Commands::Batch(Box::new(batch))
        }
    };
    let queue = Queue {
        ring: &ring,
        commands,
        descriptors,
        channel,
        number: part.queue,
        transfer: mode.transfer,
        registering_buffers: Cell::new(registering_buffers),
        target,
        meter,
        now: Cell::new(Instant::now()),
        handling: Cell::new(0),
        leaving: Cell::new(false),
        answered: RefCell::new(Vec::with_capacity(tags.len())),
    };
    let ended = queue.run(seats, leave, || {
        device.notify_buffer_registration_complete(false);
        ready();
    });
    let commands = queue.commands;
    if ended.as_ref().is_ok_and(|ended| *ended == Ended::Stopped) {
        if let Commands::Batch(batch) = commands {
            batch.release();
        }
    } else {
        // The driver has commands, and the memory they name: that is leaked.
        drop(commands);
        leave.keep(ring);
    }
    ended.map(drop)
}

/// How a queue came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// The device was stopped, and the driver has no command any more.
    Stopped,
    /// The device was left to another server.
    Left,
}

/// What a tag's task begins with.
struct Seat {
    tag: u16,
    buffer: Option<TagBuffer>,
}

impl Seat {
    const fn without_buffer(tag: u16) -> Self {
        Self { tag, buffer: None }
    }
}

fn seats_with_buffers(device: &UblkDev, tags: &[u16]) -> Result<Vec<Seat>, QueueError> {
    let len = usize::try_from(device.dev_info.max_io_buf_bytes).unwrap_or(usize::MAX);
    let error = |errno| QueueError::Buffer {
        size: Bytes::new(len as u64),
        errno,
    };
    let size = NonZeroUsize::new(len).ok_or_else(|| error(Errno::EINVAL))?;
    let seat = |&tag| {
        let buffer = Some(TagBuffer::new(size).map_err(error)?);
        Ok(Seat { tag, buffer })
    };
    tags.iter().map(seat).collect()
}

/// Whether registering worked. Nothing depends on it but a little time; `RLIMIT_MEMLOCK` bounds it for all but root.
fn allow(registered: Result<(), Errno>) -> bool {
    registered
        .inspect_err(|errno| tracing::info!("buffers are not registered: {errno}"))
        .is_ok()
}

impl Place {
    /// Of a buffer at an address, if there is one in this way of moving data.
    const fn of(transfer: Transfer, address: u64) -> Self {
        match transfer {
            Transfer::Copy => Self::Address(address),
            Transfer::UserCopy | Transfer::ZeroCopyByHand => Self::None,
            Transfer::ZeroCopy => Self::Registered,
        }
    }
}

/// What the tasks of a thread share.
struct Queue<'a, T> {
    ring: &'a Ring,
    commands: Commands<'a>,
    descriptors: Descriptors,
    channel: BorrowedFd<'a>,
    number: u16,
    transfer: Transfer,
    /// Whether tags register their buffers when they come into use.
    registering_buffers: Cell<bool>,
    target: &'a T,
    meter: &'a QueueMetrics,
    /// When this turn began, and so when its requests arrived.
    now: Cell<Instant>,
    /// Requests that the target has.
    handling: Cell<usize>,
    /// Whether new requests are left to another server.
    leaving: Cell<bool>,
    /// Requests answered in this turn: what, since when, and how many in a row.
    answered: RefCell<Vec<(Operation, Instant, u64)>>,
}

impl<T: Target> Queue<'_, T> {
    fn run(&self, seats: Vec<Seat>, leave: &Leave, ready: impl FnOnce()) -> Result<Ended, QueueError> {
        let mut tasks = Tasks {
            running: seats.len(),
            tasks: seats
                .into_iter()
                .zip(0..)
                .map(|(seat, place)| Some(Box::pin(self.serve_tag(seat, place))))
                .collect(),
        };
        // Submit the fetches without waiting for requests. Those the driver does not accept complete at once.
        let mut woken: Vec<Task> = (0..).take(tasks.tasks.len()).collect();
        tasks.run(self.ring, &mut woken)?;
        if let Commands::Batch(batch) = &self.commands {
            batch.prepare().map_err(|errno| QueueError::Batch { errno })?;
        }
        self.turn(&mut tasks, &mut woken, 0)?;
        ready();
        // Only now: what the driver gets in one system call is there as a whole, whenever this process is killed.
        leave.announce(self.ring, LEAVE).map_err(QueueError::Wait)?;
        while tasks.running > 0 || self.is_busy() {
            self.turn(&mut tasks, &mut woken, 1)?;
            if self.has_left() {
                // The last answers.
                self.ring.submit_and_wait(0).map_err(QueueError::Wait)?;
                return Ok(Ended::Left);
            }
        }
        Ok(Ended::Stopped)
    }

    /// Submits, waits for so many completions beside those that come of submitting, and runs the tasks they wake.
    fn turn<F: Future<Output = Result<(), QueueError>>>(
        &self,
        tasks: &mut Tasks<F>,
        woken: &mut Vec<Task>,
        completions: usize,
    ) -> Result<(), QueueError> {
        let at_once = match &self.commands {
            Commands::Single(_) => 0,
            Commands::Batch(batch) => batch.flush().map_err(|errno| QueueError::Batch { errno })?,
        };
        self.ring
            .submit_and_wait(at_once + completions)
            .map_err(QueueError::Wait)?;
        self.ring.reap(woken, |wakes, event, completion| {
            if event == LEAVE {
                self.leaving.set(true);
            } else if let Commands::Batch(batch) = &self.commands {
                batch.handle(wakes, event, completion);
            }
        });
        if !woken.is_empty() {
            self.now.set(Instant::now());
            tasks.run(self.ring, woken)?;
            self.record();
        }
        Ok(())
    }

    fn is_busy(&self) -> bool {
        match &self.commands {
            Commands::Single(_) => false,
            Commands::Batch(batch) => batch.is_busy(),
        }
    }

    /// Whether the queue was asked to leave, and owes nobody an answer.
    fn has_left(&self) -> bool {
        let unsent = match &self.commands {
            Commands::Single(_) => false,
            Commands::Batch(batch) => batch.owes_answers(),
        };
        self.leaving.get() && self.handling.get() == 0 && !unsent
    }

    /// What was answered goes out now.
    fn record(&self) {
        let mut answered = self.answered.borrow_mut();
        if answered.is_empty() {
            return;
        }
        let now = Instant::now();
        for (operation, began, count) in answered.drain(..) {
            self.meter.took(operation, now.saturating_duration_since(began), count);
        }
    }

    /// Most requests of a turn came in one turn, too.
    fn note_answer(&self, operation: Operation, began: Instant) {
        let mut answered = self.answered.borrow_mut();
        match answered.last_mut() {
            Some((same, since, count)) if (*same, *since) == (operation, began) => *count += 1,
            _ => answered.push((operation, began, 1)),
        }
    }

    /// `place`: among the tags of this thread, and so in the ring's table of buffers.
    async fn serve_tag(&self, seat: Seat, place: u16) -> Result<(), QueueError> {
        let Seat {
            tag,
            buffer: mut memory,
        } = seat;
        let mut registered = None;
        let mut answer = None;
        loop {
            let lent = memory.map(TagBuffer::lend);
            let data = Place::of(self.transfer, lent.as_ref().map_or(0, LentBuffer::address));
            // SAFETY: a lent buffer is leaked when it is dropped.
            let fetched = unsafe { self.commands.next(tag, answer, data) }.await;
            memory = lent.map(LentBuffer::reclaim);
            match fetched {
                Ok(()) => {}
                Err(Errno::ENODEV) => return Ok(()),
                Err(errno) => return Err(QueueError::Command { tag, errno }),
            }
            if self.leaving.get() {
                // The driver sends it again to who comes next.
                return Ok(());
            }
            if let (None, Some(buffer)) = (registered, &memory) {
                registered = self.register_buffer(buffer, place);
            }
            self.handling.set(self.handling.get() + 1);
            let desc = self.descriptors.get(tag);
            let (operation, began) = (Operation::of(&desc), self.now.get());
            self.meter.begins();
            let mut busy = memory.map(TagBuffer::occupy);
            let outcome = self.handle(tag, &desc, busy.as_mut(), registered).await;
            memory = busy.map(BusyBuffer::reclaim);
            if let Err(error) = outcome {
                tracing::debug!(queue = self.number, tag, ?desc, "{error}");
            }
            let result = completion(&desc, outcome);
            self.meter.ends(operation, result);
            self.note_answer(operation, began);
            self.handling.set(self.handling.get() - 1);
            answer = Some(result);
        }
    }

    /// Registers the beginning of a tag's buffer at a place in the ring's table, while that works.
    fn register_buffer(&self, buffer: &TagBuffer, place: u16) -> Option<Registration> {
        if !self.registering_buffers.get() {
            return None;
        }
        let len = buffer.len().min(REGISTERED);
        let part = [libc::iovec {
            iov_base: buffer.address().cast(),
            iov_len: len,
        }];
        let registering = |ring: &io_uring::Submitter<'_>| {
            // SAFETY: the ring holds the pages themselves, so that it could not touch others if these were unmapped.
            unsafe { ring.register_buffers_update(place.into(), &part, None) }
        };
        let registered = allow(self.ring.register(registering));
        self.registering_buffers.set(registered);
        registered.then(|| Registration {
            index: place,
            start: buffer.address().addr(),
            len,
        })
    }

    /// Lets the target do what the descriptor says.
    async fn handle(
        &self,
        tag: u16,
        desc: &sys::ublksrv_io_desc,
        buffer: Option<&mut BusyBuffer>,
        registered: Option<Registration>,
    ) -> Result<(), IoError> {
        let request = decode(desc, |len| self.payload(tag, len, buffer, registered))?;
        let io = Io {
            ring: self.ring,
            meter: self.meter,
        };
        let has_pages = matches!(request, Request::Read { .. } | Request::Write { .. });
        let by_hand = has_pages && is_unregistered(desc, self.transfer);
        if by_hand {
            let registering = register(self.ring, self.number, tag, true);
            registering.await.map_err(IoError::Backing)?;
        }
        let outcome = if tracing::enabled!(target: "ublk::io", Level::TRACE) {
            let (queue, sector, sectors) = (self.number, desc.start_sector, desc.nr_sectors);
            let operation = Operation::of(desc).name();
            let span = tracing::trace_span!(target: "ublk::io", "request", queue, tag, operation, sector, sectors);
            self.target.handle(&io, request).instrument(span).await
        } else {
            self.target.handle(&io, request).await
        };
        if by_hand {
            let taking_out = register(self.ring, self.number, tag, false);
            taking_out.await.map_err(IoError::Backing)?;
        }
        outcome
    }

    /// Where the data of a request is.
    fn payload<'r>(
        &'r self,
        tag: u16,
        len: usize,
        buffer: Option<&'r mut BusyBuffer>,
        registered: Option<Registration>,
    ) -> Option<Payload<'r>> {
        match (self.transfer, buffer) {
            (Transfer::Copy, buffer) => {
                let bytes = buffer?.as_mut_slice().get_mut(..len)?;
                Some(Payload::Memory(Memory::new(bytes, registered)))
            }
            (Transfer::UserCopy, _) => Some(Payload::Channel(Channel::new(self.channel, self.number, tag, len))),
            (Transfer::ZeroCopy | Transfer::ZeroCopyByHand, _) => {
                Some(Payload::Registered(Registered::new(tag, u32::try_from(len).ok()?)))
            }
        }
    }
}

/// The tasks of a thread, one per tag.
struct Tasks<F> {
    tasks: Vec<Option<Pin<Box<F>>>>,
    running: usize,
}

impl<F: Future<Output = Result<(), QueueError>>> Tasks<F> {
    /// Runs those that were woken until each waits again; the first failure ends it.
    fn run(&mut self, ring: &Ring, woken: &mut Vec<Task>) -> Result<(), QueueError> {
        // Tasks are found by the operations they wait for (`ring`), and need no waker.
        let mut context = Context::from_waker(Waker::noop());
        for task in woken.drain(..) {
            let Some(place) = self.tasks.get_mut(usize::from(task)) else {
                continue;
            };
            let Some(future) = place else { continue };
            ring.run_as(task);
            if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
                *place = None;
                self.running -= 1;
                outcome?;
            }
        }
        Ok(())
    }
}
