// SPDX-License-Identifier: MIT OR Apache-2.0

//! The ring of transactions that makes operations survive.
//!
//! Transactions are appended in batches, each written by one call into the page cache ([`Journal::write_out`]); what was
//! written survives the end of the process, and power loss after the next sync of the disk. The journal never
//! syncs: whoever answers a flush does, once, for data and journal together.
//!
//! Positions count bytes since the pool was made and only grow; the place in the ring is the position modulo
//! the ring's size. A batch may wrap around the end. Between `tail` and `head` lies what recovery needs.
//!
//! # A batch
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `VXJB` |
//! | 4 | 4 | CRC32C of everything below, payload included |
//! | 8 | 4 | the same field of the batch before (of the first batch behind a tail: the tail's) |
//! | 12 | 4 | payload bytes |
//! | 16 | 8 | position of this batch |
//! | 24 | 8 | epoch: the mount that wrote it |
//! | 32 | 8 | sequence number of the first transaction |
//! | 40 | 8 | `durable_seq`: this and everything before it was durable when the batch was written |
//! | 48 | 4 | transactions |
//! | 52 | 4 | zero |
//! | 56 | … | payload: per transaction its length (4) and its bytes |
//!
//! Three fields end a log where it really ends: an old batch of an earlier lap has another position, one that an earlier
//! mount left beyond the place where recovery stopped has a lower epoch or does not chain.

mod recover;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

pub use recover::{Found, Log, Recovery, Verdict, recover, write_again};

use crate::checksum::Crc;
use crate::codec::Writer;
use crate::disk::Disk;
use crate::error::Result;
use crate::metrics::Histogram;
use crate::pool::Tail;
use crate::units::{Run, Seq};

/// First bytes of a batch.
pub const MAGIC: u32 = u32::from_le_bytes(*b"VXJB");
/// Bytes before the payload of a batch.
pub const HEADER_BYTES: usize = 56;
/// Longest payload of a batch.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// The writing end of the log.
pub struct Journal {
    disk: Arc<dyn Disk>,
    region: Run,
    epoch: u64,
    tail: u64,
    /// Where the batch under construction will be.
    head: u64,
    chain: Crc,
    /// Newest transaction pushed.
    newest: Seq,
    /// Newest transaction written out.
    written: Seq,
    /// `durable_seq` of the newest batch written out.
    durable_told: Seq,
    batch: Vec<u8>,
    batch_count: u32,
    /// Where [`Self::resume`] went on.
    resumed: Tail,
    write_times: Histogram,
}

impl Journal {
    /// Goes on where recovery ended.
    pub fn resume(disk: Arc<dyn Disk>, region: Run, epoch: u64, tail: u64, end: Tail) -> Self {
        Self {
            disk,
            region,
            epoch,
            tail,
            head: end.position,
            chain: end.chain,
            newest: end.seq,
            written: end.seq,
            durable_told: Seq(0),
            batch: Vec::with_capacity(4096),
            batch_count: 0,
            resumed: end,
            write_times: Histogram::default(),
        }
    }

    /// Appends a transaction to the batch under construction.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Seq {
        if self.batch.is_empty() {
            self.batch.resize(HEADER_BYTES, 0);
        }
        let length_at = self.batch.len();
        self.batch.put_u32(0);
        write(&mut self.batch);
        let length = u32::try_from(self.batch.len() - length_at - 4).unwrap_or(u32::MAX);
        if let Some(place) = self.batch.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
        self.batch_count += 1;
        self.newest = self.newest.next();
        self.newest
    }

    /// Writes the batch under construction. After an error nothing may be promised any more.
    pub fn write_out(&mut self, durable: Seq) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.put_u32(MAGIC);
        header.put_u32(0);
        header.put_u32(self.chain.0);
        header.put_u32(u32::try_from(self.batch.len() - HEADER_BYTES).unwrap_or(u32::MAX));
        header.put_u64(self.head);
        header.put_u64(self.epoch);
        header.put_u64(self.written.next().0);
        header.put_u64(durable.0);
        header.put_u32(self.batch_count);
        header.put_u32(0);
        if let Some(place) = self.batch.get_mut(..HEADER_BYTES) {
            place.copy_from_slice(&header);
        }
        let crc = Crc::of(self.batch.get(8..).unwrap_or_default());
        if let Some(place) = self.batch.get_mut(4..8) {
            place.copy_from_slice(&crc.0.to_le_bytes());
        }
        let place = Place::of(self.region, self.head);
        let (now, wrapped) = self.batch.split_at(place.until_end.min(self.batch.len()));
        let begin = Instant::now();
        self.disk.write(place.byte_at, now)?;
        if !wrapped.is_empty() {
            self.disk.write(self.region.start.byte_at(), wrapped)?;
        }
        self.write_times.record_alone(begin.elapsed(), 1);
        self.head += self.batch.len() as u64;
        self.chain = crc;
        self.written = self.newest;
        self.durable_told = durable;
        self.batch_count = 0;
        self.batch.clear();
        Ok(())
    }

    /// Whether a transaction of so many bytes fits, with a batch of its own.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.used() + (bytes + 4 + HEADER_BYTES) as u64 <= self.region.bytes()
    }

    /// Bytes between tail and head, the batch under construction included.
    pub fn used(&self) -> u64 {
        self.head - self.tail + self.batch.len() as u64
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.region.bytes()
    }

    /// Bytes written out since [`Self::resume`].
    pub const fn appended_bytes(&self) -> u64 {
        self.head - self.resumed.position
    }

    /// Transactions pushed since [`Self::resume`].
    pub const fn appended(&self) -> u64 {
        self.newest.0 - self.resumed.seq.0
    }

    /// Time of each batch that was written out since [`Self::resume`].
    pub const fn write_times(&self) -> &Histogram {
        &self.write_times
    }

    /// Bytes waiting for [`Self::write_out`].
    pub fn pending(&self) -> usize {
        self.batch.len()
    }

    /// Newest transaction pushed.
    pub const fn newest(&self) -> Seq {
        self.newest
    }

    /// Newest transaction written out.
    pub const fn written(&self) -> Seq {
        self.written
    }

    /// What the newest batch written out says is durable.
    pub const fn durable_told(&self) -> Seq {
        self.durable_told
    }

    /// The place behind everything written out: what a checkpoint of the present state makes the new tail.
    pub const fn end(&self) -> Tail {
        Tail {
            position: self.head,
            seq: self.written,
            chain: self.chain,
        }
    }

    /// What lies before a position is no longer needed.
    pub fn advance_tail(&mut self, position: u64) {
        debug_assert!(
            (self.tail..=self.head).contains(&position),
            "the tail only moves forward"
        );
        self.tail = position;
    }
}

/// Where a position is in the ring.
struct Place {
    byte_at: u64,
    /// Bytes to the end of the ring.
    until_end: usize,
}

impl Place {
    fn of(region: Run, position: u64) -> Self {
        let inside = position % region.bytes();
        Self {
            byte_at: region.start.byte_at() + inside,
            until_end: usize::try_from(region.bytes() - inside).unwrap_or(usize::MAX),
        }
    }
}
