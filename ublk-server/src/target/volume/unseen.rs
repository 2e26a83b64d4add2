// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests whose bytes go between the application's own pages and the pool, and nobody sees them: only for files without
//! checksums and compression.
//!
//! Holes are read from `/dev/zero`, by an operation like the others: nothing else can reach these pages. Somebody may give
//! the file checksums while it is served; from then on such requests fail.

use std::ops::Range;

use io_uring::types;
use vexfs::error::{Error, IoFailure};
use vexfs::fs::record::FileFlags;
use vexfs::fs::{Fs, Patience, Source, Until};
use vexfs::units::{BLOCK_SIZE, FileBlock, Ino};

use super::{Io, Volume, now};
use crate::metrics::Stage;
use crate::payload::{Registered, Span};
use crate::ring::Transfer;
use crate::target::FIRST_FILE;
use crate::target::blocks::ATTEMPTS;

/// `/dev/zero` among the registered files.
const ZEROS: types::Fixed = types::Fixed(FIRST_FILE.0 + 1);

/// Blocks looked at together.
const PIECE: u64 = 1 << 18;

/// Whether nobody has to look at the bytes of a file of this size: now and, as far as its flags say, later.
pub(super) fn can_stay_unseen(fs: &Fs, ino: Ino, flags: FileFlags, size: u64) -> Result<bool, Error> {
    if !flags.has(FileFlags::NO_CHECKSUM) || flags.has(FileFlags::COMPRESS) {
        return Ok(false);
    }
    let blocks = size / BLOCK_SIZE as u64;
    let mut at = 0;
    while at < blocks {
        let count = PIECE.min(blocks - at);
        // What was written before it had the flags.
        let is_plain = |source: &Source| matches!(source, Source::Hole | Source::Promised | Source::Blocks(_, None));
        if !fs
            .extents(ino, FileBlock(at), count)?
            .iter()
            .all(|extent| is_plain(&extent.source))
        {
            return Ok(false);
        }
        at += count;
    }
    Ok(true)
}

impl Volume {
    pub(super) async fn read_unseen(&self, io: &Io<'_>, offset: u64, into: Registered) -> Result<(), Error> {
        let fs = self.blocks.fs();
        let length = into.len();
        for _ in 0..ATTEMPTS {
            let plan = async { fs.plan_read(self.ino, offset, length, Until::End) };
            let plan = io.stage(Stage::Plan, plan).await?;
            if plan.length() != length {
                // Somebody cut the file short.
                return Err(vexfs::error::Errno::NoSuchRange.into());
            }
            let places = plan.placements().ok_or(vexfs::error::Errno::NotSupported)?;
            let transfers = places.map(|place| {
                let part = part(into, &place.range);
                match place.at {
                    Some(at) => Transfer::read(FIRST_FILE, at, part),
                    None => Transfer::read(ZEROS, 0, part),
                }
            });
            // SAFETY: the pages stay registered until the request was answered.
            let fetching = unsafe { io.ring.transfer_all(transfers) };
            let fetched = io.stage(Stage::Transfer, fetching).await;
            let fetched = fetched.map_err(|errno| IoFailure::new("read of a volume's blocks", errno.into()));
            let finish = async { fs.finish_unseen_read(&plan, fetched) };
            if io.stage(Stage::Commit, finish).await? {
                return Ok(());
            }
        }
        Err(vexfs::error::Errno::Busy.into())
    }

    pub(super) async fn write_unseen(&self, io: &Io<'_>, offset: u64, from: Registered) -> Result<(), Error> {
        let fs = self.blocks.fs();
        let mut done = 0;
        while done < from.len() {
            let (at, rest) = (offset + done as u64, from.len() - done);
            let plan = io.stage(Stage::Plan, async {
                fs.plan_write_unseen(self.ino, at, rest, now(), Patience::Refuse)
            });
            let plan = match plan.await {
                Err(Error::Posix(vexfs::error::Errno::WouldWait)) => {
                    let (fs, ino) = (fs.clone(), self.ino);
                    let patiently = move || fs.plan_write_unseen(ino, at, rest, now(), Patience::Wait);
                    self.blocks.help(io, patiently).await??
                }
                plan => plan?,
            };
            if let Err(error) = self.blocks.check_owned(io).await {
                fs.abandon_write(plan);
                return Err(error);
            }
            let transfers = plan.placements().map(|(at, range)| {
                let range = done + range.start..done + range.end;
                Transfer::write(FIRST_FILE, at, part(from, &range), 0)
            });
            // SAFETY: the pages stay registered until the request was answered.
            let storing = unsafe { io.ring.transfer_all(transfers) };
            if let Err(errno) = io.stage(Stage::Transfer, storing).await {
                fs.abandon_write(plan);
                return Err(IoFailure::new("write of a volume's blocks", errno.into()));
            }
            let length = plan.length();
            // Whole blocks are never planned again.
            if !io.stage(Stage::Commit, self.blocks.commit(io, plan)).await? {
                return Err(vexfs::error::Errno::Busy.into());
            }
            done += length;
        }
        Ok(())
    }
}

/// Bytes of a request, which has no more than 32 MiB of them.
fn part(request: Registered, range: &Range<usize>) -> Span<'static> {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    request.span(number(range.start)..number(range.end))
}
