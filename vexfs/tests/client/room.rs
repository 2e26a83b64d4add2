// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every order of events around the room that a client was promised, by model checking.
//!
//! A client asks for blocks, has pages become dirty with them, writes those, and gives back what it does not use. Others use
//! the same pool. Requests and replies are under way for any time; servers die at any moment, and what they were told and
//! told is lost with them but for what the client tells the next one. The server's counts are the real ones: [`Credits`].
//!
//! | property | what it says |
//! |---|---|
//! | room | a page that became dirty finds a block when it is written |
//! | honest | nobody is promised more than there is |
//! | used | after a death, promises are made and kept again |
//!
//! A server that has not heard of its client yet keeps nothing for it; others come after `RESUME` here.

use stateright::{Checker, Model, Property};
use vexfs::client::credits::Credits;

/// Blocks of the pool.
const BLOCKS: u64 = 3;
/// Blocks that are asked for at once.
const CHUNK: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Message {
    /// GRANT: blocks that are wanted, and what was spent until then.
    Grant(u64, u64),
    /// Its reply: by which server, and what was granted in all.
    Told(u8, u64),
    /// A dirty page is written.
    Data,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    /// The client: told that it was granted, used up or given back, and held by dirty pages.
    granted: u64,
    spent: u64,
    held: u64,
    /// Pages that it has written.
    written: u64,
    messages: Vec<Message>,
    /// None: it is dead.
    server: Option<Credits>,
    /// The server knows of the client.
    resumed: bool,
    /// The server whose grants count: by the number of those that died before.
    from: u8,
    /// Free blocks of the pool, and how many of them are kept for the client.
    free: u64,
    kept: u64,
    deaths: u8,
    failed: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    /// A page becomes dirty with a credit.
    Dirty,
    Ask,
    Write,
    /// What is not used goes back.
    Rest,
    /// Somebody else takes a block, or gives one back.
    OthersTake,
    OthersGive,
    Deliver(usize),
    Dies,
    /// In the middle: a message was handled, and its answer is lost.
    DiesOver(usize),
    Starts,
    Resume,
}

#[derive(Clone, Copy, Debug)]
struct Room {
    deaths: u8,
    /// A planted fault: the next server believes that nothing is owed.
    forgets: bool,
}

impl State {
    const fn left(&self) -> u64 {
        (self.granted - self.spent).saturating_sub(self.held)
    }

    const fn available(&self) -> u64 {
        self.free.saturating_sub(self.kept)
    }

    /// As `Fs::keep_for_client`.
    fn keep(&mut self, blocks: u64) -> u64 {
        if blocks <= self.kept {
            self.kept = blocks;
        } else {
            self.kept += (blocks - self.kept).min(self.available());
        }
        self.kept
    }

    /// As `Call::promise`.
    fn grant(&mut self, wanted: u64, spent: u64) {
        let Some(mut credits) = self.server.take() else { return };
        credits.note_spent(spent);
        let kept = self.keep(credits.wanted(wanted, 0, 0));
        credits.promise(wanted, 0, 0, kept);
        self.messages.push(Message::Told(self.deaths, credits.totals().blocks));
        self.server = Some(credits);
    }

    /// As `Core::take`: from what is kept only if there is nothing else.
    fn store(&mut self) {
        if self.free == 0 {
            self.failed = true;
            return;
        }
        if self.available() == 0 {
            self.kept -= 1;
        }
        self.free -= 1;
        self.held -= 1;
        self.spent += 1;
        self.written += 1;
    }

    fn deliver(&mut self, index: usize) {
        match self.messages.remove(index) {
            Message::Grant(wanted, spent) => self.grant(wanted, spent),
            // What a dead server granted and was not told to the next is void.
            Message::Told(server, granted) if server == self.from => {
                self.granted = self.granted.max(granted);
            }
            Message::Told(..) => {}
            Message::Data => self.store(),
        }
    }

