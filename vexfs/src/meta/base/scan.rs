// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading a range of keys in order.

use std::sync::Arc;

use super::merge::{Cursor, Merge, Reading};
use super::value::Value;
use super::version::Version;
use crate::error::{Error, Result};

/// The entries of a range of keys, as they were when the scan began. Blocks of that state stay in use while it lives.
///
/// As an iterator it copies each key; [`Scan::next_entry`] does not.
pub struct Scan {
    merge: Merge,
    to: Box<[u8]>,
    begun: bool,
    over: bool,
    /// Keeps the state, so that its blocks are not reported as free.
    _version: Arc<Version>,
}

impl Scan {
    pub(super) fn new(version: Arc<Version>, from: &[u8], to: &[u8]) -> Result<Self> {
        let mut sources = Vec::new();
        let over = from >= to;
        if !over {
            for (run, floor) in version.runs() {
                // Only tables that begin below the end can matter.
                let end = run.tables().partition_point(|table| *table.info.first < *to);
                let cursor = Cursor::start(run.tables().get(..end).unwrap_or(&[]), from.max(floor), Reading::Scan)?;
                if cursor.is_live() {
                    sources.push(cursor);
                }
            }
        }
        Ok(Self {
            merge: Merge::new(sources),
            to: to.into(),
            begun: false,
            over,
            _version: version,
        })
    }

    /// The next entry. After an error the scan is over.
    pub fn next_entry(&mut self) -> Result<Option<(&[u8], Value)>> {
        match self.step() {
            Ok(Some(value)) => Ok(self.merge.top().map(|(_, cursor)| (cursor.key(), value))),
            Ok(None) => {
                self.over = true;
                Ok(None)
            }
            Err(error) => {
                self.over = true;
                Err(error)
            }
        }
    }

    /// The next entry, with its value unless that cannot be read.
    pub fn next_readable(&mut self) -> Result<Option<(&[u8], Option<Value>)>> {
        let found = self.seek();
        if !matches!(found, Ok(true)) {
            self.over = true;
        }
        if !found? {
            return Ok(None);
        }
        let Some((_, cursor)) = self.merge.top() else {
            return Ok(None);
        };
        match cursor.value() {
            Ok(value) => Ok(Some((cursor.key(), value))),
            Err(Error::Damaged(_) | Error::Io(_)) => Ok(Some((cursor.key(), None))),
            Err(error) => Err(error),
        }
    }

    fn step(&mut self) -> Result<Option<Value>> {
        if self.seek()?
            && let Some((_, cursor)) = self.merge.top()
        {
            return cursor.value();
        }
        Ok(None)
    }

    /// To the next entry that is not a tombstone; false at the end.
    fn seek(&mut self) -> Result<bool> {
        while !self.over {
            if self.begun {
                self.merge.advance()?;
            }
            self.begun = true;
            let Some((_, cursor)) = self.merge.top().filter(|(_, cursor)| *cursor.key() < *self.to) else {
                break;
            };
            if !cursor.is_tombstone() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry()
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value)))
            .transpose()
    }
}
