// SPDX-License-Identifier: MIT OR Apache-2.0

//! A regular file or a block device as a [`Disk`].
//!
//! # Who may open
//!
//! One writer, or several readers, over all processes of this machine. The lock is `flock`, taken before anything is
//! read; it ends with the process, however that ends. A writer of a block device also opens it with `O_EXCL`, which
//! fails while the device is mounted or part of a RAID, a volume group or a swap area. udev takes a short shared `flock`
//! of devices it looks at, so a device is tried for a moment before it counts as in use. Other machines that share the
//! device are kept out by `pool::heartbeat`.
//!
//! # Durability
//!
//! `sync` is `fdatasync`. After it failed once it fails for ever: the kernel has marked the pages clean, and a second
//! attempt would succeed without having written them.

mod direct;
mod discard;
mod lock;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, Flock, OFlag, fallocate, fcntl};
use nix::libc;

use super::{AlignedBlock, Disk, check_bounds};
use crate::error::{IoFailure, Result};
use crate::units::BLOCK_SIZE;

pub use direct::DirectBlock;
pub use lock::Holder;

/// What an open disk may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Reading; others may read too.
    ReadOnly,
    /// Reading and writing; nobody else may do either.
    ReadWrite,
}

/// What is at the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A block device.
    Device,
}

