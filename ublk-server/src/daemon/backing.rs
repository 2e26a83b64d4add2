// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a daemon serves from: one open pool, one file, or memory; and the targets made of it.
//!
//! A pool is presented as a filesystem or volume by volume, not both at once: a mount by the kernel module caches names and
//! bytes, and would not learn of what somebody else changes. For the same reason nothing else may change its files; who
//! wants to asks [`Opened`] first.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use vexfs::client::Bell;
use vexfs::disk::OpenDiskError;
use vexfs::fs::{Fs, MountOptions};
use vexfs::pool::{Access, HostCache, OpenError, OpenOptions, Pool};

use super::protocol::{Backing, Plain, Spec, TargetSpec};
use crate::device::{Device, Orphan};
use crate::error::Error as DeviceError;
use crate::identity::Identity;
use crate::options::Options;
use crate::target::{
    Filesystem, FilesystemError, Limits, Loop, LoopError, Mem, MemError, Null, Target, Volume, VolumeError,
};
use crate::units::Bytes;

/// How long a dead process may hold the lock of what it had: until the last operation it began has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look.
const INTERVAL: Duration = Duration::from_millis(2);

/// Why there is no target.
#[derive(Debug, Error)]
pub enum BackingError {
    /// The pool cannot be opened.
    #[error("{}: {source}", pool.display())]
    Pool {
        /// Where it is.
        pool: PathBuf,
        /// Why not.
        source: OpenError,
    },
    /// See there.
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
    /// A filesystem is asked for that cannot be mounted.
    #[error("{0}")]
    Unmountable(String),
    /// See there.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// See there.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// See there.
    #[error(transparent)]
    Mem(#[from] MemError),
    /// A target of something else.
    #[error("a {target} device cannot be made of {backing}; name what it is made of")]
    Misfit {
        /// The target.
        target: &'static str,
        /// What there is.
        backing: String,
    },
}

/// Whether a file or device holds a pool.
pub(crate) fn is_pool(path: &Path) -> Result<bool, OpenError> {
    match Pool::open_path(path, &OpenOptions::new(Access::ReadOnly)) {
        Ok(_) => Ok(true),
        Err(OpenError::NotAPool) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Backing {
    /// The path, if it has one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Pool { path } | Self::File { path } => Some(path),
            Self::Memory {} => None,
        }
    }

    /// Whether both are the same pool, file or device, by whatever names.
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pool { path }, Self::Pool { path: other }) | (Self::File { path }, Self::File { path: other }) => {
                path == other || identity(path).is_some_and(|found| Some(found) == identity(other))
            }
            _ => false,
        }
    }

    /// What people call it.
    pub fn name(&self) -> String {
        self.path()
            .map_or_else(|| "memory".to_owned(), |path| path.display().to_string())
    }

    /// The name of the socket of a daemon that serves from it, where that is no pool.
    pub fn socket_name(&self) -> String {
        match self.path().and_then(identity) {
            Some((true, _, number)) => format!("device-{number:x}.sock"),
            Some((false, device, inode)) => format!("file-{device:x}-{inode:x}.sock"),
            None => format!("memory-{}.sock", std::process::id()),
        }
    }
}

/// Whether it is a block device, and the numbers of that or of a file.
fn identity(path: &Path) -> Option<(bool, u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some(if found.file_type().is_block_device() {
        (true, 0, found.rdev())
    } else {
        (false, found.dev(), found.ino())
    })
}

/// Something to make targets of.
pub(super) enum Opened {
    Pool { fs: Fs, path: PathBuf },
    File { path: PathBuf },
    Memory,
}

impl Opened {
    /// Opens it. A pool belongs to this process from then on.
    pub(super) fn open(backing: &Backing) -> Result<Self, BackingError> {
        Ok(match backing {
            Backing::Pool { path } => Self::Pool {
                fs: patiently(|| open_pool(path), is_in_use)?,
                path: path.clone(),
            },
            Backing::File { path } => Self::File { path: path.clone() },
            Backing::Memory {} => Self::Memory,
        })
    }

    pub(super) const fn pool(&self) -> Option<&Fs> {
        match self {
            Self::Pool { fs, .. } => Some(fs),
            _ => None,
        }
    }

