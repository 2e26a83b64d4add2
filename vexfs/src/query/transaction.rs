// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is written to and read from one descriptor of the query file.
//!
//! A descriptor is a file of its own that begins empty. What is written to it is a request, in one piece or several; the
//! first read, or question for its size, that finds a whole request there has it answered. From then on the file is the
//! request followed by the answer: who writes and then reads, without moving the position, reads the answer. There is one
//! transaction per descriptor: writing after the answer is refused (EBUSY), until the file is truncated to nothing.

use super::access::Caller;
use super::{MAX_REQUEST, is_incomplete, run};
use crate::error::{Errno, Result};
use crate::fs::Fs;
use crate::fs::record::Timestamp;
use crate::units::Ino;

/// See the module.
#[derive(Debug, Default)]
pub struct Transaction {
    content: Vec<u8>,
    /// Who wrote.
    caller: Option<Caller>,
    answered: bool,
}

impl Transaction {
    /// Writes part of a request.
    pub fn write(&mut self, at: u64, bytes: &[u8], caller: &Caller) -> Result<()> {
        if self.answered {
            return Err(Errno::Busy.into());
        }
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes.len());
        if end > MAX_REQUEST {
            return Err(Errno::FileTooLarge.into());
        }
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        if let Some(place) = self.content.get_mut(start..end) {
            place.copy_from_slice(bytes);
        }
        // A request of two is answered as one of the second: who may less cannot borrow from who may more.
        self.caller = Some(caller.clone());
        Ok(())
    }

    /// Answers the request, if all of it is there and it was not answered yet; gives the files whose attributes changed.
    pub fn settle(&mut self, fs: &Fs, now: Timestamp) -> Vec<Ino> {
        let Some(caller) = self.caller.as_ref().filter(|_| !self.answered) else {
            return Vec::new();
        };
        if is_incomplete(&self.content) {
            return Vec::new();
        }
        let answered = run::answer(fs, caller, &self.content, now);
        self.content.extend(answered.answer);
        self.answered = true;
        answered.changed
    }

    /// Bytes of the file, as far as there are.
    pub fn read(&self, at: u64, size: usize) -> &[u8] {
        let rest = usize::try_from(at).ok().and_then(|at| self.content.get(at..));
        let rest = rest.unwrap_or_default();
        rest.get(..size).unwrap_or(rest)
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.content.len() as u64
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
