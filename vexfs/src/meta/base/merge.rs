// SPDX-License-Identifier: MIT OR Apache-2.0

//! Walking over entries: a [`Cursor`] over one sorted run, a [`Merge`] of several where newer hides older.

use std::collections::VecDeque;
use std::sync::Arc;

use super::data::{DataPage, Stored};
use super::page::Page;
use super::table::{READ_AHEAD, Table};
use super::value::Value;
use crate::error::Result;

/// Pages that a scan reads at once when it misses the cache and has just begun, and later.
const SCAN_AHEAD: [u32; 2] = [1, 8];

/// What is done with pages that are not cached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// They are cached.
    Scan,
    /// They are not: they will not be needed again. More of them are read at once.
    Once,
}

/// A position in a sorted run: on an entry, or at the end.
pub(super) struct Cursor {
    tables: Vec<Arc<Table>>,
    reading: Reading,
    table: usize,
    index: u32,
    /// The page of the entry; none at the end.
    page: Option<Arc<Page>>,
    ahead: VecDeque<Page>,
    slot: usize,
    slots: usize,
    prefix: usize,
    key: Vec<u8>,
    stored: Stored,
}

impl Cursor {
    /// At the first entry of these tables whose key is not less than `from`.
    pub(super) fn start(tables: &[Arc<Table>], from: &[u8], reading: Reading) -> Result<Self> {
        let skip = tables.partition_point(|table| *table.info.last < *from);
        let mut cursor = Self {
            tables: tables.get(skip..).unwrap_or(&[]).to_vec(),
            reading,
            table: 0,
            index: 0,
            page: None,
            ahead: VecDeque::new(),
            slot: 0,
            slots: 0,
            prefix: 0,
            key: Vec::new(),
            stored: Stored::Tombstone,
        };
        let Some(table) = cursor.tables.first() else {
            return Ok(cursor);
        };
        if *from <= *table.info.first {
            cursor.open_page(0)?;
            return Ok(cursor);
        }
        #[expect(clippy::cast_possible_truncation, reason = "one fence per data page")]
        let index = table.guide()?.fences.find(from).unwrap_or(0) as u32;
        cursor.open_page(index)?;
        if let (Some(page), Some(table)) = (&cursor.page, cursor.tables.first()) {
            let slot = DataPage::new(&page.bytes)
                .and_then(|page| page.lower_bound(from))
                .map_err(|what| table.damage(index, what))?;
            if slot >= cursor.slots {
                cursor.next_page()?;
            } else if slot > 0 {
                cursor.slot = slot;
                cursor.decode()?;
            }
        }
        Ok(cursor)
    }

    /// Whether there is an entry.
    pub(super) const fn is_live(&self) -> bool {
        self.page.is_some()
    }

    /// Key of the entry.
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The table of the entry, none at the end.
    pub(super) fn table(&self) -> Option<&Arc<Table>> {
        self.tables.get(self.table)
    }

    /// The tables behind which the cursor is completely.
    pub(super) fn passed(&self) -> &[Arc<Table>] {
        self.tables.get(..self.table).unwrap_or(&self.tables)
    }

    /// Whether the entry is the first of its table.
    pub(super) const fn at_table_start(&self) -> bool {
        self.is_live() && self.index == 0 && self.slot == 0
    }

    pub(super) const fn is_tombstone(&self) -> bool {
        matches!(self.stored, Stored::Tombstone)
    }

    /// The value of the entry, if it is in the page; saves [`Self::value`] from counting references.
    pub(super) fn inline(&self) -> Option<&[u8]> {
        match (&self.page, &self.stored) {
            (Some(page), Stored::Inline(range)) => page.bytes.get(range.clone()),
            _ => None,
        }
    }

    /// The value of the entry, none for a tombstone.
    pub(super) fn value(&self) -> Result<Option<Value>> {
        match (&self.page, self.table()) {
            (Some(page), Some(table)) => table.value(Arc::clone(page), self.index, &self.stored),
            _ => Ok(None),
        }
    }

    /// To the next entry.
    pub(super) fn advance(&mut self) -> Result<()> {
        self.slot += 1;
        if self.slot < self.slots {
            self.decode()
        } else {
            self.next_page()
        }
    }

    /// To the first entry of the next table.
    pub(super) fn skip_table(&mut self) -> Result<()> {
        self.ahead.clear();
        self.table += 1;
        self.page = None;
        if self.table < self.tables.len() {
            self.open_page(0)
        } else {
            Ok(())
        }
    }

