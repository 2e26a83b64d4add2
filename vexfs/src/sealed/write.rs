// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writing an image, front to back.
//!
//! Files and directories are written as they are met; inodes and checksums, which come behind them, wait in files without
//! names beside the image. Block 0 is written last, after everything else is on the disk: an image that was cut short has
//! none, and is no image.
//!
//! Memory holds one directory, the stretches of one file, the numbers of directories still to come and of files with
//! several names, and which shared blocks were written: at most [`SHARED_MOST`], those beyond are written again.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher as _;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;
use siphasher::sip128::{Hasher128, SipHasher13};
use zerocopy::{FromZeros, IntoBytes};

use super::layout::{self, Bytes, Entry, Extent, Head, Inode, Super, Xattr};
use crate::checksum::Crc;
use crate::error::{Errno, Error};
use crate::fs::record::{FileFlags, Kind};
use crate::fs::{Attributes, Fs, Seek, Source};
use crate::units::{BLOCK_SIZE, FileBlock, Ino, blocks_for};

/// Shared blocks that are remembered.
pub const SHARED_MOST: usize = 1 << 21;
/// Blocks of a file that are looked at and read at once.
const PIECE: u64 = 256;
/// Sets of attributes up to this size are written once, however many files have them.
const SET_BYTES: usize = 1024;
/// So many of them are remembered.
const SET_MOST: usize = 1 << 14;
const BUFFER: usize = 1 << 20;

/// What an image is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// At most 64 bytes.
    pub label: String,
    /// Blocks of files get checksums.
    pub checksums: bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Files of all kinds.
    pub inodes: u64,
    /// Of the image.
    pub bytes: u64,
    /// Made from all of its contents.
    pub uuid: [u8; 16],
    /// Files of which vectors are longer than an attribute can be, and are not in the image.
    pub left_out: u64,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file of the pool cannot be read.
    #[error("{path}: {source}")]
    Pool {
        /// In the pool.
        path: String,
        /// Why.
        source: Error,
    },
    /// The image cannot be written.
    #[error("{path}: {what}: {source}")]
    Io {
        /// Of the image.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An image is made of a directory.
    #[error("an image is made of a directory; name the one that the file is in")]
    NotDirectory,
    /// The label does not fit.
    #[error("a label has at most 64 bytes")]
    LongLabel,
    /// Something is beyond the limits of the format.
    #[error("{path} has more {what} than an image can tell")]
    TooMuch {
        /// In the pool.
        path: String,
        /// What there is too much of.
        what: &'static str,
    },
}

type Result<T> = std::result::Result<T, WriteError>;

/// Writes the tree below `root` as an image. `progress` is told of bytes of files as they are written.
pub fn write(fs: &Fs, root: Ino, options: &Options, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Written> {
    if options.label.len() > layout::LABEL {
        return Err(WriteError::LongLabel);
    }
    // A device is written as it is; a file of that name is replaced when the image is complete.
    let special = fs::metadata(path).is_ok_and(|there| !there.is_file());
    let draft = if special { path.to_owned() } else { beside(path, "part") };
    let result = Writer::new(fs, options, &draft, path, special, progress).and_then(|writer| writer.tree(root));
    let result = result.and_then(|written| {
        if !special {
            let io = |what| move |source| io_error(path, what, source);
            fs::rename(&draft, path).map_err(io("giving it its name"))?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(io("opening its directory"))?;
            folder.sync_all().map_err(io("syncing its directory"))?;
        }
        Ok(written)
    });
    if result.is_err() && !special {
        // The reason is what the caller must hear.
        let _ = fs::remove_file(&draft);
    }
    result
}

fn io_error(path: &Path, what: &'static str, source: io::Error) -> WriteError {
    WriteError::Io {
        path: path.to_owned(),
        what,
        source,
    }
}

/// A name beside a file for what is not complete.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{end}", std::process::id()));
    path.with_file_name(name)
}

/// A file without a name, beside another.
fn nameless(path: &Path, end: &str) -> io::Result<File> {
    let name = beside(path, end);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&name)?;
    fs::remove_file(&name)?;
    Ok(file)
}

/// Blocks in a row.
#[derive(Clone, Copy, Default)]
struct Place {
    at: u64,
    blocks: u32,
}

