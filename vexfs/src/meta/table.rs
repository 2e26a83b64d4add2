// SPDX-License-Identifier: MIT OR Apache-2.0

//! One kind of record: changes in memory over the shared base.
//!
//! Reading looks at two caches, `active`, `frozen`, `recent` and the base, in this order; the first that knows the key
//! decides, also if what it knows is that the record is gone.
//!
//! - `hot` and `cold` hold what was read, wherever it was found. When `hot` is full it becomes `cold`, and what `cold` held
//!   is forgotten; what is read from `cold` moves back to `hot`. Every change of a key removes it from both, so they never
//!   hold anything but the present value, and need no care when a checkpoint is installed.
//! - `recent` is what the last checkpoint wrote. It was in memory anyway, and is the likeliest to be read.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::ops::Bound;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::base::Base;
use super::{Key, Record, encode_key};
use crate::codec::DecodeError;
use crate::error::{Error, Result};
use crate::units::Ino;

/// The value of a key in `active` before a change: unknown there, gone, or a record.
pub type Previous<V> = Option<Option<V>>;

/// Changes a checkpoint writes.
pub type Frozen<K, V> = Arc<BTreeMap<K, Option<V>>>;

/// An ordered map of records.
#[derive(Debug)]
pub struct Table<K, V> {
    active: BTreeMap<K, Option<V>>,
    frozen: Option<Frozen<K, V>>,
    recent: Frozen<K, V>,
    hot: FxHashMap<K, Option<V>>,
    cold: FxHashMap<K, Option<V>>,
    /// Whether inodes have records here, of those asked about; any change of a record forgets its inode.
    owners: FxHashMap<Ino, bool>,
    cache_limit: usize,
    /// No record of an inode from this one on is in the base.
    unknown_to_base: Ino,
    reads: Reads,
}

/// Where [`Table::get`] found its answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// In memory.
    pub hits: u64,
    /// In the base.
    pub misses: u64,
}

impl<K: Key, V: Record + Clone> Table<K, V> {
    /// A table that keeps about twice `cache_limit` records of the base in memory.
    pub fn new(cache_limit: usize, unknown_to_base: Ino) -> Self {
        Self {
            active: BTreeMap::new(),
            frozen: None,
            recent: Arc::default(),
            hot: FxHashMap::default(),
            cold: FxHashMap::default(),
            owners: FxHashMap::default(),
            cache_limit: cache_limit.max(1),
            unknown_to_base,
            reads: Reads::default(),
        }
    }

