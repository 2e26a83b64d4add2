// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests and answers by the dozen: `UBLK_F_BATCH_IO`.
//!
//! # Protocol
//!
//! 1. *Prepare*: one command tells the driver the buffers of all tags ([`Batch::prepare`], once the tasks have named them).
//! 2. *Fetch*: commands that stay and complete again and again, each time with the numbers of the tags that have requests,
//!    in one of the buffers of a ring that [`Tags`] shares with the kernel.
//! 3. *Commit*: answers gather until the queue has run all its tasks, and go out as one command ([`Batch::flush`]). The
//!    driver carries it out while it is submitted, so it is one more completion to wait for.
//!
//! When the device is stopped, fetches end with `ENODEV`, and so do the tasks.

use std::cell::{Cell, RefCell};
use std::mem::{self, offset_of};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{cqueue, opcode, squeue};
use libublk::io::RawSqe;
use libublk::sys;
use nix::errno::Errno;

use super::commands::{CHANNEL, Place};
use crate::map::AnonymousMap;
use crate::ring::{Event, Pinned, Ring, Wakes};

/// Fetches under way: while the driver fills one, requests gather for the other.
const FETCHES: u32 = 2;
/// Buffers for tags. A fetch that finds none ends, and is begun again.
const BUFFERS: u16 = 8;
/// The ring of these buffers.
const GROUP: u16 = 0;
/// Commits under way: they end while they are submitted, so more than one are there only after trouble.
const COMMITS: usize = 4;
/// Events: fetches, then commits from here on.
const FIRST_COMMIT: u32 = 16;
const PREPARE: u32 = 32;
/// `IORING_URING_CMD_MULTISHOT`
const MULTISHOT: u32 = 1 << 1;

/// An answer, or a buffer; `struct ublk_elem_header`, and the address where there is one.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Element {
    tag: u16,
    index: u16,
    result: i32,
    address: u64,
}

/// The same without an address.
const SHORT: usize = offset_of!(Element, address);

/// The elements of a command, as bytes, since their length differs.
#[derive(Debug, Default)]
struct Elements {
    bytes: Vec<u8>,
    count: u16,
}

impl Elements {
    fn with_room(depth: u16) -> Self {
        Self {
            bytes: Vec::with_capacity(usize::from(depth) * size_of::<Element>()),
            count: 0,
        }
    }

