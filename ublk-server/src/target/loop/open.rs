// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finding out what a file or device can do, without changing what it holds.
//!
//! | ability | a regular file has it if | a block device has it if |
//! |---|---|---|
//! | direct I/O in blocks of 512 or 4096 | a read of that length succeeds | the same |
//! | discard | its file system punches holes | it can zero without data (its `write_zeroes_max_bytes`) |
//! | write-zeroes | so can zeros, space kept | the same |

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::sys::stat::{major, minor};
use thiserror::Error;
use vexfs::disk::{Access, Disk, FileDisk, Kind, OpenDiskError};

use super::{Loop, Zeros};
use crate::identity::Identity;
use crate::map::AnonymousMap;
use crate::target::{Limits, NO_PREFERENCE, WriteCache};
use crate::units::{BlockSize, Bytes};

/// The unit of discards where the system names none that makes sense.
const COMMON_GRANULARITY: u64 = 4096;

/// Why a file cannot be a disk.
#[derive(Debug, Error)]
pub enum LoopError {
    /// It cannot be opened and locked.
    #[error(transparent)]
    Open(#[from] OpenDiskError),
    /// Something about it cannot be found out.
    #[error("cannot {what} {}: {source}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Direct I/O wants larger blocks.
    #[error(
        "{} takes direct I/O in blocks of 4096 only: leave out --block-size 512, or add --buffered",
        .0.display()
    )]
    BlockSize(PathBuf),
    /// There is no room for a single block.
    #[error("{} is smaller than a block of {block}: make it larger first (truncate --size)", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// The size of a block.
        block: Bytes,
    },
}

impl LoopError {
    /// Whether somebody else has the file.
    pub const fn is_in_use(&self) -> bool {
        matches!(self, Self::Open(OpenDiskError::InUse { .. }))
    }
}

/// What a file offers beside reading and writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Abilities {
    discard: Option<Bytes>,
    write_zeroes: bool,
}

