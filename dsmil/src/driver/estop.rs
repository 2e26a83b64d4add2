// SPDX-License-Identifier: MIT OR Apache-2.0

//! The emergency stop.
//!
//! It is safe from the first step on that matters: once the gate is shut, no command reaches the hardware. The rest
//! tells the firmware, and everybody who waits. Nothing here waits for an operation, however long that hangs.

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
    /// 1. The gate is shut: no command is issued from here on, and none is being issued.
    /// 2. The firmware is told.
    /// 3. Operations under way and waiting fail with [`Error::Stopped`].
    /// 4. The firmware's acknowledgement is awaited.
    pub fn stop(&self, cause: &str) -> Stopped {
        let start = Instant::now();
        let first = self.gate.shut();
        let safe_after = start.elapsed();
        // The last bit set means stop; setting it twice is setting it once.
        let value = Registers::read(&self.control, STOP) | 1;
        Registers::write(&self.control, STOP, value);
        self.transport.ring();
        self.state.lock().engine.fail_all(&Error::Stopped);
        let acknowledged = self.wait_for_ack(value);
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
    pub fn release(&self, cause: &str) -> Result<()> {
        let state = self.state.lock();
        if !self.gate.is_shut() {
            return Ok(());
        }
        if !state.link {
            return Err(Error::Gone);
        }
        let value = (Registers::read(&self.control, STOP) | 1).wrapping_add(1);
        Registers::write(&self.control, STOP, value);
        self.transport.ring();
        if !self.wait_for_ack(value) {
            Registers::write(&self.control, STOP, value.wrapping_sub(1));
            return Err(Error::FirmwareHung);
        }
        self.gate.open();
        self.registry.record(Happening::Stop {
            stopped: false,
            cause: cause.to_owned(),
        });
        drop(state);
        self.poll();
        Ok(())
    }

    /// Whether the emergency stop is in force.
    pub fn is_stopped(&self) -> bool {
        self.gate.is_shut()
    }

    fn wait_for_ack(&self, value: u32) -> bool {
        let deadline = Instant::now() + STOP_BOUND;
        loop {
            if Registers::read(&self.control, STOP_ACK) == value {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
