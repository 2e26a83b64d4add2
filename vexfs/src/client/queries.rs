// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests about vectors, and their answers, in pieces.
//!
//! A client has a few lanes, and in each one request at a time. What is kept of it here may be lost at any moment, with the
//! server: then the client is told so (`ESTALE`), and sends the request again from its start, in the same lane, under the
//! same number. The changes it makes are journalled with numbers behind that ([`Steps`]), so none is made twice.
//!
//! A request that only looks may take as long as it takes: no session waits for its end. One that changes something is
//! carried out within the session that asked for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::answer::Answer;
use super::{Handled, Header, Server, addresses, take, wire};
use crate::error::{Errno, Error, Result};
use crate::fs::record::Timestamp;
use crate::fs::{Patience, SessionView};
use crate::query::{self, Caller, Changes, Refusal, Steps};

/// What is known of the requests of all lanes.
#[derive(Default)]
pub(super) struct Queries {
    lanes: [Mutex<Lane>; addresses::QUERY_LANES as usize],
    /// Nothing is carried out any more.
    stopped: AtomicBool,
}

/// The newest request of a lane.
#[derive(Default)]
struct Lane {
    number: u64,
    /// As much as has come, until it is carried out.
    request: Vec<u8>,
    /// Until all of it was told.
    answer: Option<Told>,
}

/// An answer: numbers of inodes that changed, then the document.
struct Told {
    changed: u32,
    bytes: Vec<u8>,
}

/// What is to be done for a call.
enum Step {
    /// Nothing more.
    Reply(Answer),
    /// The request is there, and to be carried out.
    Run(Job),
    /// The same, with patience.
    Long,
}

/// A request to be carried out.
struct Job {
    lane: u16,
    number: u64,
    caller: Caller,
    /// The client allows it to change something.
    may_change: bool,
    request: Vec<u8>,
}

impl Told {
    /// As much from a byte on as a reply has room for.
    fn piece(&self, from: u32, room: usize) -> Result<Answer> {
        let rest = usize::try_from(from).ok().and_then(|from| self.bytes.get(from..));
        let rest = rest.ok_or(Error::Posix(Errno::Invalid))?;
        let room = room
            .checked_sub(size_of::<wire::Queried>())
            .filter(|room| *room > 0)
            .ok_or(Error::Posix(Errno::Range))?;
        let piece = rest.get(..room).unwrap_or(rest);
        let mut answer = Answer::of(&wire::Queried {
            total: short(self.bytes.len()).into(),
            changed: self.changed.into(),
            from: from.into(),
            count: short(piece.len()).into(),
        });
        answer.payload.extend_from_slice(piece);
        Ok(answer)
    }

    fn ends_at(&self, from: u32, room: usize) -> bool {
        let told = room.saturating_sub(size_of::<wire::Queried>()) as u64;
        u64::from(from) + told >= self.bytes.len() as u64
    }
}

