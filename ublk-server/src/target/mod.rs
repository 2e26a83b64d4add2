// SPDX-License-Identifier: MIT OR Apache-2.0

//! What stands behind a device.
//!
//! # Contract
//!
//! - [`Target::limits`] is asked once, before the device exists; the answer may not change.
//! - [`Target::handle`] is called from all queue threads at once, with any number of requests pending, in no particular
//!   order. Requests may overlap; as on any disk, what overlapping requests in flight leave behind is one of them,
//!   block by block.
//! - Its future runs on the queue's thread, next to the requests of all other tags: it may wait, for operations of the ring
//!   it is handed ([`Io`]) and for nothing else, but must not block. Operations on that ring may name the request's data: if
//!   the future is dropped before it ended, the memory stays.
//! - The data of requests is where one of [`Target::transfers`] puts it, the same for all requests of a device.
//! - An operation that [`Limits`] does not offer is not sent by the block layer. A target answers it nevertheless,
//!   usually with [`IoError::Unsupported`].

mod blocks;
mod filesystem;
mod r#loop;
mod mem;
mod null;
mod volume;

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use io_uring::types;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::Instrument;

pub use self::filesystem::{Filesystem, FilesystemError};
pub use self::r#loop::{Loop, LoopError};
pub use self::mem::{Mem, MemError};
pub use self::null::Null;
pub use self::volume::{Volume, VolumeError};
use crate::identity::Identity;
use crate::metrics::{QueueMetrics, Stage};
pub use crate::payload::{Memory, Payload};
use crate::ring::Ring;
use crate::transfer::Transfer;
use crate::units::{BlockSize, ByteRange, Bytes};

/// What a block device does to requests.
pub trait Target: Send + Sync + 'static {
    /// A short name for logs and for the driver.
    fn name(&self) -> &'static str;

    /// Size and abilities.
    fn limits(&self) -> Limits;

    /// Files for operations on the queues' rings, which register them: the first is [`FIRST_FILE`] there, and so on.
    fn files(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// What it serves, if another process can serve the same after this one died. Applications then wait for that; without
    /// one, they get errors.
    fn identity(&self) -> Option<Identity> {
        None
    }

    /// How it can take data, best first.
    fn transfers(&self) -> &'static [Transfer] {
        &[Transfer::Copy]
    }

    /// Carries out one request. `Ok` means all of it: there are no short reads or writes.
    fn handle(&self, io: &Io<'_>, request: Request<'_>) -> impl Future<Output = Result<(), IoError>>;
}

/// What a target works with.
#[derive(Clone, Copy)]
pub struct Io<'q> {
    /// The ring of the queue.
    pub(crate) ring: &'q Ring,
    pub(crate) meter: &'q QueueMetrics,
}

impl Io<'_> {
    /// Does a part of the work, and measures it.
    pub(crate) async fn stage<R>(&self, stage: Stage, work: impl Future<Output = R>) -> R {
        let began = Instant::now();
        let result = if tracing::enabled!(target: "ublk::io", tracing::Level::TRACE) {
            let span = tracing::trace_span!(target: "ublk::io", "stage", name = stage.name());
            work.instrument(span).await
        } else {
            work.await
        };
        self.meter.stage_took(stage, began.elapsed());
        result
    }
}

/// What the first of [`Target::files`] is registered as; before it comes the channel to the driver.
pub(crate) const FIRST_FILE: types::Fixed = types::Fixed(1);

/// Size and abilities of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How large the device is; a whole number of blocks.
    pub size: Bytes,
    /// The logical block size.
    pub block_size: BlockSize,
    /// Whether completed writes can still be lost.
    pub write_cache: WriteCache,
    /// Whether unused stretches can be given back, and in which unit; a whole number of blocks.
    pub discard: Option<Bytes>,
    /// Whether stretches can be zeroed without sending zeros.
    pub write_zeroes: bool,
    /// In what sizes long stretches are best moved: a power of two, of a page at least. The kernel reads ahead twice as much.
    pub preferred: Bytes,
}

/// [`Limits::preferred`] where it does not matter.
pub const NO_PREFERENCE: Bytes = Bytes::new(4096);

/// How a target makes writes durable, and so which requests the block layer sends for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteCache {
    /// A completed write is as durable as it gets: the device is never asked to flush.
    WriteThrough,
    /// A completed write is durable after the next flush; a FUA write is sent as a write and a flush.
    Flush,
    /// As [`WriteCache::Flush`], and FUA writes are sent as they are.
    FlushAndFua,
}

/// One request, checked against the driver's buffer but not against the size of the device.
#[derive(Debug)]
pub enum Request<'b> {
    /// Fill `into` with what is at `offset`.
    Read {
        /// First byte on the device.
        offset: u64,
        /// Where the data goes.
        into: Payload<'b>,
    },
    /// Store `from` at `offset`.
    Write {
        /// First byte on the device.
        offset: u64,
        /// The data.
        from: Payload<'b>,
        /// Whether the data must be durable before the request completes.
        fua: bool,
    },
    /// Make all completed writes durable.
    Flush,
    /// The content of the range is no longer needed.
    Discard {
        /// What to discard.
        range: ByteRange,
    },
    /// Make the range read as zeros.
    WriteZeroes {
        /// What to zero.
        range: ByteRange,
        /// Whether the space behind it may be given up. If not, later writes to it must not fail for lack of space.
        may_unmap: bool,
    },
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum IoError {
    /// It touches bytes beyond the end of the device.
    #[error("the request goes beyond the end of the device")]
    OutOfRange,
    /// The target does not do that.
    #[error("the operation is not supported")]
    Unsupported,
    /// The driver's description contradicts itself.
    #[error("the request is malformed")]
    Malformed,
    /// What is behind the target refused.
    #[error("what is behind the device refused: {0}")]
    Backing(Errno),
}

impl IoError {
    /// What the application gets to see.
    pub const fn errno(self) -> Errno {
        match self {
            Self::OutOfRange => Errno::EIO,
            Self::Unsupported => Errno::EOPNOTSUPP,
            Self::Malformed => Errno::EINVAL,
            Self::Backing(errno) => errno,
        }
    }
}

/// `len` bytes at `offset`, if the device has them.
fn range_within(offset: u64, len: usize, size: Bytes) -> Result<ByteRange, IoError> {
    let len = u64::try_from(len).map_err(|_| IoError::OutOfRange)?;
    within(ByteRange::new(offset, len).ok_or(IoError::OutOfRange)?, size)
}

/// `range`, if the device has it.
fn within(range: ByteRange, size: Bytes) -> Result<ByteRange, IoError> {
    if range.end() <= size.get() {
        Ok(range)
    } else {
        Err(IoError::OutOfRange)
    }
}
