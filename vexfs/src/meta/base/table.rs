// SPDX-License-Identifier: MIT OR Apache-2.0

//! One immutable sorted table.
//!
//! Its pages are numbered: data pages first, then blob pages, then the guide's; page `i` lies in the `i`-th block of the
//! table's runs, taken in order. The blob pages' payloads form one stream; large values lie in it without gaps.
//!
//! The guide is read on first use and stays in memory while the table lives (about 1.3 bytes per key plus some 50 bytes per
//! page). A data page that is in memory was checked completely when it was read (see [`Guide::check`]), so what is found in
//! it needs no further doubt.

use std::sync::{Arc, OnceLock};

use super::bloom;
use super::cache::Slot;
use super::data::{DataPage, Stored};
use super::guide::{Guide, Rebuilt};
use super::manifest::TableInfo;
use super::page::{self, HEADER, Kind, PAYLOAD, Page};
use super::value::Value;
use super::{Env, TABLE_PAGES};
use crate::checksum::Crc;
use crate::error::{Damage, Error, Result};
use crate::units::{BLOCK_SHIFT, BLOCK_SIZE, Block};

/// Pages read at once where they will be needed in order.
pub(super) const READ_AHEAD: u32 = 32;

pub(super) struct Table {
    pub(super) info: TableInfo,
    /// Of each run, the index of its first page.
    starts: Vec<u32>,
    guide: OnceLock<Guide>,
    env: Arc<Env>,
}

/// What a table knows about a key.
pub(super) enum Found {
    Value(Value),
    Tombstone,
}

impl Table {
    pub(super) fn new(info: TableInfo, env: Arc<Env>) -> Self {
        let mut starts = Vec::with_capacity(info.runs.len());
        let mut next = 0_u32;
        for run in &info.runs {
            starts.push(next);
            next = next.saturating_add(run.count);
        }
        Self {
            info,
            starts,
            guide: OnceLock::new(),
            env,
        }
    }

    /// Size in the pool.
    pub(super) fn bytes(&self) -> u64 {
        self.info.pages() << BLOCK_SHIFT
    }

    /// Bytes of memory of the guide, if it was read.
    pub(super) fn guide_memory(&self) -> usize {
        self.guide.get().map_or(0, Guide::memory)
    }

    /// An error about a page of this table.
    pub(super) fn damage(&self, index: u32, what: impl std::fmt::Display) -> Error {
        let place = match self.block_of(index) {
            Some((block, _)) => format!("table {}, page {index} ({block})", self.info.id),
            None => format!("table {}, page {index}", self.info.id),
        };
        Damage::new(place, what)
    }

    /// Where a page lies, and how many of the table's pages follow each other from there.
    pub(super) fn block_of(&self, index: u32) -> Option<(Block, u32)> {
        let at = self.starts.partition_point(|start| *start <= index).checked_sub(1)?;
        let (run, start) = (self.info.runs.get(at)?, self.starts.get(at)?);
        let inside = index - start;
        (inside < run.count).then(|| (run.start.plus(u64::from(inside)), run.count - inside))
    }

    /// Reads up to `limit` pages of one kind from `index` on, at least one; as many as one read can get. Gives their
    /// checksums too; they are right, and so are kind and identity, nothing else is.
    fn read(&self, index: u32, limit: u32, kind: Kind) -> Result<Vec<(Page, Crc)>> {
        let (block, together) = self
            .block_of(index)
            .ok_or_else(|| self.damage(index, "beyond the table"))?;
        let count = together.min(limit).max(1);
        let mut bytes = vec![0; count as usize * BLOCK_SIZE];
        self.env.disk.read(block.byte_at(), &mut bytes)?;
        let mut pages = Vec::with_capacity(count as usize);
        for (index, bytes) in (index..).zip(bytes.as_chunks().0) {
            let crc = page::check(bytes, kind, self.info.id, index).map_err(|what| self.damage(index, what))?;
            pages.push((Page::new(bytes), crc));
        }
        Ok(pages)
    }

    /// The guide, read now if it was not yet.
    pub(super) fn guide(&self) -> Result<&Guide> {
        if let Some(guide) = self.guide.get() {
            return Ok(guide);
        }
        let guide = match self.read_guide() {
            Err(error) if self.excuses(&error) => self.rebuild_guide(),
            other => other?,
        };
        Ok(self.guide.get_or_init(|| guide))
    }

    /// Whether an error is passed by, because what can be read is wanted all the same.
    pub(super) fn excuses(&self, error: &Error) -> bool {
        self.env.settings.tolerant && matches!(error, Error::Damaged(_) | Error::Io(_))
    }

    /// A guide from what the pages say themselves, for a table that lost its own.
    fn rebuild_guide(&self) -> Guide {
        let mut rebuilt = Rebuilt::default();
        for index in 0..self
            .info
            .data_pages
            .saturating_add(self.info.blob_pages)
            .min(TABLE_PAGES)
        {
            let kind = if index < self.info.data_pages {
                Kind::Data
            } else {
                Kind::Blob
            };
            let page = self.read(index, 1, kind).ok().and_then(|mut pages| pages.pop());
            rebuilt.add(kind, page.as_ref().map(|(page, crc)| (&page.bytes, *crc)));
        }
        rebuilt.finish(&self.info)
    }

