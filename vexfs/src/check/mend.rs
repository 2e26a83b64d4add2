// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writing what was mended.
//!
//! 1. Changed records become a new run of tables; if a table is damaged, everything that can be read becomes new tables
//!    instead. They go into blocks that neither a file nor the old tables use.
//! 2. One sync; then a superblock that names them, and the journal's end as its tail. This is the moment it counts.
//! 3. If places of the superblock were damaged, all are written anew.
//!
//! The superblock begins a new epoch, so that nothing the journal still holds can be taken for part of what comes.

use parking_lot::Mutex;

use super::records::Records;
use crate::error::{Damage, Errno, Error, Result};
use crate::fs::record::{BitmapRow, GroupKey};
use crate::meta::base::BlockSource;
use crate::pool::{Pool, Tail};
use crate::space::Space;
use crate::units::{BLOCK_SIZE, Run};

use super::records::Item;

/// Gives new tables their blocks.
struct Free(Mutex<Space>);

impl BlockSource for Free {
    fn take(&self, want: u32) -> Result<Run> {
        self.0
            .lock()
            .take_system(None, want)
            .ok_or(Error::Posix(Errno::NoSpace))
    }

    fn give_back(&self, run: Run) {
        self.0.lock().release_system(run);
    }
}

/// Makes the records those of the pool.
pub(super) fn write(pool: &mut Pool, records: &Records, end: Tail, rewrite: bool) -> Result<()> {
    let superblock = pool.superblock();
    let mut space = Space::new(superblock.total_blocks)?;
    let mut rows = records.all::<GroupKey, BitmapRow>()?;
    while let Some(item) = rows.next()? {
        let Item::Good(key, row) = item else {
            return Err(Damage::new("bitmap", "not mended"));
        };
        space.load_row(key.group, row.0.as_slice())?;
    }
    for run in superblock.fixed_runs().into_iter().chain(records.base.blocks_in_use()) {
        space.claim_system(run)?;
    }
    space.finish_replay();
    let source = Free(Mutex::new(space));
    let mut change = records.base.begin(&source)?;
    if rewrite {
        change.start_over();
        let mut stream = records.everything()?;
        let mut failed = Ok(());
        let entries = std::iter::from_fn(|| match stream.next() {
            Ok(record) => record,
            Err(error) => {
                failed = Err(error);
                None
            }
        });
        change.write_run(entries.filter(|(_, value)| value.is_some()))?;
        failed?;
    } else {
        change.write_run(records.changes.iter().map(|(key, value)| (key, value.as_ref())))?;
    }
    let prepared = change.prepare()?;
    let manifest = prepared.manifest();
    pool.disk().sync()?;
    let now = (pool.host().now)();
    let host = pool.host().clone();
    let epoch = pool.next_epoch();
    let committed = pool.commit(|superblock| {
        superblock.begin_epoch(&host, epoch, end.position, end.seq);
        superblock.manifest = manifest;
        superblock.tail = end;
        superblock.needs_check = false;
        superblock.error_count = 0;
        superblock.last_checked = now;
        superblock.leave_clean();
    });
    if let Err(error) = committed {
        // Which version counts is unknown: neither one's blocks may be used again.
        std::mem::forget(prepared);
        return Err(error);
    }
    // The blocks of the old tables are free from the next mount on, which finds them used by nobody.
    drop(records.base.install(prepared));
    let whole = crate::pool::Survey::of(pool.disk().as_ref()).damaged().next().is_none();
    if !whole {
        pool.rewrite_superblocks()?;
    }
    tracing::info!(
        bytes = source.0.lock().system_blocks() * BLOCK_SIZE as u64,
        "mended metadata written"
    );
    Ok(())
}
