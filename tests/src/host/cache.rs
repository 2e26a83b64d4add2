// SPDX-License-Identifier: MIT OR Apache-2.0

//! The user's cache directory: kernels, build trees and built modules, shared by all checkouts.
//!
//! Whatever is in it can be made again; deleting it costs time only. An entry is a directory that counts once its
//! stamp file exists: one that was cut off half-way is removed and made anew. Several labs may run at once, so an entry
//! is made under a file lock and never changed after.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

const STAMP: &str = ".complete";

/// The cache directory: `$VEXFS_LAB_CACHE`, else `$XDG_CACHE_HOME/vexfs-lab`, else `~/.cache/vexfs-lab`.
pub fn root() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("VEXFS_LAB_CACHE") {
        return Ok(PathBuf::from(path));
    }
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(path) => PathBuf::from(path),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither HOME nor VEXFS_LAB_CACHE is set")?).join(".cache")
        }
    };
    Ok(base.join("vexfs-lab"))
}

/// The lock of one entry; released on drop, also when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Waits for the lock called `name`.
pub fn lock(name: &str) -> Result<Lock> {
    let directory = root()?.join("locks");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let path = directory.join(name.replace('/', "-"));
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    let file = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(Lock { _file: file })
}

/// The path of the entry `name` (like `kernels/6.12.95`), whether it exists or not.
pub fn path(name: &str) -> Result<PathBuf> {
    Ok(root()?.join(name))
}

/// Whether an entry is there and whole.
pub fn is_complete(entry: &Path) -> bool {
    entry.join(STAMP).exists()
}

/// The directory of the entry `name`, made by `make` if it is not there. `make` gets an empty directory.
pub fn entry(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let directory = path(name)?;
    if is_complete(&directory) {
        return Ok(directory);
    }
    let _lock = lock(name)?;
    if is_complete(&directory) {
        return Ok(directory);
    }
    remove(&directory)?;
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    make(&directory)?;
    complete(&directory)?;
    Ok(directory)
}

/// Marks an entry as whole.
pub fn complete(entry: &Path) -> Result<()> {
    fs::write(entry.join(STAMP), "").with_context(|| format!("completing {}", entry.display()))
}

/// Removes an entry, root-owned trees included.
pub fn remove(entry: &Path) -> Result<()> {
    match fs::remove_dir_all(entry) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) => super::command::privileged("rm").args(["-rf", "--"]).arg(entry).run(),
    }
}