    /// The guide as it is in the pool now.
    pub(super) fn read_guide(&self) -> Result<Guide> {
        let first = self.info.data_pages.saturating_add(self.info.blob_pages);
        let mut stream = Vec::new();
        let mut done = 0;
        while done < self.info.guide_pages.min(TABLE_PAGES) {
            let pages = self.read(first + done, READ_AHEAD.min(self.info.guide_pages - done), Kind::Guide)?;
            for (page, _) in &pages {
                stream.extend_from_slice(&page.bytes[HEADER..]);
                done += 1;
            }
        }
        let stream = usize::try_from(self.info.guide_bytes)
            .ok()
            .and_then(|bytes| stream.get(..bytes))
            .filter(|stream| Crc::of(stream) == self.info.guide_crc)
            .ok_or_else(|| self.damage(first, "not the guide that was written last"))?;
        Guide::decode(stream, &self.info).map_err(|what| self.damage(first, what))
    }

    /// Where a data or blob page is cached; none before the guide was read.
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        self.guide.get()?.slot(index)
    }

    /// Reads and checks data pages, or blob pages, past the cache: as [`Self::read`].
    pub(super) fn load(&self, guide: &Guide, index: u32, limit: u32) -> Result<Vec<Page>> {
        match self.load_all(guide, index, limit) {
            // One of the later pages may be the one that fails.
            Err(error) if limit > 1 && self.excuses(&error) => self.load_all(guide, index, 1),
            other => other,
        }
    }

    fn load_all(&self, guide: &Guide, index: u32, limit: u32) -> Result<Vec<Page>> {
        let (kind, end) = if index < self.info.data_pages {
            (Kind::Data, self.info.data_pages)
        } else {
            (Kind::Blob, self.info.data_pages + self.info.blob_pages)
        };
        let pages = self.read(index, limit.min(end.saturating_sub(index)), kind)?;
        let mut checked = Vec::with_capacity(pages.len());
        for (index, (page, crc)) in (index..).zip(pages) {
            guide
                .check(&self.info, index, crc, &page.bytes)
                .map_err(|what| self.damage(index, what))?;
            checked.push(page);
        }
        Ok(checked)
    }

    /// A data or blob page through the cache; on a miss, up to `ahead` pages are read.
    pub(super) fn page(self: &Arc<Self>, index: u32, ahead: u32) -> Result<Arc<Page>> {
        let guide = self.guide()?;
        let slot = guide
            .slot(index)
            .ok_or_else(|| self.damage(index, "beyond the table"))?;
        if let Some(page) = &*slot.read() {
            page.touch();
            self.env.cache.hits.increment();
            return Ok(Arc::clone(page));
        }
        self.env.cache.misses.increment();
        let mut asked = None;
        for (index, page) in (index..).zip(self.load(guide, index, ahead)?) {
            let page = Arc::new(page);
            let filled = guide.slot(index).is_some_and(|slot| {
                let mut slot = slot.write();
                slot.is_none() && slot.replace(Arc::clone(&page)).is_none()
            });
            if filled {
                self.env.cache.admit(self, index);
            }
            asked.get_or_insert(page);
        }
        asked.ok_or_else(|| self.damage(index, "beyond the table"))
    }

    /// What the table knows about a key with this hash; none: nothing.
    pub(super) fn get(self: &Arc<Self>, key: &[u8], hash: u64) -> Result<Option<Found>> {
        let guide = self.guide()?;
        if !guide.bloom.may_hold(hash) && !self.env.settings.tolerant {
            return Ok(None);
        }
        let Some(index) = guide.fences.find(key) else {
            return Ok(None);
        };
        #[expect(clippy::cast_possible_truncation, reason = "one fence per data page")]
        let index = index as u32;
        let page = match self.page(index, 1) {
            Err(error) if self.excuses(&error) => return Ok(None),
            other => other?,
        };
        let stored = DataPage::new(&page.bytes)
            .and_then(|page| page.find(key))
            .map_err(|what| self.damage(index, what))?;
        match stored {
            None => Ok(None),
            Some(Stored::Tombstone) => Ok(Some(Found::Tombstone)),
            Some(stored) => self.value(page, index, &stored).map(|value| value.map(Found::Value)),
        }
    }

    /// The value of an entry of a data page; none for a tombstone.
    pub(super) fn value(self: &Arc<Self>, page: Arc<Page>, index: u32, stored: &Stored) -> Result<Option<Value>> {
        match stored {
            Stored::Tombstone => Ok(None),
            Stored::Inline(range) => Value::of_page(page, range.start, range.len())
                .map(Some)
                .ok_or_else(|| self.damage(index, "a value reaches beyond the page")),
            Stored::Blob { at, bytes } => self.blob(*at as usize, *bytes as usize).map(Some),
        }
    }

    fn blob(self: &Arc<Self>, at: usize, bytes: usize) -> Result<Value> {
        let pages = (at % PAYLOAD + bytes).div_ceil(PAYLOAD);
        #[expect(clippy::cast_possible_truncation, reason = "an offset below 2^32, in pages")]
        let (first, pages) = (self.info.data_pages.saturating_add((at / PAYLOAD) as u32), pages as u32);
        let start = HEADER + at % PAYLOAD;
        if pages <= 1 {
            let page = self.page(first, 1)?;
            return Value::of_page(page, start, bytes).ok_or_else(|| self.damage(first, "a value beyond the page"));
        }
        let mut value = Vec::with_capacity(bytes);
        let mut from = start;
        for index in first..first + pages {
            let page = self.page(index, first + pages - index)?;
            let part = &page.bytes[from..];
            value.extend_from_slice(&part[..part.len().min(bytes - value.len())]);
            from = HEADER;
        }
        Ok(Value::own(value))
    }

    /// Whether the filter knows the key; for checks.
    pub(super) fn filter_knows(guide: &Guide, key: &[u8]) -> bool {
        guide.bloom.may_hold(bloom::hash(key))
    }
}
