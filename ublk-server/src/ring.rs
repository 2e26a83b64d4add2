// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `io_uring` of a queue's thread, and the tasks that wait on it.
//!
//! # Contract
//!
//! - A task is the request of one tag. It waits for operations of this ring and for nothing else: the ring knows which task
//!   an operation belongs to, and names it when the operation has completed. So there are no wakers, and an operation costs
//!   no allocation and no atomic read-modify-write.
//! - The kernel reads and writes the memory an operation names until the operation has completed, whatever becomes of the
//!   future that waits for it. So whatever names memory here is `unsafe`: whoever calls it owes that memory for that long.
//!   - The data of a request is safe to name: its buffer is leaked, not freed, when its task ends before the target did
//!     (see [`crate::buffer`]).
//!   - Memory of a target's own is put into [`Pinned`] first, with the same effect.
//!
//! # Completions
//!
//! The number that comes back with a completion is the operation's slot, or, with the highest bit set, an [`Event`] that
//! belongs to no task: [`Ring::reap`] hands it to its caller.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use io_uring::{IoUring, Submitter, cqueue, opcode, squeue, types};
use nix::errno::Errno;

use crate::control::errno_of_io;
use crate::payload::Span;

/// How often an operation that the kernel could not do at once is tried again before it counts as failed.
const TRIES: u32 = 64;
/// Marks completions that are events.
const EVENT: u64 = 1 << 63;
/// Operations of one task that may be under way at the same time without the ring having to grow.
pub(crate) const WIDTH: usize = 8;

/// Which of a thread's tasks.
pub(crate) type Task = u16;

/// What a completion that belongs to no task is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event(pub(crate) u32);

/// See the module's text.
pub(crate) struct Ring {
    uring: RefCell<IoUring>,
    slots: RefCell<Slots>,
    /// The task that runs, to which new operations belong.
    running: Cell<Task>,
}

/// The operations that somebody waits for.
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Free,
    Waiting(Task),
    Done(i32),
    /// Nobody waits any more.
    Abandoned,
}

impl Slots {
    fn take(&mut self, task: Task) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.set(slot, Slot::Waiting(task));
            return slot;
        }
        self.slots.push(Slot::Waiting(task));
        // A queue has 4096 tags at most.
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    fn set(&mut self, slot: u32, state: Slot) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = state;
        }
        if matches!(state, Slot::Free) {
            self.free.push(slot);
        }
    }

    fn get(&self, slot: u32) -> Slot {
        self.slots.get(slot as usize).copied().unwrap_or(Slot::Free)
    }
}

/// Completions, and the tasks that they let go on.
pub(crate) struct Wakes<'a> {
    slots: &'a mut Slots,
    ready: &'a mut Vec<Task>,
}

impl Wakes<'_> {
    /// What waits in a slot has its result.
    pub(crate) fn finish(&mut self, slot: u32, result: i32) {
        match self.slots.get(slot) {
            Slot::Waiting(task) => {
                self.slots.set(slot, Slot::Done(result));
                self.ready.push(task);
            }
            Slot::Abandoned => self.slots.set(slot, Slot::Free),
            // The kernel completes an operation once.
            Slot::Free | Slot::Done(_) => {}
        }
    }
}

impl Ring {
    /// A ring for this thread, which alone may use it, and which looks at completions only when it asks for them: that
    /// spares the kernel interrupting it for each.
    pub(crate) fn new(tasks: u16) -> io::Result<Self> {
        let tasks = u32::from(tasks);
        let uring = IoUring::builder()
            .setup_cqsize(tasks.next_power_of_two().saturating_mul(2).max(16))
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(tasks.max(8))?;
        let room = tasks as usize * (1 + WIDTH);
        Ok(Self {
            uring: RefCell::new(uring),
            slots: RefCell::new(Slots {
                slots: Vec::with_capacity(room),
                free: Vec::with_capacity(room),
            }),
            running: Cell::new(0),
        })
    }

    /// Registers files, buffers and the like.
    pub(crate) fn register<R>(&self, register: impl FnOnce(&Submitter<'_>) -> io::Result<R>) -> Result<R, Errno> {
        register(&self.uring.borrow().submitter()).map_err(|error| errno_of_io(&error))
    }

    /// New operations belong to this task from now on.
    pub(crate) fn run_as(&self, task: Task) {
        self.running.set(task);
    }

    /// Queues an operation. It is submitted with the next [`Ring::submit_and_wait`].
    ///
    /// # Safety
    ///
    /// The memory that the entry names must stay valid until the operation has completed, and nobody else may touch it
    /// until then, even if the future is dropped before.
    pub(crate) unsafe fn start(&self, entry: &squeue::Entry) -> Result<Operation<'_>, Errno> {
        let operation = self.wait_for_event();
        // SAFETY: as the caller promises.
        let pushed = unsafe { self.push(&entry.clone().user_data(u64::from(operation.slot))) };
        if pushed.is_err() {
            // It will never complete, and so nobody else would give its slot back.
            self.slots.borrow_mut().set(operation.slot, Slot::Done(0));
        }
        pushed.map(|()| operation)
    }

