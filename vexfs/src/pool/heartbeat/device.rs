// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the heartbeat goes.

use std::io;
use std::sync::Arc;

use crate::disk::{DirectBlock, Disk};
use crate::pool::HEARTBEAT;
use crate::units::BLOCK_SIZE;

/// The block that all machines see: no cache of this machine in between.
pub trait HeartbeatDevice: Send + 'static {
    /// What it holds now.
    fn read(&mut self, into: &mut [u8; BLOCK_SIZE]) -> io::Result<()>;

    /// Returns when others can see it.
    fn write(&mut self, from: &[u8; BLOCK_SIZE]) -> io::Result<()>;
}

impl HeartbeatDevice for DirectBlock {
    fn read(&mut self, into: &mut [u8; BLOCK_SIZE]) -> io::Result<()> {
        *into = *Self::read(self)?;
        Ok(())
    }

    fn write(&mut self, from: &[u8; BLOCK_SIZE]) -> io::Result<()> {
        Self::write(self, from)
    }
}

/// The block of a disk that has no cache which others do not share.
pub struct SharedBlock(pub Arc<dyn Disk>);

impl HeartbeatDevice for SharedBlock {
    fn read(&mut self, into: &mut [u8; BLOCK_SIZE]) -> io::Result<()> {
        self.0.read(HEARTBEAT.byte_at(), into).map_err(io::Error::other)
    }

    fn write(&mut self, from: &[u8; BLOCK_SIZE]) -> io::Result<()> {
        self.0.write(HEARTBEAT.byte_at(), from).map_err(io::Error::other)
    }
}
