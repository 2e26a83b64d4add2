// SPDX-License-Identifier: MIT OR Apache-2.0

//! Keeping two machines from using one pool at the same time, on a block device that both can reach.
//!
//! # Protocol
//!
//! One block holds a [`Record`]: who owns the pool, and a counter. Time is each machine's own monotonic clock; clocks
//! need not agree, only run at about the same speed. With the owner's interval `i`:
//!
//! 1. **Beat.** Every `i` the owner reads the block, sees itself, and writes it with the counter one higher.
//! 2. **Lease.** A beat holds for `2 i` from the moment its write *began*. Past that the owner must not write to the pool;
//!    once it reads another name it has [`Lost`] it for ever. No message is needed for that, only a clock.
//! 3. **Claim.** A free block may be taken. So may one of this very boot of this machine (the local lock proves that
//!    process dead) and one of another boot of this machine (that boot is over). A foreign one is watched for `2.5 i`: if
//!    the counter moves its owner lives and the claim is refused; if not the owner's lease is over.
//! 4. **Confirm.** A claim is written at most `i / 4` after the read that allowed it began, and holds only if it is still
//!    there `i / 2` after it was written. So of two that read the same free block, the one that writes last wins, and
//!    the other sees it. A claim whose write took longer may have hit an owner that was already confirmed; it watches as
//!    in step 3, by which time that owner has noticed or its lease is over.
//!
//! 5. **Renew.** An owner that was too slow to beat (a busy machine, one that was paused, a device that hung) and still
//!    reads its own name claims the pool again by step 4; it first watches for `2.5 i`, as in step 3, if a write of its own
//!    came late or had no answer. When it owns the pool again it looks whether the superblock tells of another opening, and
//!    if so, has lost it: its own late write may have hidden who owned the pool in between. Only then it writes again.
//!
//! Two machines therefore never own the pool at one moment, however their steps interleave, and who goes on owning it
//! finds it as it left it (tested as properties). Assumed: machine ids differ between machines (not so for careless clones
//! of virtual machines); a process does not die inside step 4's slow case and come back within the other owner's lease,
//! nor between taking a pool over and opening it while a late write of its former owner hides that.
//!
//! # Layout of the block
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `VEXFSHB1` |
//! | 8..12 | version, 1 |
//! | 12..16 | state: 0 free, 1 alive |
//! | 16..32 | uuid of the pool |
//! | 32..48 | machine id |
//! | 48..64 | boot id |
//! | 64..68 | process |
//! | 68..72 | interval in milliseconds |
//! | 72..80 | counter |
//! | 80..88 | random number of the claim: tells claims of one process apart |
//! | 88, 89..153 | host name: length (at most 64), UTF-8, zeros |
//! | 153..4092 | zero |
//! | 4092..4096 | CRC32C of bytes 0..4092 |
//!
//! A block of zeros is free.
//!
//! The state machines ([`Claim`], [`Beat`]) do no I/O and read no clock; `runner` does both. Its clock goes on while the
//! machine is suspended.

mod beat;
mod claim;
mod device;
mod ownership;
mod runner;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::checksum::Crc;
use crate::codec::{DecodeError, Reader, Writer};
use crate::units::BLOCK_SIZE;

pub use beat::{Beat, Lost};
pub use claim::{Claim, DeadOwner, Policy, Refusal, Step};
pub use device::{HeartbeatDevice, SharedBlock};
pub use ownership::Ownership;
pub use runner::{ClaimError, Runner, Witness};

/// Bytes of a host name that are kept.
pub const MAX_HOST_NAME: usize = 64;

const MAGIC: [u8; 8] = *b"VEXFSHB1";
const CRC_AT: usize = BLOCK_SIZE - 4;

/// Shortest and longest interval. What a record says beyond them is taken for the nearer one.
pub const INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];

/// Who owns a pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Nil if the machine has none; two machines without one are not the same.
    pub machine_id: [u8; 16],
    /// Changes with every boot.
    pub boot_id: [u8; 16],
    /// Number of the process.
    pub process: u32,
    /// For people. At most [`MAX_HOST_NAME`] bytes.
    pub host_name: String,
}

