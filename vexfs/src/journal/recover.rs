// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading a log back.
//!
//! Batches are taken in order while they chain. A transaction at or below the newest `durable_seq` *anywhere in the chain*
//! is taken as it is. What is newer was never promised to survive power loss, and the data blocks it names may not have
//! arrived: the caller looks at those, and the first transaction it does not accept ends the log.
//!
//! Damage in the middle of a log looks like its end. What tells the two apart is what lies behind: a batch of the same mount
//! that says that transactions were durable which are not in the chain ([`Scan::newest_behind`]).
//!
//! After a mere end of the process everything that was appended is in the page cache: the same rule then accepts all of
//! it, because all the data is there too.

use crate::checksum::Crc;
use crate::codec::{DecodeError, Reader};
use crate::disk::Disk;
use crate::error::{Damage, Error, Result};
use crate::units::{Run, Seq};

use super::{HEADER_BYTES, MAGIC, MAX_PAYLOAD, Place};
use crate::pool::Tail;

/// Damage this long is told from the end of a log: two batches of the greatest length.
const GAP_BYTES: u64 = 2 * (HEADER_BYTES + MAX_PAYLOAD) as u64;
/// What is looked through at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What the caller thinks of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was applied.
    Applied,
    /// Its data did not arrive: the log ends before it. Not allowed for what is durable.
    Ends,
    /// It cannot be applied: the log ends before it, promised or not. For checks.
    Stops,
}

/// A transaction of the log.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its number.
    pub seq: Seq,
    /// Its operations.
    pub bytes: &'a [u8],
    /// It was promised to survive.
    pub durable: bool,
}

/// How recovery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Where the log goes on. If it ended inside a batch, that is the batch's place: what was taken of it must be in the
    /// tables before something is written there.
    pub end: Tail,
    /// Newest transaction applied.
    pub applied: Seq,
    /// Whether the log ended inside a batch.
    pub inside_batch: bool,
    /// Newest transaction known to have been durable.
    pub durable: Seq,
    /// Transactions applied.
    pub transactions: u64,
}

/// What the superblock says about the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The ring.
    pub region: Run,
    /// Where it begins.
    pub tail: Tail,
    /// Where the last mount that wrote went on, and that mount's epoch. What an earlier mount left from there on was not
    /// taken then and must not be taken now: its data blocks have been free since.
    pub resumed_at: u64,
    /// See `resumed_at`.
    pub epoch: u64,
    /// This and everything before it was durable when the superblock was written.
    pub durable: Seq,
    /// What the device cannot read ends the log, instead of being an error. For checks.
    pub tolerant: bool,
}

/// Reads the log behind its tail.
pub fn recover(disk: &dyn Disk, log: &Log, mut apply: impl FnMut(Found<'_>) -> Result<Verdict>) -> Result<Recovery> {
    let durable = newest_durable(disk, log)?.max(log.durable);
    let mut recovery = Recovery {
        end: log.tail,
        applied: log.tail.seq,
        inside_batch: false,
        durable,
        transactions: 0,
    };
    let mut scan = Scan::new(disk, log);
    while let Some(batch) = scan.next()? {
        let mut payload = Reader::new(&batch.payload);
        let mut seq = batch.first;
        for index in 0..batch.count {
            let found = match next_transaction(&mut payload) {
                Err(_) if log.tolerant => {
                    recovery.inside_batch = index > 0;
                    return Ok(recovery);
                }
                other => other,
            }
            .map_err(|error| Damage::new(format_args!("journal batch at position {}", batch.position), error))?;
            let promised = seq <= durable;
            match apply(Found {
                seq,
                bytes: found,
                durable: promised,
            })? {
                Verdict::Applied => {}
                Verdict::Ends if promised => {
                    return Err(Damage::new(
                        format_args!("data of {seq}"),
                        format_args!("does not match its checksums although everything up to {durable} was durable"),
                    ));
                }
                Verdict::Ends | Verdict::Stops => {
                    recovery.inside_batch = index > 0;
                    return Ok(recovery);
                }
            }
            recovery.applied = seq;
            recovery.transactions += 1;
            seq = seq.next();
        }
        recovery.end = scan.end;
    }
    Ok(recovery)
}

/// Writes the log again as it is, up to a position: see `fs::mount` for why.
pub fn write_again(disk: &dyn Disk, log: &Log, end: u64) -> Result<()> {
    const PIECE: u64 = 1 << 20;
    let mut at = log.tail.position;
    while at < end {
        let place = Place::of(log.region, at);
        let count = usize::try_from((end - at).min(PIECE)).unwrap_or(0).min(place.until_end);
        let mut bytes = vec![0; count];
        disk.read(place.byte_at, &mut bytes)?;
        disk.write(place.byte_at, &bytes)?;
        at += count as u64;
    }
    Ok(())
}

fn next_transaction<'a>(payload: &mut Reader<'a>) -> std::result::Result<&'a [u8], DecodeError> {
    let length = payload.u32("transaction length")?;
    payload.bytes(length as usize, "transaction")
}

/// A first pass: the newest `durable_seq` of the chain, and of what lies behind it, decides about transactions before it.
fn newest_durable(disk: &dyn Disk, log: &Log) -> Result<Seq> {
    let mut scan = Scan::new(disk, log);
    let mut newest = log.tail.seq;
    while let Some(batch) = scan.next()? {
        newest = newest.max(batch.durable);
    }
    Ok(newest.max(scan.newest_behind()))
}

struct Batch {
    position: u64,
    first: Seq,
    durable: Seq,
    count: u32,
    payload: Vec<u8>,
}

/// What a batch says of itself beside its transactions.
struct Header {
    crc: Crc,
    chain: Crc,
    length: usize,
    epoch: u64,
}

