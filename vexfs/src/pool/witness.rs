// SPDX-License-Identifier: MIT OR Apache-2.0

//! Whether a pool was opened for writing by another machine since this one did.

use std::io;
use std::sync::Arc;

use uuid::Uuid;

use super::Host;
use super::heartbeat::Witness;
use super::superblock::{Condition, Superblock, Survey};
use crate::disk::{Disk, FileDisk};
use crate::error::IoFailure;

/// Knows the superblock as it was before this machine opened the pool, and who this machine is. What this machine commits
/// bears its boot id from the first commit on; what another one commits bears another.
pub(super) struct Superblocks {
    uuid: Uuid,
    before: (u64, [u8; 16]),
    mine: [u8; 16],
    disk: Arc<dyn Disk>,
    /// The same, where a cache of this machine has to be passed by.
    file: Option<Arc<FileDisk>>,
}

impl Superblocks {
    pub(super) fn new(found: &Superblock, host: &Host, disk: &Arc<dyn Disk>, file: Option<&Arc<FileDisk>>) -> Self {
        Self {
            uuid: found.uuid,
            before: (found.epoch, found.boot_id),
            mine: host.identity.boot_id,
            disk: Arc::clone(disk),
            file: file.map(Arc::clone),
        }
    }

    fn survey(&self) -> Survey {
        match &self.file {
            None => Survey::of(self.disk.as_ref()),
            Some(file) => Survey::read(file.size_bytes(), |at, into| {
                let read = || io::Result::Ok(*file.direct_block(at)?.read()?);
                into.copy_from_slice(&read().map_err(|error| IoFailure::new("direct read of a superblock", error))?);
                Ok(())
            }),
        }
    }
}

impl Witness for Superblocks {
    fn is_unchanged(&mut self) -> io::Result<bool> {
        match self.survey().newest() {
            Ok(found) => {
                let untouched = (found.epoch, found.boot_id) == self.before;
                let opened_here = found.epoch > self.before.0 && found.boot_id == self.mine && self.mine != [0; 16];
                Ok(found.uuid == self.uuid && (untouched || opened_here))
            }
            Err(Condition::Unreadable(error)) => Err(io::Error::other(error.to_string())),
            Err(_) => Ok(false),
        }
    }
}
