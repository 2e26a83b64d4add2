// SPDX-License-Identifier: MIT OR Apache-2.0

//! The superblock: the root of everything in a pool.
//!
//! # Layout of the block
//!
//! Integers are little-endian. Times are seconds since 1970 with nanoseconds apart.
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | magic `VEXFSPL1` |
//! | 8..12 | format version, 1 |
//! | 12..16 | block shift, 12 |
//! | 16..24 | generation, from 1 on |
//! | 24..40 | uuid of the pool, not nil |
//! | 40 | length of the label, 0 to 63 |
//! | 41..104 | label, UTF-8 without control characters, then zeros |
//! | 104..112 | blocks of the pool |
//! | 112..120, 120..128, 128..136 | features: compat, `ro_compat`, incompat |
//! | 136..144, 144..148 | created: seconds, nanoseconds |
//! | 148..152 | state: 0 clean, 1 dirty |
//! | 152..168 | key of the hash of names |
//! | 168..176, 176..180 | journal: first block, number of blocks |
//! | 180..184 | flags: bit 0 asks for a check |
//! | 184..192 | epoch: number of the newest opening for writing |
//! | 192..208 | boot id of the machine during that opening |
//! | 208..216, 216..224, 224..228 | tail of the journal: byte position, newest sequence in the tables, chain |
//! | 228..232 | manifest: number of blocks |
//! | 232..240, 240..248, 248..252 | manifest: first block or 0, bytes, CRC32C |
//! | 252..256 | last mounted: nanoseconds |
//! | 256..264 | newest sequence known to be durable |
//! | 264..272 | journal position where that opening went on: what lies there with an older epoch does not count |
//! | 272..280 | last mounted: seconds |
//! | 280..288, 288..292 | last checked: seconds, nanoseconds |
//! | 292..296 | zero |
//! | 296..304 | errors seen so far |
//! | 304..4092 | reserved, zero |
//! | 4092..4096 | CRC32C of bytes 0..4092 |
//!
//! In every later version bytes 0..24 and the CRC stay what they are, so that an old engine can tell "too new" from
//! "damaged", and never prefers an older superblock that it happens to understand.

mod places;
#[cfg(test)]
mod tests;

use std::fmt;

use uuid::Uuid;

use super::Host;
use super::features::Features;
use crate::checksum::Crc;
use crate::codec::{DecodeError, Reader, Writer};
use crate::units::{BLOCK_SHIFT, BLOCK_SIZE, Block, Run, Seq};

pub(super) use places::write;
pub use places::{Condition, PLACES, Place, Survey};

const MAGIC: [u8; 8] = *b"VEXFSPL1";
const VERSION: u32 = 1;
const CRC_AT: usize = BLOCK_SIZE - 4;

/// Bytes a label may have.
pub const MAX_LABEL: usize = 63;
/// Blocks a pool has at least: 16 MiB.
pub const MIN_BLOCKS: u64 = 4096;
/// Blocks a journal has at least: 256 KiB.
pub const MIN_JOURNAL_BLOCKS: u32 = 64;

/// The two areas that belong to the format: the boot sector, the superblocks and the heartbeat, and the copies.
const FIXED: [Run; 2] = [Run::new(Block(0), 4), Run::new(Block(1024), 4)];

/// The block of the heartbeat.
pub const HEARTBEAT: Block = Block(3);

/// A point in time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp {
    /// Since 1970.
    pub seconds: i64,
    /// Below 10⁹.
    pub nanos: u32,
}

/// Whether the pool was left in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Unmounted; the journal holds nothing that the tables lack.
    Clean,
    /// Mounted, or not unmounted; the journal must be replayed.
    Dirty,
}

/// Where replay starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Tail {
    /// Byte position in the endless journal; modulo the size of the ring it is a place.
    pub position: u64,
    /// Newest transaction that the tables hold.
    pub seq: Seq,
    /// Chain value before the first batch at `position`.
    pub chain: Crc,
}

/// Where the list of metadata tables is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Manifest {
    /// First block; none in a pool without tables, and everything else is 0 then.
    pub first: Option<Block>,
    /// Number of blocks.
    pub blocks: u32,
    /// Number of bytes.
    pub bytes: u64,
    /// Checksum of the bytes.
    pub crc: Crc,
}

