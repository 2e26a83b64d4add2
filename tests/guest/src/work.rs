// SPDX-License-Identifier: MIT OR Apache-2.0

//! Work on files that is timed: the same calls for every filesystem, on this host or, by the program `lab-work`, in a
//! machine.
//!
//! A work is done in one or more places, directories that exist, each by a thread of its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};

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
    /// Unpacks [`ARCHIVE`], once.
    Untar,
}

/// What [`Work::Untar`] unpacks.
pub const ARCHIVE: &str = "/tmp/lab-work.tar";

const NAMES: [(&str, Work); 14] = [
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

    /// Does it so often in each place. How long it took until the last thread was done.
    pub fn time(self, places: &[PathBuf], amount: usize) -> Result<Duration> {
        timed(places, |place| self.do_in(place, amount))
    }

    fn do_in(self, place: &Path, amount: usize) -> Result<()> {
        match self {
            Self::Create => each(amount, |number| File::create_new(name(place, number)).map(drop)),
            Self::Stat => stat(place, amount),
            Self::List => list(place, amount),
            Self::Rename => each(amount, |number| fs::rename(name(place, number), renamed(place, number))),
            Self::UnlinkRenamed => each(amount, |number| fs::remove_file(renamed(place, number))),
            Self::Unlink => each(amount, |number| fs::remove_file(name(place, number))),
            Self::MakeDirectories => each(amount, |number| {
                fs::create_dir(place.join(format!("directory-{number}")))
            }),
            Self::Write => write(place, amount),
            Self::Read => read(place, amount),
            Self::RandomReads => random_reads(place, amount),
            Self::RandomWrites => random_writes(place, amount),
            Self::SyncedWrites => synced_writes(place, amount),
            Self::SyncedAppends => synced_appends(place, amount),
            Self::Untar => untar(place),
        }
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

fn timed(places: &[PathBuf], work: impl Fn(&Path) -> Result<()> + Sync) -> Result<Duration> {
    let start = Instant::now();
    thread::scope(|scope| {
        let working: Vec<_> = places.iter().map(|place| scope.spawn(|| work(place))).collect();
        for thread in working {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(start.elapsed())
    })
}

fn name(place: &Path, number: usize) -> PathBuf {
    place.join(format!("file-{number:06}"))
}

fn renamed(place: &Path, number: usize) -> PathBuf {
    place.join(format!("renamed-{number:06}"))
}

fn each(amount: usize, call: impl Fn(usize) -> std::io::Result<()>) -> Result<()> {
    for number in 0..amount {
        call(number).with_context(|| format!("file {number} of {amount}"))?;
    }
    Ok(())
}

fn stat(place: &Path, files: usize) -> Result<()> {
    // A step that meets every file once: not the order in which they were made.
    const STEP: usize = 7919;
    ensure!(!files.is_multiple_of(STEP), "not a multiple of {STEP} files");
    each(files, |number| {
        fs::symlink_metadata(name(place, number * STEP % files)).map(drop)
    })
}

fn list(place: &Path, files: usize) -> Result<()> {
    let count = fs::read_dir(place)?.collect::<Result<Vec<_>, _>>()?.len();
    ensure!(count == files, "{count} names are listed of {files}");
    Ok(())
}

fn large(place: &Path) -> PathBuf {
    place.join("large")
}

fn write(place: &Path, mebibytes: usize) -> Result<()> {
    let mut buffer = vec![0; MIB];
    fastrand::Rng::with_seed(1).fill(&mut buffer);
    let mut file = File::create(large(place))?;
    for _ in 0..mebibytes {
        file.write_all(&buffer)?;
    }
    file.sync_all().context("fsync")
}

fn read(place: &Path, mebibytes: usize) -> Result<()> {
    let mut buffer = vec![0; MIB];
    let mut file = File::open(large(place))?;
    for _ in 0..mebibytes {
        file.read_exact(&mut buffer)?;
    }
    Ok(())
}

fn random_reads(place: &Path, amount: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(2);
    let file = File::open(large(place))?;
    let blocks = blocks(&file)?;
    let mut buffer = vec![0; BLOCK];
    for _ in 0..amount {
        file.read_exact_at(&mut buffer, random.u64(..blocks) * BLOCK as u64)?;
    }
    Ok(())
}

fn random_writes(place: &Path, amount: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(3);
    let file = File::options().write(true).open(large(place))?;
    let blocks = blocks(&file)?;
    let buffer = vec![5; BLOCK];
    for _ in 0..amount {
        file.write_all_at(&buffer, random.u64(..blocks) * BLOCK as u64)?;
    }
    file.sync_all().context("fsync")
}

fn synced_writes(place: &Path, amount: usize) -> Result<()> {
    let file = File::options().write(true).open(large(place))?;
    let buffer = vec![6; BLOCK];
    for number in 0..amount {
        file.write_all_at(&buffer, (number * BLOCK) as u64)?;
        file.sync_all().context("fsync")?;
    }
    Ok(())
}

fn synced_appends(place: &Path, amount: usize) -> Result<()> {
    let mut file = File::options().create(true).append(true).open(place.join("appended"))?;
    let buffer = vec![7; BLOCK];
    for _ in 0..amount {
        file.write_all(&buffer)?;
        file.sync_all().context("fsync")?;
    }
    Ok(())
}

fn untar(place: &Path) -> Result<()> {
    let status = Command::new("tar").args(["-xf", ARCHIVE]).current_dir(place).status();
    ensure!(status.context("starting tar")?.success(), "tar failed");
    Ok(())
}

/// How many blocks a file has.
fn blocks(file: &File) -> Result<u64> {
    let blocks = file.metadata()?.len() / BLOCK as u64;
    ensure!(blocks > 0, "the file is empty");
    Ok(blocks)
}