/// Why a file or device could not be opened. Read by a person: each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenDiskError {
    /// Somebody else uses it.
    #[error("{} is in use{}; unmount it there, or wait for the tool that has it open", path.display(), Holder::phrase(holder.as_ref()))]
    InUse {
        /// What was to be opened.
        path: PathBuf,
        /// Who has it, where the system tells.
        holder: Option<Holder>,
    },
    /// Neither a regular file nor a block device.
    #[error("{} is neither a regular file nor a block device; name one of these", .0.display())]
    WrongKind(PathBuf),
    /// The system refused.
    #[error("cannot open {}: {source}; check the path and the permissions", path.display())]
    System {
        /// What was to be opened.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// See the module's text.
#[derive(Debug)]
pub struct FileDisk {
    /// Locked for as long as the disk lives.
    file: Flock<File>,
    /// Through the page cache, where `file` passes by it; see [`Self::pass_by_cache`].
    cached: Option<File>,
    path: PathBuf,
    kind: Kind,
    access: Access,
    size: AtomicU64,
    /// Discards were refused as unsupported: not tried again.
    cannot_discard: AtomicBool,
    /// A sync failed.
    sync_failed: AtomicBool,
}

impl FileDisk {
    /// Opens and locks what exists at the path.
    pub fn open(path: &Path, access: Access) -> std::result::Result<Self, OpenDiskError> {
        let fail = |source| OpenDiskError::System {
            path: path.to_owned(),
            source,
        };
        // Looked at first: opening a device node of another kind can have effects, opening a FIFO waits.
        let kind = Self::kind_of(&path.metadata().map_err(fail)?, path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite);
        options.custom_flags(match (kind, access) {
            (Kind::Device, Access::ReadWrite) => libc::O_EXCL | libc::O_NONBLOCK,
            _ => libc::O_NONBLOCK,
        });
        let file = options.open(path).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => OpenDiskError::InUse {
                path: path.to_owned(),
                holder: path.metadata().ok().and_then(|found| Holder::of(&found, kind)),
            },
            _ => fail(error),
        })?;
        Self::lock(file, path, kind, access)
    }

    /// Makes a regular file, which must not exist yet, and locks it.
    pub fn create(path: &Path, size_bytes: u64) -> std::result::Result<Self, OpenDiskError> {
        let fail = |source| OpenDiskError::System {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(fail)?;
        let disk = Self::lock(file, path, Kind::File, Access::ReadWrite)?;
        disk.file.set_len(size_bytes).map_err(fail)?;
        disk.size.store(size_bytes, Ordering::Relaxed);
        Ok(disk)
    }

    fn lock(file: File, path: &Path, kind: Kind, access: Access) -> std::result::Result<Self, OpenDiskError> {
        let fail = |source| OpenDiskError::System {
            path: path.to_owned(),
            source,
        };
        // What is open decides, not what the path named a moment ago.
        let found = file.metadata().map_err(fail)?;
        if Self::kind_of(&found, path)? != kind {
            return Err(OpenDiskError::WrongKind(path.to_owned()));
        }
        let file = lock::take(file, kind, access).map_err(|errno| match errno {
            Errno::EWOULDBLOCK => OpenDiskError::InUse {
                path: path.to_owned(),
                holder: Holder::of(&found, kind),
            },
            errno => fail(errno.into()),
        })?;
        // Only opening was not to wait. Left on, io_uring would fail what cannot be done at once.
        let flags = fcntl(&*file, FcntlArg::F_GETFL).map_err(|errno| fail(errno.into()))?;
        let flags = OFlag::from_bits_retain(flags) - OFlag::O_NONBLOCK;
        fcntl(&*file, FcntlArg::F_SETFL(flags)).map_err(|errno| fail(errno.into()))?;
        let disk = Self {
            file,
            cached: None,
            path: path.to_owned(),
            kind,
            access,
            size: AtomicU64::new(0),
            cannot_discard: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
        };
        disk.refresh_size().map_err(fail)?;
        Ok(disk)
    }

    fn kind_of(found: &std::fs::Metadata, path: &Path) -> std::result::Result<Kind, OpenDiskError> {
        match found.file_type() {
            kind if kind.is_file() => Ok(Kind::File),
            kind if kind.is_block_device() => Ok(Kind::Device),
            _ => Err(OpenDiskError::WrongKind(path.to_owned())),
        }
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What it was opened for.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Device and inode, or the number of the block device: what makes two paths the same thing.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        Ok(identity_of(&self.file.metadata()?))
    }

    /// Asks the system for the size, which grows with the device, and remembers it.
    pub fn refresh_size(&self) -> io::Result<u64> {
        let size = (&*self.file).seek(SeekFrom::End(0))?;
        self.size.store(size, Ordering::Relaxed);
        Ok(size)
    }

    /// Makes a regular file at least so large; a block device must be so large already. What comes into being reads as
    /// zero and takes no space yet.
    pub fn grow(&self, size_bytes: u64) -> Result<()> {
        let what = || format!("grow {} to {size_bytes} bytes", self.path.display());
        let now = self.refresh_size().map_err(|source| IoFailure::new(what(), source))?;
        if now >= size_bytes {
            return Ok(());
        }
        if self.kind == Kind::Device {
            let source = io::Error::new(io::ErrorKind::InvalidInput, format!("the device has {now} bytes"));
            return Err(IoFailure::new(what(), source));
        }
        let grown = self.file.set_len(size_bytes).and_then(|()| self.refresh_size());
        grown.map(drop).map_err(|source| IoFailure::new(what(), source))
    }

    /// Reserves the space of a range of a regular file with the file system below, so that writing there cannot fail for
    /// want of space. Does nothing for a device, and where the file system cannot.
    pub fn reserve(&self, range: Range<u64>) -> Result<()> {
        let length = range.end.saturating_sub(range.start);
        check_bounds("reservation", range.start, length, self.size_bytes())?;
        if self.kind == Kind::Device || length == 0 {
            return Ok(());
        }
        let result = offsets(&range)
            .and_then(|(start, length)| Ok(fallocate(self.file.as_fd(), FallocateFlags::empty(), start, length)?));
        match result {
            Err(error) if !is_unsupported(&error) => {
                let what = format_args!("reserve {length} bytes at byte {}", range.start);
                Err(IoFailure::new(what, error))
            }
            _ => Ok(()),
        }
    }

    /// Another descriptor of what is open here, for whoever moves bytes by other means; that counts for [`Disk::sync`] as
    /// well.
    ///
    /// It shares the lock. An operation of an `io_uring` outlives a process that is killed, and could still write when the
    /// next one has the file. It holds its descriptor, though, and so the lock, until it has ended.
    pub fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// From now on what is moved through a [`Self::share`] passes by the page cache, in aligned blocks; reads and writes
    /// here still go through it. The system keeps both ways consistent, at the price of looking for pages of each block.
    /// False, and nothing changes, where the file system cannot.
    pub fn pass_by_cache(&mut self) -> io::Result<bool> {
        let refused = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
        // The lock has to stay with the descriptor that is shared, so this is the one that gets the flag.
        let cached = self.reopen(0)?;
        match self.set_direct(true) {
            Err(error) if refused(&error) => return Ok(false),
            set => set?,
        }
        // Some file systems accept the flag and refuse the transfer.
        let mut block = AlignedBlock([0; BLOCK_SIZE]);
        match self.file.read_at(&mut block.0, 0) {
            Err(error) if refused(&error) => {
                self.set_direct(false)?;
                return Ok(false);
            }
            read => read?,
        };
        self.cached = Some(cached);
        Ok(true)
    }

    /// For reads and writes of any bytes.
    fn cached(&self) -> &File {
        self.cached.as_ref().unwrap_or(&self.file)
    }

    /// Whether reads and writes pass by the page cache, here and through every [`Self::share`]. The blocks they move must
    /// then be aligned. `InvalidInput` where the file system cannot.
    pub fn set_direct(&self, direct: bool) -> io::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(&*self.file, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_DIRECT, direct);
        fcntl(&*self.file, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    /// Another descriptor of the same file, with flags of its own (`O_DIRECT`). The lock stays with this disk.
    fn reopen(&self, flags: i32) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(self.access == Access::ReadWrite);
        let file = options.custom_flags(flags | libc::O_NONBLOCK).open(&self.path)?;
        if identity_of(&file.metadata()?) != self.identity()? {
            return Err(io::Error::other("the path now names another file"));
        }
        Ok(file)
    }

    /// One block through a descriptor of its own that passes by the page cache, for what other machines write too.
    pub fn direct_block(&self, byte_at: u64) -> io::Result<DirectBlock> {
        DirectBlock::open(self, byte_at)
    }
}