/// The decoded superblock. Every value that a decoded one holds has passed [`Superblock::validate`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Counts commits; chooses the slot.
    pub generation: u64,
    /// Name of the pool for programs.
    pub uuid: Uuid,
    /// Name of the pool for people.
    pub label: String,
    /// Size.
    pub total_blocks: u64,
    /// Feature bits.
    pub features: Features,
    /// When it was formatted.
    pub created: Timestamp,
    /// See [`State`].
    pub state: State,
    /// Key of the hash of names in directories.
    pub name_hash_key: [u8; 16],
    /// The ring.
    pub journal: Run,
    /// Somebody saw damage and wants a check before the next mount.
    pub needs_check: bool,
    /// Number of the newest opening for writing.
    pub epoch: u64,
    /// Which boot of which machine that was.
    pub boot_id: [u8; 16],
    /// Where replay starts.
    pub tail: Tail,
    /// Where the list of tables is.
    pub manifest: Manifest,
    /// Newest transaction known to be durable.
    pub durable_seq: Seq,
    /// Journal position where the newest opening for writing went on. See `journal`.
    pub resumed_at: u64,
    /// When it was last opened for writing.
    pub last_mounted: Timestamp,
    /// When it was last checked.
    pub last_checked: Timestamp,
    /// Errors seen so far.
    pub error_count: u64,
}

/// Why a block is not a superblock that this engine can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuperblockError {
    /// No trace of one.
    #[error("there is no superblock")]
    NoMagic,
    /// Damaged.
    #[error("its checksum is {computed:08x} instead of {stored:08x}")]
    Checksum {
        /// What it says.
        stored: u32,
        /// What it is.
        computed: u32,
    },
    /// Made by a newer engine.
    #[error("format version {0} is newer than this engine")]
    Version(u32),
    /// Made by a newer engine.
    #[error("it needs features that this engine does not know: {0}")]
    Incompat(Features),
    /// Intact, but of impossible content.
    #[error("{0}")]
    Field(#[from] DecodeError),
}

impl SuperblockError {
    /// The pool is in order, this engine is too old for it.
    pub const fn is_unsupported(&self) -> bool {
        matches!(self, Self::Version(_) | Self::Incompat(_))
    }
}

impl Superblock {
    /// The pool is in use by this boot of this machine, in a higher epoch than ever. Everything up to `durable` is; the
    /// journal goes on at a position.
    pub fn begin_epoch(&mut self, host: &Host, epoch: u64, resumed_at: u64, durable: Seq) {
        self.state = State::Dirty;
        self.boot_id = host.identity.boot_id;
        self.epoch = epoch;
        self.resumed_at = resumed_at;
        self.durable_seq = durable;
        self.last_mounted = (host.now)();
    }

    /// The pool is in order.
    pub const fn leave_clean(&mut self) {
        self.state = State::Clean;
    }

    /// The areas that no file may use: the fixed ones and the journal.
    pub const fn fixed_runs(&self) -> [Run; 3] {
        [FIXED[0], FIXED[1], self.journal]
    }

    /// Where a journal of so many blocks lies: between the fixed areas if it fits there, else after them.
    pub const fn journal_of(blocks: u32) -> Run {
        let gap = FIXED[1].start.0 - FIXED[0].end().0;
        if (blocks as u64) < gap {
            Run::new(FIXED[0].end(), blocks)
        } else {
            Run::new(FIXED[1].end(), blocks)
        }
    }