/// A file with several names that was met: how often, and its number.
struct Linked {
    number: u64,
    names: u32,
}

struct Writer<'a> {
    fs: &'a Fs,
    options: &'a Options,
    path: &'a Path,
    out: BufWriter<File>,
    /// The block that is written next.
    next: u64,
    inodes: File,
    inode_count: u64,
    sums: BufWriter<File>,
    identity: SipHasher13,
    linked: FxHashMap<Ino, Linked>,
    shared: FxHashMap<u64, u64>,
    sets: HashMap<Vec<u8>, Place>,
    left_out: u64,
    piece: Vec<u8>,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a> Writer<'a> {
    fn new(
        fs: &'a Fs,
        options: &'a Options,
        draft: &Path,
        path: &'a Path,
        special: bool,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Self> {
        let io = |what| move |source| io_error(path, what, source);
        let scratch = if special {
            &std::env::temp_dir().join("image")
        } else {
            path
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create(!special)
            .truncate(!special)
            .open(draft)
            .map_err(io("creating"))?;
        // Where an image was before, there is none until this one is complete.
        file.write_all(&[0; BLOCK_SIZE]).map_err(io("writing"))?;
        file.sync_data().map_err(io("syncing"))?;
        Ok(Self {
            fs,
            options,
            path,
            out: BufWriter::with_capacity(BUFFER, file),
            next: 1,
            inodes: nameless(scratch, "inodes").map_err(io("making room for inodes"))?,
            inode_count: 0,
            sums: BufWriter::new(nameless(scratch, "sums").map_err(io("making room for checksums"))?),
            identity: SipHasher13::new(),
            linked: FxHashMap::default(),
            shared: FxHashMap::default(),
            sets: HashMap::new(),
            left_out: 0,
            piece: vec![0; BLOCK_SIZE * usize::try_from(PIECE).unwrap_or(1)],
            progress,
        })
    }

    fn io(&self, what: &'static str) -> impl FnOnce(io::Error) -> WriteError + use<> {
        let path = self.path.to_owned();
        move |source| WriteError::Io { path, what, source }
    }

    fn path_of(&self, ino: Ino) -> String {
        match self.fs.path_of(ino) {
            Ok(Some(path)) => String::from_utf8_lossy(&path).into_owned(),
            _ => ino.to_string(),
        }
    }

    fn pool<T>(&self, ino: Ino, result: crate::error::Result<T>) -> Result<T> {
        result.map_err(|source| WriteError::Pool {
            path: self.path_of(ino),
            source,
        })
    }

    fn fit<T>(
        &self,
        ino: Ino,
        what: &'static str,
        fitted: std::result::Result<T, std::num::TryFromIntError>,
    ) -> Result<T> {
        fitted.map_err(|_| WriteError::TooMuch {
            path: self.path_of(ino),
            what,
        })
    }

    /// Everything, directory by directory.
    fn tree(mut self, root: Ino) -> Result<Written> {
        let found = self.pool(root, self.fs.attributes(root))?;
        if !found.inode.is_directory() {
            return Err(WriteError::NotDirectory);
        }
        let number = self.number(root)?;
        let mut pending = vec![(root, number, number)];
        while let Some((ino, number, parent)) = pending.pop() {
            let below = self.directory(ino, number, parent)?;
            pending.extend(below.into_iter().rev().map(|(ino, child)| (ino, child, number)));
        }
        self.end()
    }

    fn number(&mut self, ino: Ino) -> Result<u64> {
        self.inode_count += 1;
        // So that handles of files, and machines of 32 bits, can tell it.
        self.fit(ino, "files before it", u32::try_from(self.inode_count))?;
        Ok(self.inode_count)
    }

    /// A directory, and all in it that are none. Returns those that are.
    fn directory(&mut self, ino: Ino, number: u64, parent: u64) -> Result<Vec<(Ino, u64)>> {
        let mut entries = self.pool(ino, self.fs.list_all(ino))?;
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut directories = Vec::new();
        let mut files = Vec::new();
        let mut names = Names::new();
        let mut blocks = Vec::new();
        for entry in entries {
            let found = self.pool(entry.ino, self.fs.attributes(entry.ino))?;
            let child = if found.inode.is_directory() {
                let child = self.number(entry.ino)?;
                directories.push((entry.ino, child));
                child
            } else if let Some(known) = self.linked.get_mut(&entry.ino) {
                known.names += 1;
                known.number
            } else {
                let child = self.number(entry.ino)?;
                if found.inode.links > 1 {
                    let linked = Linked {
                        number: child,
                        names: 1,
                    };
                    self.linked.insert(entry.ino, linked);
                }
                files.push((found, child));
                child
            };
            if !names.push(&entry.name, child, found.inode.kind()) {
                blocks.push(names.take());
                // One name fits any empty block.
                names.push(&entry.name, child, found.inode.kind());
            }
        }
        if !names.is_empty() {
            blocks.push(names.take());
        }
        let place = self.run(ino, layout::ENTRIES, number, blocks.into_iter())?;
        let found = self.pool(ino, self.fs.attributes(ino))?;
        let mut record = self.record(&found, number)?;
        record.parent = parent.into();
        record.map_at = place.at.into();
        record.map_blocks = place.blocks.into();
        record.map_count = place.blocks.into();
        self.put(&record)?;
        for (found, number) in files {
            self.file(&found, number)?;
        }
        Ok(directories)
    }

    /// Anything but a directory.
    fn file(&mut self, found: &Attributes, number: u64) -> Result<()> {
        let mut record = self.record(found, number)?;
        match found.inode.kind() {
            Kind::File => self.extents(found, number, &mut record)?,
            Kind::Symlink => {
                let target = self.pool(found.ino, self.fs.read_link(found.ino))?;
                record.map_count = self
                    .fit(found.ino, "bytes in its target", u32::try_from(target.len()))?
                    .into();
                if let Some(place) = record.inline_bytes.get_mut(..target.len()) {
                    place.copy_from_slice(&target);
                } else {
                    let place = self.stream(found.ino, number, &target)?;
                    record.map_at = place.at.into();
                    record.map_blocks = place.blocks.into();
                }
            }
            _ => {}
        }
        self.put(&record)
    }

    /// What the pool's inode tells, and the attributes.
    fn record(&mut self, found: &Attributes, number: u64) -> Result<Inode> {
        let inode = &found.inode;
        let mut record = Inode {
            ino: number.into(),
            size: inode.size.into(),
            accessed: inode.accessed.0.into(),
            modified: inode.modified.0.into(),
            changed: inode.changed.0.into(),
            born: inode.born.0.into(),
            uid: inode.uid.into(),
            gid: inode.gid.into(),
            links: inode.links.into(),
            flags: (inode.flags.0 & SHOWN.0).into(),
            generation: found.generation().into(),
            mode: inode.mode.into(),
            ..Inode::default()
        };
        let number = if matches!(inode.kind(), Kind::Character | Kind::Block) {
            inode.device
        } else {
            0
        };
        record.device = self
            .fit(found.ino, "bits in its device number", u32::try_from(number))?
            .into();
        let mut set = Vec::new();
        let mut too_long = false;
        for name in self.pool(found.ino, self.fs.list_xattrs(found.ino))? {
            let value = match self.fs.get_xattr(found.ino, &name) {
                Err(Error::Posix(Errno::AttributeTooLarge)) => {
                    too_long = true;
                    continue;
                }
                other => self.pool(found.ino, other)?,
            };
            let head = Xattr {
                value_bytes: self
                    .fit(found.ino, "bytes in an attribute", u32::try_from(value.len()))?
                    .into(),
                name_bytes: self
                    .fit(found.ino, "bytes in a name", u16::try_from(name.len()))?
                    .into(),
                reserved: 0.into(),
            };
            set.extend_from_slice(head.as_bytes());
            set.extend_from_slice(&name);
            set.extend_from_slice(&value);
        }
        self.left_out += u64::from(too_long);
        if !set.is_empty() {
            record.xattrs_bytes = self.fit(found.ino, "attributes", u32::try_from(set.len()))?.into();
            let place = match self.sets.get(&set) {
                Some(place) => *place,
                None => self.stream(found.ino, 0, &set)?,
            };
            record.xattrs_at = place.at.into();
            if set.len() <= SET_BYTES && self.sets.len() < SET_MOST {
                self.sets.insert(set, place);
            }
        }
        Ok(record)
    }

    /// The bytes of a file, and where they are.
    fn extents(&mut self, found: &Attributes, number: u64, record: &mut Inode) -> Result<()> {
        let (ino, size) = (found.ino, found.inode.size);
        let mut extents: Vec<Extent> = Vec::new();
        let mut blocks = 0;
        let mut at = 0;
        while at < size {
            let start = match self.fs.seek(ino, at, Seek::Data) {
                Err(Error::Posix(Errno::NoSuchRange)) => break,
                found => self.pool(ino, found)?,
            };
            let end = self.pool(ino, self.fs.seek(ino, start, Seek::Hole))?;
            let (mut from, until) = (FileBlock::of(start), FileBlock(blocks_for(end)));
            while from < until {
                let count = PIECE.min(until.0 - from.0);
                blocks += self.piece(ino, from, count, size, &mut extents)?;
                from = from.plus(count);
            }
            at = until.byte_at();
        }
        record.blocks = blocks.into();
        record.map_count = self.fit(ino, "stretches", u32::try_from(extents.len()))?.into();
        if extents.len() <= layout::INLINE_EXTENTS {
            for (place, extent) in record.inline_bytes.chunks_exact_mut(size_of::<Extent>()).zip(&extents) {
                place.copy_from_slice(extent.as_bytes());
            }
            return Ok(());
        }
        let full = extents.chunks(layout::BLOCK_EXTENTS).map(|some| {
            let count = u16::try_from(some.len()).unwrap_or(u16::MAX);
            (count, payload(some.as_bytes()))
        });
        let place = self.run(ino, layout::EXTENTS, number, full)?;
        record.map_at = place.at.into();
        record.map_blocks = place.blocks.into();
        Ok(())
    }

    /// Writes what of some blocks is not written yet; returns how many are no holes.
    fn piece(&mut self, ino: Ino, from: FileBlock, count: u64, size: u64, extents: &mut Vec<Extent>) -> Result<u64> {
        let (found, _) = self.pool(ino, self.fs.shared_extents(ino, from, count, usize::MAX))?;
        let mut piece = std::mem::take(&mut self.piece);
        let mut stored = 0;
        for (extent, shared) in found {
            if matches!(extent.source, Source::Hole | Source::Promised) {
                continue;
            }
            let start = extent.at.byte_at();
            let end = extent.at.plus(extent.count).byte_at().min(size);
            let length = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
            piece.fill(0);
            let Some(bytes) = piece.get_mut(..length) else {
                break;
            };
            let mut done = 0;
            while done < length {
                let rest = bytes.get_mut(done..).unwrap_or_default();
                match self.pool(ino, self.fs.read(ino, start + done as u64, rest))? {
                    0 => break,
                    more => done += more,
                }
            }
            let blocks = piece.chunks_exact(BLOCK_SIZE).take(length.div_ceil(BLOCK_SIZE));
            for (index, block) in (0..).zip(blocks) {
                let name = if shared { name_of(&extent.source, index) } else { None };
                let at = if let Some(at) = name.and_then(|name| self.shared.get(&name)) {
                    *at
                } else {
                    let at = self.emit(block)?;
                    if let Some(name) = name.filter(|_| self.shared.len() < SHARED_MOST) {
                        self.shared.insert(name, at);
                    }
                    at
                };
                add(extents, extent.at.plus(index).0, at);
                stored += 1;
            }
            (self.progress)(length as u64);
        }
        self.piece = piece;
        Ok(stored)
    }

    /// Bytes in blocks of their own.
    fn stream(&mut self, ino: Ino, owner: u64, bytes: &[u8]) -> Result<Place> {
        let blocks = bytes.chunks(layout::PAYLOAD).map(|some| {
            let count = u16::try_from(some.len()).unwrap_or(u16::MAX);
            (count, payload(some))
        });
        self.run(ino, layout::BYTES, owner, blocks)
    }

    /// Blocks of metadata in a row.
    fn run(
        &mut self,
        ino: Ino,
        kind: u16,
        owner: u64,
        blocks: impl ExactSizeIterator<Item = (u16, Bytes)>,
    ) -> Result<Place> {
        let count = self.fit(ino, "blocks of one kind", u32::try_from(blocks.len()))?;
        if count == 0 {
            return Ok(Place::default());
        }
        let at = self.next;
        for (index, (count, block)) in (0..).zip(blocks) {
            let block = self.sealed(kind, owner, index, count, block);
            self.emit(&block)?;
        }
        Ok(Place { at, blocks: count })
    }

    /// A block of metadata that is written next.
    fn sealed(&self, kind: u16, owner: u64, index: u32, count: u16, mut block: Bytes) -> Bytes {
        let head = Head {
            magic: layout::HEAD_MAGIC.into(),
            crc: 0.into(),
            at: self.next.into(),
            owner: owner.into(),
            kind: kind.into(),
            count: count.into(),
            index: index.into(),
        };
        if let Some(place) = block.get_mut(..size_of::<Head>()) {
            place.copy_from_slice(head.as_bytes());
        }
        layout::seal(&mut block, layout::HEAD_CRC);
        block
    }

    /// The next block of the body.
    fn emit(&mut self, block: &[u8]) -> Result<u64> {
        let crc = self.append(block)?;
        self.sums
            .write_all(&crc.to_le_bytes())
            .map_err(self.io("keeping checksums"))?;
        Ok(self.next - 1)
    }

    /// The next block of the image; returns its checksum.
    fn append(&mut self, block: &[u8]) -> Result<u32> {
        let crc = Crc::of(block).0;
        self.identity.write_u32(crc);
        self.out.write_all(block).map_err(self.io("writing"))?;
        self.next += 1;
        Ok(crc)
    }

    fn put(&self, record: &Inode) -> Result<()> {
        let at = (record.ino.get() - 1) * size_of::<Inode>() as u64;
        self.inodes
            .write_all_at(record.as_bytes(), at)
            .map_err(self.io("keeping inodes"))
    }

    /// Inodes, checksums, and block 0.
    fn end(mut self) -> Result<Written> {
        let body_end = self.next;
        for linked in self.linked.values() {
            let at = (linked.number - 1) * size_of::<Inode>() as u64 + std::mem::offset_of!(Inode, links) as u64;
            let written = self.inodes.write_all_at(&linked.names.to_le_bytes(), at);
            written.map_err(self.io("keeping inodes"))?;
        }
        let mut from = self.again(&self.inodes, "reading inodes")?;
        self.items(
            &mut from,
            layout::INODES,
            self.inode_count,
            layout::BLOCK_INODES,
            size_of::<Inode>(),
        )?;
        let sums_at = self.next;
        if self.options.checksums {
            self.sums.flush().map_err(self.io("keeping checksums"))?;
            let mut from = self.again(self.sums.get_ref(), "reading checksums")?;
            self.items(&mut from, layout::CHECKSUMS, body_end - 1, layout::BLOCK_CHECKSUMS, 4)?;
        }
        self.identity.write(self.options.label.as_bytes());
        let mut uuid = self.identity.finish128().as_bytes();
        // Version 8: bytes of the maker's choice.
        uuid[6] = (uuid[6] & 0x0f) | 0x80;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        let mut label = [0; layout::LABEL];
        for (place, byte) in label.iter_mut().zip(self.options.label.bytes()) {
            *place = byte;
        }
        let head = Super {
            magic: layout::MAGIC.into(),
            major: layout::MAJOR.into(),
            minor: layout::MINOR.into(),
            uuid,
            label,
            blocks: self.next.into(),
            body_end: body_end.into(),
            inodes: self.inode_count.into(),
            inodes_at: body_end.into(),
            sums_at: if self.options.checksums { sums_at } else { 0 }.into(),
            sums_kind: if self.options.checksums {
                layout::SUMS_CRC32C
            } else {
                layout::SUMS_NONE
            }
            .into(),
            ..Super::new_zeroed()
        };
        let mut block: Bytes = zerocopy::transmute!(head);
        layout::seal(&mut block, layout::SUPER_CRC);
        self.out.flush().map_err(self.io("writing"))?;
        let file = self.out.get_ref();
        file.sync_all().map_err(self.io("syncing"))?;
        file.write_all_at(&block, 0)
            .map_err(self.io("writing the first block"))?;
        file.sync_all().map_err(self.io("syncing"))?;
        Ok(Written {
            inodes: self.inode_count,
            bytes: self.next * BLOCK_SIZE as u64,
            uuid,
            left_out: self.left_out,
        })
    }

    /// A file from its first byte on.
    fn again(&self, file: &File, what: &'static str) -> Result<BufReader<File>> {
        let mut file = file.try_clone().map_err(self.io(what))?;
        file.seek(SeekFrom::Start(0)).map_err(self.io(what))?;
        Ok(BufReader::with_capacity(BUFFER, file))
    }

    /// `count` things of `size` bytes, `most` in a block.
    fn items(&mut self, from: &mut impl Read, kind: u16, count: u64, most: u64, size: usize) -> Result<()> {
        let mut left = count;
        let mut index = 0;
        while left > 0 {
            let some = left.min(most);
            let bytes = usize::try_from(some).unwrap_or(0) * size;
            let mut block: Bytes = [0; BLOCK_SIZE];
            let place = block.get_mut(size_of::<Head>()..size_of::<Head>() + bytes);
            from.read_exact(place.unwrap_or_default())
                .map_err(self.io("reading what was kept"))?;
            let block = self.sealed(kind, 0, index, u16::try_from(some).unwrap_or(u16::MAX), block);
            self.append(&block)?;
            index += 1;
            left -= some;
        }
        Ok(())
    }
}

/// What of a file's flags an image tells.
const SHOWN: FileFlags = FileFlags(
    FileFlags::COMPRESS.0 | FileFlags::IMMUTABLE.0 | FileFlags::APPEND.0 | FileFlags::NO_DUMP.0 | FileFlags::NO_ATIME.0,
);

/// A number for a block that several files may have.
fn name_of(source: &Source, index: u64) -> Option<u64> {
    match source {
        Source::Blocks(run, _) => Some((run.start.0 + index) << 8),
        Source::Packed(unit, first) => {
            let start = unit.runs.first()?.start.0;
            Some((start << 8) | (u64::from(*first) + index + 1))
        }
        _ => None,
    }
}

/// Adds a block of a file, to the last stretch if it continues it.
fn add(extents: &mut Vec<Extent>, from: u64, at: u64) {
    if let Some(last) = extents.last_mut() {
        let count = last.count.get();
        if last.from.get() + u64::from(count) == from && last.at.get() + u64::from(count) == at && count < u32::MAX {
            last.count = (count + 1).into();
            return;
        }
    }
    extents.push(Extent {
        from: from.into(),
        at: at.into(),
        count: 1.into(),
        reserved: 0.into(),
    });
}

/// A block with room for a head, and these bytes behind it.
fn payload(bytes: &[u8]) -> Bytes {
    let mut block: Bytes = [0; BLOCK_SIZE];
    if let Some(place) = block.get_mut(size_of::<Head>()..size_of::<Head>() + bytes.len()) {
        place.copy_from_slice(bytes);
    }
    block
}

/// Names that go into one block: where each is, then each.
struct Names {
    places: Vec<usize>,
    bytes: Vec<u8>,
}

impl Names {
    const fn new() -> Self {
        Self {
            places: Vec::new(),
            bytes: Vec::new(),
        }
    }

    const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// False if there is no room.
    fn push(&mut self, name: &[u8], number: u64, kind: Kind) -> bool {
        let Ok(length) = u8::try_from(name.len()) else {
            return false;
        };
        let entry = Entry {
            ino: number.into(),
            kind: kind as u8,
            length,
        };
        let more = size_of::<Entry>() + name.len();
        if 2 * (self.places.len() + 1) + self.bytes.len() + more > layout::PAYLOAD {
            return false;
        }
        self.places.push(self.bytes.len());
        self.bytes.extend_from_slice(entry.as_bytes());
        self.bytes.extend_from_slice(name);
        true
    }

    fn take(&mut self) -> (u16, Bytes) {
        let start = size_of::<Head>() + 2 * self.places.len();
        let count = u16::try_from(self.places.len()).unwrap_or(u16::MAX);
        let mut bytes = Vec::with_capacity(layout::PAYLOAD);
        for place in self.places.drain(..) {
            let place = u16::try_from(start + place).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&place.to_le_bytes());
        }
        bytes.append(&mut self.bytes);
        (count, payload(&bytes))
    }
}
