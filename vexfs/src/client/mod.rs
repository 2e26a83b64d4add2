// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server's side of the language between the kernel module and the server (`docs/ABI.md`), without any I/O of its own:
//! who has a device hands in what was written to it and asks what is to be read from it.
//!
//! # Contract
//!
//! - [`Server::request`] takes what was written to a call slot, [`Server::read`] answers a READ of it or parks it,
//!   [`Server::post`] takes a batch of posted operations. All may be called from any thread, for different slots at once.
//! - What would have to wait is refused with [`Handled::Wait`] when asked with [`Patience::Refuse`]; the caller then asks
//!   again, with patience, where waiting does no harm. Asked twice, nothing is done twice. The same with [`Handled::Long`],
//!   where calls that wait must not wait for it.
//! - Whatever is handed in, nothing panics, and no more is kept than a request per slot.
//! - A parked READ has a [`Bell`], which is rung when looking again is worth it. Who parked it also looks after
//!   [`LATE`] has gone by.
//!
//! | module | job |
//! |---|---|
//! | `wire` | the bytes of the header |
//! | `addresses` | what lies where on the device |
//! | `slots` | retries and parked READs of one slot |
//! | `calls` | what each call does |
//! | `queries` | requests about vectors, which come in pieces |
//! | `answer` | replies and what is in them |
//! | `credits` | what the client was promised |
//! | `log` | posted operations, in order |
//! | `order` | what is new, what was done before, what comes too early |

pub mod addresses;
mod answer;
mod calls;
pub mod credits;
mod log;
pub mod order;
mod queries;
pub mod slots;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::checksum::Crc;
use crate::error::{Errno, Error, Result};
use crate::fs::{Fs, Patience};
use crate::units::BLOCK_SIZE;

use answer::Answer;
use calls::Call;
use credits::Credits;
use queries::Queries;
use slots::{Arrival, Parked, Read, Slot, Ticket};
use wire::Opcode;

/// A READ waits so long for a request that does not come, and a batch for the one before it.
pub const LATE: Duration = Duration::from_secs(1);

/// Makes whoever parked a READ look again.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// What became of something that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// It is taken care of.
    Done,
    /// It has to wait: the same again, with patience.
    Wait,
    /// The same, and it may take as long as it takes: at most one for each lane of requests about vectors.
    Long,
}

/// See the module.
pub struct Server {
    fs: Fs,
    epoch: u64,
    slots: Vec<Mutex<CallSlot>>,
    credits: Mutex<Credits>,
    queries: Queries,
    /// Held while operations that were posted are applied.
    log: Mutex<()>,
    /// Signalled when some were.
    applied: Condvar,
    /// Held alone while a session begins or ends, shared while anything is carried out in one: what the old client asked for
    /// must not be noted as the new one's.
    sessions: RwLock<()>,
    /// Rung when a client has said goodbye.
    farewell: Option<Bell>,
}

#[derive(Default)]
struct CallSlot {
    slot: Slot,
    bell: Option<Bell>,
}

/// A request that was taken apart, its payload not yet.
#[derive(Debug, Clone, Copy)]
struct Header {
    session: u64,
    seq: u64,
    after: u64,
    opcode: u16,
    slot: u16,
    capacity: usize,
}

impl Server {
    /// Serves a pool that is open.
    pub fn new(fs: Fs) -> Self {
        let epoch = fs.superblock().epoch;
        Self {
            fs,
            epoch,
            slots: (0..addresses::SLOTS).map(|_| Mutex::default()).collect(),
            credits: Mutex::default(),
            queries: Queries::default(),
            log: Mutex::new(()),
            applied: Condvar::new(),
            sessions: RwLock::new(()),
            farewell: None,
        }
    }

    /// Has somebody told when a client says goodbye, before it gets its reply.
    #[must_use]
    pub fn with_farewell(mut self, bell: Bell) -> Self {
        self.farewell = Some(bell);
        self
    }

    /// The pool.
    pub const fn fs(&self) -> &Fs {
        &self.fs
    }

    /// The first block of the device.
    pub fn super_block(&self) -> [u8; BLOCK_SIZE] {
        addresses::super_block(&self.fs.superblock())
    }