    /// As a block. Only what is [valid](Self::validate) can be read back.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_SIZE);
        block.put(&MAGIC);
        block.put_u32(VERSION);
        block.put_u32(BLOCK_SHIFT);
        block.put_u64(self.generation);
        block.put(self.uuid.as_bytes());
        let mut label = [0; MAX_LABEL];
        let length = self.label.len().min(MAX_LABEL);
        label[..length].copy_from_slice(&self.label.as_bytes()[..length]);
        block.put_u8(u8::try_from(length).unwrap_or(u8::MAX));
        block.put(&label);
        block.put_u64(self.total_blocks);
        block.put_u64(self.features.compat);
        block.put_u64(self.features.ro_compat);
        block.put_u64(self.features.incompat);
        block.put_u64(self.created.seconds.cast_unsigned());
        block.put_u32(self.created.nanos);
        block.put_u32(u32::from(self.state == State::Dirty));
        block.put(&self.name_hash_key);
        block.put_u64(self.journal.start.0);
        block.put_u32(self.journal.count);
        block.put_u32(u32::from(self.needs_check));
        block.put_u64(self.epoch);
        block.put(&self.boot_id);
        block.put_u64(self.tail.position);
        block.put_u64(self.tail.seq.0);
        block.put_u32(self.tail.chain.0);
        block.put_u32(self.manifest.blocks);
        block.put_u64(self.manifest.first.unwrap_or_default().0);
        block.put_u64(self.manifest.bytes);
        block.put_u32(self.manifest.crc.0);
        block.put_u32(self.last_mounted.nanos);
        block.put_u64(self.durable_seq.0);
        block.put_u64(self.resumed_at);
        block.put_u64(self.last_mounted.seconds.cast_unsigned());
        block.put_u64(self.last_checked.seconds.cast_unsigned());
        block.put_u32(self.last_checked.nanos);
        block.put_u32(0);
        block.put_u64(self.error_count);
        block.resize(CRC_AT, 0);
        let crc = Crc::of(&block);
        block.put_u32(crc.0);
        block
    }

    /// From a block of untrusted content.
    pub fn decode(block: &[u8; BLOCK_SIZE]) -> Result<Self, SuperblockError> {
        Self::check_envelope(block)?;
        let mut from = Reader::new(&block[..CRC_AT]);
        from.bytes(MAGIC.len(), "magic")?;
        match from.u32("format version")? {
            VERSION => {}
            0 => return Err(DecodeError::invalid("format version", 0_u32).into()),
            newer => return Err(SuperblockError::Version(newer)),
        }
        let shift = from.u32("block shift")?;
        let generation = from.u64("generation")?;
        let uuid = Uuid::from_bytes(from.array("uuid")?);
        let label_length = from.u8("label length")?;
        let label_bytes: [u8; MAX_LABEL] = from.array("label")?;
        let total_blocks = from.u64("pool size")?;
        let features = Features {
            compat: from.u64("compat features")?,
            ro_compat: from.u64("ro_compat features")?,
            incompat: from.u64("incompat features")?,
        };
        let unknown = features.unknown();
        if unknown.incompat != 0 {
            return Err(SuperblockError::Incompat(Features {
                incompat: unknown.incompat,
                ..Features::default()
            }));
        }
        if shift != BLOCK_SHIFT {
            return Err(DecodeError::invalid("block shift", shift).into());
        }
        let superblock = Self {
            generation,
            uuid,
            label: label_of(label_length, &label_bytes)?,
            total_blocks,
            features,
            created: Timestamp {
                seconds: from.u64("time of creation")?.cast_signed(),
                nanos: from.u32("time of creation")?,
            },
            state: match from.u32("state")? {
                0 => State::Clean,
                1 => State::Dirty,
                other => return Err(DecodeError::invalid("state", other).into()),
            },
            name_hash_key: from.array("key of name hashes")?,
            journal: Run::new(Block(from.u64("journal")?), from.u32("journal")?),
            needs_check: match from.u32("flags")? {
                flags @ 0..2 => flags == 1,
                other => return Err(DecodeError::invalid("flags", other).into()),
            },
            epoch: from.u64("epoch")?,
            boot_id: from.array("boot id")?,
            tail: Tail {
                position: from.u64("journal tail")?,
                seq: Seq(from.u64("journal tail")?),
                chain: Crc(from.u32("journal tail")?),
            },
            manifest: Manifest {
                blocks: from.u32("manifest")?,
                first: Some(Block(from.u64("manifest")?)).filter(|&first| first != Block(0)),
                bytes: from.u64("manifest")?,
                crc: Crc(from.u32("manifest")?),
            },
            last_mounted: Timestamp {
                nanos: from.u32("time of the last mount")?,
                ..Timestamp::default()
            },
            durable_seq: Seq(from.u64("durable sequence")?),
            resumed_at: from.u64("resumed at")?,
            last_checked: Timestamp::default(),
            error_count: 0,
        };
        let superblock = superblock.decode_rest(&mut from)?;
        // Bytes reserved now may have a meaning under a feature that allows reading without knowing it.
        let reserved = from.bytes(from.remaining(), "reserved bytes")?;
        if let (0, Some(&byte)) = (unknown.ro_compat, reserved.iter().find(|&&byte| byte != 0)) {
            return Err(DecodeError::invalid("reserved byte", byte).into());
        }
        superblock.validate()?;
        Ok(superblock)
    }

    /// The part after `resumed_at`: halves of times lie apart there.
    fn decode_rest(mut self, from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        self.last_mounted.seconds = from.u64("time of the last mount")?.cast_signed();
        self.last_checked = Timestamp {
            seconds: from.u64("time of the last check")?.cast_signed(),
            nanos: from.u32("time of the last check")?,
        };
        match from.u32("reserved bytes")? {
            0 => {}
            other => return Err(DecodeError::invalid("reserved bytes", other)),
        }
        self.error_count = from.u64("error count")?;
        Ok(self)
    }

    /// Magic and checksum, which are the same in every version.
    fn check_envelope(block: &[u8; BLOCK_SIZE]) -> Result<(), SuperblockError> {
        if block[..MAGIC.len()] != MAGIC {
            return Err(SuperblockError::NoMagic);
        }
        let stored = Reader::new(&block[CRC_AT..]).u32("checksum")?;
        let computed = Crc::of(&block[..CRC_AT]).0;
        if stored == computed {
            Ok(())
        } else {
            Err(SuperblockError::Checksum { stored, computed })
        }
    }

    /// The generation of a block of any version; 0 if damaged.
    fn generation_of(block: &[u8; BLOCK_SIZE]) -> u64 {
        let mut from = Reader::new(&block[16..]);
        Self::check_envelope(block).map_or(0, |()| from.u64("generation").unwrap_or(0))
    }

    /// That every field holds what it may hold, alone and together with the others.
    pub fn validate(&self) -> Result<(), DecodeError> {
        let rule = |holds: bool, what, value: u64| {
            if holds {
                Ok(())
            } else {
                Err(DecodeError::invalid(what, value))
            }
        };
        rule((1..1 << 63).contains(&self.generation), "generation", self.generation)?;
        rule(!self.uuid.is_nil(), "uuid", 0)?;
        rule(is_label(&self.label), "label length", self.label.len() as u64)?;
        rule(
            (MIN_BLOCKS..=Block::LIMIT).contains(&self.total_blocks),
            "pool size",
            self.total_blocks,
        )?;
        for time in [self.created, self.last_mounted, self.last_checked] {
            rule(time.nanos < 1_000_000_000, "nanoseconds", u64::from(time.nanos))?;
        }
        let journal = self.journal;
        rule(
            journal.count >= MIN_JOURNAL_BLOCKS,
            "journal size",
            u64::from(journal.count),
        )?;
        rule(
            u64::from(journal.count) <= self.total_blocks / 2,
            "journal size",
            u64::from(journal.count),
        )?;
        rule(journal.fits(self.total_blocks), "journal", journal.start.0)?;
        rule(
            !FIXED.iter().any(|&fixed| overlap(fixed, journal)),
            "journal",
            journal.start.0,
        )?;
        // Half the range: positions can be added up without looking.
        rule(self.tail.position < 1 << 63, "journal tail", self.tail.position)?;
        rule(self.tail.seq.0 < 1 << 63, "journal tail", self.tail.seq.0)?;
        rule(self.durable_seq.0 < 1 << 63, "durable sequence", self.durable_seq.0)?;
        rule(self.resumed_at < 1 << 63, "resumed at", self.resumed_at)?;
        rule(self.epoch < 1 << 63, "epoch", self.epoch)?;
        let manifest = self.manifest;
        let Some(first) = manifest.first else {
            return rule(manifest == Manifest::default(), "manifest", manifest.bytes);
        };
        // A chain: only its first block is known here, and part of each block is the chain's own.
        let run = Run::new(first, 1);
        rule(run.fits(self.total_blocks), "manifest", first.0)?;
        rule(
            (1..=self.total_blocks).contains(&u64::from(manifest.blocks)),
            "manifest size",
            u64::from(manifest.blocks),
        )?;
        rule(
            (1..=u64::from(manifest.blocks) * BLOCK_SIZE as u64).contains(&manifest.bytes),
            "manifest size",
            manifest.bytes,
        )?;
        rule(
            !self.fixed_runs().iter().any(|&fixed| overlap(fixed, run)),
            "manifest",
            first.0,
        )
    }
}

fn overlap(one: Run, other: Run) -> bool {
    one.start < other.end() && other.start < one.end()
}

/// Whether a text may be a label.
pub fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && !text.chars().any(char::is_control)
}

fn label_of(length: u8, bytes: &[u8; MAX_LABEL]) -> Result<String, DecodeError> {
    let invalid = || DecodeError::invalid("label length", length);
    let (text, rest) = bytes.split_at_checked(usize::from(length)).ok_or_else(invalid)?;
    if rest.iter().any(|&byte| byte != 0) {
        return Err(invalid());
    }
    let text = str::from_utf8(text).map_err(|_| invalid())?;
    Ok(text.to_owned())
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}
