// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a pool.
//!
//! Order: everything is checked; then every trace of what was there is erased, synced; then the superblocks are written,
//! synced. So a crash leaves the old content, nothing, or the new pool.
//!
//! An older pool on the same device cannot be mistaken for part of the new one: its superblocks are erased before, the
//! head of its journal too, and the new journal starts at a random position with a random epoch, which no old batch
//! matches.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::features::Features;
use super::host::Host;
use super::probe::{self, Signature};
use super::superblock::{self, MIN_BLOCKS, MIN_JOURNAL_BLOCKS, Manifest, State, Superblock, Tail, Timestamp};
use super::{usage, whole_blocks};
use crate::checksum::Crc;
use crate::disk::{Access, Disk, FileDisk, Kind, OpenDiskError, SplitMix64};
use crate::error::Error;
use crate::units::{BLOCK_SIZE, Block, Run, Seq, blocks_for};

/// Blocks of a journal by default: a 64th of the pool, within these.
const DEFAULT_JOURNAL: [u64; 2] = [256, 16384];
/// Blocks at the head of the journal that are erased.
const JOURNAL_HEAD: u32 = 64;
/// A regular file counts as empty if it begins with so many zeros.
const LOOKED_AT: usize = 64 * 1024;

/// What to make.
#[derive(Clone, Default, Debug)]
pub struct FormatOptions {
    /// Size of the pool. By default all of the device or file.
    pub size_bytes: Option<u64>,
    /// Name for people, at most [`superblock::MAX_LABEL`] bytes.
    pub label: String,
    /// Name for programs. By default a random one.
    pub uuid: Option<Uuid>,
    /// Size of the journal, rounded up to whole blocks.
    pub journal_bytes: Option<u64>,
    /// Feature bits.
    pub features: Features,
    /// Go over what is there. What is in use is refused all the same.
    pub force: bool,
}

/// The random numbers of a pool.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// For the uuid.
    pub uuid: [u8; 16],
    /// See [`Superblock::name_hash_key`].
    pub name_hash_key: [u8; 16],
    /// Start of [`Superblock::epoch`].
    pub epoch: u64,
    /// Start of [`Tail::position`].
    pub position: u64,
}

impl Seeds {
    /// From the random numbers of the system.
    pub fn from_system() -> io::Result<Self> {
        let mut bytes = [0; 48];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self::from_bytes(&bytes))
    }

    /// From a number: for tests.
    pub fn from_number(seed: u64) -> Self {
        let mut bytes = [0; 48];
        SplitMix64::new(seed).fill(&mut bytes);
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8; 48]) -> Self {
        let half = |from: usize| std::array::from_fn(|index| bytes[from + index]);
        let number = |from: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[from + index]));
        Self {
            uuid: half(0),
            name_hash_key: half(16),
            // Far from the limits of both, which lie at 2^63.
            epoch: number(32) >> 2,
            position: number(40) % (1 << 40) / BLOCK_SIZE as u64 * BLOCK_SIZE as u64,
        }
    }
}