    fn push(&mut self, tag: u16, result: i32, place: Place) {
        self.bytes.extend_from_slice(&tag.to_ne_bytes());
        self.bytes.extend_from_slice(&tag.to_ne_bytes());
        self.bytes.extend_from_slice(&result.to_ne_bytes());
        if let Place::Address(address) = place {
            self.bytes.extend_from_slice(&address.to_ne_bytes());
        }
        self.count += 1;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

/// A commit under way, or room for one.
struct Commit {
    elements: Pinned<Elements>,
    /// Bytes that the driver has taken; none if it is not under way.
    taken: Option<usize>,
}

/// See the module's text.
pub(super) struct Batch<'r> {
    ring: &'r Ring,
    queue: u16,
    /// How all tags' buffers are named.
    flags: u16,
    element_bytes: usize,
    /// Answers that have not gone out.
    answers: RefCell<Elements>,
    commits: RefCell<[Commit; COMMITS]>,
    /// Where each tag's task waits.
    waiting: RefCell<Vec<Option<u32>>>,
    tags: RefCell<Pinned<Tags>>,
    /// Fetches under way.
    fetching: Cell<u32>,
    /// What to begin again with the next flush, a bit each: while the ring hands out completions it takes no commands.
    again: Cell<Again>,
    stopped: Cell<bool>,
    failure: Cell<Option<Errno>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Again {
    fetches: u32,
    commits: u32,
}

impl<'r> Batch<'r> {
    pub(super) fn new(ring: &'r Ring, queue: u16, depth: u16, place: Place) -> Result<Self, Errno> {
        let room = || Elements::with_room(depth);
        Ok(Self {
            ring,
            queue,
            flags: match place {
                Place::Address(_) => flag(sys::UBLK_BATCH_F_HAS_BUF_ADDR),
                Place::Registered => flag(sys::UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK),
                Place::None => 0,
            },
            element_bytes: match place {
                Place::Address(_) => size_of::<Element>(),
                Place::Registered | Place::None => SHORT,
            },
            answers: RefCell::new(room()),
            commits: RefCell::new(std::array::from_fn(|_| Commit {
                elements: Pinned::new(room()),
                taken: None,
            })),
            waiting: RefCell::new(vec![None; depth.into()]),
            tags: RefCell::new(Pinned::new(Tags::new(ring, depth)?)),
            fetching: Cell::new(0),
            again: Cell::default(),
            stopped: Cell::new(false),
            failure: Cell::new(None),
        })
    }

    /// # Safety
    ///
    /// As for [`Commands::next`](super::commands::Commands::next).
    pub(super) async unsafe fn next(&self, tag: u16, answer: Option<i32>, place: Place) -> i32 {
        self.answers.borrow_mut().push(tag, answer.unwrap_or(0), place);
        if self.stopped.get() {
            return -(Errno::ENODEV as i32);
        }
        let arrival = self.ring.wait_for_event();
        if let Some(place) = self.waiting.borrow_mut().get_mut(usize::from(tag)) {
            *place = Some(arrival.slot());
        }
        arrival.await
    }

    /// Steps 1 and the first of 2, after every task has named its buffer.
    pub(super) fn prepare(&self) -> Result<(), Errno> {
        let elements = Pinned::new(mem::take(&mut *self.answers.borrow_mut()));
        let entry = self.command(sys::UBLK_U_IO_PREP_IO_CMDS, &elements, 0);
        let result = Cell::new(None);
        // SAFETY: the elements stay until the completion was seen, or for ever.
        unsafe { self.ring.start_event(entry, Event(PREPARE)) }?;
        let mut woken = Vec::new();
        while result.get().is_none() {
            self.ring.submit_and_wait(1)?;
            self.ring.reap(&mut woken, |_, event, completion| {
                if event == Event(PREPARE) {
                    result.set(Some(completion.result()));
                }
            });
        }
        let mut elements = elements.release();
        elements.clear();
        self.answers.replace(elements);
        match result.get() {
            Some(0) => (0..FETCHES).try_for_each(|number| self.fetch(number)),
            code => Err(Errno::from_raw(-code.unwrap_or(-(Errno::EIO as i32)))),
        }
    }

    /// Step 3. Returns how many completions come of it at once.
    pub(super) fn flush(&self) -> Result<usize, Errno> {
        if let Some(errno) = self.failure.take() {
            return Err(errno);
        }
        let again = self.again.take();
        for number in (0..FETCHES).filter(|number| again.fetches & 1 << number != 0) {
            self.fetch(number)?;
        }
        let mut commits = self.commits.borrow_mut();
        let mut completions = 0;
        for (commit, number) in commits.iter().zip(0..) {
            if again.commits & 1 << number != 0 {
                self.commit(commit, number)?;
                completions += 1;
            }
        }
        if self.answers.borrow().count == 0 {
            return Ok(completions);
        }
        let free = commits.iter_mut().zip(0..).find(|(commit, _)| commit.taken.is_none());
        // If there is no room, the answers go out when one of the commits has ended.
        let Some((commit, number)) = free else {
            return Ok(completions);
        };
        commit.elements.clear();
        mem::swap(&mut *commit.elements, &mut *self.answers.borrow_mut());
        commit.taken = Some(0);
        self.commit(commit, number)?;
        Ok(completions + 1)
    }

    fn commit(&self, commit: &Commit, number: u32) -> Result<(), Errno> {
        let entry = self.command(
            sys::UBLK_U_IO_COMMIT_IO_CMDS,
            &commit.elements,
            commit.taken.unwrap_or(0),
        );
        // SAFETY: the elements stay as they are until the commit has ended, or for ever.
        unsafe { self.ring.start_event(entry, Event(FIRST_COMMIT + number)) }
    }

    fn fetch(&self, number: u32) -> Result<(), Errno> {
        let mut entry = opcode::UringCmd16::new(CHANNEL, sys::UBLK_U_IO_FETCH_IO_CMDS)
            .cmd(header(self.queue, 0, 0, size_of::<u16>()))
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        let fields = raw(&mut entry);
        fields.rw_flags |= MULTISHOT;
        fields.buf_index = GROUP;
        // SAFETY: the kernel writes to the buffers of the group, which stay until both fetches have ended, or for ever.
        unsafe { self.ring.start_event(entry, Event(number)) }?;
        self.fetching.set(self.fetching.get() + 1);
        Ok(())
    }

    /// A completion that belongs to no task.
    pub(super) fn handle(&self, wakes: &mut Wakes<'_>, event: Event, completion: &cqueue::Entry) {
        let handled = match event.0 {
            number @ ..FETCHES => self.fetched(wakes, number, completion),
            number => self.committed(number.saturating_sub(FIRST_COMMIT), completion.result()),
        };
        // Left for the next flush: the ring is busy with its completions now.
        if let Err(errno) = handled {
            self.failure.set(Some(errno));
        }
    }

    fn fetched(&self, wakes: &mut Wakes<'_>, number: u32, completion: &cqueue::Entry) -> Result<(), Errno> {
        if !cqueue::more(completion.flags()) {
            self.fetching.set(self.fetching.get() - 1);
        }
        match completion.result() {
            0.. => {
                let length = usize::try_from(completion.result()).unwrap_or(0);
                let buffer = cqueue::buffer_select(completion.flags()).ok_or(Errno::EPROTO)?;
                let mut waiting = self.waiting.borrow_mut();
                self.tags.borrow_mut().read(buffer, length, |tag| {
                    let slot = waiting.get_mut(usize::from(tag)).and_then(Option::take);
                    if let Some(slot) = slot {
                        wakes.finish(slot, 0);
                    }
                    slot.map(drop).ok_or(Errno::EPROTO)
                })?;
            }
            code if code == -(Errno::ENOBUFS as i32) => {}
            code if code == sys::UBLK_IO_RES_ABORT => {
                self.stopped.set(true);
                for slot in self.waiting.borrow_mut().iter_mut().filter_map(Option::take) {
                    wakes.finish(slot, code);
                }
                return Ok(());
            }
            code => return Err(Errno::from_raw(-code)),
        }
        if cqueue::more(completion.flags()) {
            return Ok(());
        }
        let again = self.again.get();
        let fetches = again.fetches | 1 << number;
        self.again.set(Again { fetches, ..again });
        Ok(())
    }

    fn committed(&self, number: u32, code: i32) -> Result<(), Errno> {
        let mut commits = self.commits.borrow_mut();
        let commit = commits.get_mut(number as usize).ok_or(Errno::EPROTO)?;
        let bytes = usize::try_from(code).map_err(|_| Errno::from_raw(-code));
        let taken = match bytes {
            Ok(bytes) => commit.taken.unwrap_or(0) + bytes,
            // Nobody waits for answers of a device that is gone.
            Err(_) if self.stopped.get() => commit.elements.bytes.len(),
            Err(errno) => return Err(errno),
        };
        commit.taken = (taken < commit.elements.bytes.len()).then_some(taken);
        if commit.taken.is_some() {
            if code == 0 {
                return Err(Errno::EIO);
            }
            let again = self.again.get();
            let commits = again.commits | 1 << number;
            self.again.set(Again { commits, ..again });
        }
        Ok(())
    }

    /// Whether a command is under way that names memory.
    pub(super) fn is_busy(&self) -> bool {
        self.fetching.get() > 0 || self.commits.borrow().iter().any(|commit| commit.taken.is_some())
    }

    /// Whether answers have not gone out, or may have to again.
    pub(super) fn owes_answers(&self) -> bool {
        self.answers.borrow().count > 0 || self.commits.borrow().iter().any(|commit| commit.taken.is_some())
    }

    /// Frees the memory that commands named. To be called when it is not busy any more.
    pub(super) fn release(self) {
        for commit in self.commits.into_inner() {
            drop(commit.elements.release());
        }
        drop(self.tags.into_inner().release());
    }

    fn command(&self, operation: u32, elements: &Elements, taken: usize) -> squeue::Entry {
        let rest = elements.bytes.get(taken..).unwrap_or_default();
        let count = u16::try_from(rest.len() / self.element_bytes).unwrap_or(u16::MAX);
        let mut entry = opcode::UringCmd16::new(CHANNEL, operation)
            .cmd(header(self.queue, self.flags, count, self.element_bytes))
            .addr(Some(rest.as_ptr() as u64))
            .build();
        raw(&mut entry).len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        entry
    }
}

/// Buffers that the kernel fills with numbers of tags.
#[derive(Debug)]
struct Tags {
    /// Which buffers are the kernel's: a ring of its own, as long as there are buffers.
    lent: AnonymousMap,
    buffers: AnonymousMap,
    /// Bytes of a buffer: room for every tag.
    stride: usize,
    /// Buffers given so far.
    tail: u16,
}

impl Tags {
    fn new(ring: &Ring, depth: u16) -> Result<Self, Errno> {
        let map = |bytes: usize| AnonymousMap::new(NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?);
        let stride = usize::from(depth) * size_of::<u16>();
        let mut tags = Self {
            lent: map(usize::from(BUFFERS) * size_of::<BufRingEntry>())?,
            buffers: map(usize::from(BUFFERS) * stride)?,
            stride,
            tail: 0,
        };
        let address = tags.lent.as_ptr() as u64;
        // SAFETY: a mapping starts at a page, and this one lives until the fetches that use it have ended.
        ring.register(|ring| unsafe { ring.register_buf_ring_with_flags(address, BUFFERS, GROUP, 0) })?;
        (0..BUFFERS).for_each(|buffer| tags.give(buffer));
        Ok(tags)
    }

    /// Gives a buffer to the kernel.
    fn give(&mut self, buffer: u16) {
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping starts at a page")]
        let entries = self.lent.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the remainder is below the number of entries that the mapping has.
        let place = unsafe { entries.add(usize::from(self.tail % BUFFERS)) };
        // SAFETY: aligned as the page is, zeros at first, and not the kernel's before the tail says so.
        let entry = unsafe { &mut *place };
        let address = self.buffers.as_ptr().wrapping_add(usize::from(buffer) * self.stride);
        entry.set_addr(address as u64);
        entry.set_len(u32::try_from(self.stride).unwrap_or(u32::MAX));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the mapping is the entries of such a ring.
        let tail = unsafe { BufRingEntry::tail(entries) }.cast_mut();
        // SAFETY: two aligned bytes of the mapping, which both sides only access atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Looks at what the kernel has put into a buffer, and gives it back.
    fn read(
        &mut self,
        buffer: u16,
        length: usize,
        mut each: impl FnMut(u16) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if buffer >= BUFFERS || length > self.stride {
            return Err(Errno::EPROTO);
        }
        let start = usize::from(buffer) * self.stride;
        for at in (0..length).step_by(size_of::<u16>()) {
            let mut tag = [0; size_of::<u16>()];
            // SAFETY: the kernel has given the buffer back, and the array is not in the mapping.
            unsafe { self.buffers.read(start + at, &mut tag) };
            each(u16::from_ne_bytes(tag))?;
        }
        self.give(buffer);
        Ok(())
    }
}

/// The fields of an entry that this kind of operation has not in `io_uring`.
fn raw(entry: &mut squeue::Entry) -> &mut RawSqe {
    // SAFETY: one is the kernel's `struct io_uring_sqe`, the other its beginning; they are aligned alike.
    unsafe { &mut *std::ptr::from_mut(entry).cast() }
}

const _: () =
    assert!(size_of::<RawSqe>() <= size_of::<squeue::Entry>() && align_of::<RawSqe>() <= align_of::<squeue::Entry>());

/// `struct ublk_batch_io`
fn header(queue: u16, flags: u16, count: u16, element_bytes: usize) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&queue.to_ne_bytes());
    bytes[2..4].copy_from_slice(&flags.to_ne_bytes());
    bytes[4..6].copy_from_slice(&count.to_ne_bytes());
    bytes[6] = u8::try_from(element_bytes).unwrap_or(u8::MAX);
    bytes
}

fn flag(flag: u32) -> u16 {
    u16::try_from(flag).unwrap_or(0)
}

const _: () = assert!(
    size_of::<sys::ublk_batch_io>() == 16
        && offset_of!(sys::ublk_batch_io, q_id) == 0
        && offset_of!(sys::ublk_batch_io, flags) == 2
        && offset_of!(sys::ublk_batch_io, nr_elem) == 4
        && offset_of!(sys::ublk_batch_io, elem_bytes) == 6
        && offset_of!(sys::ublk_elem_header, tag) == offset_of!(Element, tag)
        && offset_of!(sys::ublk_elem_header, buf_index) == offset_of!(Element, index)
        && offset_of!(sys::ublk_elem_header, result) == offset_of!(Element, result)
        && size_of::<sys::ublk_elem_header>() == SHORT
        && size_of::<Element>() == 16
        && BUFFERS.is_power_of_two()
);
