// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool: its superblocks, its formatting, opening it exclusively, its size.
//!
//! # Layout
//!
//! | blocks | content |
//! |---|---|
//! | 0 | zero: left to boot sectors |
//! | 1, 2 | superblock slots 0 and 1 |
//! | 3 | [`heartbeat`] |
//! | 4.. | journal, if it is smaller than 1020 blocks |
//! | 1024 | zero |
//! | 1025, 1026 | copies of the superblock slots |
//! | 1027 | zero |
//! | 1028.. | journal, if it is larger |
//! | everything else | given out by `space` |
//!
//! # Contract
//!
//! - One [`Pool`] in read-write access exists per pool, over all processes of a machine (locks, see [`disk`](crate::disk))
//!   and, with the heartbeat on, over all machines. It alone changes the superblock.
//! - [`Pool::commit`] replaces the superblock atomically: after a crash at any moment the old or the new one is read. Who
//!   commits has synced before what the new superblock refers to.
//! - After a commit failed, what is on the disk is the old or the new superblock; the one in memory stays the old, and
//!   every further commit is refused. There is no way back but to open the pool again.
//! - Opening changes nothing. [`Superblock::begin_epoch`] is committed after replay and before the first change,
//!   [`Superblock::leave_clean`] as the last thing of all.
//! - With a heartbeat, [`Pool::disk`] refuses writes from the moment the pool is lost to another machine.

mod features;
mod fence;
pub mod format;
pub mod heartbeat;
mod host;
pub mod probe;
pub mod superblock;
#[cfg(test)]
mod tests;
mod usage;
mod witness;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, FileDisk, Kind, OpenDiskError};
use crate::error::{Errno, Error, Result};
use crate::units::{BLOCK_SIZE, Block};

pub use crate::disk::Access;
pub use features::{FeatureSet, Features};
use fence::Fence;
use heartbeat::{Claim, ClaimError, HeartbeatDevice, Ownership, Policy, Record, Runner, SharedBlock};
pub use host::Host;
pub use superblock::{
    Condition, HEARTBEAT, Manifest, Place, State, Superblock, SuperblockError, Survey, Tail, Timestamp,
};
use witness::Superblocks;

/// When the pool is protected against other machines.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Heartbeat {
    /// On block devices, which machines may share.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: whoever opens the pool knows that no other machine can.
    Off,
}

/// Whether bytes of files, moved through [`Pool::descriptor`], are kept in the page cache of the machine that holds the pool.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum HostCache {
    /// They are.
    #[default]
    Used,
    /// They are not, where the pool's file or device can do without.
    PassedBy,
}

/// How to open a pool.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Whether to write.
    pub access: Access,
    /// Only matters for writing: readers may read beside a living owner's back at their own risk.
    pub heartbeat: Heartbeat,
    /// Interval of the heartbeat, and what to do with a dead owner on another machine.
    pub policy: Policy,
    /// The machine.
    pub host: Host,
    /// What becomes of bytes moved through [`Pool::descriptor`].
    pub host_cache: HostCache,
}

impl OpenOptions {
    /// With the defaults, on this machine.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            heartbeat: Heartbeat::default(),
            policy: Policy::default(),
            host: Host::this(),
            host_cache: HostCache::Used,
        }
    }
}

