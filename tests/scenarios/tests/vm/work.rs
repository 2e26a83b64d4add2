// SPDX-License-Identifier: MIT OR Apache-2.0

//! Applications, and what they were promised.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab_guest::measure::{Promise, check};
use lab_scenarios::monitor::Latency;

/// Bytes that follow from a number.
pub(crate) fn bytes(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(number).fill(&mut bytes);
    bytes
}

/// Files that an application was told are safe.
pub(crate) struct Book {
    root: PathBuf,
    /// Number and length of each file.
    promised: Vec<(u64, usize)>,
}

/// How a file is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// As it was written.
    Right,
    /// With other bytes: the one thing that must never be.
    Wrong,
    /// Not at all.
    Missing,
    /// With an error.
    Error(i32),
}

impl Book {
    pub(crate) fn new(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self {
            root: root.to_owned(),
            promised: Vec::new(),
        })
    }

    /// Writes a file and has it made durable, name included.
    pub(crate) fn write(&mut self, length: usize) -> io::Result<()> {
        let number = self.promised.len() as u64;
        let mut file = File::create(self.draft())?;
        file.write_all(&bytes(number, length))?;
        file.sync_all()?;
        fs::rename(self.draft(), self.path(number))?;
        File::open(&self.root)?.sync_all()?;
        self.promised.push((number, length));
        Ok(())
    }

    /// So many files.
    pub(crate) fn fill(&mut self, files: usize, length: usize) -> Result<()> {
        for _ in 0..files {
            self.write(length).context("writing a file")?;
        }
        Ok(())
    }

    fn draft(&self) -> PathBuf {
        self.root.join("draft")
    }

    /// The file of a number.
    pub(crate) fn path(&self, number: u64) -> PathBuf {
        self.root.join(format!("promised-{number:04}"))
    }

    /// How each file is found.
    pub(crate) fn look(&self) -> Vec<(u64, Found)> {
        let look = |&(number, length): &(u64, usize)| {
            let found = match fs::read(self.path(number)) {
                Ok(found) if found == bytes(number, length) => Found::Right,
                Ok(_) => Found::Wrong,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Missing,
                Err(error) => Found::Error(error.raw_os_error().unwrap_or_default()),
            };
            (number, found)
        };
        self.promised.iter().map(look).collect()
    }

    /// Everything that was promised is there, read from the server and not from a cache.
    pub(crate) fn verify(&self, when: &str) -> Result<()> {
        drop_caches()?;
        let bad: Vec<_> = self
            .look()
            .into_iter()
            .filter(|(_, found)| *found != Found::Right)
            .collect();
        check(
            Promise::Integrity,
            bad.is_empty(),
            format!("{when}, {} promised files: {bad:?} are not right", self.promised.len()),
        )
    }
}

/// Nothing that was read stays cached.
pub(crate) fn drop_caches() -> Result<()> {
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}

/// Applications that take no errors, until they are told to end.
pub(crate) struct Crowd {
    threads: usize,
    /// Bytes of each file.
    length: usize,
    latency: Latency,
}

/// What a crowd did.
pub(crate) struct Done {
    pub(crate) rounds: u64,
    pub(crate) longest: Duration,
}

impl Crowd {
    pub(crate) fn new(threads: usize, length: usize) -> Self {
        Self {
            threads,
            length,
            latency: Latency::default(),
        }
    }

    /// Where it tells how long its rounds take.
    pub(crate) fn latency(&self) -> Latency {
        self.latency.clone()
    }

    /// Works in `root` for as long as `meanwhile` takes; the first error of anybody is the result.
    pub(crate) fn work(&self, root: &Path, meanwhile: impl FnOnce() -> Result<()>) -> Result<Done> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let working: Vec<_> = (0..self.threads)
                .map(|number| {
                    let place = root.join(format!("application-{number}"));
                    let over = &over;
                    scope.spawn(move || self.one(&place, over))
                })
                .collect();
            let result = meanwhile();
            over.store(true, Ordering::SeqCst);
            let mut done = Done {
                rounds: 0,
                longest: Duration::ZERO,
            };
            for thread in working {
                match thread.join() {
                    Ok(Ok(part)) => {
                        done.rounds += part.rounds;
                        done.longest = done.longest.max(part.longest);
                    }
                    Ok(Err(error)) => return Err(error.context("an application met an error")),
                    Err(_) => bail!("an application panicked"),
                }
            }
            result.map(|()| done)
        })
    }

    fn one(&self, place: &Path, over: &AtomicBool) -> Result<Done> {
        fs::create_dir_all(place)?;
        let mut done = Done {
            rounds: 0,
            longest: Duration::ZERO,
        };
        while !over.load(Ordering::SeqCst) {
            let start = Instant::now();
            self.round(place, done.rounds)
                .with_context(|| format!("round {} in {}", done.rounds, place.display()))?;
            let took = start.elapsed();
            self.latency.note(took);
            done.longest = done.longest.max(took);
            done.rounds += 1;
        }
        ensure!(done.rounds > 0, "no round ended in {}", place.display());
        Ok(done)
    }

    /// Writes, makes durable, renames, reads, makes and removes directories and links.
    fn round(&self, place: &Path, round: u64) -> Result<()> {
        let (draft, name) = (place.join("draft"), place.join((round % 5).to_string()));
        let contents = bytes(round, self.length);
        fs::write(&draft, &contents)?;
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, &name)?;
        ensure!(fs::read(&name)? == contents, "it reads otherwise");
        let (directory, link) = (place.join("directory"), place.join("directory/link"));
        fs::create_dir(&directory)?;
        fs::hard_link(&name, &link)?;
        ensure!(
            fs::read_dir(&directory)?.count() == 1,
            "a directory of one name lists others"
        );
        fs::remove_file(&link)?;
        Ok(fs::remove_dir(&directory)?)
    }
}