    fn next_page(&mut self) -> Result<()> {
        match self.table() {
            Some(table) if self.index + 1 < table.info.data_pages => self.open_page(self.index + 1),
            _ => self.skip_table(),
        }
    }

    fn open_page(&mut self, index: u32) -> Result<()> {
        let mut index = index;
        loop {
            let Err(error) = self.try_page(index) else {
                return Ok(());
            };
            let Some(table) = self.table().filter(|table| table.excuses(&error)) else {
                return Err(error);
            };
            index += 1;
            if index >= table.info.data_pages {
                index = 0;
                self.ahead.clear();
                self.table += 1;
                if self.table >= self.tables.len() {
                    self.page = None;
                    return Ok(());
                }
            }
        }
    }

    fn try_page(&mut self, index: u32) -> Result<()> {
        let Some(table) = self.tables.get(self.table) else {
            return Ok(());
        };
        let page = match self.reading {
            Reading::Scan => table.page(index, SCAN_AHEAD[usize::from(self.page.is_some())])?,
            Reading::Once => {
                if self.ahead.is_empty() {
                    self.ahead.extend(table.load(table.guide()?, index, READ_AHEAD)?);
                }
                let page = self.ahead.pop_front();
                Arc::new(page.ok_or_else(|| table.damage(index, "beyond the table"))?)
            }
        };
        let data = DataPage::new(&page.bytes).map_err(|what| table.damage(index, what))?;
        self.slots = data.len();
        self.prefix = data.prefix().len();
        self.key.clear();
        self.key.extend_from_slice(data.prefix());
        self.index = index;
        self.slot = 0;
        self.page = Some(page);
        self.decode()
    }

    /// Takes the entry from the page.
    fn decode(&mut self) -> Result<()> {
        let (Some(page), Some(table)) = (&self.page, self.tables.get(self.table)) else {
            return Ok(());
        };
        let entry = DataPage::new(&page.bytes)
            .and_then(|page| page.entry(self.slot))
            .map_err(|what| table.damage(self.index, what))?;
        self.key.truncate(self.prefix);
        self.key.extend_from_slice(entry.rest);
        self.stored = entry.stored;
        Ok(())
    }
}

/// Several runs as one. Of entries with equal keys only that of the first source is seen.
pub(super) struct Merge {
    sources: Vec<Cursor>,
    /// The live sources, by key, then by age.
    order: Vec<usize>,
}

impl Merge {
    /// Newest first.
    pub(super) fn new(sources: Vec<Cursor>) -> Self {
        let mut order: Vec<usize> = (0..sources.len()).filter(|index| sources[*index].is_live()).collect();
        order.sort_by(|one, other| sources[*one].key().cmp(sources[*other].key()));
        Self { sources, order }
    }

    /// The source of the current entry, with its number.
    pub(super) fn top(&self) -> Option<(usize, &Cursor)> {
        let index = *self.order.first()?;
        Some((index, &self.sources[index]))
    }

    /// The key that comes from another source than the current one, next.
    pub(super) fn second_key(&self) -> Option<&[u8]> {
        Some(self.sources[*self.order.get(1)?].key())
    }

    /// The smallest key of sources before number `end`.
    pub(super) fn first_key_before(&self, end: usize) -> Option<&[u8]> {
        let index = *self.order.iter().find(|index| **index < end)?;
        Some(self.sources[index].key())
    }

    /// To the next key.
    pub(super) fn advance(&mut self) -> Result<()> {
        let Some(&top) = self.order.first() else { return Ok(()) };
        while let Some(&second) = self.order.get(1)
            && self.sources[second].key() == self.sources[top].key()
        {
            self.sources[second].advance()?;
            self.settle(1);
        }
        self.sources[top].advance()?;
        self.settle(0);
        Ok(())
    }

    /// Passes by the table of the current entry. No other source may have keys in it.
    pub(super) fn skip_table(&mut self) -> Result<()> {
        let Some(&top) = self.order.first() else { return Ok(()) };
        self.sources[top].skip_table()?;
        self.settle(0);
        Ok(())
    }

    /// The cursors, where they stand.
    pub(super) fn into_sources(self) -> Vec<Cursor> {
        self.sources
    }

    /// Puts the source at a place of the order, which moved on, where it belongs.
    fn settle(&mut self, mut at: usize) {
        let moved = self.order[at];
        if !self.sources[moved].is_live() {
            self.order.remove(at);
            return;
        }
        let key = self.sources[moved].key();
        while let Some(&next) = self.order.get(at + 1)
            && (self.sources[next].key(), next) < (key, moved)
        {
            self.order[at] = next;
            at += 1;
        }
        self.order[at] = moved;
    }
}
