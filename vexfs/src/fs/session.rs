// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a pool remembers of its client: the mount by the kernel module, if there is one (`docs/ABI.md`).
//!
//! There is one session at a time. It is part of the state: operations of the journal change it, a checkpoint writes it
//! into the tables. So it lives through the death of the server, and what was carried out is not carried out again.
//!
//! | record (key) | value |
//! |---|---|
//! | session (0) | version 1 · flags 1 · ordinal v · id 8 · hello 8 · posted v · grant from v · grant count v · slots v, then the newest call of each v · ranges v of unused numbers, then for each: first v · count v |
//! | window (its base) | version 2 · ino v · span v |

use std::collections::BTreeMap;

use crate::codec::{DecodeError, Reader, Writer};
use crate::meta::Record;
use crate::units::Ino;

use super::record::Totals;

/// Call slots of a session, at most.
pub const MAX_SLOTS: u16 = 1024;
/// Ranges of unused numbers, at most: what does not fit is never used. Bounds the record.
const MAX_RANGES: usize = 2048;
/// Addresses of windows are below.
pub const ADDRESS_LIMIT: u64 = 1 << 62;

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Session {
    /// Counts sessions: 0 before the first.
    pub ordinal: u64,
    /// Random; 0: it is over, or there was none.
    pub id: u64,
    /// What the client called the request that began it.
    pub hello: u64,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Posted operations before this position are applied.
    pub posted: u64,
    /// Of each call slot: the newest call that changed something.
    pub answered: Vec<u64>,
    /// First number of the newest grant.
    pub grant_from: Ino,
    /// Numbers of it.
    pub grant_count: u32,
    /// Numbers that were granted and not used.
    pub unused: Numbers,
}

impl Session {
    /// Whether there is a client.
    pub const fn is_live(&self) -> bool {
        self.id != 0
    }
}

/// Inode numbers, as ranges.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Numbers(BTreeMap<u64, u64>);

impl Numbers {
    /// The range that holds a number: first, and end.
    fn around(&self, number: u64) -> Option<(u64, u64)> {
        let (&first, &end) = self.0.range(..=number).next_back()?;
        (number < end).then_some((first, end))
    }

    /// Whether it is among them.
    pub fn contains(&self, ino: Ino) -> bool {
        self.around(ino.0).is_some()
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether taking a number from inside a range loses others, since there are too many ranges.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_RANGES
    }

    /// Adds numbers that are not among them.
    pub(super) fn add(&mut self, from: Ino, count: u64) {
        if count == 0 {
            return;
        }
        let (mut first, mut end) = (from.0, from.0.saturating_add(count));
        if let Some((&before, &its_end)) = self.0.range(..first).next_back()
            && its_end == first
        {
            self.0.remove(&before);
            first = before;
        }
        if let Some(its_end) = self.0.remove(&end) {
            end = its_end;
        }
        self.0.insert(first, end);
    }

    /// Takes one out. Whether it was there.
    pub(super) fn take(&mut self, ino: Ino) -> bool {
        let Some((first, end)) = self.around(ino.0) else {
            return false;
        };
        self.0.remove(&first);
        if ino.0 + 1 < end {
            self.0.insert(ino.0 + 1, end);
        }
        if first < ino.0 && self.0.len() < MAX_RANGES {
            self.0.insert(first, ino.0);
        }
        true
    }
}

/// Addresses of the device where a file's bytes are, besides the window that every file has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// The file.
    pub ino: Ino,
    /// Bytes.
    pub span: u64,
}

/// What the tables hold about a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionRecord {
    /// Under key 0.
    Session(Box<Session>),
    /// Under its base.
    Window(Window),
}

impl Record for SessionRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Session(session) => {
                out.put_u8(1);
                out.put_u8(u8::from(session.read_only));
                out.put_varint(session.ordinal);
                out.put_u64(session.id);
                out.put_u64(session.hello);
                out.put_varint(session.posted);
                out.put_varint(session.grant_from.0);
                out.put_varint(u64::from(session.grant_count));
                out.put_varint(session.answered.len() as u64);
                for &seq in &session.answered {
                    out.put_varint(seq);
                }
                out.put_varint(session.unused.0.len() as u64);
                for (&first, &end) in &session.unused.0 {
                    out.put_varint(first);
                    out.put_varint(end - first);
                }
            }
            Self::Window(window) => {
                out.put_u8(2);
                out.put_varint(window.ino.0);
                out.put_varint(window.span);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = match reader.u8("version")? {
            1 => Self::Session(Box::new(decode_session(&mut reader)?)),
            2 => {
                let ino = Ino(reader.varint("ino")?);
                let span = reader.varint("span")?;
                if span == 0 || span > ADDRESS_LIMIT {
                    return Err(DecodeError::invalid("span", span));
                }
                Self::Window(Window { ino, span })
            }
            other => return Err(DecodeError::invalid("version", other)),
        };
        reader.end()?;
        Ok(record)
    }
}

fn decode_session(reader: &mut Reader<'_>) -> Result<Session, DecodeError> {
    let flags = reader.u8("flags")?;
    if flags > 1 {
        return Err(DecodeError::invalid("flags", flags));
    }
    let mut session = Session {
        read_only: flags == 1,
        ordinal: reader.varint("ordinal")?,
        id: reader.u64("id")?,
        hello: reader.u64("hello")?,
        posted: reader.varint("posted")?,
        grant_from: Ino(reader.varint("grant from")?),
        grant_count: reader.varint32("grant count")?,
        ..Session::default()
    };
    let slots = reader.varint("slots")?;
    if slots > u64::from(MAX_SLOTS) {
        return Err(DecodeError::invalid("slots", slots));
    }
    for _ in 0..slots {
        session.answered.push(reader.varint("newest call")?);
    }
    let ranges = reader.varint("ranges")?;
    if ranges > MAX_RANGES as u64 {
        return Err(DecodeError::invalid("ranges", ranges));
    }
    let mut last = 0;
    for _ in 0..ranges {
        let (first, count) = (reader.varint("first")?, reader.varint("count")?);
        let end = first.checked_add(count).filter(|&end| end <= Totals::LAST_INO);
        let Some(end) = end.filter(|_| count > 0 && first > last) else {
            return Err(DecodeError::invalid("range of numbers", first));
        };
        session.unused.0.insert(first, end);
        last = end;
    }
    Ok(session)
}

