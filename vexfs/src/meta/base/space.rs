// SPDX-License-Identifier: MIT OR Apache-2.0

//! Upper bounds of the blocks that a change takes, to be reserved before it begins.
//!
//! How a run is bounded. Let `P` be a page's payload and `E` the most an entry takes of a page. A data page ends when the
//! next entry does not fit: what both take, without the shared prefix, is more than `P`, so a page that is not the last of
//! its table holds more than `P − E` bytes of entries. A blob page that is not the last of its table holds `P`. A table
//! that is not the last of the run has `table_bytes` in finished data pages and blobs. The guide takes per table one
//! block of filter that may be nearly empty, per entry its bits, per data page a fence no longer than its first key,
//! per page a checksum.

use super::bloom::{BITS_PER_KEY, BLOOM_BLOCK};
use super::data::{BLOB_REFERENCE, ENTRY_OVERHEAD, MAX_FOOTPRINT};
use super::manifest::{RUN_BYTES, TABLE_FIXED};
use super::page::PAYLOAD;
use super::{Base, MAX_KEY, MAX_VALUE, Settings};
use crate::units::BLOCK_SIZE;

const PAGE: u64 = BLOCK_SIZE as u64;
const FILL: u64 = PAYLOAD as u64;
/// Lengths of a fence, in the guide.
const FENCE_OVERHEAD: u64 = 4;
const CRC: u64 = 4;

/// Bounds for one run.
struct RunBound {
    tables: u64,
    blocks: u64,
}

impl RunBound {
    fn new(settings: &Settings, entries: u64, key_bytes: u64, value_bytes: u64) -> Self {
        if entries == 0 {
            return Self { tables: 0, blocks: 0 };
        }
        let overhead = (ENTRY_OVERHEAD + BLOB_REFERENCE) as u64;
        let content = key_bytes
            .saturating_add(value_bytes)
            .saturating_add(entries.saturating_mul(overhead));
        let largest = content.min(MAX_FOOTPRINT as u64);
        let full_pages = content / (FILL - largest);
        let tables = full_pages.saturating_mul(PAGE) / settings.table_bytes.max(1) + 1;
        // Beside full ones, each table has one last data page and one last blob page.
        let pages = full_pages.saturating_add(2 * tables);
        let fences = pages.saturating_mul(MAX_KEY as u64).min(key_bytes);
        let guide = fences
            .saturating_add(pages.saturating_mul(FENCE_OVERHEAD + CRC))
            .saturating_add(entries.saturating_mul(BITS_PER_KEY as u64).div_ceil(8))
            .saturating_add(tables.saturating_mul(BLOOM_BLOCK as u64));
        Self {
            tables,
            blocks: pages.saturating_add(guide / FILL).saturating_add(tables),
        }
    }
}

/// Blocks of a manifest that has grown by so many tables and blocks (each in a run of its own).
fn manifest_blocks(bytes: u64, tables: u64, blocks: u64) -> u64 {
    bytes
        .saturating_add(tables.saturating_mul(TABLE_FIXED + 2 * MAX_KEY as u64))
        .saturating_add(blocks.saturating_mul(RUN_BYTES))
        .saturating_add(FIXED)
        .div_ceil(FILL)
}

/// Numbers, cursors and level heads of a manifest.
const FIXED: u64 = 64 + (MAX_KEY as u64 + 16) * (super::MAX_LEVELS as u64 + 1);

impl Base {
    /// The most blocks that [`super::Change::write_run`] takes for so many entries, with so many bytes in their keys and
    /// values.
    pub fn space_for_run(&self, entries: u64, key_bytes: u64, value_bytes: u64) -> u64 {
        RunBound::new(&self.0.env.settings, entries, key_bytes, value_bytes).blocks
    }

    /// The same for a whole checkpoint: one run, and the manifest.
    pub fn space_for_checkpoint(&self, entries: u64, key_bytes: u64, value_bytes: u64) -> u64 {
        let run = RunBound::new(&self.0.env.settings, entries, key_bytes, value_bytes);
        let manifest = manifest_blocks(self.manifest().bytes, run.tables, run.blocks);
        run.blocks.saturating_add(manifest)
    }

    /// The most blocks that a change with one [`super::Change::compact_step`] takes. With less, the step gets smaller; what
    /// it then needs depends on the tables it meets.
    pub fn space_for_step(&self) -> u64 {
        let settings = &self.0.env.settings;
        // A table made by the step: full with its last page, on top of it one value, and the guide.
        let data = settings.table_bytes / PAGE + 2;
        let blob = MAX_VALUE as u64 / FILL + 2;
        let guide = (data * GUIDE_PER_PAGE + blob * CRC + BLOOM_BLOCK as u64) / FILL + 1;
        let made = data + blob + guide;
        // What is left of two tables is copied: packed from another entry on, that takes no more pages, but each time it
        // is cut, it takes some that are not full.
        let largest = self
            .version()
            .tables()
            .map(|table| table.info.pages())
            .max()
            .unwrap_or(0)
            .max(made);
        let cuts = largest.saturating_mul(PAGE) / settings.table_bytes.max(1) + 1;
        let copied = largest.saturating_add(cuts.saturating_mul(4));
        let blocks = (settings.step_bytes() / PAGE)
            .saturating_add(made)
            .saturating_add(copied.saturating_mul(2));
        let tables = blocks / MIN_TABLE;
        blocks.saturating_add(manifest_blocks(self.manifest().bytes, tables, blocks))
    }
}

/// The least an entry takes, but for the first of a page: a slot, two lengths, one byte of key.
const MIN_ENTRY: u64 = ENTRY_OVERHEAD as u64 - 1;
/// A table has a data page and a guide.
const MIN_TABLE: u64 = 2;
/// The most of a guide for one data page: its fence, its checksum, bits for as many of the shortest entries as fit.
const GUIDE_PER_PAGE: u64 = MAX_KEY as u64 + FENCE_OVERHEAD + CRC + FILL / MIN_ENTRY * BITS_PER_KEY as u64 / 8 + 1;
