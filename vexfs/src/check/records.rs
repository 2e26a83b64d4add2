// SPDX-License-Identifier: MIT OR Apache-2.0

//! The records of a pool in the order of their keys: what the tables hold, under what differs from them.
//!
//! Nothing is loaded: a scan has one page per table in memory. What cannot be read or decoded comes as such, in its place.

use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::marker::PhantomData;
use std::ops::Bound;

use crate::error::{Error, Result};
use crate::fs::replay::Changes;
use crate::meta::base::{Base, Scan};
use crate::meta::{Key, Record, encode_key};

/// Tables, and what differs from them.
pub(super) struct Records {
    pub(super) base: Base,
    pub(super) changes: Changes,
}

/// A record, encoded; without a value: one that cannot be read.
pub(super) type Raw = (Vec<u8>, Option<Vec<u8>>);

/// Records in order.
pub(super) struct Stream<'a> {
    scan: Scan,
    below: Option<Raw>,
    above: Peekable<Range<'a, Vec<u8>, Option<Vec<u8>>>>,
}

impl Records {
    /// The records from a key on and below another.
    pub(super) fn scan(&self, from: &[u8], to: &[u8]) -> Result<Stream<'_>> {
        let range = (Bound::Included(from.to_vec()), Bound::Excluded(to.max(from).to_vec()));
        let mut stream = Stream {
            scan: self.base.scan(from, to)?,
            below: None,
            above: self.changes.range::<Vec<u8>, _>(range).peekable(),
        };
        stream.descend()?;
        Ok(stream)
    }

    /// Everything.
    pub(super) fn everything(&self) -> Result<Stream<'_>> {
        self.scan(&[], &[u8::MAX; crate::meta::base::MAX_KEY])
    }

    /// The records of one kind.
    pub(super) fn all<K: Key, V: Record>(&self) -> Result<Typed<'_, K, V>> {
        Ok(Typed {
            stream: self.scan(&[K::TAG], &[K::TAG + 1])?,
            ahead: None,
            kind: PhantomData,
        })
    }

    /// One record; none if it cannot be read.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(value) = self.changes.get(key) {
            return Ok(value.clone());
        }
        match self.base.get(key) {
            Ok(value) => Ok(value.map(|value| value.to_vec())),
            Err(Error::Damaged(_) | Error::Io(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One record, decoded; none if it cannot be.
    pub(super) fn record<K: Key, V: Record>(&self, key: &K) -> Result<Option<V>> {
        let bytes = self.get(&encode_key(key))?;
        Ok(bytes.and_then(|bytes| V::decode(&bytes).ok()))
    }
}

impl Stream<'_> {
    fn descend(&mut self) -> Result<()> {
        let next = self.scan.next_readable()?;
        self.below = next.map(|(key, value)| (key.to_vec(), value.map(|value| value.to_vec())));
        Ok(())
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Raw>> {
        loop {
            let newer = match (self.above.peek(), &self.below) {
                (None, None) => return Ok(None),
                (Some((above, _)), Some((below, _))) => *above <= below,
                (above, _) => above.is_some(),
            };
            if !newer {
                let record = self.below.take();
                self.descend()?;
                return Ok(record);
            }
            let Some((key, value)) = self.above.next() else {
                continue;
            };
            if self.below.as_ref().is_some_and(|(below, _)| below == key) {
                self.descend()?;
            }
            if let Some(value) = value {
                return Ok(Some((key.clone(), Some(value.clone()))));
            }
        }
    }
}

/// A record of one kind.
pub(super) enum Item<K, V> {
    /// As it should be.
    Good(K, V),
    /// Its key, the key's meaning if that much can be decoded, and what is wrong.
    Bad(Vec<u8>, Option<K>, String),
}

/// Records of one kind in order.
pub(super) struct Typed<'a, K, V> {
    stream: Stream<'a>,
    ahead: Option<Item<K, V>>,
    kind: PhantomData<(K, V)>,
}

impl<K: Key, V: Record> Typed<'_, K, V> {
    /// The next record.
    pub(super) fn next(&mut self) -> Result<Option<Item<K, V>>> {
        if let Some(item) = self.ahead.take() {
            return Ok(Some(item));
        }
        Ok(self.stream.next()?.map(|(key, value)| decode(key, value)))
    }

    /// The next record if it comes before a key that `is_before` knows.
    pub(super) fn next_if(&mut self, is_before: impl Fn(&K) -> bool) -> Result<Option<Item<K, V>>> {
        let Some(item) = self.next()? else { return Ok(None) };
        let here = match &item {
            Item::Good(key, _) | Item::Bad(_, Some(key), _) => is_before(key),
            // Nobody else will ask for it.
            Item::Bad(_, None, _) => true,
        };
        if here {
            return Ok(Some(item));
        }
        self.ahead = Some(item);
        Ok(None)
    }
}

fn decode<K: Key, V: Record>(bytes: Vec<u8>, value: Option<Vec<u8>>) -> Item<K, V> {
    let key = match K::decode(bytes.get(1..).unwrap_or_default()) {
        Ok(key) => key,
        Err(error) => return Item::Bad(bytes, None, error.to_string()),
    };
    match value.map(|value| V::decode(&value)) {
        Some(Ok(value)) => Item::Good(key, value),
        Some(Err(error)) => Item::Bad(bytes, Some(key), error.to_string()),
        None => Item::Bad(bytes, Some(key), "it cannot be read".to_owned()),
    }
}
