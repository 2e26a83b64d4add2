// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading everything there is, from the pool and not from memory, and saying what is wrong.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::data::{DataPage, Stored};
use super::guide::Guide;
use super::page::Page;
use super::table::{READ_AHEAD, Table};
use super::{Base, manifest};
use crate::error::{Error, Result};
use crate::units::BLOCK_SHIFT;

/// A first key, and the one that follows the last.
pub type KeyRange = (Box<[u8]>, Box<[u8]>);

/// Something that is wrong with the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Issue {
    /// The manifest cannot be read again; what is in memory still is right.
    Manifest {
        /// Why.
        what: String,
    },
    /// The index and filter of a table: nothing in the table can be read.
    Guide {
        /// The table.
        table: u64,
        /// Why.
        what: String,
    },
    /// A data or blob page: the values in it cannot be read.
    Page {
        /// The table.
        table: u64,
        /// The page.
        page: u32,
        /// Of a data page: keys from the first up to the second may have been in it.
        keys: Option<KeyRange>,
        /// Why.
        what: String,
    },
    /// The filter denies a key that is there: reading it finds nothing.
    Filter {
        /// The table.
        table: u64,
        /// The page of the key.
        page: u32,
    },
    /// The manifest counts other entries than there are.
    Count {
        /// The table.
        table: u64,
        /// Entries and tombstones among them, as the manifest says.
        expected: (u64, u64),
        /// And as they are.
        found: (u64, u64),
    },
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest { what } => write!(f, "manifest: {what}"),
            Self::Guide { table, what } => write!(f, "guide of table {table}: {what}"),
            Self::Page { what, .. } => f.write_str(what),
            Self::Filter { table, page } => write!(f, "table {table}: the filter denies a key of page {page}"),
            Self::Count { table, expected, found } => write!(
                f,
                "table {table}: {} entries with {} tombstones instead of {} with {}",
                found.0, found.1, expected.0, expected.1
            ),
        }
    }
}

/// How far a check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pages read.
    pub done: u64,
    /// Pages to read.
    pub total: u64,
}

impl Base {
    /// Reads the manifest and every page of every table. The callback hears of the progress and may end the check. What
    /// cannot be read is told like what is wrong.
    pub fn verify_all(&self, mut progress: impl FnMut(Progress) -> ControlFlow<()>) -> Result<Vec<Issue>> {
        let version = self.version();
        let mut issues = Vec::new();
        let disk = &*self.0.env.disk;
        let stored = manifest::read_stream(disk, disk.size_bytes() >> BLOCK_SHIFT, &version.manifest.reference);
        issues.extend(damage(stored)?.err().map(|what| Issue::Manifest { what }));
        let mut at = Progress {
            done: 0,
            total: version.tables().map(|table| table.info.pages()).sum(),
        };
        for table in version.tables() {
            let mut check = TableCheck {
                table,
                issues: &mut issues,
                entries: 0,
                tombstones: 0,
                whole: true,
            };
            let flow = check.run(&mut |pages| {
                at.done += pages;
                progress(at)
            })?;
            if flow.is_break() {
                break;
            }
        }
        Ok(issues)
    }
}

/// Takes damage, and what the device cannot read, apart from other errors.
fn damage<T>(result: Result<T>) -> Result<std::result::Result<T, String>> {
    match result {
        Ok(fine) => Ok(Ok(fine)),
        Err(Error::Damaged(damage)) => Ok(Err(damage.to_string())),
        Err(Error::Io(failure)) => Ok(Err(failure.to_string())),
        Err(other) => Err(other),
    }
}

struct TableCheck<'a> {
    table: &'a Arc<Table>,
    issues: &'a mut Vec<Issue>,
    entries: u64,
    tombstones: u64,
    whole: bool,
}

impl TableCheck<'_> {
    fn run(&mut self, progress: &mut dyn FnMut(u64) -> ControlFlow<()>) -> Result<ControlFlow<()>> {
        let info = &self.table.info;
        let guide = match damage(self.table.read_guide())? {
            Ok(guide) => guide,
            Err(what) => {
                self.issues.push(Issue::Guide { table: info.id, what });
                return Ok(progress(info.pages()));
            }
        };
        let pages = info.data_pages + info.blob_pages;
        let mut index = 0;
        while index < pages {
            let count = self.pages(&guide, index)?;
            index += count;
            if progress(u64::from(count)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let (expected, found) = ((info.entries, info.tombstones), (self.entries, self.tombstones));
        if self.whole && expected != found {
            self.issues.push(Issue::Count {
                table: info.id,
                expected,
                found,
            });
        }
        Ok(progress(u64::from(info.guide_pages)))
    }

    /// Some pages from `index` on: many at once, or, if that finds damage, that one. Gives their number.
    fn pages(&mut self, guide: &Guide, index: u32) -> Result<u32> {
        let mut pages = damage(self.table.load(guide, index, READ_AHEAD))?;
        if pages.is_err() {
            pages = damage(self.table.load(guide, index, 1))?;
        }
        match pages {
            Ok(pages) => {
                let mut count = 0;
                for page in &pages {
                    self.page(guide, index + count, page);
                    count += 1;
                }
                Ok(count.max(1))
            }
            Err(what) => {
                self.whole = false;
                self.issues.push(Issue::Page {
                    table: self.table.info.id,
                    page: index,
                    keys: guide
                        .range(&self.table.info, index)
                        .map(|(from, to)| (from.into(), to.into())),
                    what,
                });
                Ok(1)
            }
        }
    }

    /// A page that is right in itself: does the rest of the table agree?
    fn page(&mut self, guide: &Guide, index: u32, page: &Page) {
        if index >= self.table.info.data_pages {
            return;
        }
        let Ok(data) = DataPage::new(&page.bytes) else { return };
        let mut key = data.prefix().to_vec();
        let mut denied = false;
        for entry in (0..data.len()).filter_map(|slot| data.entry(slot).ok()) {
            key.truncate(data.prefix().len());
            key.extend_from_slice(entry.rest);
            denied |= !Table::filter_knows(guide, &key);
            self.entries += 1;
            self.tombstones += u64::from(entry.stored == Stored::Tombstone);
        }
        if denied {
            self.issues.push(Issue::Filter {
                table: self.table.info.id,
                page: index,
            });
        }
    }
}
