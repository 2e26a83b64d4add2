// SPDX-License-Identifier: MIT OR Apache-2.0

//! Looking into an image. Nothing in it is believed: every block is compared with its checksum, every number with what it
//! can be, and what is wrong is an error that tells the place. What is kept in memory is bounded by what was asked for.

use std::fmt;

use zerocopy::FromBytes;

use super::layout::{self, Bytes, Entry, Extent, Head, Inode, Super, Xattr};
use crate::checksum::Crc;
use crate::disk::Disk;
use crate::error::{Damage, Errno, Error, Result};
use crate::fs::record::Kind;
use crate::fs::{MAX_FILE_BYTES, MAX_XATTR_NAME, MAX_XATTR_VALUE};
use crate::units::{BLOCK_SIZE, blocks_for};

const BLOCK: u64 = BLOCK_SIZE as u64;
/// Blocks are below this.
const LIMIT: u64 = 1 << 48;
/// Longest target of a symbolic link.
const TARGET_MOST: u32 = 4095;

/// An image whose first block was read.
pub struct Image {
    disk: Box<dyn Disk>,
    head: Super,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The file.
    pub ino: u64,
    /// Its type.
    pub kind: Kind,
    /// The name.
    pub name: Vec<u8>,
}

fn damage<T>(place: impl fmt::Display, what: impl fmt::Display) -> Result<T> {
    Err(Damage::new(place, what))
}

fn from_prefix<T: FromBytes>(bytes: &[u8], place: impl fmt::Display) -> Result<T> {
    match T::read_from_prefix(bytes) {
        Ok((value, _)) => Ok(value),
        Err(_) => damage(place, "ends early"),
    }
}

impl Image {
    /// Reads and checks the first block.
    pub fn open(disk: Box<dyn Disk>) -> Result<Self> {
        const PLACE: &str = "the first block";
        let mut block: Bytes = [0; BLOCK_SIZE];
        if disk.size_bytes() < BLOCK {
            return damage("the image", "is shorter than a block");
        }
        disk.read(0, &mut block)?;
        let head: Super = zerocopy::transmute!(block);
        if head.magic.get() != layout::MAGIC {
            return damage(PLACE, "is not that of a sealed image");
        }
        if head.crc.get() != layout::crc_of(&block, layout::SUPER_CRC) {
            return damage(PLACE, "does not match its checksum");
        }
        if head.major.get() != layout::MAJOR || head.incompat.get() != 0 {
            return damage(PLACE, "is of a newer format: use a newer version of this program");
        }
        let blocks = head.blocks.get();
        if blocks > disk.size_bytes() / BLOCK {
            return damage(
                "the image",
                format_args!("has lost its end: it should have {blocks} blocks"),
            );
        }
        let inode_blocks = head.inodes.get().div_ceil(layout::BLOCK_INODES);
        let (at, body_end) = (head.inodes_at.get(), head.body_end.get());
        let sums_at = match head.sums_kind.get() {
            layout::SUMS_NONE => blocks,
            layout::SUMS_CRC32C => head.sums_at.get(),
            _ => return damage(PLACE, "names an unknown kind of checksums"),
        };
        let sums = match head.sums_kind.get() {
            layout::SUMS_NONE => 0,
            _ => body_end.saturating_sub(1).div_ceil(layout::BLOCK_CHECKSUMS),
        };
        // One after the other: the body, the inodes, the checksums.
        let sound = blocks < LIMIT
            && head.inodes.get() > 0
            && u32::try_from(head.inodes.get()).is_ok()
            && body_end > 0
            && at == body_end
            && at.checked_add(inode_blocks) == Some(sums_at)
            && sums_at.checked_add(sums) == Some(blocks);
        if !sound {
            return damage(PLACE, "names places that cannot be");
        }
        Ok(Self { disk, head })
    }

    /// The first block.
    pub const fn head(&self) -> &Super {
        &self.head
    }

    /// The label.
    pub fn label(&self) -> String {
        let text = self.head.label.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }

    /// A block of metadata, checked as far as its head tells: its things, and how many there are.
    pub(super) fn metadata(&self, at: u64, kind: u16, owner: u64, index: u64) -> Result<(usize, Bytes)> {
        let place = || format!("block {at}");
        let mut block: Bytes = [0; BLOCK_SIZE];
        self.disk.read(at * BLOCK, &mut block)?;
        let head: Head = from_prefix(&block, place())?;
        if head.magic.get() != layout::HEAD_MAGIC || head.crc.get() != layout::crc_of(&block, layout::HEAD_CRC) {
            return damage(place(), "does not match its checksum");
        }
        let right = head.at.get() == at
            && head.kind.get() == kind
            && head.owner.get() == owner
            && u64::from(head.index.get()) == index;
        if !right {
            return damage(
                place(),
                format_args!("is not the one of kind {kind} that belongs there"),
            );
        }
        Ok((usize::from(head.count.get()), block))
    }

