// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the firmware can be told to do wrong.

use serde::{Deserialize, Serialize};

/// A fault. Those of operations concern the next operations that are begun, in the order in which they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fault", deny_unknown_fields)]
pub enum Fault {
    /// The next answer takes so long.
    Late {
        /// Milliseconds.
        millis: u64,
    },
    /// The next operation is not answered before it is aborted.
    Hang,
    /// The next operation is not answered, and its abort is ignored.
    HangHard,
    /// Nothing is answered or acknowledged for so long, not even a reset or stop.
    Dead {
        /// Milliseconds.
        millis: u64,
    },
    /// The next answer is damaged.
    Corrupt,
    /// The next answer is given, and interrupts, twice.
    Duplicate,
    /// The next answer does not interrupt.
    LostInterrupt,
    /// The next operation fails.
    Fail,
    /// Interrupts without a cause, at once.
    SpuriousInterrupts {
        /// How many.
        count: u32,
    },
    /// A sensor takes no more samples.
    StuckSensor {
        /// Which.
        sensor: usize,
    },
    /// A sensor's temperature moves to a value and stays there.
    Heat {
        /// Which.
        sensor: usize,
        /// Thousandths of a degree Celsius.
        to: i32,
        /// Thousandths of a degree per second; 0 means at once.
        per_second: u32,
    },
    /// A device is pulled.
    Unplug {
        /// Its number.
        device: usize,
    },
    /// A device is plugged in.
    Plug {
        /// Its number.
        device: usize,
    },
    /// Everything that is wrong ends.
    Clear,
}
