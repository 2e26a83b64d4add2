// SPDX-License-Identifier: MIT OR Apache-2.0

//! Works on the bytes of one large file in each place, and on how full the filesystem is.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::statvfs::statvfs;

use super::{BLOCK, MIB};

/// So much is synced at once where gigabytes are written: a sync of all of them would look like a task that hangs.
pub(super) const SYNCED_MIB: u64 = 64;

pub(super) fn write(place: &Path, mebibytes: usize) -> Result<()> {
    let buffer = noise();
    let mut file = File::create(large(place))?;
    for _ in 0..mebibytes {
        file.write_all(&buffer)?;
    }
    file.sync_all().context("fsync")
}

pub(super) fn read(place: &Path, mebibytes: usize) -> Result<()> {
    let mut buffer = vec![0; MIB];
    let mut file = File::open(large(place))?;
    for _ in 0..mebibytes {
        file.read_exact(&mut buffer)?;
    }
    Ok(())
}

pub(super) fn random_reads(place: &Path, amount: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(2);
    let file = File::open(large(place))?;
    let blocks = blocks(&file)?;
    let mut buffer = vec![0; BLOCK];
    for _ in 0..amount {
        file.read_exact_at(&mut buffer, random.u64(..blocks) * BLOCK as u64)?;
    }
    Ok(())
}

pub(super) fn random_writes(place: &Path, amount: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(3);
    let file = File::options().write(true).open(large(place))?;
    let blocks = blocks(&file)?;
    let buffer = vec![5; BLOCK];
    for _ in 0..amount {
        file.write_all_at(&buffer, random.u64(..blocks) * BLOCK as u64)?;
    }
    file.sync_all().context("fsync")
}

/// Writes files until so many percent of what the filesystem offers are used, as df counts.
pub(super) fn fill(place: &Path, percent: usize) -> Result<()> {
    // What a filesystem needs for itself is seen when it was written: a second file brings what the first one lacked.
    const ATTEMPTS: usize = 4;
    let buffer = noise();
    for attempt in 0..ATTEMPTS {
        let lacking = lacking(place, percent)?;
        if lacking < MIB as u64 {
            return Ok(());
        }
        let path = place.join(format!("filler-{percent}-{attempt}"));
        let mut file = File::create_new(&path)?;
        for piece in 0..lacking / MIB as u64 {
            file.write_all(&buffer)
                .with_context(|| format!("{piece} MiB of {}", path.display()))?;
            if piece % SYNCED_MIB == SYNCED_MIB - 1 {
                file.sync_data().context("fdatasync")?;
            }
        }
        file.sync_all().context("fsync")?;
    }
    bail!("{percent} % are not reached with {ATTEMPTS} files")
}

/// Bytes until so many percent are used. What is kept back from users is not counted.
fn lacking(place: &Path, percent: usize) -> Result<u64> {
    let found = statvfs(place)?;
    let used = found.blocks().saturating_sub(found.blocks_free());
    let wanted = (used + found.blocks_available()) * percent as u64 / 100;
    Ok(wanted.saturating_sub(used) * found.fragment_size())
}

/// What no filesystem can make smaller.
fn noise() -> Vec<u8> {
    let mut buffer = vec![0; MIB];
    fastrand::Rng::with_seed(1).fill(&mut buffer);
    buffer
}

pub(super) fn large(place: &Path) -> PathBuf {
    place.join("large")
}

/// How many blocks a file has.
pub(super) fn blocks(file: &File) -> Result<u64> {
    let blocks = file.metadata()?.len() / BLOCK as u64;
    ensure!(blocks > 0, "the file is empty");
    Ok(blocks)
}