    /// Takes what was written to a call slot. What is no request is forgotten: the READ that belongs to it will say so.
    pub fn request(&self, slot: u16, bytes: &[u8], patience: Patience) -> Handled {
        let (Some((header, payload)), Some(place)) = (parse(bytes), self.slots.get(usize::from(slot))) else {
            tracing::debug!(slot, "what was written to a call slot is no request");
            return Handled::Done;
        };
        if header.slot != slot {
            return Handled::Done;
        }
        let first = header.opcode == Opcode::Hello as u16;
        let arrival = {
            let mut place = place.lock();
            if first {
                place.slot.arrive_first(header.seq)
            } else {
                place.slot.arrive(header.seq)
            }
        };
        if arrival == Arrival::Ignore {
            return Handled::Done;
        }
        if !order::is_due(header.after, self.fs.session_view(slot).posted) {
            let request = bytes.to_vec();
            place.lock().slot.defer(header.seq, header.after, request);
            // If the operations were applied in between, [`Self::ready`] finds it.
            return Handled::Done;
        }
        self.carry_out(header, payload, patience)
    }

    /// A request that waited for posted operations and can be carried out now, by [`Self::run`]. To be asked for after every
    /// request and batch, until there is none.
    pub fn ready(&self) -> Option<Vec<u8>> {
        let mut posted = None;
        self.slots.iter().find_map(|slot| {
            let mut slot = slot.lock();
            if !slot.slot.is_waiting() {
                return None;
            }
            let posted = *posted.get_or_insert_with(|| self.fs.session_view(0).posted);
            slot.slot.resume(posted)
        })
    }

    /// Carries out a request that was refused for lack of patience, or had to wait for others.
    pub fn run(&self, bytes: &[u8], patience: Patience) -> Handled {
        match parse(bytes) {
            Some((header, payload)) => self.carry_out(header, payload, patience),
            None => Handled::Done,
        }
    }