impl Loop {
    /// Opens what exists at the path. Without a block size, the smallest one possible is taken. The page cache is passed
    /// by where that is possible, unless `buffered` is asked for.
    pub fn open(path: &Path, block_size: Option<BlockSize>, buffered: bool) -> Result<Self, LoopError> {
        let fail = |what| {
            move |source| LoopError::System {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let disk = FileDisk::open(path, Access::ReadWrite)?;
        let file = disk.share().map_err(fail("share"))?;
        let direct = if buffered {
            None
        } else {
            make_direct(&disk, &file).map_err(fail("try direct I/O on"))?
        };
        let smallest = direct.unwrap_or(BlockSize::B512);
        let block_size = block_size.unwrap_or(smallest);
        if block_size.bytes() < smallest.bytes() {
            return Err(LoopError::BlockSize(path.to_owned()));
        }
        let size = disk.size_bytes();
        let rest = size % block_size.bytes().get();
        if size == rest {
            return Err(LoopError::TooSmall {
                path: path.to_owned(),
                block: block_size.bytes(),
            });
        }
        if rest != 0 {
            tracing::warn!(
                "the last {rest} bytes of {} are not a block: they stay unused",
                path.display()
            );
        }
        let abilities = match disk.kind() {
            Kind::File => of_file(&file, path),
            Kind::Device => of_device(&file),
        };
        let abilities = abilities.map_err(fail("find out what can be done to"))?;
        let limits = Limits {
            size: Bytes::new(size - rest),
            block_size,
            write_cache: WriteCache::FlushAndFua,
            discard: abilities.discard.map(|unit| unit.max(block_size.bytes())),
            write_zeroes: abilities.write_zeroes,
            preferred: NO_PREFERENCE,
        };
        let (place, number) = disk.identity().map_err(fail("look at"))?;
        Ok(Self {
            file,
            _disk: disk,
            limits,
            identity: Identity::of("loop", &[&place.to_le_bytes(), &number.to_le_bytes()]),
            sync_failed: AtomicBool::new(false),
        })
    }
}

/// Passes by the page cache from now on, if the file takes that: in blocks of at least the size returned.
fn make_direct(disk: &FileDisk, file: &File) -> io::Result<Option<BlockSize>> {
    let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    match disk.set_direct(true) {
        Err(error) if refused(&error) => return Ok(None),
        set => set?,
    }
    // At the start of a page, which is as much as any device asks for.
    let mut page = AnonymousMap::new(const { NonZeroUsize::new(4096).unwrap() })?;
    for size in [BlockSize::B512, BlockSize::B4096] {
        let length = usize::try_from(size.bytes().get()).unwrap_or(usize::MAX);
        let buffer = page.as_mut_slice().get_mut(..length).unwrap_or_default();
        match file.read_at(buffer, 0) {
            Err(error) if refused(&error) => {}
            read => return read.map(|_| Some(size)),
        }
    }
    disk.set_direct(false)?;
    Ok(None)
}

/// Tried on another file of the same file system, which never gets a name.
fn of_file(file: &File, path: &Path) -> io::Result<Abilities> {
    let found = file.metadata()?;
    let unit = found.blksize();
    let unit = if unit.is_power_of_two() && (512..=1 << 20).contains(&unit) {
        unit
    } else {
        COMMON_GRANULARITY
    };
    let path = path.canonicalize()?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut options = OpenOptions::new();
    let scratch = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(directory);
    let scratch = match scratch {
        Ok(scratch) if scratch.metadata()?.dev() == found.dev() => scratch,
        // Nothing is offered that was not seen to work.
        Ok(_) | Err(_) => {
            return Ok(Abilities {
                discard: None,
                write_zeroes: false,
            });
        }
    };
    let length = i64::try_from(unit).map_err(|_| Errno::EFBIG)?;
    let can = |how: Zeros| {
        let mode = FallocateFlags::from_bits_retain(how.mode());
        fallocate(scratch.as_fd(), mode, 0, length).is_ok()
    };
    let punches = can(Zeros::Hole);
    Ok(Abilities {
        discard: punches.then_some(Bytes::new(unit)),
        // One that may give up its space is a hole.
        write_zeroes: punches && can(Zeros::Kept),
    })
}

fn of_device(file: &File) -> io::Result<Abilities> {
    let number = file.metadata()?.rdev();
    let device = PathBuf::from(format!("/sys/dev/block/{}:{}", major(number), minor(number)));
    // A partition has the queue of its disk.
    let queues = [device.join("queue"), device.join("../queue")];
    let queue = queues.iter().find(|queue| queue.exists());
    let number = |name: &str| -> u64 {
        let text = queue.and_then(|queue| fs::read_to_string(queue.join(name)).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    // `fallocate` on a device makes holes and zeros of these, and so promises that they read as zeros.
    let zeroes = number("write_zeroes_max_bytes") > 0;
    let unit = number("discard_granularity");
    let unit = if unit.is_power_of_two() {
        unit
    } else {
        COMMON_GRANULARITY
    };
    Ok(Abilities {
        discard: zeroes.then_some(Bytes::new(unit)),
        write_zeroes: zeroes,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::NamedTempFile;

    use super::*;

    fn file(size: u64) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(size).unwrap();
        file
    }

    #[test]
    fn the_size_is_whole_blocks_of_what_there_is() {
        let backing = file((1 << 20) + 700);
        let size = |block_size| {
            let target = Loop::open(backing.path(), Some(block_size), true).unwrap();
            target.limits.size.get()
        };
        assert_eq!(size(BlockSize::B512), (1 << 20) + 512);
        assert_eq!(size(BlockSize::B4096), 1 << 20);
    }

    #[test]
    fn a_file_without_a_block_is_refused() {
        for size in [0, 511] {
            let error = Loop::open(file(size).path(), Some(BlockSize::B512), true).unwrap_err();
            assert!(matches!(error, LoopError::TooSmall { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_serves_one_device_only() {
        let backing = file(1 << 20);
        let first = Loop::open(backing.path(), None, false).unwrap();
        let error = Loop::open(backing.path(), None, false).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        drop(first);
        Loop::open(backing.path(), None, false).unwrap();
    }

    #[test]
    fn looking_at_a_file_changes_nothing_about_it() {
        let backing = file((1 << 20) + 512);
        let before = backing.as_file().metadata().unwrap();
        drop(Loop::open(backing.path(), None, false).unwrap());
        let after = backing.as_file().metadata().unwrap();
        assert_eq!((before.len(), before.blocks()), (after.len(), after.blocks()));
    }

    #[test]
    fn what_is_no_file_or_device_is_refused() {
        for path in ["/", "/dev/null", "/nonexistent"] {
            let error = Loop::open(Path::new(path), None, false).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
