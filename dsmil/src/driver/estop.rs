// SPDX-License-Identifier: MIT OR Apache-2.0

//! The emergency stop.
//!
//! It is safe from the first step on that matters: once the gate is shut, no command reaches the hardware. The rest
//! tells the firmware, and everybody who waits. Nothing here waits for an operation, however long that hangs.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Driver;
use crate::error::{Error, Result};
use crate::layout::{Registers, STOP, STOP_ACK};
use crate::registry::Happening;

/// How long the firmware's acknowledgement is waited for.
pub const STOP_BOUND: Duration = Duration::from_millis(5);

/// How an emergency stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Whether it was this call that stopped it.
    pub first: bool,
    /// From the call until no command could reach the hardware any more.
    pub safe_after: Duration,
    /// Whether the firmware has confirmed it within [`STOP_BOUND`].
    pub acknowledged: bool,
}

impl Driver {
    /// Stops everything.
    ///
    /// 1. The gate is shut: no command is issued from here on.
    /// 2. The firmware is told, and whoever was issuing a command has left.
    /// 3. Operations under way and waiting fail with [`Error::Stopped`].
    /// 4. The firmware's acknowledgement is awaited.
    pub fn stop(&self, cause: &str) -> Stopped {
        let start = Instant::now();
        self.stops.fetch_add(1, Ordering::AcqRel);
        let first = self.gate.shut();
        // Before waiting for who is inside, and may have been put off by the scheduler there: a firmware that was told
        // begins nothing, whatever is still written to the mailbox.
        self.tell_stop();
        self.gate.drain();
        let safe_after = start.elapsed();
        self.state.lock().engine.fail_all(&Error::Stopped);
        let acknowledged = self.wait_for_ack(true);
        if first {
            tracing::error!(cause, acknowledged, "emergency stop");
            self.registry.record(Happening::Stop {
                stopped: true,
                cause: cause.to_owned(),
            });
        }
        Stopped {
            first,
            safe_after,
            acknowledged,
        }
    }

    /// Ends the emergency stop, if the firmware follows. What was under way does not come back.
    ///
    /// A stop that comes meanwhile wins. It may shut the gate before the gate is opened here, so whether there was one
    /// is asked after that; nobody passes in between, because commands are issued under the lock that is held here.
    pub fn release(&self, cause: &str) -> Result<()> {
        let state = self.state.lock();
        if !self.gate.is_shut() {
            return Ok(());
        }
        if !state.link {
            return Err(Error::Gone);
        }
        let stops = self.stops.load(Ordering::Acquire);
        let value = (Registers::read(&self.control, STOP) | 1).wrapping_add(1);
        Registers::write(&self.control, STOP, value);
        self.transport.ring();
        let followed = self.wait_for_ack(false);
        self.gate.open();
        if !followed || self.stops.load(Ordering::Acquire) != stops {
            self.gate.shut();
            self.tell_stop();
            return Err(if followed { Error::Stopped } else { Error::FirmwareHung });
        }
        self.registry.record(Happening::Stop {
            stopped: false,
            cause: cause.to_owned(),
        });
        drop(state);
        self.poll();
        Ok(())
    }

    /// Tells the firmware to stop. The last bit means stop: setting it twice is setting it once.
    fn tell_stop(&self) {
        Registers::write(&self.control, STOP, Registers::read(&self.control, STOP) | 1);
        self.transport.ring();
    }

    /// Whether the emergency stop is in force.
    pub fn is_stopped(&self) -> bool {
        self.gate.is_shut()
    }

    /// Waits until the firmware has taken the register over, and it says stop or go as asked.
    fn wait_for_ack(&self, stop: bool) -> bool {
        let deadline = Instant::now() + STOP_BOUND;
        loop {
            let acknowledged = Registers::read(&self.control, STOP_ACK);
            if acknowledged == Registers::read(&self.control, STOP) && (acknowledged % 2 == 1) == stop {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