    /// Waits for what [`Wakes::finish`] says about [`Operation::slot`].
    pub(crate) fn wait_for_event(&self) -> Operation<'_> {
        let slot = self.slots.borrow_mut().take(self.running.get());
        Operation { ring: self, slot }
    }

    /// Queues what no task waits for.
    ///
    /// # Safety
    ///
    /// As for [`Ring::start`], until the last completion of the operation.
    pub(crate) unsafe fn start_event(&self, entry: squeue::Entry, event: Event) -> Result<(), Errno> {
        // SAFETY: as the caller promises.
        unsafe { self.push(&entry.user_data(EVENT | u64::from(event.0))) }
    }

    /// # Safety
    ///
    /// As for [`Ring::start`].
    unsafe fn push(&self, entry: &squeue::Entry) -> Result<(), Errno> {
        let mut uring = self.uring.borrow_mut();
        for _ in 0..TRIES {
            // SAFETY: as the caller promises.
            if unsafe { uring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            // No room: the kernel takes what is there.
            match uring.submit().map_err(|error| errno_of_io(&error)) {
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN | Errno::EBUSY) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EBUSY)
    }

    /// Submits what was queued, and waits for so many completions.
    pub(crate) fn submit_and_wait(&self, completions: usize) -> Result<(), Errno> {
        let submitted = self.uring.borrow().submit_and_wait(completions);
        match submitted.map_err(|error| errno_of_io(&error)) {
            // Interrupted, or the kernel is short of something for the moment: nothing is lost, the caller comes again.
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN | Errno::EBUSY) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Takes the completions there are. Tasks that can go on are added to `ready`, each as often as it has completions.
    pub(crate) fn reap(&self, ready: &mut Vec<Task>, mut event: impl FnMut(&mut Wakes<'_>, Event, &cqueue::Entry)) {
        let (mut uring, mut slots) = (self.uring.borrow_mut(), self.slots.borrow_mut());
        let mut wakes = Wakes {
            slots: &mut slots,
            ready,
        };
        for completion in uring.completion() {
            let number = completion.user_data();
            #[expect(clippy::cast_possible_truncation, reason = "made of 32 bits above")]
            if number & EVENT == 0 {
                wakes.finish(number as u32, completion.result());
            } else {
                event(&mut wakes, Event(number as u32), &completion);
            }
        }
    }

    /// Carries out an operation, and begins again if it was interrupted or could not be started. Returns what a system call
    /// would have returned.
    ///
    /// # Safety
    ///
    /// As for [`Ring::start`].
    pub(crate) async unsafe fn attempt(&self, entry: &squeue::Entry) -> Result<u32, Errno> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            // SAFETY: as the caller promises.
            let code = unsafe { self.start(entry) }?.await;
            match u32::try_from(code).map_err(|_| Errno::from_raw(-code)) {
                Err(Errno::EINTR | Errno::EAGAIN) if tries > 0 => {}
                result => return result,
            }
        }
    }

    /// Moves all of the span, or fails as a whole: a read with EIO if the file ends before. After a write that failed, the
    /// bytes there are undefined.
    ///
    /// # Safety
    ///
    /// As for [`Ring::start`]: the memory of the span.
    pub(crate) async unsafe fn transfer(&self, transfer: Transfer<'_>) -> Result<(), Errno> {
        // SAFETY: as the caller promises.
        let first = unsafe { self.start(&transfer.entry()) }?;
        // SAFETY: likewise.
        unsafe { self.complete(transfer, first) }.await
    }

    /// Makes many transfers, several at a time.
    ///
    /// # Safety
    ///
    /// As for [`Ring::transfer`].
    pub(crate) async unsafe fn transfer_all<'m>(
        &self,
        transfers: impl Iterator<Item = Transfer<'m>>,
    ) -> Result<(), Errno> {
        let mut transfers = transfers.fuse();
        loop {
            let mut started: [Option<(Transfer<'m>, Operation<'_>)>; WIDTH] = [const { None }; WIDTH];
            let mut result = Ok(());
            for (place, transfer) in started.iter_mut().zip(&mut transfers) {
                // SAFETY: as the caller promises.
                match unsafe { self.start(&transfer.entry()) } {
                    Ok(operation) => *place = Some((transfer, operation)),
                    Err(errno) => {
                        result = Err(errno);
                        break;
                    }
                }
            }
            let is_last = started.last().is_none_or(Option::is_none);
            for (transfer, operation) in started.into_iter().flatten() {
                // Each is waited for, also after a failure: nobody knows otherwise when the memory is free again.
                // SAFETY: as the caller promises.
                result = unsafe { self.complete(transfer, operation) }.await.and(result);
            }
            if is_last || result.is_err() {
                return result;
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Ring::transfer`].
    async unsafe fn complete(&self, mut transfer: Transfer<'_>, first: Operation<'_>) -> Result<(), Errno> {
        let mut code = first.await;
        let mut tries = TRIES;
        loop {
            match u32::try_from(code).map_err(|_| Errno::from_raw(-code)) {
                Ok(moved) => match transfer.after(moved) {
                    Progress::All => return Ok(()),
                    // One that moves nothing would be repeated for ever.
                    Progress::Nothing => return Err(Errno::EIO),
                    Progress::Rest(rest) => transfer = rest,
                },
                Err(Errno::EINTR | Errno::EAGAIN) if tries > 0 => tries -= 1,
                Err(errno) => return Err(errno),
            }
            // SAFETY: as the caller promises.
            code = unsafe { self.start(&transfer.entry()) }?.await;
        }
    }
}

/// Bytes between memory and a registered file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer<'m> {
    direction: Direction,
    file: types::Fixed,
    at: u64,
    memory: Span<'m>,
    /// `RWF_*`
    flags: i32,
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Read,
    Write,
}

/// What a transfer that moved something leaves to do.
enum Progress<'m> {
    All,
    Rest(Transfer<'m>),
    Nothing,
}

impl<'m> Transfer<'m> {
    /// Fills the memory from a byte of the file.
    pub(crate) const fn read(file: types::Fixed, at: u64, into: Span<'m>) -> Self {
        Self {
            direction: Direction::Read,
            file,
            at,
            memory: into,
            flags: 0,
        }
    }

    /// Writes the memory at a byte of the file, with `RWF_*` flags.
    pub(crate) const fn write(file: types::Fixed, at: u64, from: Span<'m>, flags: i32) -> Self {
        Self {
            direction: Direction::Write,
            file,
            at,
            memory: from,
            flags,
        }
    }

    fn entry(&self) -> squeue::Entry {
        let Self { file, at, flags, .. } = *self;
        let (address, length) = (self.memory.address(), self.memory.len());
        match (self.direction, self.memory.index()) {
            (Direction::Read, None) => opcode::Read::new(file, address, length)
                .offset(at)
                .rw_flags(flags)
                .build(),
            (Direction::Read, Some(index)) => opcode::ReadFixed::new(file, address, length, index)
                .offset(at)
                .rw_flags(flags)
                .build(),
            (Direction::Write, None) => opcode::Write::new(file, address, length)
                .offset(at)
                .rw_flags(flags)
                .build(),
            (Direction::Write, Some(index)) => opcode::WriteFixed::new(file, address, length, index)
                .offset(at)
                .rw_flags(flags)
                .build(),
        }
    }

    fn after(self, moved: u32) -> Progress<'m> {
        match self.memory.after(moved) {
            Some(rest) if rest.len() == 0 => Progress::All,
            Some(rest) if moved > 0 => Progress::Rest(Self {
                at: self.at + u64::from(moved),
                memory: rest,
                ..self
            }),
            Some(_) | None => Progress::Nothing,
        }
    }
}

/// Something under way. Dropping it does not end it.
pub(crate) struct Operation<'r> {
    ring: &'r Ring,
    slot: u32,
}

impl Operation<'_> {
    /// Where [`Wakes::finish`] finds it.
    pub(crate) const fn slot(&self) -> u32 {
        self.slot
    }
}

impl Future for Operation<'_> {
    type Output = i32;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<i32> {
        let slots = self.ring.slots.borrow();
        match slots.get(self.slot) {
            Slot::Done(result) => Poll::Ready(result),
            Slot::Free | Slot::Waiting(_) | Slot::Abandoned => Poll::Pending,
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        let mut slots = self.ring.slots.borrow_mut();
        let state = match slots.get(self.slot) {
            Slot::Waiting(_) => Slot::Abandoned,
            Slot::Done(_) => Slot::Free,
            Slot::Free | Slot::Abandoned => return,
        };
        slots.set(self.slot, state);
    }
}

/// Something whose memory operations name. Dropping it leaks it, since they may still be under way.
#[derive(Debug)]
pub(crate) struct Pinned<T>(ManuallyDrop<T>);

impl<T> Pinned<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    /// To be called when every operation has completed.
    pub(crate) fn release(self) -> T {
        ManuallyDrop::into_inner(self.0)
    }
}

impl<T> Deref for Pinned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Pinned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
