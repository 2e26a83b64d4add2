// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every order of events between a small client and its servers, by model checking.
//!
//! A client makes calls in one slot and posts operations; its messages are under way until they are delivered, in any order,
//! and are delivered again after the death of a server, which the driver does not know to have handled them. Servers die at
//! any moment, and once the machine. The server's decisions are the real ones: [`Slot`], and the functions of `order`.
//!
//! | property | what it says |
//! |---|---|
//! | once | no call and no posted operation is carried out twice |
//! | kept | what was answered was carried out; after the loss of the machine: what was answered before a flush |
//! | order | operations are applied in the order they were posted, a call behind those it depends on |
//! | ends | it can come to an end with everything answered |

use stateright::{Checker, Model, Property};
use vexfs::client::order::{Standing, Turn, standing, turn};
use vexfs::client::slots::{Arrival, Parked, Read, Slot, Ticket};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Message {
    /// WRITE of a call: its number, and the position it depends on.
    Request(u64, u64),
    /// READ of the slot.
    Read,
    /// READ of the slot, which the server has parked.
    Parked(Ticket),
    /// WRITE of a batch: position and count; whether it asks to be made durable.
    Batch(u64, u64, bool),
    Flush,
}

/// What survives a server, and what of it survives the machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Journal {
    answered: u64,
    posted: u64,
    /// What was carried out, in order: calls, and operations by their positions.
    done: Vec<Done>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Done {
    Call(u64, u64),
    Operation(u64),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Client {
    seq: u64,
    /// The call that is not answered, and the position it depends on.
    waits: Option<(u64, u64)>,
    posted: u64,
    /// The batch that is not answered, from this position on.
    batch: Option<u64>,
    /// What will be durable when that is answered, besides its own operations.
    committing: Option<(u64, u64)>,
    /// Calls and operations that were answered, by now and when the last flush that was answered began.
    answered: (u64, u64),
    flushing: Option<(u64, u64)>,
    flushed: (u64, u64),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    client: Client,
    /// What is under way.
    messages: Vec<Message>,
    /// The server's memory; none: it is dead.
    server: Option<Slot>,
    journal: Journal,
    durable: Journal,
    deaths: u8,
    repeats: u8,
    lost: bool,
    /// A planted fault: the journal does not tell what was carried out.
    forgets: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Call,
    /// The client sends the call once more.
    Retry,
    Post,
    PostTwo,
    /// Posts, and asks that it be made durable.
    Commit,
    Flush,
    Deliver(usize),
    /// A READ has waited long.
    Late(usize),
    Dies,
    /// The same in the middle: it was handed a message, has done all of it or the first half, and answered nothing.
    DiesOver(usize, bool),
    Starts,
    MachineDies,
}

/// How much happens.
#[derive(Clone, Copy, Debug)]
struct Protocol {
    /// Calls the client makes.
    calls: u64,
    /// Operations it posts.
    posts: u64,
    /// Servers that die.
    deaths: u8,
    /// READs that wait long, and calls that are sent again although nobody died.
    repeats: u8,
    /// Whether the client flushes, and the machine dies.
    machine_dies: bool,
    /// See [`State::forgets`].
    forgets: bool,
}

impl State {
    fn carry_out(&mut self, seq: u64, after: u64) {
        if self.forgets || standing(seq, self.journal.answered) == Standing::New {
            self.journal.answered = seq;
            self.journal.done.push(Done::Call(seq, after));
        }
        if let Some(slot) = &mut self.server {
            let reply = match standing(seq, self.journal.answered) {
                Standing::Done => seq.to_le_bytes().to_vec(),
                Standing::New | Standing::Old => Vec::new(),
            };
            slot.finished(seq, reply);
        }
    }

    /// As `Server::request`.
    fn request(&mut self, seq: u64, after: u64) {
        let applied = self.journal.posted;
        let Some(slot) = &mut self.server else { return };
        if slot.arrive(seq) == Arrival::Ignore {
            return;
        }
        if after > applied {
            slot.defer(seq, after, [seq.to_le_bytes(), after.to_le_bytes()].concat());
        } else {
            self.carry_out(seq, after);
        }
    }

    /// As `Server::ready`, with what the caller does then.
    fn run_ready(&mut self) {
        let applied = self.journal.posted;
        let ready = self.server.as_mut().and_then(|slot| slot.resume(applied));
        if let Some(request) = ready {
            let number = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
            self.carry_out(number(0), number(8));
        }
    }

    /// The client gets a reply, or AGAIN, and sends again.
    fn replied(&mut self, reply: Option<&[u8]>) {
        let Some((seq, after)) = self.client.waits else { return };
        match reply {
            Some(bytes) if bytes == seq.to_le_bytes() => {
                self.client.waits = None;
                self.client.answered.0 = seq;
            }
            _ => self.send(seq, after),
        }
    }

    fn send(&mut self, seq: u64, after: u64) {
        for message in [Message::Request(seq, after), Message::Read] {
            if !self.messages.contains(&message) {
                self.messages.push(message);
            }
        }
    }

    /// The driver sends again what had no answer, in any order. It does not know which WRITEs were handled: that of the call
    /// without a reply is among them, as far as the next server can tell.
    fn die(&mut self) {
        self.server = None;
        self.deaths += 1;
        for message in &mut self.messages {
            if matches!(message, Message::Parked(_)) {
                *message = Message::Read;
            }
        }
        if let Some((seq, after)) = self.client.waits {
            self.send(seq, after);
        }
    }

    fn deliver(&mut self, index: usize) {
        let message = self.messages.remove(index);
        match message {
            Message::Request(seq, after) => self.request(seq, after),
            Message::Read => match self.server.as_mut().map(Slot::read) {
                Some(Read::Reply(reply)) => self.replied(Some(&reply)),
                Some(Read::Park(ticket, displaced)) => {
                    if let Some(ticket) = displaced {
                        self.messages.retain(|message| *message != Message::Parked(ticket));
                    }
                    self.messages.push(Message::Parked(ticket));
                }
                None => {}
            },
            Message::Parked(ticket) => match self.server.as_mut().map(|slot| slot.parked(ticket, false)) {
                Some(Parked::Reply(reply)) => self.replied(Some(&reply)),
                Some(Parked::Again) => self.replied(None),
                Some(Parked::Stay) | None => self.messages.push(Message::Parked(ticket)),
            },
            Message::Batch(position, count, commit) => match turn(position, self.journal.posted) {
                Turn::Early => self.messages.push(Message::Batch(position, count, commit)),
                Turn::Now(skip) => {
                    for operation in skip..count {
                        self.journal.done.push(Done::Operation(position + operation));
                        self.journal.posted = position + operation + 1;
                    }
                    self.run_ready();
                    self.client.batch = None;
                    self.client.answered.1 = self.client.answered.1.max(position + count);
                    if commit {
                        self.durable = self.journal.clone();
                    }
                    if let Some((calls, operations)) = self.client.committing.take() {
                        let flushed = &mut self.client.flushed;
                        *flushed = (flushed.0.max(calls), flushed.1.max(operations).max(position + count));
                    }
                }
            },
            Message::Flush => {
                self.durable = self.journal.clone();
                if let Some((calls, operations)) = self.client.flushing.take() {
                    let flushed = &mut self.client.flushed;
                    *flushed = (flushed.0.max(calls), flushed.1.max(operations));
                }
            }
        }
        self.messages.sort();
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            client: Client::default(),
            messages: Vec::new(),
            server: Some(Slot::default()),
            journal: Journal::default(),
            durable: Journal::default(),
            deaths: 0,
            repeats: 0,
            lost: false,
            forgets: self.forgets,
        }]
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        if state.lost {
            return;
        }
        let client = &state.client;
        match client.waits {
            None if client.seq < self.calls => events.push(Event::Call),
            Some(_) if state.repeats < self.repeats => {
                events.push(Event::Retry);
            }
            _ => {}
        }
        if client.batch.is_none() && client.posted < self.posts {
            events.push(Event::Post);
            if client.posted + 2 <= self.posts {
                events.push(Event::PostTwo);
            }
            if self.machine_dies {
                events.push(Event::Commit);
            }
        }
        if self.machine_dies && client.flushing.is_none() && client.flushed != client.answered {
            events.push(Event::Flush);
        }
        if state.server.is_some() {
            for (index, message) in state.messages.iter().enumerate() {
                events.push(Event::Deliver(index));
                if matches!(message, Message::Parked(_)) && state.repeats < self.repeats {
                    events.push(Event::Late(index));
                }
            }
            if state.deaths < self.deaths {
                events.push(Event::Dies);
                for (index, message) in state.messages.iter().enumerate() {
                    events.push(Event::DiesOver(index, false));
                    if matches!(message, Message::Batch(_, 2, _)) {
                        events.push(Event::DiesOver(index, true));
                    }
                }
            }
        } else {
            events.push(Event::Starts);
        }
        if self.machine_dies {
            events.push(Event::MachineDies);
        }
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        let mut state = last.clone();
        match event {
            Event::Call => {
                state.client.seq += 1;
                // Made after what was posted: it depends on that.
                let call = (state.client.seq, state.client.posted);
                state.client.waits = Some(call);
                state.send(call.0, call.1);
            }
            Event::Retry => {
                let (seq, after) = state.client.waits?;
                state.repeats += 1;
                state.send(seq, after);
            }
            Event::Post | Event::PostTwo | Event::Commit => {
                let count = if event == Event::PostTwo { 2 } else { 1 };
                let commit = event == Event::Commit;
                let position = state.client.posted;
                state.client.posted += count;
                state.client.batch = Some(position);
                state.client.committing = commit.then_some(state.client.answered);
                state.messages.push(Message::Batch(position, count, commit));
            }
            Event::Flush => {
                state.client.flushing = Some(state.client.answered);
                state.messages.push(Message::Flush);
            }
            Event::Deliver(index) => state.deliver(index),
            Event::Late(index) => {
                let Message::Parked(ticket) = state.messages[index] else {
                    return None;
                };
                state.repeats += 1;
                match state.server.as_mut()?.parked(ticket, true) {
                    Parked::Stay => return None,
                    Parked::Again => {
                        state.messages.remove(index);
                        state.replied(None);
                    }
                    Parked::Reply(reply) => {
                        state.messages.remove(index);
                        state.replied(Some(&reply));
                    }
                }
            }
            Event::Dies => state.die(),
            Event::DiesOver(index, half) => {
                let before = (state.client.clone(), state.messages.clone());
                match &mut state.messages[index] {
                    Message::Batch(_, count, _) if half => *count -= 1,
                    _ => {}
                }
                state.deliver(index);
                (state.client, state.messages) = before;
                state.die();
            }
            Event::Starts => state.server = Some(Slot::default()),
            Event::MachineDies => {
                state.lost = true;
                state.server = None;
                state.journal = state.durable.clone();
                state.messages.clear();
            }
        }
        state.messages.sort();
        state.messages.dedup();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("once", |_, state: &State| {
                let done = &state.journal.done;
                done.iter().enumerate().all(|(index, one)| {
                    done[..index].iter().all(|other| match (one, other) {
                        (Done::Call(seq, _), Done::Call(earlier, _)) => earlier < seq,
                        (Done::Operation(position), Done::Operation(earlier)) => earlier < position,
                        _ => true,
                    })
                })
            }),
            Property::always("kept", |_, state: &State| {
                let (calls, operations) = if state.lost {
                    state.client.flushed
                } else {
                    state.client.answered
                };
                state.journal.answered >= calls && state.journal.posted >= operations
            }),
            Property::always("order", |_, state: &State| {
                let mut applied = 0;
                state.journal.done.iter().all(|done| match done {
                    Done::Operation(position) => {
                        let next = *position == applied;
                        applied += 1;
                        next
                    }
                    Done::Call(_, after) => *after <= applied,
                })
            }),
            Property::sometimes("ends", |model: &Self, state: &State| {
                !state.lost && state.client.answered == (model.calls, model.posts) && state.deaths == model.deaths
            }),
        ]
    }
}

#[test]
fn no_order_of_events_breaks_the_protocol() {
    let quiet = Protocol {
        calls: 2,
        posts: 2,
        deaths: 0,
        repeats: 0,
        machine_dies: false,
        forgets: false,
    };
    for model in [
        Protocol {
            calls: 3,
            repeats: 2,
            ..quiet
        },
        Protocol {
            deaths: 2,
            repeats: 1,
            ..quiet
        },
        Protocol {
            posts: 3,
            deaths: 1,
            machine_dies: true,
            ..quiet
        },
    ] {
        let begin = std::time::Instant::now();
        let checker = model.checker().threads(2).spawn_bfs().join();
        println!(
            "{model:?}: {} states, {:.1?}",
            checker.unique_state_count(),
            begin.elapsed()
        );
        checker.assert_properties();
    }
    // The judge is judged.
    let faulty = Protocol {
        deaths: 1,
        forgets: true,
        ..quiet
    };
    let found = faulty.checker().spawn_bfs().join();
    assert!(
        found.discovery("once").is_some(),
        "a call carried out twice goes unnoticed"
    );
}
