// SPDX-License-Identifier: MIT OR Apache-2.0

//! The states a filesystem went through, and which of them a crash may leave.

use std::cell::OnceCell;

use vexfs::fs::record::Timestamp;

use crate::model::{Model, State};
use crate::tree::tree_of_model;

/// How a call that a crash left half done is brought to an end, by doing what its user would do.
#[derive(Clone)]
pub enum Redo {
    /// Remove the draft in the directory of this path.
    Clone(Vec<u8>),
    /// Remove the tree again: the directory's path, and the name.
    Remove(Vec<u8>, Vec<u8>),
}

/// A call that was made.
pub struct Call {
    pub now: Timestamp,
    pub redo: Option<Redo>,
}

struct Moment {
    state: State,
    print: OnceCell<u64>,
}

/// See the module.
pub struct History {
    moments: Vec<Moment>,
    calls: Vec<Call>,
    /// The last state of each call.
    ends: Vec<usize>,
    /// What was flushed when each call began, and now.
    flushed: Vec<usize>,
}

/// Numbers of states, both included.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    pub from: usize,
    pub to: usize,
    /// The call under way.
    pub call: usize,
}

impl History {
    pub fn new(start: State) -> Self {
        let start = Moment {
            state: start,
            print: OnceCell::new(),
        };
        Self {
            moments: vec![start],
            calls: Vec::new(),
            ends: Vec::new(),
            flushed: vec![0],
        }
    }

    /// A call ended: the states it passed through, and the present one.
    pub fn push(&mut self, model: &mut Model, call: Call) {
        let states = model.passed.drain(..).chain([model.state.clone()]);
        self.moments.extend(states.map(|state| Moment {
            state,
            print: OnceCell::new(),
        }));
        self.calls.push(call);
        self.ends.push(self.moments.len() - 1);
        self.flushed.push(self.flushed[self.flushed.len() - 1]);
    }

    /// Everything up to now was acknowledged to survive power loss.
    pub fn all_flushed(&mut self) {
        let now = self.moments.len() - 1;
        if let Some(flushed) = self.flushed.last_mut() {
            *flushed = now;
        }
    }

    /// Calls so far.
    pub const fn calls(&self) -> usize {
        self.calls.len()
    }

    fn begin_of(&self, call: usize) -> usize {
        call.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    fn end_of(&self, call: usize) -> usize {
        self.ends.get(call).copied().unwrap_or(self.moments.len() - 1)
    }

    /// What may be found when the power failed during a call.
    pub fn after_power_loss(&self, call: usize) -> Allowed {
        Allowed {
            from: self.flushed[call],
            to: self.end_of(call),
            call,
        }
    }

    /// What may be found when the process ended during a call.
    pub fn after_process_end(&self, call: usize) -> Allowed {
        Allowed {
            from: self.begin_of(call),
            to: self.end_of(call),
            call,
        }
    }

    /// A state by number.
    pub fn state(&self, number: usize) -> &State {
        &self.moments[number].state
    }

    fn print(&self, number: usize) -> u64 {
        let moment = &self.moments[number];
        *moment.print.get_or_init(|| tree_of_model(&moment.state).print())
    }

    /// The newest of the allowed states that looks like this.
    pub fn find(&self, print: u64, allowed: Allowed) -> Option<usize> {
        (allowed.from..=allowed.to)
            .rev()
            .find(|&number| self.print(number) == print)
    }

    /// Any state that looks like this: to say what went wrong.
    pub fn find_any(&self, print: u64) -> Option<usize> {
        (0..self.moments.len()).find(|&number| self.print(number) == print)
    }

    /// Calls that the crash may have left half done, with the states they passed through.
    pub fn redos(&self, allowed: Allowed) -> impl Iterator<Item = (&Redo, Timestamp, Allowed)> {
        (0..=allowed.call.min(self.calls.len().saturating_sub(1)))
            .rev()
            .filter_map(move |number| {
                let call = self.calls.get(number)?;
                let (from, to) = (self.begin_of(number), self.end_of(number));
                let redo = call.redo.as_ref().filter(|_| to > allowed.from)?;
                let states = Allowed { from, to, call: number };
                Some((redo, call.now, states))
            })
    }
}
