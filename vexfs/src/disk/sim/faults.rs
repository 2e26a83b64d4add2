// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which operation fails, and how.

use std::io;
use std::ops::Range;

use nix::libc;

/// Kind of an operation on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// `Disk::read`
    Read,
    /// `Disk::write`
    Write,
    /// `Disk::sync`
    Sync,
    /// `Disk::discard`
    Discard,
}

/// What becomes of an operation.
pub(super) enum Admission {
    /// It is carried out.
    Done,
    /// It fails and does nothing.
    Refused(io::Error),
    /// It fails half done.
    Torn(io::Error),
    /// The power fails during it.
    PowerFailed(io::Error),
}

#[derive(Clone, Default)]
pub(super) struct Faults {
    /// Writes, syncs and discards so far.
    pub(super) operations: u64,
    pub(super) stop_after: Option<u64>,
    power_off: bool,
    /// Kind, and how many of the kind until it fails; one that fired stays at 0.
    pub(super) countdowns: Vec<(Operation, u64)>,
    pub(super) writes_left: Option<u64>,
    pub(super) bytes_left: Option<u64>,
    pub(super) bad: Vec<Range<u64>>,
}

impl Faults {
    /// Forgets everything but the count of operations.
    pub(super) fn clear(&mut self) {
        *self = Self {
            operations: self.operations,
            ..Self::default()
        };
    }

    pub(super) fn admit_read(&mut self, at: u64, length: u64) -> io::Result<()> {
        if self.power_off {
            return Err(power_is_off());
        }
        let bad = |range: &Range<u64>| at < range.end && range.start < at + length;
        if self.counts_down(Operation::Read) || self.bad.iter().any(bad) {
            return Err(failed());
        }
        Ok(())
    }

    pub(super) fn admit(&mut self, kind: Operation, bytes: u64) -> Admission {
        if self.power_off {
            return Admission::Refused(power_is_off());
        }
        if self.stop_after.is_some_and(|limit| self.operations >= limit) {
            self.power_off = true;
            return Admission::PowerFailed(power_is_off());
        }
        self.operations += 1;
        if self.counts_down(kind) {
            return Admission::Torn(failed());
        }
        if kind == Operation::Write {
            match &mut self.writes_left {
                Some(0) => return Admission::Torn(failed()),
                Some(left) => *left -= 1,
                None => {}
            }
            if let Some(left) = &mut self.bytes_left {
                match left.checked_sub(bytes) {
                    Some(rest) => *left = rest,
                    None => return Admission::Torn(io::Error::from_raw_os_error(libc::ENOSPC)),
                }
            }
        }
        Admission::Done
    }

    fn counts_down(&mut self, kind: Operation) -> bool {
        let mut fires = false;
        for (_, left) in self.countdowns.iter_mut().filter(|(of, left)| *of == kind && *left > 0) {
            *left -= 1;
            fires |= *left == 0;
        }
        fires
    }
}

fn failed() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}
