// SPDX-License-Identifier: MIT OR Apache-2.0

//! What cannot be said about blocks.

use super::bitmap::ROW_BYTES;
use crate::error::{Damage, Error};
use crate::units::{Block, Run};

/// A claim about blocks that contradicts what is known about them. Nothing was changed.
///
/// While a pool is mounted this means that its metadata, its journal and its block map contradict each other, so it
/// turns into damage; later it means that somebody broke the contract of [`super::Space`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// A run is empty or leaves the pool.
    #[error("{run} is not a part of a pool of {pool_blocks} blocks")]
    Outside {
        /// The run.
        run: Run,
        /// Size of the pool.
        pool_blocks: u64,
    },
    /// What should become somebody's is somebody else's.
    #[error("{0} is in use already")]
    InUse(Block),
    /// What should become committed was never taken.
    #[error("{0} was not taken before")]
    NotTaken(Block),
    /// What should be given up is not owned.
    #[error("{0} is not in use")]
    NotCommitted(Block),
    /// What should become the system's has been promised.
    #[error("the free blocks of {0} are promised")]
    Promised(Run),
    /// A row of a group that the pool does not have.
    #[error("a row for group {0}, beyond the end of the pool")]
    RowOutside(u64),
    /// A row that is not of the one possible size.
    #[error("the row of group {group} has {bytes} bytes instead of {ROW_BYTES}")]
    RowSize {
        /// Its group.
        group: u64,
        /// Its size.
        bytes: usize,
    },
    /// A row that claims blocks behind the last one.
    #[error("the row of group {group} says that {block}, beyond the end of the pool, is in use")]
    RowBeyondEnd {
        /// Its group.
        group: u64,
        /// The first such block.
        block: Block,
    },
    /// A row of a group in which something is in use already.
    #[error("a second row for group {0}")]
    RowTwice(u64),
    /// A pool larger than can be managed.
    #[error("a pool of {0} blocks is larger than {max} blocks", max = super::Space::MAX_BLOCKS)]
    TooLarge(u64),
    /// Pools do not shrink.
    #[error("a pool of {from} blocks cannot shrink to {to}")]
    Shrinking {
        /// Current size.
        from: u64,
        /// Wanted size.
        to: u64,
    },
}

impl From<SpaceError> for Error {
    fn from(error: SpaceError) -> Self {
        Damage::new("block map", error)
    }
}
