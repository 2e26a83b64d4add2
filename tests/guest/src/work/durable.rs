// SPDX-License-Identifier: MIT OR Apache-2.0

//! Works in which every operation is on the disk before the next one begins. Each is timed.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::BLOCK;
use super::bytes::{blocks, large};

type Times = Result<Vec<Duration>>;

pub(super) fn overwrites(place: &Path, amount: usize) -> Times {
    let file = File::options().write(true).open(large(place))?;
    let buffer = vec![6; BLOCK];
    each(amount, |number| {
        file.write_all_at(&buffer, (number * BLOCK) as u64)?;
        file.sync_all()
    })
}

pub(super) fn appends(place: &Path, amount: usize) -> Times {
    let mut file = File::options().create(true).append(true).open(place.join("appended"))?;
    let buffer = vec![7; BLOCK];
    each(amount, |_| {
        file.write_all(&buffer)?;
        file.sync_all()
    })
}

/// Somewhere in the file, so that the blocks are those that it had before.
pub(super) fn data_overwrites(place: &Path, amount: usize) -> Times {
    let file = File::options().write(true).open(large(place))?;
    let blocks = blocks(&file)?;
    let mut random = fastrand::Rng::with_seed(4);
    let buffer = vec![8; BLOCK];
    each(amount, |_| {
        file.write_all_at(&buffer, random.u64(..blocks) * BLOCK as u64)?;
        file.sync_data()
    })
}

/// As editors and package managers do: there is always a whole file under the name.
pub(super) fn replaces(place: &Path, amount: usize) -> Times {
    let (current, next) = (place.join("current"), place.join("next"));
    let directory = File::open(place)?;
    let buffer = vec![9; BLOCK];
    each(amount, |_| {
        let mut file = File::create(&next)?;
        file.write_all(&buffer)?;
        file.sync_all()?;
        fs::rename(&next, &current)?;
        directory.sync_all()
    })
}

/// Places may be the same directory: names are told apart by the thread.
pub(super) fn creates(place: &Path, thread: usize, amount: usize) -> Times {
    let directory = File::open(place)?;
    each(amount, |number| {
        File::create_new(place.join(format!("synced-{thread}-{number}")))?;
        directory.sync_all()
    })
}

fn each(amount: usize, mut operation: impl FnMut(usize) -> std::io::Result<()>) -> Times {
    let mut times = Vec::with_capacity(amount);
    for number in 0..amount {
        let start = Instant::now();
        operation(number).with_context(|| format!("operation {number} of {amount}"))?;
        times.push(start.elapsed());
    }
    Ok(times)
}
