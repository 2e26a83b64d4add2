// SPDX-License-Identifier: MIT OR Apache-2.0

//! The work that is timed: the same calls for every filesystem.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::peers::Mounted;

/// Measure, unit and value of everything that was measured once.
pub(super) type Figures = Vec<(String, &'static str, f64)>;

const FILES: usize = 2000;
const DIRECTORIES: usize = 500;
/// Of all threads together.
const LARGE: u64 = 256 << 20;
const READS: usize = 2000;
const WRITES: usize = 8000;
const SYNCED: usize = 200;
const BLOCK: usize = 4096;
const MIB: usize = 1 << 20;

/// Measures everything with so many threads, each with files of its own.
pub(super) fn measure(mounted: &mut Mounted<'_>, threads: usize, figures: &mut Figures) -> Result<()> {
    let root = mounted.directory().join(format!("threads-{threads}"));
    fs::create_dir(&root)?;
    let places: Vec<PathBuf> = (0..threads).map(|number| root.join(number.to_string())).collect();
    for place in &places {
        fs::create_dir(place)?;
    }
    let mut note = |what: &str, unit: &'static str, amount: usize, seconds: f64| {
        #[expect(clippy::cast_precision_loss, reason = "amounts of work are small")]
        figures.push((format!("{what}, {threads} thr"), unit, amount as f64 / seconds));
    };
    let files = FILES * threads;
    note("create", "1/s", files, timed(&places, create)?);
    note("stat, warm", "1/s", files, timed(&places, stat)?);
    mounted.chill()?;
    note("stat, cold", "1/s", files, timed(&places, stat)?);
    mounted.chill()?;
    note("readdir, cold", "entries/s", files, timed(&places, list)?);
    note("unlink", "1/s", files, timed(&places, unlink)?);
    note("mkdir", "1/s", DIRECTORIES * threads, timed(&places, make_directories)?);
    let large = usize::try_from(LARGE)? / MIB;
    let share = large / threads;
    note(
        "sequential write + fsync",
        "MiB/s",
        large,
        timed(&places, |place| write(place, share))?,
    );
    mounted.chill()?;
    note(
        "sequential read, cold",
        "MiB/s",
        large,
        timed(&places, |place| read(place, share))?,
    );
    mounted.chill()?;
    note(
        "4 KiB random read, cold",
        "1/s",
        READS * threads,
        timed(&places, |place| random_reads(place, share))?,
    );
    note(
        "4 KiB random write, one fsync",
        "1/s",
        WRITES * threads,
        timed(&places, |place| random_writes(place, share))?,
    );
    note(
        "4 KiB write + fsync each",
        "1/s",
        SYNCED * threads,
        timed(&places, synced_writes)?,
    );
    Ok(())
}

/// Seconds until the last thread is done.
fn timed(places: &[PathBuf], work: impl Fn(&Path) -> Result<()> + Sync) -> Result<f64> {
    let start = Instant::now();
    thread::scope(|scope| {
        let working: Vec<_> = places.iter().map(|place| scope.spawn(|| work(place))).collect();
        for thread in working {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(start.elapsed().as_secs_f64())
    })
}

fn name(place: &Path, number: usize) -> PathBuf {
    place.join(format!("file-{number:06}"))
}

fn create(place: &Path) -> Result<()> {
    for number in 0..FILES {
        File::create_new(name(place, number))?;
    }
    Ok(())
}

fn stat(place: &Path) -> Result<()> {
    for number in 0..FILES {
        // A fixed permutation: not the order in which they were made.
        fs::symlink_metadata(name(place, number * 7919 % FILES))?;
    }
    Ok(())
}

fn list(place: &Path) -> Result<()> {
    let count = fs::read_dir(place)?.collect::<Result<Vec<_>, _>>()?.len();
    anyhow::ensure!(count == FILES, "{count} names are listed of {FILES}");
    Ok(())
}

fn unlink(place: &Path) -> Result<()> {
    for number in 0..FILES {
        fs::remove_file(name(place, number))?;
    }
    Ok(())
}

fn make_directories(place: &Path) -> Result<()> {
    for number in 0..DIRECTORIES {
        fs::create_dir(place.join(format!("directory-{number}")))?;
    }
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

fn random_reads(place: &Path, mebibytes: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(2);
    let file = File::open(large(place))?;
    let mut buffer = vec![0; BLOCK];
    for _ in 0..READS {
        file.read_exact_at(&mut buffer, block(&mut random, mebibytes))?;
    }
    Ok(())
}

fn random_writes(place: &Path, mebibytes: usize) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(3);
    let file = File::options().write(true).open(large(place))?;
    let buffer = vec![5; BLOCK];
    for _ in 0..WRITES {
        file.write_all_at(&buffer, block(&mut random, mebibytes))?;
    }
    file.sync_all().context("fsync")
}

fn synced_writes(place: &Path) -> Result<()> {
    let file = File::options().write(true).open(large(place))?;
    let buffer = vec![6; BLOCK];
    for number in 0..SYNCED {
        file.write_all_at(&buffer, (number * BLOCK) as u64)?;
        file.sync_all().context("fsync")?;
    }
    Ok(())
}

fn block(random: &mut fastrand::Rng, mebibytes: usize) -> u64 {
    (random.usize(..mebibytes * MIB / BLOCK) * BLOCK) as u64
}