/// Why no pool was made. Read by a person: each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file or device.
    #[error(transparent)]
    Disk(#[from] OpenDiskError),
    /// It is in use, in a way that its lock does not show.
    #[error("{} is in use: {how}; end that first", path.display())]
    InUse {
        /// What was to be formatted.
        path: PathBuf,
        /// In what way.
        how: String,
    },
    /// Something lives there.
    #[error("there is data already: {}; use --force to destroy it", list(.0))]
    Occupied(Vec<Signature>),
    /// A regular file that is not empty.
    #[error("the file is not empty; name another one, or use --force to destroy what it holds")]
    NotEmpty,
    /// A new or empty file, and no size was given.
    #[error("a new pool file needs a size; give one")]
    SizeNeeded,
    /// The device ends before the pool.
    #[error("a pool of {wanted} bytes does not fit into {available} bytes; choose a smaller size")]
    DoesNotFit {
        /// What was asked for.
        wanted: u64,
        /// What is there.
        available: u64,
    },
    /// Outside what a pool can be.
    #[error("a pool has 16 MiB to 1 EiB, not {0} bytes; choose another size")]
    Size(u64),
    /// Outside what a journal can be in this pool.
    #[error("the journal of this pool has {minimum} to {maximum} bytes, not {wanted}; choose another size")]
    Journal {
        /// What was asked for.
        wanted: u64,
        /// Smallest.
        minimum: u64,
        /// Largest.
        maximum: u64,
    },
    /// Not a label.
    #[error("a label has at most 63 bytes and no control characters; choose another one")]
    Label,
    /// Features nobody knows.
    #[error("this engine does not know the features {0}; leave them out")]
    Features(Features),
    /// Uuid of zeros.
    #[error("the uuid must not be nil; leave it out to get a random one")]
    Uuid,
    /// The device failed.
    #[error("{0}; check the device")]
    Io(#[from] Error),
    /// The system gave no random numbers.
    #[error("no random numbers: {0}")]
    Random(io::Error),
}

fn list(found: &[Signature]) -> String {
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

type Result<T> = std::result::Result<T, FormatError>;

/// Makes a pool in a file, which is created or grown as needed, or on a block device. Random numbers come from the system.
pub fn format_path(path: &Path, options: &FormatOptions) -> Result<Superblock> {
    let seeds = Seeds::from_system().map_err(FormatError::Random)?;
    format_path_with(path, options, &seeds, &Host::this())
}

/// The same with given random numbers and machine.
pub fn format_path_with(path: &Path, options: &FormatOptions, seeds: &Seeds, host: &Host) -> Result<Superblock> {
    if matches!(fs::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        let size = options.size_bytes.ok_or(FormatError::SizeNeeded)?;
        // Before there is a file that would have to be removed again.
        let superblock = plan(size, options, seeds, host)?;
        let disk = FileDisk::create(path, size)?;
        let made = write_pool(&disk, Some(&disk), &superblock);
        if made.is_err() {
            // The reason that counts is the first one; a file that stays is seen by the next attempt.
            let _ = fs::remove_file(path);
        }
        return made;
    }
    if let Some(how) = usage::of(path) {
        let path = path.to_owned();
        return Err(FormatError::InUse { path, how });
    }
    let disk = FileDisk::open(path, Access::ReadWrite)?;
    let size = match (disk.kind(), options.size_bytes, disk.size_bytes()) {
        (Kind::File, None, 0) => return Err(FormatError::SizeNeeded),
        (_, wanted, available) => wanted.unwrap_or(available),
    };
    if disk.kind() == Kind::Device && disk.size_bytes() < size {
        return Err(FormatError::DoesNotFit {
            wanted: size,
            available: disk.size_bytes(),
        });
    }
    let superblock = plan(size, options, seeds, host)?;
    if !options.force {
        refuse_occupied(&disk)?;
        refuse_content(&disk)?;
    }
    disk.grow(size)?;
    write_pool(&disk, Some(&disk), &superblock)
}

/// Makes a pool on a disk.
pub fn format_disk(disk: &dyn Disk, options: &FormatOptions, seeds: &Seeds, host: &Host) -> Result<Superblock> {
    let available = disk.size_bytes();
    let wanted = options.size_bytes.unwrap_or(available);
    if wanted > available {
        return Err(FormatError::DoesNotFit { wanted, available });
    }
    let superblock = plan(wanted, options, seeds, host)?;
    if !options.force {
        refuse_occupied(disk)?;
    }
    write_pool(disk, None, &superblock)
}

/// The second superblock of the new pool, everything checked.
fn plan(size_bytes: u64, options: &FormatOptions, seeds: &Seeds, host: &Host) -> Result<Superblock> {
    let total_blocks = whole_blocks(size_bytes);
    if !(MIN_BLOCKS..=Block::LIMIT).contains(&total_blocks) {
        return Err(FormatError::Size(size_bytes));
    }
    let unknown = options.features.unknown();
    if !unknown.is_empty() {
        return Err(FormatError::Features(unknown));
    }
    if !superblock::is_label(&options.label) {
        return Err(FormatError::Label);
    }
    let uuid = options
        .uuid
        .unwrap_or_else(|| uuid::Builder::from_random_bytes(seeds.uuid).into_uuid());
    if uuid.is_nil() {
        return Err(FormatError::Uuid);
    }
    let default = (total_blocks / 64).clamp(DEFAULT_JOURNAL[0], DEFAULT_JOURNAL[1]);
    let journal = options.journal_bytes.map_or(default, blocks_for);
    let limits = [
        u64::from(MIN_JOURNAL_BLOCKS),
        (total_blocks / 4).min(u64::from(u32::MAX)),
    ];
    let journal = u32::try_from(journal)
        .ok()
        .filter(|&count| (limits[0]..=limits[1]).contains(&u64::from(count)));
    let journal = journal.ok_or_else(|| FormatError::Journal {
        wanted: options.journal_bytes.unwrap_or(Block(default).byte_at()),
        minimum: Block(limits[0]).byte_at(),
        maximum: Block(limits[1]).byte_at(),
    })?;
    let superblock = Superblock {
        generation: 2,
        uuid,
        label: options.label.clone(),
        total_blocks,
        features: options.features,
        created: (host.now)(),
        state: State::Clean,
        name_hash_key: seeds.name_hash_key,
        journal: Superblock::journal_of(journal),
        needs_check: false,
        epoch: seeds.epoch,
        boot_id: [0; 16],
        tail: Tail {
            position: seeds.position,
            seq: Seq(0),
            chain: Crc(0),
        },
        manifest: Manifest::default(),
        durable_seq: Seq(0),
        resumed_at: 0,
        last_mounted: Timestamp::default(),
        last_checked: Timestamp::default(),
        error_count: 0,
    };
    superblock
        .validate()
        .map_err(|error| Error::undecodable("new superblock", error))?;
    Ok(superblock)
}

fn refuse_occupied(disk: &dyn Disk) -> Result<()> {
    match probe::probe(disk)? {
        found if found.is_empty() => Ok(()),
        found => Err(FormatError::Occupied(found)),
    }
}

/// A file is a person's document until it proves empty; devices come with the rubbish of their earlier lives.
fn refuse_content(disk: &FileDisk) -> Result<()> {
    if disk.kind() == Kind::Device {
        return Ok(());
    }
    let length = usize::try_from(disk.size_bytes()).unwrap_or(LOOKED_AT).min(LOOKED_AT);
    let mut head = vec![0; length];
    disk.read(0, &mut head)?;
    if head.iter().any(|&byte| byte != 0) {
        Err(FormatError::NotEmpty)
    } else {
        Ok(())
    }
}

fn write_pool(disk: &dyn Disk, file: Option<&FileDisk>, newest: &Superblock) -> Result<Superblock> {
    let [low, high, journal] = newest.fixed_runs();
    if let Some(file) = file {
        file.reserve(journal.start.byte_at()..journal.end().byte_at())?;
    }
    let found = probe::probe(disk)?;
    // What lies past the pool's end on its device would confuse tools too.
    probe::erase(disk, &found)?;
    for run in [low, high, Run::new(journal.start, journal.count.min(JOURNAL_HEAD))] {
        disk.write(run.start.byte_at(), &vec![0; run.count as usize * BLOCK_SIZE])?;
    }
    disk.sync()?;
    for generation in 1..=newest.generation {
        let superblock = Superblock {
            generation,
            ..newest.clone()
        };
        superblock::write(disk, &superblock)?;
    }
    disk.sync()?;
    Ok(newest.clone())
}
