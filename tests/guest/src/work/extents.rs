// SPDX-License-Identifier: MIT OR Apache-2.0

//! Works on a file of many extents: every other block of it is a hole.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::bytes::{SYNCED_MIB, blocks};
use super::{BLOCK, MIB};

/// A block, and the hole before the next.
const STRIDE: u64 = 2 * BLOCK as u64;
/// Blocks that are synced at once.
const SYNCED: u64 = SYNCED_MIB * (MIB / BLOCK) as u64;

/// Makes the file.
pub(super) fn scatter(place: &Path, extents: usize) -> Result<()> {
    write_from(&File::create(path(place))?, 0, extents)
}

pub(super) fn reads(place: &Path, amount: usize) -> Result<()> {
    let file = File::open(path(place))?;
    let extents = extents(&file)?;
    let mut random = fastrand::Rng::with_seed(5);
    let mut buffer = vec![0; BLOCK];
    for _ in 0..amount {
        file.read_exact_at(&mut buffer, random.u64(..extents) * STRIDE)?;
    }
    Ok(())
}

/// Each is one more extent; synced at the end.
pub(super) fn appends(place: &Path, amount: usize) -> Result<()> {
    let file = File::options().write(true).open(path(place))?;
    let from = extents(&file)?;
    write_from(&file, from, amount)
}

/// Until the disk has it that nothing is left.
pub(super) fn truncate(place: &Path) -> Result<()> {
    let file = File::options().write(true).open(path(place))?;
    file.set_len(0)?;
    file.sync_all().context("fsync")
}

fn path(place: &Path) -> std::path::PathBuf {
    place.join("scattered")
}

fn write_from(file: &File, from: u64, amount: usize) -> Result<()> {
    let buffer = vec![10; BLOCK];
    for number in (from..).take(amount) {
        file.write_all_at(&buffer, number * STRIDE)
            .with_context(|| format!("extent {number}"))?;
        if (number - from) % SYNCED == SYNCED - 1 {
            file.sync_data().context("fdatasync")?;
        }
    }
    file.sync_all().context("fsync")
}

/// The last one has no hole behind it.
fn extents(file: &File) -> Result<u64> {
    Ok(blocks(file)?.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_scattered_read_appended_to_and_cut() {
        let place = std::env::temp_dir().join(format!("lab-extents-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        scatter(&place, 10).unwrap();
        appends(&place, 5).unwrap();
        reads(&place, 20).unwrap();
        let facts = path(&place).metadata().unwrap();
        assert_eq!(facts.len(), 29 * BLOCK as u64);
        assert!(facts.blocks() * 512 < facts.len(), "it has holes");
        truncate(&place).unwrap();
        assert_eq!(path(&place).metadata().unwrap().len(), 0);
        std::fs::remove_dir_all(&place).unwrap();
    }
}
