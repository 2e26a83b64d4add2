// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finding a volume, and what it can do.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use thiserror::Error;
use vexfs::error::Error;
use vexfs::fs::Fs;
use vexfs::fs::record::{FileFlags, Kind};
use vexfs::units::BLOCK_SIZE;

use super::Volume;
use super::unseen::can_stay_unseen;
use crate::identity::Identity;
use crate::target::blocks::Blocks;
use crate::target::{Limits, NO_PREFERENCE, WriteCache};
use crate::units::{BlockSize, Bytes};

/// Enough that a flush need not wait for a large discard.
const HELPERS: usize = 4;

/// Why a file of a pool cannot be a disk.
#[derive(Debug, Error)]
pub enum VolumeError {
    /// There is no such file in it, or it cannot be looked at.
    #[error("{name}: {source}")]
    Find {
        /// Pool and path.
        name: String,
        /// What the engine said.
        source: Error,
    },
    /// Something else than a regular file.
    #[error("{0} is not a regular file: name one, or make one with 'vexfs-ublk volume create'")]
    NotAFile(String),
    /// Nobody may write it.
    #[error("{0} is immutable or for appending only: take the flag away first (chattr) where the pool is mounted")]
    Protected(String),
    /// There is no room for a single block.
    #[error("{0} is smaller than a block of {block}: make it larger first with 'vexfs-ublk volume resize'", block = Bytes::new(BLOCK_SIZE as u64))]
    TooSmall(String),
    /// The server itself lacks something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Volume {
    /// A file of an open pool. `pool` is where it is, for messages; the pool is to be closed by whoever opened it, when no
    /// queue serves the volume any more.
    pub fn open(fs: &Fs, pool: &Path, path: &OsStr) -> Result<Self, VolumeError> {
        let name = format!("{}:{}", pool.display(), path.display());
        let found = fs.resolve(path.as_bytes()).map_err(|source| VolumeError::Find {
            name: name.clone(),
            source,
        })?;
        if found.inode.kind() != Kind::File {
            return Err(VolumeError::NotAFile(name));
        }
        if found
            .inode
            .flags
            .any(FileFlags(FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0))
        {
            return Err(VolumeError::Protected(name));
        }
        let block = Bytes::new(BLOCK_SIZE as u64);
        let rest = found.inode.size % block.get();
        let size = Bytes::new(found.inode.size - rest);
        if size.get() == 0 {
            return Err(VolumeError::TooSmall(name));
        }
        if rest != 0 {
            tracing::warn!("the last {rest} bytes of {name} are not a block: they stay unused");
        }
        let blocks = Blocks::new(fs.clone(), HELPERS).map_err(|(what, source)| VolumeError::System { what, source })?;
        let unseen = can_stay_unseen(fs, found.ino, found.inode.flags, size.get());
        let unseen = unseen.map_err(|source| VolumeError::Find {
            name: name.clone(),
            source,
        })?;
        let zeros = if unseen {
            let opened = File::open("/dev/zero").map_err(|source| VolumeError::System {
                what: "open /dev/zero",
                source,
            });
            Some(opened?)
        } else {
            None
        };
        // Numbers of files are used again; their time of birth is not.
        let (uuid, born) = (fs.superblock().uuid, found.inode.born.0);
        let parts = [
            uuid.as_bytes().as_slice(),
            &found.ino.0.to_le_bytes(),
            &born.to_le_bytes(),
        ];
        Ok(Self {
            identity: Identity::of("volume", &parts),
            blocks,
            ino: found.ino,
            name,
            zeros,
            size: AtomicU64::new(size.get()),
            limits: Limits {
                size,
                // The unit of checksums: less would have to be read before it can be written.
                block_size: BlockSize::B4096,
                write_cache: WriteCache::Flush,
                discard: Some(block),
                write_zeroes: true,
                preferred: NO_PREFERENCE,
            },
        })
    }
}
