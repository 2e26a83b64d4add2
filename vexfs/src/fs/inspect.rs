// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a scrub asks of an open pool: some records at a time, so that nobody waits long for the lock.

use std::sync::Arc;

use crate::data::row::Row;
use crate::disk::Disk;
use crate::error::Result;
use crate::meta::base::Base;
use crate::units::Ino;

use super::engine::Fs;
use super::record::RowKey;

impl Fs {
    /// The bytes of the pool.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.shared.disk
    }

    /// The tables.
    pub(crate) fn base(&self) -> Base {
        self.core().state.base.clone()
    }

    /// Some rows of the maps of all files, from one on.
    pub(crate) fn rows_from(&self, from: RowKey, limit: usize) -> Result<Vec<(RowKey, Row)>> {
        let end = RowKey {
            ino: Ino(u64::MAX),
            chunk: u64::MAX,
        };
        let core = self.core();
        core.state.tables.rows.scan(&core.state.base, &from, &end, limit)
    }

    /// One row.
    pub(crate) fn row_now(&self, key: RowKey) -> Result<Option<Row>> {
        Ok(self.core().state.row(key.ino, key.chunk)?.cloned())
    }
}