    /// What stands behind a device. `farewell` is for [`Filesystem::open`].
    pub(super) fn target(&self, spec: &Spec, farewell: Bell) -> Result<Behind, BackingError> {
        let plain = |plain: &Plain| (Bytes::new(plain.size), plain.block_size, plain.write_cache);
        Ok(match (&spec.target, self) {
            (TargetSpec::Filesystem {}, Self::Pool { fs, path }) => {
                mountable(spec)?;
                Behind::Filesystem(Arc::new(Filesystem::open(fs, path, farewell)?))
            }
            (TargetSpec::Volume { path: volume }, Self::Pool { fs, path }) => {
                Behind::Volume(Arc::new(Volume::open(fs, path, OsStr::new(volume))?))
            }
            (TargetSpec::Loop { block_size, buffered }, Self::File { path }) => {
                let open = || Loop::open(path, *block_size, *buffered);
                Behind::Loop(Arc::new(patiently(open, LoopError::is_in_use)?))
            }
            (TargetSpec::Mem(wanted), Self::Memory) => {
                let (size, block_size, write_cache) = plain(wanted);
                Behind::Mem(Arc::new(Mem::new(size, block_size, write_cache)?))
            }
            (TargetSpec::Null(wanted), Self::Memory) => {
                let (size, block_size, write_cache) = plain(wanted);
                Behind::Null(Arc::new(Null::new(size, block_size, write_cache)))
            }
            (target, opened) => {
                return Err(BackingError::Misfit {
                    target: target.name(),
                    backing: match opened {
                        Self::Pool { path, .. } => format!("the pool {}", path.display()),
                        Self::File { path } => path.display().to_string(),
                        Self::Memory => "memory".to_owned(),
                    },
                });
            }
        })
    }
}

/// Whether a device is attached in a way that lets a client and its server talk.
fn mountable(spec: &Spec) -> Result<(), BackingError> {
    let least = Filesystem::LEAST_IO;
    if spec.read_only {
        let text = "a filesystem device is written to by every mount: mount it read-only instead (mount -o ro)";
        return Err(BackingError::Unmountable(text.to_owned()));
    }
    if spec.io_size < least.get() {
        let text = format!("requests of a filesystem device have at least {least}; leave --io-size out");
        return Err(BackingError::Unmountable(text));
    }
    Ok(())
}

fn open_pool(path: &Path) -> Result<Fs, BackingError> {
    let options = MountOptions {
        // Its device may wait for this process.
        keep_session: true,
        // What is asked of the device is in a cache already: its mount's, or its reader's.
        host_cache: HostCache::PassedBy,
        ..MountOptions::default()
    };
    Fs::open(path, &options).map_err(|source| BackingError::Pool {
        pool: path.to_owned(),
        source,
    })
}

const fn is_in_use(error: &BackingError) -> bool {
    matches!(
        error,
        BackingError::Pool {
            source: OpenError::Disk(OpenDiskError::InUse { .. }),
            ..
        }
    )
}

/// Opens something for as long as a process that has just died may still hold its lock.
pub(super) fn patiently<T, E>(mut open: impl FnMut() -> Result<T, E>, is_in_use: impl Fn(&E) -> bool) -> Result<T, E> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(error) if is_in_use(&error) && Instant::now() < deadline => thread::sleep(INTERVAL),
            result => return result,
        }
    }
}

/// What stands behind one device.
#[derive(Clone)]
pub(super) enum Behind {
    Filesystem(Arc<Filesystem>),
    Volume(Arc<Volume>),
    Loop(Arc<Loop>),
    Mem(Arc<Mem>),
    Null(Arc<Null>),
}

/// The same expression on whatever target it is.
macro_rules! each {
    ($behind:expr, $target:ident => $expression:expr) => {
        match $behind {
            Behind::Filesystem($target) => $expression,
            Behind::Volume($target) => $expression,
            Behind::Loop($target) => $expression,
            Behind::Mem($target) => $expression,
            Behind::Null($target) => $expression,
        }
    };
}

impl Behind {
    pub(super) fn identity(&self) -> Option<Identity> {
        each!(self, target => target.identity())
    }

    pub(super) fn limits(&self) -> Limits {
        each!(self, target => target.limits())
    }

    /// How large the device may be now.
    pub(super) fn size(&self) -> Bytes {
        match self {
            Self::Volume(volume) => volume.size(),
            other => other.limits().size,
        }
    }

    pub(super) fn start(
        &self,
        options: &Options,
        added: impl FnOnce(u32) -> Result<(), DeviceError>,
    ) -> Result<Device, DeviceError> {
        each!(self, target => Device::start(target, options, added))
    }

    /// The device is gone: what a client could have gone on with goes too.
    pub(super) fn gone(&self) {
        if let Self::Filesystem(filesystem) = self
            && let Err(error) = filesystem.end_session()
        {
            tracing::error!("what the mount of a deleted device held is given back at the next opening: {error}");
        }
    }

    pub(super) fn take_over(&self, orphan: Orphan) -> Result<Device, DeviceError> {
        each!(self, target => Device::take_over(orphan, target))
    }
}
