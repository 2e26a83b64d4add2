// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a case is given: its settings, a place for files, and targets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use thiserror::Error;

use super::target::{On, Room, Target};

/// Below this, targets are mounted. Every directory above it may be entered by every user, as PostgreSQL needs it.
const MOUNTS: &str = "/mnt";
/// Size of a target on which space is not the point. Targets are sparse files.
pub const ROOMY: u64 = 4 << 30;

/// Why a case cannot run here.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Skipped(pub String);

/// How a case is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What is tested.
    pub on: On,
    /// The executable `vexfs-ublk`.
    pub program: PathBuf,
    /// The long run.
    pub full: bool,
    /// On a machine that is emulated, one in so many operations of a quick run is done.
    pub share: u32,
    /// Whatever is chosen by chance follows from it.
    pub seed: u64,
    /// An empty directory outside of all targets.
    pub scratch: PathBuf,
}

/// What a case is given.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    mounts: PathBuf,
}

impl Session {
    /// Prepares a place for mounts. Others see nothing of it: the mount namespace is this process's own.
    pub fn open(settings: Settings) -> Result<Self> {
        let mounts = PathBuf::from(MOUNTS);
        mount(
            Some("none"),
            &mounts,
            Some("tmpfs"),
            MsFlags::MS_NOSUID,
            Some("mode=755"),
        )
        .with_context(|| format!("mounting a place for mounts on {MOUNTS}"))?;
        Ok(Self { settings, mounts })
    }

    /// Whether this is the long run.
    pub fn full(&self) -> bool {
        self.settings.full
    }

    /// One of two amounts of work.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.settings.full { full } else { quick }
    }

    /// A number of operations, as many as this machine does in time.
    pub fn operations(&self, quick: u32, full: u32) -> u32 {
        self.pick(quick / self.settings.share.max(1), full)
    }

    /// Random numbers that follow from the run's seed.
    pub fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.settings.seed)
    }

    /// A directory outside of all targets.
    pub fn scratch(&self) -> &Path {
        &self.settings.scratch
    }

    /// A new directory on a filesystem in memory, outside of all targets.
    pub fn memory(&self, name: &str) -> Result<PathBuf> {
        let directory = self.mounts.join(name);
        std::fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(directory)
    }

    /// Makes a target and mounts it; after `body` unmounts and checks it. An error comes with what the server said.
    pub fn with_target(&self, size: u64, body: impl FnOnce(&mut dyn Target) -> Result<()>) -> Result<()> {
        let directory = self.memory("fs")?;
        let mut target = self.settings.on.make(&self.settings, &directory, Room::File(size))?;
        target.mount()?;
        let result = body(target.as_mut())
            .and_then(|()| target.unmount())
            .and_then(|()| target.check());
        result.map_err(|error| match target.log() {
            Some(log) if !log.trim().is_empty() => error.context(format!("the server said:\n{}\nand then", log.trim())),
            _ => error,
        })
    }
}