    fn under_way(&self, what: fn(&Message) -> bool) -> u64 {
        self.messages.iter().filter(|message| what(message)).count() as u64
    }
}

impl Model for Room {
    type State = State;
    type Action = Event;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            granted: 0,
            spent: 0,
            held: 0,
            written: 0,
            messages: Vec::new(),
            server: Some(Credits::default()),
            resumed: true,
            from: 0,
            free: BLOCKS,
            kept: 0,
            deaths: 0,
            failed: false,
        }]
    }

    fn actions(&self, state: &State, events: &mut Vec<Event>) {
        if state.left() > 0 {
            events.extend([Event::Dirty, Event::Rest]);
        }
        // A client asks once at a time, and again only if the answer was too little.
        if state.under_way(|message| !matches!(message, Message::Data)) == 0 && state.granted < BLOCKS + CHUNK {
            events.push(Event::Ask);
        }
        if state.under_way(|message| *message == Message::Data) < state.held {
            events.push(Event::Write);
        }
        for (index, message) in state.messages.iter().enumerate() {
            let heard = match message {
                Message::Told(..) => true,
                Message::Grant(..) => state.server.is_some() && state.resumed,
                // The driver sends these again before the client has said anything.
                Message::Data => state.server.is_some(),
            };
            if heard {
                events.push(Event::Deliver(index));
                if matches!(message, Message::Grant(..)) && state.deaths < self.deaths {
                    events.push(Event::DiesOver(index));
                }
            }
        }
        match &state.server {
            None => events.push(Event::Starts),
            Some(_) if !state.resumed => events.push(Event::Resume),
            Some(_) => {
                if state.available() > 0 {
                    events.push(Event::OthersTake);
                }
                if state.free + state.written < BLOCKS {
                    events.push(Event::OthersGive);
                }
                if state.deaths < self.deaths {
                    events.push(Event::Dies);
                }
            }
        }
    }

    fn next_state(&self, last: &State, event: Event) -> Option<State> {
        let mut state = last.clone();
        match event {
            Event::Dirty => state.held += 1,
            Event::Ask => state.messages.push(Message::Grant(CHUNK, state.spent)),
            Event::Write => state.messages.push(Message::Data),
            Event::Rest => state.spent += state.left(),
            Event::OthersTake => state.free -= 1,
            Event::OthersGive => state.free += 1,
            Event::Deliver(index) => state.deliver(index),
            Event::Dies => state.server = None,
            Event::DiesOver(index) => {
                state.deliver(index);
                // The client sends it again.
                state.messages.clone_from(&last.messages);
                state.server = None;
            }
            Event::Starts => {
                state.server = Some(Credits::default());
                state.resumed = false;
            }
            Event::Resume => {
                let server = state.server.as_mut()?;
                let owed = if self.forgets {
                    0
                } else {
                    server.resume(state.granted, state.spent, 0)
                };
                state.kept = owed;
                state.resumed = true;
                state.from = state.deaths;
            }
        }
        if state.server.is_none() && last.server.is_some() {
            state.deaths += 1;
            state.kept = 0;
        }
        state.messages.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("room", |_, state: &State| !state.failed),
            Property::always("honest", |_, state: &State| {
                !state.resumed || state.server.is_none() || state.left() + state.held <= state.free
            }),
            Property::sometimes("used", |model: &Self, state: &State| {
                state.deaths == model.deaths && state.written == BLOCKS
            }),
        ]
    }
}

#[test]
fn what_became_dirty_finds_room_in_every_order_of_events() {
    let model = Room {
        deaths: 2,
        forgets: false,
    };
    let begin = std::time::Instant::now();
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states, {:.1?}", checker.unique_state_count(), begin.elapsed());
    checker.assert_properties();
    // The judge is judged.
    let faulty = Room {
        deaths: 1,
        forgets: true,
    };
    let found = faulty.checker().spawn_bfs().join();
    assert!(
        found.discovery("room").is_some(),
        "a promise that is not kept goes unnoticed"
    );
}