    /// That blocks lie in the body.
    fn inside(&self, at: u64, count: u64) -> bool {
        let end = self.head.body_end.get();
        at > 0 && at < end && count <= end - at
    }

    /// A file.
    pub fn inode(&self, ino: u64) -> Result<Inode> {
        if ino == 0 || ino > self.head.inodes.get() {
            return damage(format_args!("inode {ino}"), "does not exist");
        }
        let (index, slot) = ((ino - 1) / layout::BLOCK_INODES, (ino - 1) % layout::BLOCK_INODES);
        let (_, block) = self.metadata(self.head.inodes_at.get() + index, layout::INODES, 0, index)?;
        let slot = usize::try_from(slot).unwrap_or(usize::MAX);
        let at = size_of::<Head>() + slot.saturating_mul(size_of::<Inode>());
        let inode: Inode = from_prefix(block.get(at..).unwrap_or_default(), format_args!("inode {ino}"))?;
        match self.wrong_in(&inode, ino) {
            Some(what) => damage(format_args!("inode {ino}"), what),
            None => Ok(inode),
        }
    }

    /// What cannot be in an inode.
    fn wrong_in(&self, inode: &Inode, ino: u64) -> Option<&'static str> {
        let (size, count, blocks) = (inode.size.get(), inode.map_count.get(), inode.map_blocks.get());
        let Some(kind) = Kind::of_mode(inode.mode.get()) else {
            return Some("has no type");
        };
        if inode.ino.get() != ino {
            return Some("is where another belongs");
        }
        if inode.links.get() == 0 {
            return Some("has no names");
        }
        if inode.uid.get() == u32::MAX || inode.gid.get() == u32::MAX {
            return Some("has no owner");
        }
        let wanted = match kind {
            Kind::File if size > MAX_FILE_BYTES => return Some("is too long"),
            Kind::File if count as usize <= layout::INLINE_EXTENTS => 0,
            Kind::File => count.div_ceil(u32::try_from(layout::BLOCK_EXTENTS).unwrap_or(1)),
            Kind::Directory => count,
            Kind::Symlink if count == 0 || count > TARGET_MOST || size != u64::from(count) => {
                return Some("has an impossible target");
            }
            Kind::Symlink if count as usize <= layout::INLINE => 0,
            Kind::Symlink => count.div_ceil(u32::try_from(layout::PAYLOAD).unwrap_or(1)),
            _ if count > 0 => return Some("has contents, which its type has not"),
            _ => 0,
        };
        if blocks != wanted || (blocks > 0 && !self.inside(inode.map_at.get(), u64::from(blocks))) {
            return Some("has its contents where they cannot be");
        }
        let parent = inode.parent.get();
        let root = ino == layout::ROOT;
        if kind == Kind::Directory && (parent == 0 || parent > self.head.inodes.get() || (parent == ino) != root) {
            return Some("is in an impossible directory");
        }
        if root && kind != Kind::Directory {
            return Some("is the root, and no directory");
        }
        let bytes = u64::from(inode.xattrs_bytes.get());
        if bytes > 0 && !self.inside(inode.xattrs_at.get(), bytes.div_ceil(layout::PAYLOAD as u64)) {
            return Some("has its attributes where they cannot be");
        }
        None
    }

    /// One block of a directory.
    pub fn names(&self, inode: &Inode, index: u64) -> Result<Vec<Name>> {
        let at = inode.map_at.get() + index;
        let place = || format!("block {at}, names of inode {}", inode.ino);
        let (count, block) = self.metadata(at, layout::ENTRIES, inode.ino.get(), index)?;
        let mut names = Vec::new();
        for slot in 0..count {
            let slot = size_of::<Head>() + 2 * slot;
            let start = block.get(slot..slot + 2).and_then(|bytes| bytes.try_into().ok());
            let start = usize::from(start.map_or(u16::MAX, u16::from_le_bytes));
            let rest = block.get(start..).unwrap_or_default();
            let entry: Entry = from_prefix(rest, place())?;
            let length = usize::from(entry.length);
            let name = rest.get(size_of::<Entry>()..size_of::<Entry>() + length);
            let name = name.filter(|name| !name.is_empty() && !name.contains(&0) && !name.contains(&b'/'));
            let Some(name) = name.filter(|name| ![&b"."[..], b".."].contains(name)) else {
                return damage(place(), "has a name that is none");
            };
            let Some(kind) = Kind::of_number(entry.kind) else {
                return damage(place(), "has a name of no type");
            };
            if entry.ino.get() == 0 || entry.ino.get() > self.head.inodes.get() {
                return damage(place(), "names a file that does not exist");
            }
            names.push(Name {
                ino: entry.ino.get(),
                kind,
                name: name.to_vec(),
            });
        }
        if names.is_empty() || !names.is_sorted_by(|one, next| one.name < next.name) {
            return damage(place(), "is empty or out of order");
        }
        Ok(names)
    }

    /// Calls `each` with everything in a directory, in order.
    pub fn list(&self, inode: &Inode, mut each: impl FnMut(Name) -> Result<()>) -> Result<()> {
        if Kind::of_mode(inode.mode.get()) != Some(Kind::Directory) {
            return Err(Errno::NotDirectory.into());
        }
        let mut last = Vec::new();
        for index in 0..u64::from(inode.map_blocks.get()) {
            for name in self.names(inode, index)? {
                if name.name <= last {
                    return damage(format_args!("directory {}", inode.ino), "has its blocks out of order");
                }
                last.clone_from(&name.name);
                each(name)?;
            }
        }
        Ok(())
    }

    /// The file of a name.
    pub fn lookup(&self, inode: &Inode, wanted: &[u8]) -> Result<Name> {
        if Kind::of_mode(inode.mode.get()) != Some(Kind::Directory) {
            return Err(Errno::NotDirectory.into());
        }
        let (mut from, mut until) = (0, u64::from(inode.map_blocks.get()));
        while from < until {
            let middle = from.midpoint(until);
            let mut names = self.names(inode, middle)?;
            match names.binary_search_by(|name| name.name.as_slice().cmp(wanted)) {
                Ok(index) => return Ok(names.swap_remove(index)),
                Err(0) => until = middle,
                Err(index) if index == names.len() => from = middle + 1,
                Err(_) => break,
            }
        }
        Err(Errno::NoEntry.into())
    }

    /// The file of a path of names from the root, without following symbolic links.
    pub fn resolve(&self, path: &[u8]) -> Result<Inode> {
        let mut found = self.inode(layout::ROOT)?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            found = self.inode(self.lookup(&found, name)?.ino)?;
        }
        Ok(found)
    }

    /// Calls `each` with the stretches of a file, in order.
    pub fn extents(&self, inode: &Inode, mut each: impl FnMut(Extent) -> Result<()>) -> Result<()> {
        let place = || format!("extents of inode {}", inode.ino);
        let end = blocks_for(inode.size.get());
        let mut after = 0;
        let mut one = |extent: Extent| {
            let (from, count) = (extent.from.get(), u64::from(extent.count.get()));
            let fits = count > 0 && from >= after && from < end && count <= end - from;
            if !fits || !self.inside(extent.at.get(), count) {
                return damage(place(), "are out of order or out of bounds");
            }
            after = from + count;
            each(extent)
        };
        let count = inode.map_count.get() as usize;
        if inode.map_blocks.get() == 0 {
            let bytes = inode.inline_bytes.chunks_exact(size_of::<Extent>());
            return bytes
                .take(count)
                .try_for_each(|bytes| one(from_prefix(bytes, place())?));
        }
        let mut left = count;
        for index in 0..u64::from(inode.map_blocks.get()) {
            let at = inode.map_at.get() + index;
            let (here, block) = self.metadata(at, layout::EXTENTS, inode.ino.get(), index)?;
            if here != left.min(layout::BLOCK_EXTENTS) {
                return damage(
                    format_args!("block {at}"),
                    "has another number of extents than it should",
                );
            }
            left -= here;
            let bytes = block.get(size_of::<Head>()..).unwrap_or_default();
            let bytes = bytes.chunks_exact(size_of::<Extent>()).take(here);
            for bytes in bytes {
                one(from_prefix(bytes, place())?)?;
            }
        }
        Ok(())
    }

    /// A block of the body, compared with its checksum if there are any.
    pub fn block(&self, at: u64) -> Result<Bytes> {
        let mut block: Bytes = [0; BLOCK_SIZE];
        if !self.inside(at, 1) {
            return damage(format_args!("block {at}"), "does not exist");
        }
        self.disk.read(at * BLOCK, &mut block)?;
        if self.head.sums_kind.get() == layout::SUMS_CRC32C {
            let (index, slot) = ((at - 1) / layout::BLOCK_CHECKSUMS, (at - 1) % layout::BLOCK_CHECKSUMS);
            let (_, sums) = self.metadata(self.head.sums_at.get() + index, layout::CHECKSUMS, 0, index)?;
            let place = size_of::<Head>() + 4 * usize::try_from(slot).unwrap_or(0);
            if sums.get(place..place + 4) != Some(&Crc::of(&block).0.to_le_bytes()) {
                return damage(format_args!("block {at}"), "does not match its checksum");
            }
        }
        Ok(block)
    }

    /// Reads bytes of a file; returns how many there were.
    pub fn read(&self, inode: &Inode, at: u64, buffer: &mut [u8]) -> Result<usize> {
        if Kind::of_mode(inode.mode.get()) != Some(Kind::File) {
            return Err(Errno::Invalid.into());
        }
        let length = inode.size.get().saturating_sub(at).min(buffer.len() as u64);
        let length = usize::try_from(length).unwrap_or(0);
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        buffer.fill(0);
        let end = at + length as u64;
        self.extents(inode, |extent| {
            let start = extent.from.get() * BLOCK;
            for index in 0..u64::from(extent.count.get()) {
                let block_at = start + index * BLOCK;
                if block_at >= end {
                    break;
                }
                if block_at + BLOCK <= at {
                    continue;
                }
                let block = self.block(extent.at.get() + index)?;
                let (from, until) = (at.max(block_at), end.min(block_at + BLOCK));
                let range = |base: u64| {
                    let place = |byte: u64| usize::try_from(byte - base).unwrap_or(usize::MAX);
                    place(from)..place(until)
                };
                if let (Some(to), Some(bytes)) = (buffer.get_mut(range(at)), block.get(range(block_at))) {
                    to.copy_from_slice(bytes);
                }
            }
            Ok(())
        })?;
        Ok(length)
    }

    /// Bytes in blocks of their own.
    fn stream(&self, at: u64, owner: u64, bytes: u32) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut left = bytes as usize;
        let mut index = 0;
        while left > 0 {
            let (count, block) = self.metadata(at + index, layout::BYTES, owner, index)?;
            let here = left.min(layout::PAYLOAD);
            if count != here {
                return damage(
                    format_args!("block {}", at + index),
                    "has another number of bytes than it should",
                );
            }
            let range = size_of::<Head>()..size_of::<Head>() + here;
            all.extend_from_slice(block.get(range).unwrap_or_default());
            left -= here;
            index += 1;
        }
        Ok(all)
    }

    /// The target of a symbolic link.
    pub fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if Kind::of_mode(inode.mode.get()) != Some(Kind::Symlink) {
            return Err(Errno::Invalid.into());
        }
        let count = inode.map_count.get();
        let target = match inode.inline_bytes.get(..count as usize) {
            Some(bytes) => bytes.to_vec(),
            None => self.stream(inode.map_at.get(), inode.ino.get(), count)?,
        };
        if target.contains(&0) {
            return damage(format_args!("inode {}", inode.ino), "has a target that is no path");
        }
        Ok(target)
    }

    /// Names and values of the extended attributes, in order.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let place = || format!("attributes of inode {}", inode.ino);
        let all = self.stream(inode.xattrs_at.get(), 0, inode.xattrs_bytes.get())?;
        let mut rest = all.as_slice();
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        while !rest.is_empty() {
            let head: Xattr = from_prefix(rest, place())?;
            let (name, value) = (usize::from(head.name_bytes.get()), head.value_bytes.get() as usize);
            let start = size_of::<Xattr>();
            let end = start.saturating_add(name).saturating_add(value);
            let (Some(name), Some(value)) = (rest.get(start..start + name), rest.get(start + name..end)) else {
                return damage(place(), "end early");
            };
            let ordered = found.last().is_none_or(|(last, _)| last.as_slice() < name);
            let sound = !name.is_empty() && name.len() <= MAX_XATTR_NAME && !name.contains(&0);
            if !ordered || !sound || value.len() > MAX_XATTR_VALUE {
                return damage(place(), "have an impossible name or value, or are out of order");
            }
            found.push((name.to_vec(), value.to_vec()));
            rest = rest.get(end..).unwrap_or_default();
        }
        Ok(found)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// A value that is no damage, for callers that go on.
pub(super) fn damage_of(error: Error) -> Result<Damage> {
    match error {
        Error::Damaged(damage) => Ok(*damage),
        other => Err(other),
    }
}