impl Owner {
    fn same_machine(&self, other: &Self) -> bool {
        self.machine_id == other.machine_id && self.machine_id != [0; 16]
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on host {:?}", self.process, self.host_name)
    }
}

/// The claim of an owner, as the block holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which pool.
    pub pool: Uuid,
    /// Who.
    pub owner: Owner,
    /// How often the counter moves.
    pub interval: Duration,
    /// Moves with each beat.
    pub counter: u64,
    /// Chosen at random for each claim.
    pub claim: u64,
}

/// What the block holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nobody's claim.
    Free,
    /// A claim.
    Alive(Box<Record>),
    /// Something damaged, perhaps being written; known by the checksum of the whole block.
    Unclear(Crc),
}

impl Record {
    fn is_claim_of(&self, other: &Self) -> bool {
        self.claim == other.claim && self.owner == other.owner && self.pool == other.pool
    }

    /// As a block that claims the pool.
    pub fn encode(&self) -> Box<[u8; BLOCK_SIZE]> {
        self.block(true)
    }

    /// As a block that gives it up.
    pub fn encode_free(&self) -> Box<[u8; BLOCK_SIZE]> {
        self.block(false)
    }

    fn block(&self, alive: bool) -> Box<[u8; BLOCK_SIZE]> {
        let mut text = Vec::with_capacity(BLOCK_SIZE);
        text.put(&MAGIC);
        text.put_u32(1);
        text.put_u32(u32::from(alive));
        text.put(self.pool.as_bytes());
        text.put(&self.owner.machine_id);
        text.put(&self.owner.boot_id);
        text.put_u32(self.owner.process);
        text.put_u32(u32::try_from(self.interval.as_millis()).unwrap_or(u32::MAX));
        text.put_u64(self.counter);
        text.put_u64(self.claim);
        let mut name = self.owner.host_name.clone();
        while name.len() > MAX_HOST_NAME {
            name.pop();
        }
        text.put_u8(u8::try_from(name.len()).unwrap_or(0));
        text.put(name.as_bytes());
        text.resize(CRC_AT, 0);
        let crc = Crc::of(&text);
        text.put_u32(crc.0);
        let mut block = Box::new([0; BLOCK_SIZE]);
        block.copy_from_slice(&text);
        block
    }
}

impl Found {
    /// Decodes a block of untrusted content.
    pub fn decode(block: &[u8; BLOCK_SIZE]) -> Self {
        if block.iter().all(|&byte| byte == 0) {
            return Self::Free;
        }
        let sealed = block[..8] == MAGIC && block[CRC_AT..] == Crc::of(&block[..CRC_AT]).0.to_le_bytes();
        let record = if sealed {
            Self::decode_sealed(&block[8..]).ok()
        } else {
            None
        };
        record.unwrap_or_else(|| Self::Unclear(Crc::of(block)))
    }

    fn decode_sealed(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        match from.u32("version")? {
            1 => {}
            other => return Err(DecodeError::invalid("version", other)),
        }
        let alive = match from.u32("state")? {
            state @ 0..2 => state == 1,
            other => return Err(DecodeError::invalid("state", other)),
        };
        let pool = Uuid::from_bytes(from.array("pool")?);
        let machine_id = from.array("machine id")?;
        let boot_id = from.array("boot id")?;
        let process = from.u32("process")?;
        let interval = Duration::from_millis(u64::from(from.u32("interval")?));
        let counter = from.u64("counter")?;
        let claim = from.u64("claim")?;
        let length = from.u8("host name")?;
        let name: [u8; MAX_HOST_NAME] = from.array("host name")?;
        let name = name
            .get(..usize::from(length))
            .ok_or(DecodeError::invalid("host name", length))?;
        if !alive {
            return Ok(Self::Free);
        }
        Ok(Self::Alive(Box::new(Record {
            pool,
            owner: Owner {
                machine_id,
                boot_id,
                process,
                host_name: String::from_utf8_lossy(name).into_owned(),
            },
            interval: interval.clamp(INTERVALS[0], INTERVALS[1]),
            counter,
            claim,
        })))
    }
}
