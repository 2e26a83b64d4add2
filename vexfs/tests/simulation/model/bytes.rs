// SPDX-License-Identifier: MIT OR Apache-2.0

//! Calls about the bytes of files.
//!
//! A change of the contents may first zero the parts of blocks at its edges, each in a transaction of its own.

use vexfs::error::Errno;
use vexfs::fs::record::{FileFlags, Timestamp};
use vexfs::fs::{Preallocation, Seek};

use super::{Id, Model, Node, Outcome, Reasons, State};
use crate::content::{Content, PAGE};

const LONGEST: u64 = i64::MAX as u64;
/// A write is cut at multiples of this, each part a transaction.
const PIECE: u64 = 1 << 20;

impl State {
    /// Changes the bytes of a regular file.
    fn change_content(&mut self, id: Id, now: Timestamp, change: impl FnOnce(&mut Content)) {
        let node = self.change(id);
        node.touch_contents(now);
        if let super::Body::File(content) = &mut node.body {
            change(content);
        }
    }
}

fn end_of(at: u64, length: u64) -> Option<u64> {
    at.checked_add(length).filter(|&end| end <= LONGEST)
}

impl Model {
    fn size(&self, id: Id) -> u64 {
        self.state.node(id).size()
    }

    fn step(&mut self, id: Id, now: Timestamp, change: impl FnOnce(&mut Content)) {
        self.pass();
        self.state.change_content(id, now, change);
    }

    /// Zeros at the edges of a range that is not whole blocks, each a transaction.
    fn zero_edges(&mut self, id: Id, at: u64, end: u64, now: Timestamp) {
        let (first, last) = (at.next_multiple_of(PAGE), end - end % PAGE);
        for (from, to) in [(at, first.min(end)), (last.max(at), end)] {
            if from < to {
                self.step(id, now, |content| content.zero(from, to));
            }
        }
    }

    pub fn read(&self, id: Id, at: u64, length: usize) -> Outcome<Vec<u8>> {
        let mut reasons = Reasons::default();
        let node = self.state.node(id);
        reasons.regular(node);
        reasons.decide()?;
        Ok(node
            .content()
            .map(|content| content.read(at, length))
            .unwrap_or_default())
    }

    pub fn write(&mut self, id: Id, at: u64, bytes: &[u8], now: Timestamp) -> Outcome<usize> {
        let mut reasons = Reasons::default();
        let node = self.state.node(id);
        let end = end_of(at, bytes.len() as u64);
        reasons.when(end.is_none(), Errno::FileTooLarge);
        if reasons.regular(node) {
            reasons.when(node.is_immutable(), Errno::NotPermitted);
            reasons.when(
                node.flags.has(FileFlags::APPEND) && at < node.size(),
                Errno::NotPermitted,
            );
        }
        reasons.decide()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut done = 0;
        while done < bytes.len() {
            let here = at + done as u64;
            let count = (PIECE - here % PIECE).min((bytes.len() - done) as u64) as usize;
            self.step(id, now, |content| content.write(here, &bytes[done..done + count]));
            done += count;
        }
        Ok(done)
    }

    fn forbid_change(reasons: &mut Reasons, node: &Node) {
        if reasons.regular(node) {
            reasons.when(node.is_protected(), Errno::NotPermitted);
        }
    }

    pub fn truncate(&mut self, id: Id, size: u64, now: Timestamp) -> Outcome<()> {
        let mut reasons = Reasons::default();
        reasons.when(size > LONGEST, Errno::FileTooLarge);
        Self::forbid_change(&mut reasons, self.state.node(id));
        reasons.decide()?;
        let old = self.size(id);
        if size < old {
            let tail = old.min(size.next_multiple_of(PAGE));
            self.step(id, now, |content| content.zero(size, tail));
            self.pass();
        }
        self.state.change_content(id, now, |content| content.resize(size));
        Ok(())
    }

