// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where new tables and manifests get their blocks from.

use crate::disk::Disk;
use crate::error::Result;
use crate::units::Run;

/// The allocator, as the base sees it.
pub trait BlockSource: Sync {
    /// Takes 1 to `want` contiguous free blocks, as many as there are together; [`Errno::NoSpace`] when there are none.
    ///
    /// [`Errno::NoSpace`]: crate::error::Errno::NoSpace
    fn take(&self, want: u32) -> Result<Run>;

    /// Gives back blocks that were taken and that no committed manifest ever mentioned: they can be reused at once.
    fn give_back(&self, run: Run);
}

/// Blocks just taken. Dropped, they go back.
pub(super) struct NewBlocks<'s> {
    source: &'s dyn BlockSource,
    runs: Vec<Run>,
}

impl<'s> NewBlocks<'s> {
    /// Takes so many, or none at all.
    pub(super) fn take(source: &'s dyn BlockSource, count: u64) -> Result<Self> {
        let mut taken = Self {
            source,
            runs: Vec::new(),
        };
        let mut missing = count;
        while missing > 0 {
            let run = source.take(u32::try_from(missing).unwrap_or(u32::MAX))?;
            missing = missing.saturating_sub(u64::from(run.count));
            match taken.runs.last_mut() {
                Some(last) if last.end() == run.start && last.count.checked_add(run.count).is_some() => {
                    last.count += run.count;
                }
                _ => taken.runs.push(run),
            }
        }
        Ok(taken)
    }

    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Fills the blocks with as many bytes, one write per run.
    pub(super) fn write(&self, disk: &dyn Disk, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        for run in &self.runs {
            let bytes = usize::try_from(run.bytes()).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(bytes.min(rest.len()));
            disk.write(run.start.byte_at(), now)?;
            rest = later;
        }
        Ok(())
    }

    /// Somebody else owns them now.
    pub(super) fn keep(mut self) -> Vec<Run> {
        std::mem::take(&mut self.runs)
    }
}

impl Drop for NewBlocks<'_> {
    fn drop(&mut self) {
        for run in &self.runs {
            self.source.give_back(*run);
        }
    }
}
