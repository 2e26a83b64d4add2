// SPDX-License-Identifier: MIT OR Apache-2.0

//! Works on names and attributes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::ARCHIVE;

pub(super) fn create(place: &Path, files: usize) -> Result<()> {
    each(files, |number| File::create_new(name(place, number)).map(drop))
}

pub(super) fn stat(place: &Path, files: usize) -> Result<()> {
    // A step that meets every file once: not the order in which they were made.
    const STEP: usize = 7919;
    ensure!(!files.is_multiple_of(STEP), "not a multiple of {STEP} files");
    each(files, |number| {
        fs::symlink_metadata(name(place, number * STEP % files)).map(drop)
    })
}

pub(super) fn list(place: &Path, files: usize) -> Result<()> {
    let count = fs::read_dir(place)?.collect::<Result<Vec<_>, _>>()?.len();
    ensure!(count == files, "{count} names are listed of {files}");
    Ok(())
}

pub(super) fn rename(place: &Path, files: usize) -> Result<()> {
    each(files, |number| fs::rename(name(place, number), renamed(place, number)))
}

pub(super) fn unlink_renamed(place: &Path, files: usize) -> Result<()> {
    each(files, |number| fs::remove_file(renamed(place, number)))
}

pub(super) fn unlink(place: &Path, files: usize) -> Result<()> {
    each(files, |number| fs::remove_file(name(place, number)))
}

pub(super) fn make_directories(place: &Path, amount: usize) -> Result<()> {
    each(amount, |number| {
        fs::create_dir(place.join(format!("directory-{number}")))
    })
}

pub(super) fn untar(place: &Path) -> Result<()> {
    let status = Command::new("tar").args(["-xf", ARCHIVE]).current_dir(place).status();
    ensure!(status.context("starting tar")?.success(), "tar failed");
    Ok(())
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