/// The windows of a session, by their addresses.
#[derive(Default)]
pub(super) struct Windows {
    by_base: BTreeMap<u64, Window>,
    /// The newest window of each file: the longest.
    newest: BTreeMap<Ino, u64>,
}

impl Windows {
    pub(super) fn insert(&mut self, base: u64, window: Window) {
        self.by_base.insert(base, window);
        let newest = self.newest.entry(window.ino).or_insert(base);
        if self
            .by_base
            .get(newest)
            .is_none_or(|longest| longest.span <= window.span)
        {
            *newest = base;
        }
    }

    pub(super) fn remove(&mut self, base: u64) {
        let Some(window) = self.by_base.remove(&base) else {
            return;
        };
        if self.newest.get(&window.ino) == Some(&base) {
            self.newest.remove(&window.ino);
            let others: Vec<(u64, Window)> = self.of_file(window.ino).collect();
            for (base, window) in others {
                self.insert(base, window);
            }
        }
    }

    fn of_file(&self, ino: Ino) -> impl Iterator<Item = (u64, Window)> + '_ {
        let windows = self.by_base.iter().filter(move |(_, window)| window.ino == ino);
        windows.map(|(&base, &window)| (base, window))
    }

    /// The bases of a file's windows.
    pub(super) fn bases(&self, ino: Ino) -> Vec<u64> {
        if self.newest.contains_key(&ino) {
            self.of_file(ino).map(|(base, _)| base).collect()
        } else {
            Vec::new()
        }
    }

    /// Every window, with its base.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, Window)> + '_ {
        self.by_base.iter().map(|(&base, &window)| (base, window))
    }

    /// The longest window of a file, and its base.
    pub(super) fn newest(&self, ino: Ino) -> Option<(u64, Window)> {
        let base = self.newest.get(&ino)?;
        self.by_base.get(base).map(|&window| (*base, window))
    }

    /// The window of an address, and its base.
    pub(super) fn at(&self, address: u64) -> Option<(u64, Window)> {
        let (&base, &window) = self.by_base.range(..=address).next_back()?;
        (address - base < window.span).then_some((base, window))
    }

    /// Whether addresses are in no window.
    pub(super) fn is_free(&self, base: u64, span: u64) -> bool {
        let Some(end) = base.checked_add(span) else {
            return false;
        };
        let before = self.by_base.range(..end).next_back();
        before.is_none_or(|(&start, window)| start + window.span <= base)
    }

    /// A place for a window, at a multiple of its span, a power of two: behind all others, or between them.
    pub(super) fn place(&self, range: &std::ops::Range<u64>, span: u64) -> Option<u64> {
        let fits = |base: u64| {
            let base = base.max(range.start).checked_next_multiple_of(span)?;
            let inside = base.checked_add(span).is_some_and(|end| end <= range.end);
            (inside && self.is_free(base, span)).then_some(base)
        };
        let ends = || self.by_base.iter().map(|(base, window)| base + window.span);
        fits(ends().next_back().unwrap_or(range.start))
            .or_else(|| fits(range.start))
            .or_else(|| ends().find_map(fits))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_a_set(steps in proptest::collection::vec((any::<bool>(), 1_u64..60, 1_u64..6), 0..80)) {
            let (mut numbers, mut model) = (Numbers::default(), BTreeSet::new());
            for (add, first, count) in steps {
                if add && (first..first + count).all(|number| !model.contains(&number)) {
                    numbers.add(Ino(first), count);
                    model.extend(first..first + count);
                } else {
                    prop_assert_eq!(numbers.take(Ino(first)), model.remove(&first));
                }
                prop_assert_eq!(numbers.len(), model.len() as u64);
                let ranges: Vec<_> = numbers.0.iter().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "ranges touch: {:?}", ranges);
            }
            for number in 0..70 {
                prop_assert_eq!(numbers.contains(Ino(number)), model.contains(&number));
            }
        }

        #[test]
        fn windows_never_overlap(steps in proptest::collection::vec((1_u64..6, 0_u32..5, any::<bool>()), 0..60)) {
            let range = 64..256;
            let mut windows = Windows::default();
            for (ino, shift, remove) in steps {
                let ino = Ino(ino);
                if remove {
                    for base in windows.bases(ino) {
                        windows.remove(base);
                    }
                    prop_assert!(windows.newest(ino).is_none());
                } else if let Some(base) = windows.place(&range, 1 << shift) {
                    windows.insert(base, Window { ino, span: 1 << shift });
                    prop_assert!(windows.newest(ino).is_some_and(|(_, window)| window.span >= 1 << shift));
                }
                let all: Vec<_> = windows.all().collect();
                for pair in all.windows(2) {
                    prop_assert!(pair[0].0 + pair[0].1.span <= pair[1].0);
                }
                for (base, window) in all {
                    prop_assert!(range.contains(&base) && base + window.span <= range.end);
                    prop_assert_eq!(windows.at(base + window.span - 1), Some((base, window)));
                }
            }
        }
    }
}
