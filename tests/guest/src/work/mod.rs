// SPDX-License-Identifier: MIT OR Apache-2.0

//! Work on files that is timed: the same calls for every filesystem, on this host or, by the program `lab-work`, in a
//! machine.
//!
//! A work is done in one or more places, directories that exist, each by a thread of its own.
//!
//! | module | what |
//! |---|---|
//! | `names`, `bytes`, `extents` | works that are timed as a whole |
//! | `durable` | works of which every operation is timed |
//! | `took` | times, and threads that are timed |

mod bytes;
mod durable;
mod extents;
mod names;
mod took;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result};

pub use self::took::{Latency, Took, percentile};

const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;

/// What is done in each place, so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Makes empty files.
    Create,
    /// Asks for the attributes of the files that [`Work::Create`] made, in another order.
    Stat,
    /// Lists them.
    List,
    /// Gives them other names.
    Rename,
    /// Removes files that were renamed.
    UnlinkRenamed,
    /// Removes files.
    Unlink,
    /// Makes directories.
    MakeDirectories,
    /// Writes a file, of so many MiB, and has it synced.
    Write,
    /// Reads it.
    Read,
    /// Reads 4 KiB somewhere in it.
    RandomReads,
    /// Overwrites 4 KiB somewhere in it; has it synced at the end.
    RandomWrites,
    /// Overwrites 4 KiB, one after the other, each synced.
    SyncedWrites,
    /// Appends 4 KiB to a file of its own, each synced.
    SyncedAppends,
    /// Overwrites 4 KiB somewhere in the file of [`Work::Write`], each time with fdatasync.
    DataSyncedWrites,
    /// Writes a file of 4 KiB, syncs it, gives it the name of the one before, syncs the directory.
    SyncedReplaces,
    /// Makes a file and syncs its directory; all threads may have the same.
    SyncedCreates,
    /// Makes a file of so many extents: every other block is a hole.
    Scatter,
    /// Reads 4 KiB somewhere in it.
    ScatteredReads,
    /// Adds extents at its end; has it synced then.
    ScatteredAppends,
    /// Cuts it to nothing, and has that synced, once.
    ScatteredTruncate,
    /// Writes until the filesystem is so many percent full.
    Fill,
    /// Unpacks [`ARCHIVE`], once.
    Untar,
}

/// What [`Work::Untar`] unpacks.
pub const ARCHIVE: &str = "/tmp/lab-work.tar";

const NAMES: [(&str, Work); 22] = [
    ("create", Work::Create),
    ("stat", Work::Stat),
    ("list", Work::List),
    ("rename", Work::Rename),
    ("unlink-renamed", Work::UnlinkRenamed),
    ("unlink", Work::Unlink),
    ("mkdir", Work::MakeDirectories),
    ("write", Work::Write),
    ("read", Work::Read),
    ("random-reads", Work::RandomReads),
    ("random-writes", Work::RandomWrites),
    ("synced-writes", Work::SyncedWrites),
    ("synced-appends", Work::SyncedAppends),
    ("data-synced-writes", Work::DataSyncedWrites),
    ("synced-replaces", Work::SyncedReplaces),
    ("synced-creates", Work::SyncedCreates),
    ("scatter", Work::Scatter),
    ("scattered-reads", Work::ScatteredReads),
    ("scattered-appends", Work::ScatteredAppends),
    ("scattered-truncate", Work::ScatteredTruncate),
    ("fill", Work::Fill),
    ("untar", Work::Untar),
];

impl Work {
    /// What it is called on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, work)| *work == self)
            .map_or("", |(name, _)| name)
    }

    /// Does it so often in each place.
    pub fn time(self, places: &[PathBuf], amount: usize) -> Result<Took> {
        took::timed(places, |thread, place| self.do_in(place, thread, amount))
    }

    /// Returns how long each operation took, where that is measured.
    fn do_in(self, place: &Path, thread: usize, amount: usize) -> Result<Vec<Duration>> {
        let done = match self {
            Self::SyncedWrites => return durable::overwrites(place, amount),
            Self::SyncedAppends => return durable::appends(place, amount),
            Self::DataSyncedWrites => return durable::data_overwrites(place, amount),
            Self::SyncedReplaces => return durable::replaces(place, amount),
            Self::SyncedCreates => return durable::creates(place, thread, amount),
            Self::Create => names::create(place, amount),
            Self::Stat => names::stat(place, amount),
            Self::List => names::list(place, amount),
            Self::Rename => names::rename(place, amount),
            Self::UnlinkRenamed => names::unlink_renamed(place, amount),
            Self::Unlink => names::unlink(place, amount),
            Self::MakeDirectories => names::make_directories(place, amount),
            Self::Untar => names::untar(place),
            Self::Write => bytes::write(place, amount),
            Self::Read => bytes::read(place, amount),
            Self::RandomReads => bytes::random_reads(place, amount),
            Self::RandomWrites => bytes::random_writes(place, amount),
            Self::Fill => bytes::fill(place, amount),
            Self::Scatter => extents::scatter(place, amount),
            Self::ScatteredReads => extents::reads(place, amount),
            Self::ScatteredAppends => extents::appends(place, amount),
            Self::ScatteredTruncate => extents::truncate(place),
        };
        done.map(|()| Vec::new())
    }
}

impl FromStr for Work {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, work)| *work).with_context(|| {
            let names = NAMES.map(|(name, _)| name);
            format!("there is no work called {text:?}; there are {}", names.join(", "))
        })
    }
}
