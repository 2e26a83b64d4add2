// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making tables: entries in key order go in, tables of about the wanted size come out, written and owned.
//!
//! A table is made in memory and written when it is complete, so its blocks are taken at once, in as few runs as the pool
//! can give, and written with as few requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::data::{PageBuilder, Payload};
use super::guide::FenceWriter;
use super::manifest::TableInfo;
use super::page::{self, Kind};
use super::table::Table;
use super::{BlockSource, Env, MAX_INLINE, MAX_KEY, MAX_VALUE, NewBlocks, bloom};
use crate::checksum::Crc;
use crate::error::{Damage, Errno, Result};
use crate::units::BLOCK_SIZE;

/// Tables that no installed version knows. Dropped, they give their blocks back.
pub(super) struct NewTables<'s> {
    source: &'s dyn BlockSource,
    tables: Vec<Arc<Table>>,
}

impl<'s> NewTables<'s> {
    pub(super) const fn new(source: &'s dyn BlockSource) -> Self {
        Self {
            source,
            tables: Vec::new(),
        }
    }

    pub(super) fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// Takes over what another one holds.
    pub(super) fn absorb(&mut self, mut other: Self) {
        self.tables.append(&mut other.tables);
    }

    /// Gives back the blocks of tables that nobody wants any more.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&Table) -> bool) {
        let source = self.source;
        self.tables.retain(|table| {
            let keep = wanted(table);
            if !keep {
                table.info.runs.iter().for_each(|run| source.give_back(*run));
            }
            keep
        });
    }

    /// They are part of an installed version now.
    pub(super) fn keep(mut self) {
        self.tables.clear();
    }
}

impl Drop for NewTables<'_> {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

/// Makes tables from a sequence of entries.
pub(super) struct RunWriter<'s> {
    env: Arc<Env>,
    source: &'s dyn BlockSource,
    table_bytes: u64,
    current: TableBuilder,
    done: NewTables<'s>,
}

impl<'s> RunWriter<'s> {
    pub(super) fn new(env: &Arc<Env>, source: &'s dyn BlockSource, table_bytes: u64) -> Self {
        Self {
            env: Arc::clone(env),
            source,
            table_bytes,
            current: TableBuilder::default(),
            done: NewTables::new(source),
        }
    }

    /// Adds an entry; without a value it is a tombstone. Keys must ascend.
    pub(super) fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if key.len() > MAX_KEY || value.is_some_and(|value| value.len() > MAX_VALUE) {
            return Err(Errno::Invalid.into());
        }
        if self.is_full() {
            self.cut()?;
        }
        if self.current.entries > 0 && *self.current.last >= *key {
            return Err(Damage::new("entries of a new table", "keys out of order"));
        }
        if self.current.entries == 0 {
            self.current.id = self.env.next_table.fetch_add(1, Ordering::Relaxed);
        }
        self.current.add(key, value);
        Ok(())
    }

    /// Whether the table under construction has its size.
    pub(super) fn is_full(&self) -> bool {
        self.current.bytes() >= self.table_bytes
    }

    /// Whether the next entry begins a table.
    pub(super) const fn is_cut(&self) -> bool {
        self.current.entries == 0
    }

    /// Bytes of finished tables.
    pub(super) fn written(&self) -> u64 {
        self.done.tables.iter().map(|table| table.bytes()).sum()
    }

    /// Ends the table under construction, so that the next entry begins another.
    pub(super) fn cut(&mut self) -> Result<()> {
        if !self.is_cut() {
            let table = self.current.finish(&self.env, self.source)?;
            self.done.tables.push(table);
        }
        Ok(())
    }

    /// All tables made.
    pub(super) fn finish(mut self) -> Result<NewTables<'s>> {
        self.cut()?;
        Ok(self.done)
    }
}

/// A table under construction.
#[derive(Default)]
struct TableBuilder {
    id: u64,
    /// Finished data pages.
    pages: Vec<u8>,
    page: PageBuilder,
    blob: Vec<u8>,
    fences: FenceWriter,
    crcs: Vec<Crc>,
    hashes: Vec<u64>,
    first: Vec<u8>,
    last: Vec<u8>,
    entries: u64,
    tombstones: u64,
}

impl TableBuilder {
    fn bytes(&self) -> u64 {
        (self.pages.len() + self.blob.len()) as u64
    }

    fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        let payload = match value {
            None => Payload::Tombstone,
            Some(value) if value.len() <= MAX_INLINE => Payload::Inline(value),
            #[expect(clippy::cast_possible_truncation, reason = "the size of a table is limited")]
            Some(value) => Payload::Blob {
                at: self.blob.len() as u32,
                bytes: value.len() as u32,
            },
        };
        if !self.page.push(key, payload) {
            self.end_page();
            let pushed = self.page.push(key, payload);
            debug_assert!(pushed, "an empty page has room for any entry");
            self.fences.push(&self.last, key);
        }
        if let (Payload::Blob { .. }, Some(value)) = (payload, value) {
            self.blob.extend_from_slice(value);
        }
        if self.entries == 0 {
            self.first.extend_from_slice(key);
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.hashes.push(bloom::hash(key));
        self.entries += 1;
        self.tombstones += u64::from(value.is_none());
    }

    fn end_page(&mut self) {
        let index = page_index(&self.pages);
        self.crcs.push(self.page.finish(self.id, index, &mut self.pages));
    }

    /// Writes the table and starts over, with the same memory.
    fn finish(&mut self, env: &Arc<Env>, source: &dyn BlockSource) -> Result<Arc<Table>> {
        if !self.page.is_empty() {
            self.end_page();
        }
        let data_pages = page_index(&self.pages);
        let blob = page::seal_stream(&self.blob, Kind::Blob, self.id, data_pages, &mut self.pages);
        self.crcs.extend(blob);
        let blob_end = page_index(&self.pages);
        let guide = std::mem::take(&mut self.fences).finish(&self.crcs, &self.hashes);
        page::seal_stream(&guide, Kind::Guide, self.id, blob_end, &mut self.pages);
        let end = page_index(&self.pages);

        let taken = NewBlocks::take(source, u64::from(end))?;
        taken.write(&*env.disk, &self.pages)?;
        let info = TableInfo {
            id: self.id,
            data_pages,
            blob_pages: blob_end - data_pages,
            guide_pages: end - blob_end,
            guide_bytes: guide.len() as u64,
            guide_crc: Crc::of(&guide),
            entries: self.entries,
            tombstones: self.tombstones,
            first: self.first.as_slice().into(),
            last: self.last.as_slice().into(),
            runs: taken.keep(),
        };
        self.pages.clear();
        self.blob.clear();
        self.crcs.clear();
        self.hashes.clear();
        self.first.clear();
        self.last.clear();
        (self.entries, self.tombstones) = (0, 0);
        Ok(Arc::new(Table::new(info, Arc::clone(env))))
    }
}

/// Index of the page that comes after these.
#[expect(clippy::cast_possible_truncation, reason = "the size of a table is limited")]
const fn page_index(pages: &[u8]) -> u32 {
    (pages.len() / BLOCK_SIZE) as u32
}
