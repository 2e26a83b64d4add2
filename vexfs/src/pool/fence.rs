// SPDX-License-Identifier: MIT OR Apache-2.0

//! A disk that stops changing once the pool on it is lost to another machine.

use std::ops::Range;
use std::sync::Arc;

use super::heartbeat::Ownership;
use crate::disk::Disk;
use crate::error::Result;

pub(super) struct Fence {
    disk: Arc<dyn Disk>,
    ownership: Ownership,
}

impl Fence {
    pub(super) const fn new(disk: Arc<dyn Disk>, ownership: Ownership) -> Self {
        Self { disk, ownership }
    }
}

impl Disk for Fence {
    fn size_bytes(&self) -> u64 {
        self.disk.size_bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.disk.read(at, into)
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        self.ownership.require("write")?;
        self.disk.write(at, from)
    }

    /// Also asks afterwards: what was synced past the end of the lease may be overwritten already.
    fn sync(&self) -> Result<()> {
        self.ownership.require("sync")?;
        self.disk.sync()?;
        self.ownership.require("sync")
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.ownership.require("discard")?;
        self.disk.discard(range)
    }
}
