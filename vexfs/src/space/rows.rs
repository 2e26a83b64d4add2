// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rows of the `committed` bitmap on their way from and to the metadata. Their layout is in the documentation of
//! [`super`].
//!
//! A checkpoint freezes the rows that changed since the last one, while operations wait, and writes them afterwards.

use super::allocate::narrow;
use super::bitmap::{GROUP_BLOCKS, ROW_BYTES, Row};
use super::{Result, Space, SpaceError, block, place};

/// What a checkpoint has to write for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenRow {
    /// The group, key of the row.
    pub group: u64,
    /// The row; `None` where it must be absent.
    pub bytes: Option<Box<[u8; ROW_BYTES]>>,
}

impl Space {
    /// Takes over one row when mounting, before the journal is replayed. The row may say anything.
    pub fn load_row(&mut self, group: u64, bytes: &[u8]) -> Result<()> {
        let row: &[u8; ROW_BYTES] = bytes.try_into().map_err(|_| SpaceError::RowSize {
            group,
            bytes: bytes.len(),
        })?;
        let index = usize::try_from(group).map_err(|_| SpaceError::RowOutside(group))?;
        let (last, last_end) = place(self.blocks);
        let end = if index == last { last_end } else { GROUP_BLOCKS };
        let state = self.groups.get_mut(index).ok_or(SpaceError::RowOutside(group))?;

        let committed = Row::from_bytes(row);
        if let Some(bit) = committed.first_set(end..GROUP_BLOCKS) {
            return Err(SpaceError::RowBeyondEnd {
                group,
                block: block(index, bit),
            });
        }
        if state.busy.first_set(0..end).is_some() {
            return Err(SpaceError::RowTwice(group));
        }
        let mut busy = Row::from_bytes(row);
        if end < GROUP_BLOCKS {
            busy.set(end..GROUP_BLOCKS);
        }
        let count = u64::from(committed.ones());
        self.bounds.lower(index, narrow(busy.longest_clear()));
        *state = super::Group { busy, committed };
        self.free -= count;
        self.committed += count;
        if count > 0 {
            self.touched = self
                .touched
                .max((group * u64::from(GROUP_BLOCKS) + u64::from(end)).min(self.blocks));
        }
        Ok(())
    }

    /// The rows that changed since they were loaded or frozen, by group. They count as written from now on.
    pub fn freeze_dirty_rows(&mut self) -> Vec<FrozenRow> {
        let mut rows = Vec::new();
        self.dirty_count = 0;
        for (index, word) in self.dirty.iter_mut().enumerate() {
            while *word != 0 {
                let group = index * 64 + word.trailing_zeros() as usize;
                *word &= *word - 1;
                rows.push(FrozenRow {
                    group: group as u64,
                    bytes: self.groups[group].committed.to_bytes(),
                });
            }
        }
        rows
    }

    pub(super) fn mark_dirty(&mut self, group: usize) {
        let (word, bit) = (&mut self.dirty[group / 64], 1 << (group % 64));
        self.dirty_count += u64::from(*word & bit == 0);
        *word |= bit;
    }
}
