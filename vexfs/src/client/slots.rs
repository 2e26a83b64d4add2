// SPDX-License-Identifier: MIT OR Apache-2.0

//! A call slot: what becomes of requests, retries and READs for the reply. Decides, and does nothing.
//!
//! ```text
//!          arrive: Run                finished
//!  Idle ───────────────▶ Running ───────────────▶ Done ───▶ Idle (a READ took the reply)
//!   │  ▲ expire             ▲
//!   │  └──────── Waiting ───┘ resume
//!   └──────────────▲ defer: what it depends on has not come
//! ```
//!
//! - A request with a higher number than any before begins something new, whatever became of the one before.
//! - The same number again is a retry: nothing happens while the first is waiting, running, or its reply was not fetched.
//!   Afterwards it runs again; whether that changes anything is for the engine's marks to decide.
//! - A lower number is a leftover of the past, and forgotten.
//! - At most one READ is parked. A second one takes its place, and the first is answered with AGAIN.

use super::order::is_due;

/// Tells READs of a slot apart.
pub type Ticket = u64;

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    newest: u64,
    state: State,
    reader: Option<Ticket>,
    tickets: Ticket,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    Idle,
    Waiting { after: u64, request: Vec<u8> },
    Running,
    Done(Vec<u8>),
}

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Carry it out, then call [`Slot::finished`] or [`Slot::defer`].
    Run,
    /// Nothing.
    Ignore,
}

/// What to do with a READ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// Answer it.
    Reply(Vec<u8>),
    /// Park it. The other one, if there is one, is answered with AGAIN.
    Park(Ticket, Option<Ticket>),
}

/// What has become of a parked READ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parked {
    /// Answer it.
    Reply(Vec<u8>),
    /// Answer it with AGAIN.
    Again,
    /// Leave it parked.
    Stay,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            newest: 0,
            state: State::Idle,
            reader: None,
            tickets: 0,
        }
    }
}

impl Slot {
    /// Number of the newest request.
    pub const fn newest(&self) -> u64 {
        self.newest
    }

    /// A request has arrived.
    pub fn arrive(&mut self, seq: u64) -> Arrival {
        if seq < self.newest || seq == self.newest && self.state != State::Idle {
            return Arrival::Ignore;
        }
        self.newest = seq;
        self.state = State::Running;
        Arrival::Run
    }

    /// The same for one that begins a session: numbers begin anew with it.
    pub fn arrive_first(&mut self, seq: u64) -> Arrival {
        if seq == self.newest && self.state != State::Idle {
            return Arrival::Ignore;
        }
        self.newest = seq;
        self.state = State::Running;
        Arrival::Run
    }

    /// What runs waits until everything posted before a position is applied.
    pub fn defer(&mut self, seq: u64, after: u64, request: Vec<u8>) {
        if self.runs(seq) {
            self.state = State::Waiting { after, request };
        }
    }

    /// Whether a request waits for posted operations.
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// A request that waited and can run now.
    pub fn resume(&mut self, applied: u64) -> Option<Vec<u8>> {
        match &mut self.state {
            State::Waiting { after, request } if is_due(*after, applied) => {
                let request = std::mem::take(request);
                self.state = State::Running;
                Some(request)
            }
            _ => None,
        }
    }

    /// What ran has its reply. Returns the READ that can take it.
    pub fn finished(&mut self, seq: u64, reply: Vec<u8>) -> Option<Ticket> {
        if !self.runs(seq) {
            return None;
        }
        self.state = State::Done(reply);
        self.reader
    }

    /// A READ has arrived.
    pub fn read(&mut self) -> Read {
        if let Some(reply) = self.take_reply() {
            return Read::Reply(reply);
        }
        self.tickets += 1;
        Read::Park(self.tickets, self.reader.replace(self.tickets))
    }

    /// Whether a parked READ can be answered; `late` if it has waited long.
    pub fn parked(&mut self, ticket: Ticket, late: bool) -> Parked {
        if self.reader != Some(ticket) {
            return Parked::Again;
        }
        if let Some(reply) = self.take_reply() {
            self.reader = None;
            return Parked::Reply(reply);
        }
        if !late || self.state == State::Running {
            return Parked::Stay;
        }
        self.reader = None;
        self.state = State::Idle;
        Parked::Again
    }

    /// The session is over: what was asked in it matters no more.
    pub fn reset(&mut self) {
        *self = Self {
            tickets: self.tickets,
            ..Self::default()
        };
    }

    fn runs(&self, seq: u64) -> bool {
        self.newest == seq && self.state == State::Running
    }

    fn take_reply(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Done(reply) => Some(reply),
            other => {
                self.state = other;
                None
            }
        }
    }
}