struct Whole {
    header: Header,
    batch: Batch,
    /// Where the log goes on behind it.
    end: Tail,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES], position: u64) -> std::result::Result<(Self, Batch), DecodeError> {
        let mut reader = Reader::new(bytes);
        let expect = |what, is: u64, wanted: u64| {
            if is == wanted {
                Ok(())
            } else {
                Err(DecodeError::invalid(what, is))
            }
        };
        expect("magic", u64::from(reader.u32("magic")?), u64::from(MAGIC))?;
        let crc = Crc(reader.u32("crc")?);
        let chain = Crc(reader.u32("chain")?);
        let length = reader.u32("payload bytes")? as usize;
        expect("position", reader.u64("position")?, position)?;
        let epoch = reader.u64("epoch")?;
        let first = reader.u64("first sequence")?;
        let durable = Seq(reader.u64("durable sequence")?);
        let count = reader.u32("transactions")?;
        if count == 0 || durable.0 >= first {
            return Err(DecodeError::invalid("transactions", count));
        }
        let header = Self {
            crc,
            chain,
            length,
            epoch,
        };
        let batch = Batch {
            position,
            first: Seq(first),
            durable,
            count,
            payload: Vec::new(),
        };
        Ok((header, batch))
    }
}

struct Scan<'a> {
    disk: &'a dyn Disk,
    log: &'a Log,
    end: Tail,
    oldest_epoch: u64,
}

impl<'a> Scan<'a> {
    fn new(disk: &'a dyn Disk, log: &'a Log) -> Self {
        Self {
            disk,
            log,
            end: log.tail,
            oldest_epoch: 0,
        }
    }

    /// The next batch that chains, or the end of the log. Whatever does not fit is the end: only I/O is an error.
    fn next(&mut self) -> Result<Option<Batch>> {
        let Some(Whole { header, batch, end }) = self.whole_batch(self.end.position)? else {
            return Ok(None);
        };
        let oldest = if self.end.position < self.log.resumed_at {
            self.oldest_epoch
        } else {
            self.log.epoch
        };
        let chains = header.chain == self.end.chain
            && batch.first == self.end.seq.next()
            && (oldest..=self.log.epoch).contains(&header.epoch);
        if !chains {
            return Ok(None);
        }
        self.oldest_epoch = header.epoch;
        self.end = end;
        Ok(Some(batch))
    }

    /// The newest `durable_seq` that the last mount wrote down behind the end of the chain. Without damage there are at
    /// most batches that were not durable when the power went, and what those vouch for is in the chain. Looks on for as
    /// long as it finds something within [`GAP_BYTES`]. What cannot be read there is not missed: a log may end before it.
    fn newest_behind(&self) -> Seq {
        let mut newest = Seq(0);
        let mut position = self.end.position.max(self.log.resumed_at);
        let mut until = position + GAP_BYTES;
        let limit = self.log.tail.position.saturating_add(self.log.region.bytes());
        let mut piece = vec![0; PIECE_BYTES];
        while position + (HEADER_BYTES as u64) <= limit.min(until) {
            let count = usize::try_from(limit - position)
                .unwrap_or(PIECE_BYTES)
                .min(PIECE_BYTES);
            let piece = &mut piece[..count];
            let mut advance = count - (HEADER_BYTES - 1);
            if !matches!(self.read(position, piece), Ok(true)) {
                position += advance as u64;
                continue;
            }
            for at in memchr::memmem::find_iter(piece, &MAGIC.to_le_bytes()) {
                let at = position + at as u64;
                if let Ok(Some(Whole { header, batch, end })) = self.whole_batch(at)
                    && header.epoch == self.log.epoch
                {
                    newest = newest.max(batch.durable);
                    until = end.position + GAP_BYTES;
                    advance = usize::try_from(end.position - position).unwrap_or(advance);
                    break;
                }
            }
            position += advance as u64;
        }
        newest
    }

    /// An intact batch that was written for that position, whatever it belongs to.
    fn whole_batch(&self, position: u64) -> Result<Option<Whole>> {
        let left = (self.log.tail.position.saturating_add(self.log.region.bytes())).saturating_sub(position);
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        if !self.read(position, &mut bytes)? {
            return Ok(None);
        }
        let Ok((header, batch)) = Header::parse(&bytes, position) else {
            return Ok(None);
        };
        if header.length > MAX_PAYLOAD || (HEADER_BYTES + header.length) as u64 > left {
            return Ok(None);
        }
        let mut payload = vec![0; header.length];
        if !self.read(position + HEADER_BYTES as u64, &mut payload)? {
            return Ok(None);
        }
        if Crc::of_all([bytes.get(8..).unwrap_or_default(), &payload]) != header.crc {
            return Ok(None);
        }
        let Some(last) = batch.first.0.checked_add(u64::from(batch.count) - 1) else {
            return Ok(None);
        };
        let end = Tail {
            position: position + (HEADER_BYTES + header.length) as u64,
            seq: Seq(last),
            chain: header.crc,
        };
        let batch = Batch { payload, ..batch };
        Ok(Some(Whole { header, batch, end }))
    }

    /// False: the device cannot read it, and that ends the log.
    fn read(&self, position: u64, into: &mut [u8]) -> Result<bool> {
        let place = Place::of(self.log.region, position);
        let (now, wrapped) = into.split_at_mut(place.until_end.min(into.len()));
        let mut read = self.disk.read(place.byte_at, now);
        if read.is_ok() && !wrapped.is_empty() {
            read = self.disk.read(self.log.region.start.byte_at(), wrapped);
        }
        match read {
            Err(Error::Io(_)) if self.log.tolerant => Ok(false),
            other => other.map(|()| true),
        }
    }
}