/// Why a pool could not be opened. Read by a person: each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or device.
    #[error(transparent)]
    Disk(#[from] OpenDiskError),
    /// It is in use in a way that its lock does not show.
    #[error("{} is in use: {how}; end that first, or open that", path.display())]
    InUse {
        /// What was to be opened.
        path: PathBuf,
        /// In what way.
        how: String,
    },
    /// It holds something else, or nothing.
    #[error("this is not a VexFS pool: no superblock in any of four places; check the path, or format it")]
    NotAPool,
    /// No place holds a usable superblock.
    #[error("every superblock is damaged (the best of them: {0}); restore the pool from a backup")]
    Damaged(String),
    /// A newer engine made it.
    #[error("the pool is too new for this engine: {0}; use a newer one")]
    Unsupported(SuperblockError),
    /// A newer engine made it, but reading is safe.
    #[error("the pool uses features that this engine must not write ({0}); open it read-only, or use a newer engine")]
    ReadOnlyFeatures(Features),
    /// The end of the pool is missing.
    #[error(
        "the pool has {pool_blocks} blocks but its device only {device_blocks}; give it back its full size before opening it"
    )]
    Truncated {
        /// What the superblock says.
        pool_blocks: u64,
        /// What is there.
        device_blocks: u64,
    },
    /// Another machine.
    #[error(transparent)]
    Heartbeat(#[from] ClaimError),
    /// What the superblock refers to cannot be used.
    #[error("{0}; run fsck.vexfs on the pool")]
    Unusable(Error),
    /// The device failed.
    #[error("{0}; check the device")]
    Io(#[from] Error),
}

/// An open pool. See the module's text.
pub struct Pool {
    /// Declared before the file's handle: the heartbeat gives the pool up while the lock is still held.
    runner: Option<Runner>,
    disk: Arc<dyn Disk>,
    /// The same as `disk`, where it is a file or device and so may grow.
    file: Option<Arc<FileDisk>>,
    superblock: Superblock,
    /// As it was when the pool was opened.
    survey: Survey,
    access: Access,
    host: Host,
    /// A commit failed.
    failed: bool,
}

/// A descriptor of a pool's file or device, for whoever moves bytes by other means than [`Disk`]: whole blocks, at aligned
/// addresses, as it may pass by the page cache ([`OpenOptions::host_cache`]). The pool must outlive it.
#[derive(Debug)]
pub struct Descriptor {
    file: File,
    ownership: Option<Ownership>,
}

impl Descriptor {
    /// To be asked before each write: nothing while the pool is ours without doubt, and otherwise where to find out.
    pub fn in_doubt(&self) -> Option<&Ownership> {
        self.ownership.as_ref().filter(|ownership| !ownership.is_held())
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Pool {
    /// Opens a file or block device and locks it.
    pub fn open_path(path: &Path, options: &OpenOptions) -> std::result::Result<Self, OpenError> {
        // The loop device of a file has a lock of its own.
        if options.access == Access::ReadWrite
            && let Some(how) = usage::of(path)
        {
            let path = path.to_owned();
            return Err(OpenError::InUse { path, how });
        }
        let mut file = FileDisk::open(path, options.access)?;
        if options.host_cache == HostCache::PassedBy {
            let passes = file.pass_by_cache().map_err(|source| OpenDiskError::System {
                path: path.to_owned(),
                source,
            })?;
            tracing::debug!(passes, "page cache of {}", path.display());
        }
        let file = Arc::new(file);
        let beats = match options.heartbeat {
            Heartbeat::Auto => file.kind() == Kind::Device,
            Heartbeat::On => true,
            Heartbeat::Off => false,
        };
        Self::open(Arc::clone(&file) as Arc<dyn Disk>, Some(file), options, beats)
    }

    /// Opens a disk that nobody else opens. The heartbeat runs only if it is [`Heartbeat::On`], on the disk itself.
    pub fn open_disk(disk: Arc<dyn Disk>, options: &OpenOptions) -> std::result::Result<Self, OpenError> {
        let beats = options.heartbeat == Heartbeat::On;
        Self::open(disk, None, options, beats)
    }

    fn open(
        disk: Arc<dyn Disk>,
        file: Option<Arc<FileDisk>>,
        options: &OpenOptions,
        beats: bool,
    ) -> std::result::Result<Self, OpenError> {
        let (mut survey, mut superblock) = read_superblock(disk.as_ref(), options.access)?;
        let mut pool_disk = Arc::clone(&disk);
        let mut runner = None;
        if beats && options.access == Access::ReadWrite {
            let record = Record {
                pool: superblock.uuid,
                owner: options.host.identity.clone(),
                interval: options.policy.interval,
                counter: 0,
                claim: random_number().map_err(ClaimError::Device)?,
            };
            let device: Box<dyn HeartbeatDevice> = match &file {
                Some(file) => Box::new(file.direct_block(HEARTBEAT.byte_at()).map_err(ClaimError::Device)?),
                None => Box::new(SharedBlock(Arc::clone(&disk))),
            };
            let witness = Superblocks::new(&superblock, &options.host, &disk, file.as_ref());
            let started = Runner::start(device, Claim::new(record, options.policy), Box::new(witness))?;
            pool_disk = Arc::new(Fence::new(disk, started.ownership()));
            runner = Some(started);
            // Another machine may have owned and changed the pool until a moment ago.
            (survey, superblock) = read_superblock(pool_disk.as_ref(), options.access)?;
        }
        Ok(Self {
            runner,
            disk: pool_disk,
            file,
            superblock,
            survey,
            access: options.access,
            host: options.host.clone(),
            failed: false,
        })
    }

    /// The bytes of the pool.
    pub const fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Another way to the bytes of the pool, if it is a file or device.
    pub fn descriptor(&self) -> io::Result<Option<Descriptor>> {
        let Some(file) = &self.file else { return Ok(None) };
        Ok(Some(Descriptor {
            file: file.share()?,
            ownership: self.ownership(),
        }))
    }

    /// As it was committed last.
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// What was allowed when it was opened.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// The machine that opened it.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// What the places of the superblock held when the pool was opened.
    pub const fn survey(&self) -> &Survey {
        &self.survey
    }

    /// To ask whether the pool is still ours; none without a heartbeat.
    pub fn ownership(&self) -> Option<Ownership> {
        self.runner.as_ref().map(Runner::ownership)
    }

    /// Whether the pool was unmounted in order.
    pub fn was_clean(&self) -> bool {
        self.superblock.state == State::Clean
    }

    /// Whether this machine has been up ever since the pool was last opened for writing: then nothing written was lost,
    /// synced or not.
    pub fn same_boot(&self) -> bool {
        let boot = self.host.identity.boot_id;
        boot != [0; 16] && boot == self.superblock.boot_id
    }

    /// Writes the superblock again as it was read, for the next sync to cover: after a failed one it may be in the
    /// system's cache alone, and the other slot, which the next commit overwrites, be all there is on the disk.
    pub fn write_again(&self) -> Result<()> {
        superblock::write(self.disk.as_ref(), &self.superblock)
    }

    /// The number of the next opening for writing. Behind a damaged superblock there may be one that had begun the next epoch
    /// already: what was written in it must not count as written in this one.
    pub fn next_epoch(&self) -> u64 {
        let skipped = u64::from(self.survey.damaged().next().is_some());
        self.superblock.epoch + 1 + skipped
    }

    /// Replaces the superblock by a changed one, durably. See the module's text.
    pub fn commit(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<()> {
        if self.access == Access::ReadOnly {
            return Err(Errno::ReadOnly.into());
        }
        if self.failed {
            return Err(Errno::Failed.into());
        }
        let mut next = self.superblock.clone();
        change(&mut next);
        next.generation = self.superblock.generation + 1;
        // What could not be read back must not be written.
        next.validate()
            .map_err(|error| Error::undecodable("new superblock", error))?;
        let written = superblock::write(self.disk.as_ref(), &next).and_then(|()| self.disk.sync());
        self.failed = written.is_err();
        written?;
        self.superblock = next;
        Ok(())
    }

    /// Makes the pool larger. A file grows with it; a device must have grown before. Journal and fixed areas stay. To
    /// shrink is [`Errno::Invalid`], to outgrow the device [`Errno::NoSpace`].
    pub fn grow(&mut self, total_blocks: u64) -> Result<()> {
        if self.access == Access::ReadOnly {
            return Err(Errno::ReadOnly.into());
        }
        if total_blocks < self.superblock.total_blocks || total_blocks > Block::LIMIT {
            return Err(Errno::Invalid.into());
        }
        if let Some(file) = &self.file {
            if let Some(ownership) = self.ownership() {
                ownership.require("grow")?;
            }
            file.grow(Block(total_blocks).byte_at())?;
        }
        if self.disk.size_bytes() < Block(total_blocks).byte_at() {
            return Err(Errno::NoSpace.into());
        }
        // The new size of the file must not be lost when the superblock that needs it is not.
        self.disk.sync()?;
        self.commit(|superblock| superblock.total_blocks = total_blocks)
    }

    /// Writes the superblock to all its places anew, which mends damaged ones.
    pub fn rewrite_superblocks(&mut self) -> Result<()> {
        self.commit(|_| {})?;
        self.commit(|_| {})
    }
}

fn read_superblock(disk: &dyn Disk, access: Access) -> std::result::Result<(Survey, Superblock), OpenError> {
    let mut survey = Survey::of(disk);
    let superblock = match survey.newest() {
        Ok(found) => found.clone(),
        Err(Condition::Unsupported { error, .. }) => return Err(OpenError::Unsupported(error.clone())),
        Err(Condition::Damaged(SuperblockError::NoMagic)) => return Err(OpenError::NotAPool),
        Err(Condition::Damaged(error)) => return Err(OpenError::Damaged(error.to_string())),
        Err(Condition::Intact(_) | Condition::Misplaced) => {
            return Err(OpenError::Damaged("it lies where another belongs".into()));
        }
        Err(Condition::Unreadable(_)) => return Err(unreadable(&mut survey)),
    };
    let unknown = superblock.features.unknown();
    if access == Access::ReadWrite && unknown.ro_compat != 0 {
        let (compat, incompat) = (0, 0);
        return Err(OpenError::ReadOnlyFeatures(Features {
            compat,
            incompat,
            ..unknown
        }));
    }
    let device_blocks = whole_blocks(disk.size_bytes());
    if device_blocks < superblock.total_blocks {
        return Err(OpenError::Truncated {
            pool_blocks: superblock.total_blocks,
            device_blocks,
        });
    }
    Ok((survey, superblock))
}

/// Takes out the error of a place that could not be read: errors cannot be cloned.
fn unreadable(survey: &mut Survey) -> OpenError {
    let error = std::mem::take(&mut survey.places)
        .into_iter()
        .find_map(|place| match place.condition {
            Condition::Unreadable(error) => Some(error),
            _ => None,
        });
    error.map_or(OpenError::NotAPool, OpenError::Io)
}

fn random_number() -> std::io::Result<u64> {
    format::Seeds::from_system().map(|seeds| seeds.epoch)
}

/// Blocks that a device of so many bytes has: what does not fill a block at its end is not used.
const fn whole_blocks(bytes: u64) -> u64 {
    bytes / BLOCK_SIZE as u64
}