fn identity_of(found: &std::fs::Metadata) -> (u64, u64) {
    if found.file_type().is_block_device() {
        (u64::MAX, found.rdev())
    } else {
        (found.dev(), found.ino())
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY)
    )
}

fn offsets(range: &Range<u64>) -> io::Result<(i64, i64)> {
    let number = |bytes: u64| i64::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG));
    Ok((number(range.start)?, number(range.end - range.start)?))
}

impl Disk for FileDisk {
    fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        check_bounds("read", at, into.len() as u64, self.size_bytes())?;
        let length = into.len();
        let result = self.cached().read_exact_at(into, at);
        result.map_err(|source| IoFailure::new(format_args!("read of {length} bytes at byte {at}"), source))
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        check_bounds("write", at, from.len() as u64, self.size_bytes())?;
        let result = self.cached().write_all_at(from, at);
        result.map_err(|source| IoFailure::new(format_args!("write of {} bytes at byte {at}", from.len()), source))
    }

    fn sync(&self) -> Result<()> {
        let result = if self.sync_failed.load(Ordering::Acquire) {
            Err(io::Error::other("an earlier sync failed"))
        } else {
            // Failures of writing back are told to the descriptor that wrote.
            self.cached().sync_data()
        };
        result.map_err(|source| {
            self.sync_failed.store(true, Ordering::Release);
            IoFailure::new(format_args!("sync of {}", self.path.display()), source)
        })
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        let length = range.end.saturating_sub(range.start);
        check_bounds("discard", range.start, length, self.size_bytes())?;
        // Devices refuse parts of their sectors, and file systems would write zeros there.
        let block = BLOCK_SIZE as u64;
        let whole = range.start.next_multiple_of(block)..range.end - range.end % block;
        if whole.start >= whole.end || self.cannot_discard.load(Ordering::Relaxed) {
            return Ok(());
        }
        let result = match self.kind {
            Kind::File => discard::punch(&self.file, &whole),
            Kind::Device => discard::device(&self.file, &whole),
        };
        match result {
            Err(error) if is_unsupported(&error) => {
                self.cannot_discard.store(true, Ordering::Relaxed);
                Ok(())
            }
            result => result.map_err(|source| {
                IoFailure::new(
                    format_args!("discard of {length} bytes at byte {}", range.start),
                    source,
                )
            }),
        }
    }
}