    /// The record of a key.
    pub fn get(&mut self, base: &Base, key: &K) -> Result<Option<&V>> {
        if self.hot.len() >= self.cache_limit && !self.hot.contains_key(key) {
            self.cold = std::mem::take(&mut self.hot);
        }
        self.reads.hits += 1;
        let value = match self.hot.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let layers = [Some(&self.active), self.frozen.as_deref(), Some(&*self.recent)];
                let known = layers.into_iter().flatten().find_map(|layer| layer.get(key));
                let absent = key.owner().is_some_and(|ino| ino >= self.unknown_to_base);
                match (self.cold.remove(key), known) {
                    (Some(value), _) => place.insert(value),
                    (None, Some(known)) => place.insert(known.clone()),
                    (None, None) if absent => return Ok(None),
                    (None, None) => {
                        self.reads.hits -= 1;
                        self.reads.misses += 1;
                        place.insert(read(base, key)?)
                    }
                }
            }
        };
        Ok(value.as_ref())
    }

    /// Puts a record, or removes it; returns what [`Self::restore`] needs to take the change back.
    pub fn set(&mut self, key: &K, value: Option<V>) -> Previous<V> {
        self.forget(key);
        self.active.insert(key.clone(), value)
    }

    fn forget(&mut self, key: &K) {
        if !self.hot.is_empty() {
            self.hot.remove(key);
        }
        if !self.cold.is_empty() {
            self.cold.remove(key);
        }
        if !self.owners.is_empty()
            && let Some(owner) = key.owner()
        {
            self.owners.remove(&owner);
        }
    }

    /// Takes back the last change of a key.
    pub fn restore(&mut self, key: &K, previous: Previous<V>) {
        self.forget(key);
        match previous {
            Some(value) => self.active.insert(key.clone(), value),
            None => self.active.remove(key),
        };
    }

    /// Whether an inode has any records here: all of them are from `from` on and below `to`. What was once found is remembered.
    pub fn has_any(&mut self, base: &Base, owner: Ino, from: &K, to: &K) -> Result<bool> {
        if let Some(&known) = self.owners.get(&owner) {
            return Ok(known);
        }
        let mut found = false;
        self.visit(base, from, to, |_, _| {
            found = true;
            false
        })?;
        if self.owners.len() >= self.cache_limit {
            self.owners.clear();
        }
        self.owners.insert(owner, found);
        Ok(found)
    }

    /// The records from `from` on and below `to`, in order, at most `limit`.
    pub fn scan(&self, base: &Base, from: &K, to: &K, limit: usize) -> Result<Vec<(K, V)>> {
        let mut found = Vec::new();
        self.visit(base, from, to, |key, value| {
            found.push((key.clone(), value.clone()));
            found.len() < limit
        })?;
        Ok(found)
    }

    /// Calls `each` with the records from `from` on and below `to`, in order, until it returns false.
    pub fn visit(&self, base: &Base, from: &K, to: &K, mut each: impl FnMut(&K, &V) -> bool) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut active = self.active.range(range).peekable();
        let mut frozen = self
            .frozen
            .as_deref()
            .map(|map| map.range(range))
            .into_iter()
            .flatten()
            .peekable();
        let mut below = match from.owner() {
            Some(ino) if ino >= self.unknown_to_base => None,
            _ => Some(base.scan(&encode_key(from), &encode_key(to))?),
        };
        let mut next = advance(&mut below)?;
        loop {
            let keys = [
                active.peek().map(|(key, _)| *key),
                frozen.peek().map(|(key, _)| *key),
                next.as_ref().map(|(key, _)| key),
            ];
            let Some(least) = keys.into_iter().flatten().min().cloned() else {
                return Ok(());
            };
            // Every layer that has the key moves on; the newest one decides.
            let newest = active
                .next_if(|(key, _)| **key == least)
                .map(|(_, value)| value.as_ref());
            let middle = frozen
                .next_if(|(key, _)| **key == least)
                .map(|(_, value)| value.as_ref());
            let oldest = match &next {
                Some((key, _)) if *key == least => std::mem::replace(&mut next, advance(&mut below)?),
                _ => None,
            };
            let value = newest
                .or(middle)
                .unwrap_or_else(|| oldest.as_ref().map(|(_, value)| value));
            if let Some(value) = value
                && !each(&least, value)
            {
                return Ok(());
            }
        }
    }

    /// Hands what changed to a checkpoint. There must be none under way.
    pub fn freeze(&mut self) -> Frozen<K, V> {
        debug_assert!(self.frozen.is_none(), "one checkpoint at a time");
        let frozen = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// The base now holds what was frozen.
    pub fn thawed(&mut self, unknown_to_base: Ino) {
        if let Some(frozen) = self.frozen.take() {
            self.recent = frozen;
        }
        self.unknown_to_base = unknown_to_base;
    }

    /// Changed keys that are not in the base: those a running checkpoint writes, and those since.
    pub fn changed_len(&self) -> usize {
        self.active.len() + self.frozen.as_ref().map_or(0, |map| map.len())
    }

    /// Where reading found its answers.
    pub const fn reads(&self) -> Reads {
        self.reads
    }

    /// Records in memory, those in several places counted in each.
    pub fn memory_len(&self) -> usize {
        self.hot.len() + self.cold.len() + self.recent.len() + self.changed_len()
    }

    /// Changed keys since the last freeze.
    pub fn active_len(&self) -> usize {
        self.active.len()
    }
}

/// Appends the encoded changes of a table, in order.
pub fn encoded<K: Key, V: Record>(frozen: &BTreeMap<K, Option<V>>) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    frozen.iter().map(|(key, value)| {
        let value = value.as_ref().map(|value| {
            let mut bytes = Vec::with_capacity(64);
            value.encode(&mut bytes);
            bytes
        });
        (encode_key(key), value)
    })
}

fn read<K: Key, V: Record>(base: &Base, key: &K) -> Result<Option<V>> {
    let bytes = encode_key(key);
    match base.get(&bytes)? {
        Some(value) => decode(key, &value).map(Some),
        None => Ok(None),
    }
}

fn decode<K: Key, V: Record>(key: &K, bytes: &[u8]) -> Result<V> {
    V::decode(bytes).map_err(|error| Error::undecodable(format_args!("record of {key:?}"), error))
}

fn advance<K: Key, V: Record>(
    scan: &mut Option<impl Iterator<Item = Result<(Vec<u8>, super::base::Value)>>>,
) -> Result<Option<(K, V)>> {
    let Some(entry) = scan.as_mut().and_then(Iterator::next) else {
        return Ok(None);
    };
    let (key, value) = entry?;
    let key = match key.split_first() {
        Some((&tag, rest)) if tag == K::TAG => K::decode(rest),
        Some((&tag, _)) => Err(DecodeError::invalid("tag", tag)),
        None => Err(DecodeError::Truncated("tag")),
    }
    .map_err(|error| Error::undecodable(format_args!("key {key:02x?}"), error))?;
    let value = decode(&key, &value)?;
    Ok(Some((key, value)))
}
