// SPDX-License-Identifier: MIT OR Apache-2.0

//! What administrators ask of an open pool: identity, label, size.

use std::io;

use crate::error::{Damage, Errno, Result};
use crate::pool::superblock::is_label;
use crate::pool::{Descriptor, Superblock};
use crate::units::BLOCK_SIZE;

use super::engine::{Fs, Limits};

impl Fs {
    /// The superblock as it was committed last.
    pub fn superblock(&self) -> Superblock {
        self.shared.pool.lock().superblock().clone()
    }

    /// Another way to the bytes of the pool, for moving what plans of reads and writes name. None if the pool is no file
    /// or device.
    pub fn descriptor(&self) -> io::Result<Option<Descriptor>> {
        self.shared.pool.lock().descriptor()
    }

    /// Gives the pool another label. Durable when this returns.
    pub fn set_label(&self, label: &str) -> Result<()> {
        if !is_label(label) {
            return Err(Errno::Invalid.into());
        }
        self.core().check_writable()?;
        let mut pool = self.shared.pool.lock();
        let result = pool.commit(|superblock| label.clone_into(&mut superblock.label));
        if let Err(error) = &result {
            self.core().fail(error);
        }
        result
    }

    /// Makes the pool larger while it is in use: to so many bytes, rounded down to blocks. A file grows with it, a device
    /// must have grown before. The journal stays as it is.
    pub fn grow(&self, bytes: u64) -> Result<()> {
        self.core().check_writable()?;
        let blocks = bytes / BLOCK_SIZE as u64;
        let mut pool = self.shared.pool.lock();
        pool.grow(blocks)?;
        let mut core = self.core();
        let journal_bytes = core.journal.capacity();
        core.state
            .space
            .grow_to(blocks)
            .map_err(|error| Damage::new("block map", error))?;
        core.limits = Limits::new(bytes, journal_bytes);
        core.reserve_for_checkpoint();
        Ok(())
    }
}