/// Lengths here are below 2^32.
fn short(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Lane {
    fn receive(&mut self, query: &wire::Query, piece: &[u8]) -> Result<()> {
        let (number, total) = (query.number.get(), query.total.get());
        if total > wire::QUERY_REQUEST_BYTES {
            return Err(Errno::AttributeTooLarge.into());
        }
        if number < self.number {
            return Err(Errno::Invalid.into());
        }
        if number > self.number {
            *self = Self {
                number,
                ..Self::default()
            };
        }
        let from = query.from.get() as usize;
        let end = from + piece.len();
        if end > total as usize {
            return Err(Errno::Invalid.into());
        }
        // What came before is not here, or was carried out.
        if from > self.request.len() {
            return Err(Errno::Stale.into());
        }
        if self.request.len() < end {
            self.request.resize(end, 0);
        }
        if let Some(place) = self.request.get_mut(from..end) {
            place.copy_from_slice(piece);
        }
        Ok(())
    }

    /// A piece of the answer; none if it is not there. What was told to its end is forgotten.
    fn tell(&mut self, number: u64, from: u32, room: usize) -> Option<Result<Answer>> {
        let told = self.answer.as_ref().filter(|_| self.number == number)?;
        let piece = told.piece(from, room);
        if piece.is_ok() && told.ends_at(from, room) {
            self.answer = None;
        }
        Some(piece)
    }
}

impl Queries {
    /// The session is over.
    pub(super) fn reset(&self) {
        for lane in &self.lanes {
            *lane.lock() = Lane::default();
        }
    }

    fn lane(&self, index: u32) -> Result<&Mutex<Lane>> {
        let lane = usize::try_from(index).ok().and_then(|index| self.lanes.get(index));
        lane.ok_or(Error::Posix(Errno::Invalid))
    }

    fn step(&self, payload: &[u8], room: usize, patience: Patience) -> Result<Step> {
        let (query, rest) = take::<wire::Query>(payload)?;
        let number = query.number.get();
        if number == 0 || !number.is_multiple_of(wire::QUERY_STEPS) {
            return Err(Errno::Invalid.into());
        }
        let mut lane = self.lane(query.lane.get())?.lock();
        let count = query.count.get() as usize;
        match query.what.get() {
            wire::QUERY_PIECE => {
                let piece = rest.get(..count).ok_or(Error::Posix(Errno::Invalid))?;
                lane.receive(&query, piece)?;
                Ok(Step::Reply(Answer::default()))
            }
            wire::QUERY_ANSWER => match lane.tell(number, query.from.get(), room) {
                Some(piece) => piece.map(Step::Reply),
                None => Err(Errno::Stale.into()),
            },
            wire::QUERY_RUN => {
                if let Some(piece) = lane.tell(number, 0, room) {
                    return piece.map(Step::Reply);
                }
                let total = query.total.get() as usize;
                if lane.number != number || lane.request.len() != total || total == 0 {
                    return Err(Errno::Stale.into());
                }
                let caller = caller(&query, rest)?;
                if patience == Patience::Refuse {
                    return Ok(Step::Long);
                }
                if query::is_incomplete(&lane.request) {
                    return Ok(Step::Reply(Answer::of(&wire::Queried::default())));
                }
                Ok(Step::Run(Job {
                    lane: u16::try_from(query.lane.get()).unwrap_or(u16::MAX),
                    number,
                    caller,
                    may_change: query.flags.get() & wire::CALLER_LOOKS == 0,
                    request: std::mem::take(&mut lane.request),
                }))
            }
            _ => Err(Errno::Invalid.into()),
        }
    }
}

/// Who asks.
fn caller(query: &wire::Query, groups: &[u8]) -> Result<Caller> {
    let groups = <[U32]>::ref_from_prefix_with_elems(groups, query.count.get() as usize);
    let (groups, _) = groups.map_err(|_| Error::Posix(Errno::Invalid))?;
    Ok(Caller {
        uid: query.uid.get(),
        gid: query.gid.get(),
        groups: groups.iter().map(|group| group.get()).collect(),
        may_all: query.flags.get() & wire::CALLER_MAY_ALL != 0,
    })
}

impl Server {
    /// Waits for requests about vectors that are changing something. Others are not carried out from now on: whoever serves
    /// the pool next will.
    pub fn stop_queries(&self) {
        self.queries.stopped.store(true, Ordering::SeqCst);
        drop(self.sessions.write());
    }

    pub(super) fn carry_out_query(&self, header: Header, payload: &[u8], patience: Patience) -> Handled {
        let Some(held) = self.in_session(patience) else {
            return Handled::Wait;
        };
        if self.queries.stopped.load(Ordering::SeqCst) {
            return Handled::Done;
        }
        let session = self.fs.session_view(header.slot);
        let room = header.capacity.saturating_sub(size_of::<wire::Reply>());
        let step = if session.id == 0 || session.id != header.session {
            Ok(Step::Reply(Answer::no_session()))
        } else {
            self.queries.step(payload, room, patience)
        };
        let outcome = match step {
            Ok(Step::Long) => return Handled::Long,
            Ok(Step::Reply(answer)) => Ok(answer),
            Err(error) => Err(error),
            Ok(Step::Run(job)) => {
                if query::may_change(&job.request) {
                    self.told(&job, room, &session)
                } else {
                    // Who begins a session does not wait for it; and what is found is for who asked.
                    drop(held);
                    let told = self.look(&job);
                    let _held = self.sessions.read();
                    if self.fs.session_view(header.slot).id != header.session {
                        return Handled::Done;
                    }
                    let outcome = self.keep(&job, told, room);
                    self.finish(header, self.reply_to(header, outcome));
                    return Handled::Done;
                }
            }
        };
        self.finish(header, self.reply_to(header, outcome));
        Handled::Done
    }

    /// Carries out a request that may change something.
    fn told(&self, job: &Job, room: usize, session: &SessionView) -> Result<Answer> {
        let changes = self.changes(job, session)?;
        self.keep(job, self.answer_query(job, &changes), room)
    }

    /// Carries out a request that only looks.
    fn look(&self, job: &Job) -> Told {
        self.answer_query(job, &Changes::Refused)
    }

    /// What a request may change. One that is older than what was carried out in its lane is a leftover.
    fn changes(&self, job: &Job, session: &SessionView) -> Result<Changes> {
        if session.read_only || !job.may_change {
            return Ok(Changes::Refused);
        }
        let slot = addresses::SLOTS + job.lane;
        // Begun by a server that knew nothing of lanes.
        if self.fs.session().answered.len() <= usize::from(slot) {
            return Err(Errno::NotSupported.into());
        }
        let answered = self.fs.session_view(slot).answered;
        if answered >= job.number.saturating_add(wire::QUERY_STEPS) {
            return Err(Errno::Invalid.into());
        }
        Ok(Changes::Once(Steps {
            slot,
            base: job.number,
            answered,
        }))
    }

    fn answer_query(&self, job: &Job, changes: &Changes) -> Told {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX));
        let mut answered = query::answer_with(&self.fs, &job.caller, &job.request, now, changes);
        answered.changed.sort_unstable();
        answered.changed.dedup();
        let numbers = answered.changed.iter().flat_map(|ino| ino.0.to_le_bytes());
        let mut bytes: Vec<u8> = numbers.collect();
        bytes.extend_from_slice(&answered.answer);
        if bytes.len() > wire::QUERY_ANSWER_BYTES as usize {
            bytes.truncate(8 * answered.changed.len());
            bytes.extend(query::failed(&too_long(bytes.len())));
        }
        Told {
            changed: short(answered.changed.len()),
            bytes,
        }
    }

    /// Keeps an answer until it was told; begins with that.
    fn keep(&self, job: &Job, told: Told, room: usize) -> Result<Answer> {
        let mut lane = self.queries.lane(u32::from(job.lane))?.lock();
        // Another request has come: nobody waits for this one any more.
        if lane.number != job.number {
            return Err(Errno::Stale.into());
        }
        lane.answer = Some(told);
        lane.tell(job.number, 0, room).unwrap_or(Err(Errno::Stale.into()))
    }
}

/// Only what looks has an answer that long, or what puts very many vectors of which hardly any can be put.
fn too_long(changed: usize) -> Refusal {
    let limit = wire::QUERY_ANSWER_BYTES;
    let what = if changed == 0 {
        "ask for less at a time"
    } else {
        "what could be put was put; put less at a time"
    };
    Refusal {
        errno: Errno::AttributeTooLarge.number(),
        message: format!("the answer is longer than {limit} bytes: {what}"),
    }
}
