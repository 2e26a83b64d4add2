// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is new, what was done, what comes too early: from what the journal remembers of a client. No state of its own; the
//! model of the protocol (`tests/client/model.rs`) asks the same functions as the server.

/// What a call that changes something is, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// To be carried out.
    New,
    /// It was carried out: only its reply is made anew.
    Done,
    /// A leftover, whose reply nobody waits for.
    Old,
}

/// `answered` is the newest such call of its slot.
pub const fn standing(seq: u64, answered: u64) -> Standing {
    if seq > answered {
        Standing::New
    } else if seq == answered {
        Standing::Done
    } else {
        Standing::Old
    }
}

/// Whether a call may be carried out that depends on what was posted before a position.
pub const fn is_due(after: u64, applied: u64) -> bool {
    after <= applied
}

/// What a batch is, by its position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Others come first.
    Early,
    /// It is applied, but for so many operations at its start, which were before.
    Now(u64),
}

/// Operations before the position `applied` are.
pub const fn turn(position: u64, applied: u64) -> Turn {
    if position > applied {
        Turn::Early
    } else {
        Turn::Now(applied - position)
    }
}