    /// Until the result is dropped no session begins or ends. None: that would have to wait.
    fn in_session(&self, patience: Patience) -> Option<RwLockReadGuard<'_, ()>> {
        match patience {
            Patience::Refuse => self.sessions.try_read(),
            Patience::Wait => Some(self.sessions.read()),
        }
    }

    fn carry_out(&self, header: Header, payload: &[u8], patience: Patience) -> Handled {
        if header.opcode == Opcode::Query as u16 {
            return self.carry_out_query(header, payload, patience);
        }
        let changes_it = [Opcode::Hello, Opcode::Goodbye].map(|opcode| opcode as u16);
        let session = if changes_it.contains(&header.opcode) {
            None
        } else {
            let Some(held) = self.in_session(patience) else {
                return Handled::Wait;
            };
            Some(held)
        };
        let call = Call {
            server: self,
            session: self.fs.session_view(header.slot),
            header,
            patience,
        };
        let reply = match call.answer(payload) {
            Err(Error::Posix(Errno::WouldWait)) if patience == Patience::Refuse => return Handled::Wait,
            outcome => self.reply_to(header, outcome),
        };
        drop(session);
        self.finish(header, reply);
        Handled::Done
    }

    /// The reply that tells what a call came to.
    fn reply_to(&self, header: Header, outcome: Result<Answer>) -> Vec<u8> {
        let answer = outcome.unwrap_or_else(|error| {
            log_failure(header, &error);
            Answer::failed(error.errno())
        });
        self.reply(header, &answer)
    }

    /// A call has its reply.
    fn finish(&self, header: Header, reply: Vec<u8>) {
        if let Some(place) = self.slots.get(usize::from(header.slot)) {
            let mut place = place.lock();
            if place.slot.finished(header.seq, reply).is_some() {
                ring(&mut place);
            }
        }
    }

    /// Answers a READ of a call slot, or parks it: then the ticket tells which. What it does not fill is zeros.
    pub fn read(&self, slot: u16, into: &mut [u8], bell: Bell) -> Option<Ticket> {
        let Some(place) = self.slots.get(usize::from(slot)) else {
            into.fill(0);
            return None;
        };
        let mut place = place.lock();
        match place.slot.read() {
            Read::Reply(reply) => {
                fill(into, &reply);
                None
            }
            Read::Park(ticket, displaced) => {
                if displaced.is_some() {
                    ring(&mut place);
                }
                place.bell = Some(bell);
                Some(ticket)
            }
        }
    }

    /// Looks at a READ that is parked. Whether it is answered now.
    pub fn look_again(&self, slot: u16, ticket: Ticket, late: bool, into: &mut [u8]) -> bool {
        let Some(place) = self.slots.get(usize::from(slot)) else {
            into.fill(0);
            return true;
        };
        let (parked, seq) = {
            let mut place = place.lock();
            (place.slot.parked(ticket, late), place.slot.newest())
        };
        match parked {
            Parked::Reply(reply) => fill(into, &reply),
            Parked::Again => {
                let header = Header {
                    session: self.fs.session_view(slot).id,
                    seq,
                    after: 0,
                    opcode: 0,
                    slot,
                    capacity: size_of::<wire::Reply>(),
                };
                fill(into, &self.reply(header, &Answer::again()));
            }
            Parked::Stay => return false,
        }
        true
    }

    fn reply(&self, header: Header, answer: &Answer) -> Vec<u8> {
        let session = self.fs.session_view(header.slot);
        let totals = self.credits.lock().totals();
        let fixed = wire::Reply {
            magic: wire::REPLY_MAGIC.into(),
            session: header.session.into(),
            seq: header.seq.into(),
            epoch: self.epoch.into(),
            applied: session.posted.into(),
            credits: totals.blocks.into(),
            ino_from: session.grant_from.0.into(),
            ino_count: session.grant_count.into(),
            status: answer.status.into(),
            flags: answer.flags.into(),
            slot: header.slot.into(),
            meta_credits: totals.operations.into(),
            ..wire::Reply::default()
        };
        answer.encode(fixed, header.capacity)
    }

    /// Forgets what was asked in a session that is over, but for the slot that ended it.
    fn reset_slots(&self, except: u16) {
        for (index, place) in self.slots.iter().enumerate() {
            if index != usize::from(except) {
                let mut place = place.lock();
                place.slot.reset();
                ring(&mut place);
            }
        }
        *self.credits.lock() = Credits::default();
        self.queries.reset();
    }
}

fn ring(place: &mut CallSlot) {
    if let Some(bell) = place.bell.take() {
        bell();
    }
}

/// Puts a reply into what is read; what follows it is zeros, and none of anybody else's bytes.
fn fill(into: &mut [u8], reply: &[u8]) {
    let (head, tail) = into.split_at_mut(reply.len().min(into.len()));
    head.copy_from_slice(reply.get(..head.len()).unwrap_or_default());
    tail.fill(0);
}

/// A request, if it is one from the first to the last byte.
fn parse(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (request, rest) = wire::Request::read_from_prefix(bytes).ok()?;
    let payload = rest.get(..usize::try_from(request.length.get()).ok()?)?;
    if request.magic.get() != wire::REQUEST_MAGIC {
        return None;
    }
    let without = wire::Request {
        crc: 0.into(),
        ..request
    };
    if Crc::of_all([without.as_bytes(), payload]).0 != request.crc.get() {
        return None;
    }
    let capacity = usize::try_from(request.capacity.get()).ok()?;
    let header = Header {
        session: request.session.get(),
        seq: request.seq.get(),
        after: request.after.get(),
        opcode: request.opcode.get(),
        slot: request.slot.get(),
        capacity: capacity.min(addresses::CALL_BYTES as usize),
    };
    Some((header, payload))
}

fn log_failure(header: Header, error: &Error) {
    match error {
        Error::Posix(_) => tracing::debug!(?header, %error, "call"),
        Error::Damaged(_) | Error::Io(_) => tracing::error!(?header, %error, "call"),
    }
}

/// The start of a payload as a structure, and what follows it.
fn take<T: FromBytes + KnownLayout + Immutable>(payload: &[u8]) -> Result<(T, &[u8])> {
    T::read_from_prefix(payload).map_err(|_| Error::Posix(Errno::Invalid))
}
