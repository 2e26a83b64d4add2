// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which devices there are, what each is, and what has happened to them.
//!
//! States change only through [`Registry::apply`], which refuses what [`State::after`] does not know. Every change is
//! an [`Event`]; the last [`EVENTS_KEPT`] are kept, numbered without gaps, so a reader sees what it missed.

mod device;
mod id;
mod state;

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

pub use device::{Device, typed};
pub use id::{DEVICES, DeviceId, Mode, POSITIONS};
pub use state::{Change, State};

use crate::error::{Error, Result};

/// Events that are kept.
pub const EVENTS_KEPT: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Registry {
    mode: Mode,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    states: [State; DEVICES],
    next: u64,
    events: VecDeque<Event>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Counts from 1 without gaps.
    pub number: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Happening {
    /// A device changed its state.
    Device {
        /// Which.
        device: DeviceId,
        /// Why.
        change: Change,
        /// What it is now.
        state: State,
    },
    /// The temperature crossed a threshold.
    Thermal {
        /// The new level.
        level: crate::thermal::Level,
        /// The hottest sensor, in thousandths of a degree.
        temperature: i32,
    },
    /// The emergency stop was pulled or released.
    Stop {
        /// Whether it is in force now.
        stopped: bool,
        /// Who or what did it.
        cause: String,
    },
    /// An operation got no answer in time.
    Hang {
        /// Its sequence number.
        sequence: u32,
    },
    /// The link to the device came up or went down.
    Link {
        /// Whether it is up.
        up: bool,
    },
    /// The device was suspended or resumed.
    Power {
        /// Whether it is suspended now.
        suspended: bool,
    },
}

impl Registry {
    /// A registry whose devices are all offline.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            inner: Mutex::new(Inner {
                states: [State::Offline; DEVICES],
                next: 1,
                events: VecDeque::new(),
            }),
        }
    }

    /// How many groups there are.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A device's state.
    pub fn state(&self, device: DeviceId) -> State {
        // Ids are below DEVICES.
        let inner = self.inner.lock();
        inner.states.get(device.index()).copied().unwrap_or(State::Offline)
    }

    /// Changes a device's state, or refuses and changes nothing.
    pub fn apply(&self, device: DeviceId, change: Change) -> Result<State> {
        let mut inner = self.inner.lock();
        let Some(slot) = inner.states.get_mut(device.index()) else {
            return Err(Error::NoSuchDevice {
                group: device.group(),
                position: device.position(),
                groups: self.mode.groups(),
            });
        };
        let state = *slot;
        let next = state
            .after(change)
            .ok_or(Error::BadTransition { device, state, change })?;
        *slot = next;
        inner.record(Happening::Device {
            device,
            change,
            state: next,
        });
        Ok(next)
    }

    /// Notes something that is not about one device.
    pub fn record(&self, what: Happening) {
        self.inner.lock().record(what);
    }

    /// Devices in a state.
    pub fn count(&self, state: State) -> usize {
        let inner = self.inner.lock();
        inner.states.iter().filter(|&&one| one == state).count()
    }

    /// Events after that number, oldest first.
    pub fn events_after(&self, number: u64) -> Vec<Event> {
        let inner = self.inner.lock();
        inner
            .events
            .iter()
            .filter(|event| event.number > number)
            .cloned()
            .collect()
    }

    /// The number of the newest event, 0 before the first.
    pub fn last_event(&self) -> u64 {
        self.inner.lock().next - 1
    }
}

impl Inner {
    fn record(&mut self, what: Happening) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            number: self.next,
            what,
        });
        self.next += 1;
    }
}

#[cfg(test)]
mod tests;