    pub fn preallocate(&mut self, id: Id, mode: Preallocation, at: u64, length: u64, now: Timestamp) -> Outcome<()> {
        let mut reasons = Reasons::default();
        let end = end_of(at, length);
        reasons.when(end.is_none(), Errno::FileTooLarge);
        reasons.when(length == 0, Errno::Invalid);
        let node = self.state.node(id);
        let size = node.size();
        Self::forbid_change(&mut reasons, node);
        if matches!(mode, Preallocation::Collapse | Preallocation::Insert) {
            reasons.when(!at.is_multiple_of(PAGE) || !length.is_multiple_of(PAGE), Errno::Invalid);
        }
        match mode {
            Preallocation::Collapse => reasons.when(end.is_some_and(|end| end >= size), Errno::Invalid),
            Preallocation::Insert => {
                reasons.when(at >= size, Errno::Invalid);
                reasons.when(size.saturating_add(length) > LONGEST, Errno::FileTooLarge);
            }
            _ => {}
        }
        reasons.decide()?;
        let end = at + length;
        match mode {
            Preallocation::Allocate { .. } => self.state.change_content(id, now, |_| ()),
            Preallocation::Punch | Preallocation::Zero { .. } => {
                self.zero_edges(id, at, end.min(size).max(at), now);
                self.step(id, now, |content| content.zero(at, end));
            }
            Preallocation::Collapse => self.step(id, now, |content| content.collapse(at, length)),
            Preallocation::Insert => self.step(id, now, |content| content.insert(at, length)),
        }
        if let Preallocation::Allocate { keep_size: false } | Preallocation::Zero { keep_size: false } = mode {
            self.step(id, now, |content| content.resize(size.max(end)));
        }
        Ok(())
    }

    pub fn clone_range(&mut self, from: Id, at: u64, to: Id, to_at: u64, length: u64, now: Timestamp) -> Outcome<()> {
        let mut reasons = Reasons::default();
        let (source, target) = (self.state.node(from), self.state.node(to));
        reasons.regular(source);
        Self::forbid_change(&mut reasons, target);
        let source_size = source.size();
        let length = if length == 0 {
            source_size.saturating_sub(at)
        } else {
            length
        };
        let (end, to_end) = (end_of(at, length), end_of(to_at, length));
        reasons.when(end.is_none() || to_end.is_none(), Errno::FileTooLarge);
        let (end, to_end) = (end.unwrap_or(LONGEST), to_end.unwrap_or(LONGEST));
        let aligned = at.is_multiple_of(PAGE) && to_at.is_multiple_of(PAGE);
        reasons.when(!aligned || end > source_size, Errno::Invalid);
        let whole = length % PAGE == 0 || end == source_size && to_end >= target.size();
        reasons.when(!whole, Errno::Invalid);
        reasons.when(from == to && at < to_end && to_at < end && length > 0, Errno::Invalid);
        reasons.decide()?;
        if length == 0 {
            return Ok(());
        }
        let source = source.content().cloned().unwrap_or_default();
        self.step(to, now, |content| content.clone_range(&source, at, to_at, length));
        Ok(())
    }

    /// Whether the answer of a search is right: the standard lets a filesystem call any zeros data, but not data a hole.
    pub fn seek_is_right(&self, id: Id, at: u64, what: Seek, found: Result<u64, Errno>) -> bool {
        let node = self.state.node(id);
        let Some(content) = node.content() else {
            return found == Err(Errno::Invalid);
        };
        let size = content.size();
        let zero = |from: u64, to: u64| {
            let pages = from / PAGE..to.div_ceil(PAGE);
            content
                .prints()
                .filter(|(number, _)| pages.contains(number))
                .all(|(number, _)| {
                    let (from, to) = (from.max(number * PAGE), to.min((number + 1) * PAGE));
                    content.read(from, (to - from) as usize).iter().all(|&byte| byte == 0)
                })
        };
        match (what, found) {
            (_, Err(Errno::NoSuchRange)) if at >= size => true,
            (_, _) if at >= size => false,
            (Seek::Data, Ok(place)) => (at..size).contains(&place) && zero(at, place),
            (Seek::Data, Err(Errno::NoSuchRange)) => zero(at, size),
            (Seek::Hole, Ok(place)) => place == size || (at..size).contains(&place) && zero(place, size.min(place + 1)),
            _ => false,
        }
    }
}
