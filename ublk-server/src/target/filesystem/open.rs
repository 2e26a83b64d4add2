// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a device of a pool, to be mounted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;
use vexfs::client::{Bell, Server, addresses};
use vexfs::fs::Fs;

use super::Filesystem;
use crate::helpers::Helpers;
use crate::identity::Identity;
use crate::target::blocks::Blocks;
use crate::target::{Limits, WriteCache};
use crate::units::{BlockSize, Bytes};

/// Every piece of the log may wait for the one before it, and something must get on then.
const HELPERS: usize = addresses::LOG_PIECES as usize + 4;

/// What a file that is read from front to back is read in; so the next piece is on its way while one is copied.
const STREAM: Bytes = Bytes::new(512 << 10);

/// Why a pool cannot be served.
#[derive(Debug, Error)]
pub enum FilesystemError {
    /// The server itself lacks something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Filesystem {
    /// The smallest requests that a device may be limited to: calls and batches are not cut into pieces.
    pub const LEAST_IO: Bytes = Bytes::new(addresses::LOG_BYTES as u64);

    /// An open pool; `pool` is where it is, for messages. A client that a dead server left is served on, if the pool was
    /// opened so ([`vexfs::fs::MountOptions::keep_session`]). The pool is to be closed by whoever opened it, when no queue
    /// serves the device any more. `farewell` hears of each unmount in order, a moment before it is over.
    pub fn open(fs: &Fs, pool: &Path, farewell: Bell) -> Result<Self, FilesystemError> {
        let uuid = fs.superblock().uuid;
        let blocks =
            Blocks::new(fs.clone(), HELPERS).map_err(|(what, source)| FilesystemError::System { what, source })?;
        let queries =
            Helpers::start(usize::from(addresses::QUERY_LANES)).map_err(|source| FilesystemError::System {
                what: "start threads for queries",
                source,
            })?;
        Ok(Self {
            blocks,
            queries,
            server: Arc::new(Server::new(fs.clone()).with_farewell(farewell)),
            name: pool.display().to_string(),
            limits: Limits {
                size: Bytes::new(addresses::DEVICE_BYTES),
                block_size: BlockSize::B4096,
                write_cache: WriteCache::Flush,
                discard: None,
                write_zeroes: false,
                preferred: STREAM,
            },
            identity: Identity::of("filesystem", &[uuid.as_bytes().as_slice()]),
        })
    }
}
