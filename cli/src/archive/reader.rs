// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading an archive that anybody may have made.
//!
//! [`Reader::next`] gives the next member, after passing over what is left of the one before; [`Reader::contents`] its
//! bytes. Nothing of what is read is trusted: lengths are bounded before memory is taken, numbers are checked, and names are
//! given as they are, for the caller to judge.

use std::io::{self, Read};

use anyhow::Result;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};
use vexfs::fs::MAX_FILE_BYTES;
use vexfs::fs::record::{Kind, Timestamp};

use super::member::{bounded, complete};
use super::pax::Records;
use super::sparse::{self, Map};
use super::{ArchiveError, BLOCK, BLOCK_BYTES, MAX_GLOBALS, MAX_NAME, MAX_RECORDS, padding};
use crate::copy::{Node, PIECE};

/// First bytes of what is often done to an archive, and what undoes it.
const COMPRESSED: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "zcat"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd -dc"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xzcat"),
    (b"BZh", "bzcat"),
];

/// One file of an archive.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name, as it is written there.
    pub(crate) name: Vec<u8>,
    /// Everything about it.
    pub(crate) node: Node,
    /// The name it shares its file with.
    pub(crate) link: Option<Vec<u8>>,
    /// What the archive says and could not be understood.
    pub(crate) left_out: Vec<String>,
}

/// An archive being read.
pub(crate) struct Reader<R> {
    input: R,
    at: u64,
    /// Of the present member: bytes of contents and of filling not read yet.
    left: u64,
    fill: u64,
    map: Map,
    globals: Records,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            at: 0,
            left: 0,
            fill: 0,
            map: Map::whole(0),
            globals: Records::default(),
        }
    }

    /// Bytes read.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next file; `None` at the end mark.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        self.skip_rest()?;
        let mut records = Records::default();
        let (mut long_name, mut long_target) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.entry_size().map_err(|_| ArchiveError::Number("the size"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    records.overlay(self.records(size)?);
                    within(&records, MAX_RECORDS)?;
                }
                EntryType::XGlobalHeader => {
                    let later = self.records(size)?;
                    self.globals.overlay(later);
                    within(&self.globals, MAX_GLOBALS)?;
                }
                EntryType::GNULongName => long_name = Some(self.long(size)?),
                EntryType::GNULongLink => long_target = Some(self.long(size)?),
                other if other.as_byte() == b'V' => {
                    self.expect(size);
                    self.skip_rest()?;
                }
                other if other.as_byte() == b'M' => return Err(ArchiveError::Volumes.into()),
                _ => {
                    let mut all = self.globals.clone();
                    all.overlay(records);
                    return self.member(&header, &all, long_name, long_target).map(Some);
                }
            }
        }
    }

    /// Calls `each` with the contents of the present member and where they belong.
    pub(crate) fn contents(&mut self, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let map = std::mem::replace(&mut self.map, Map::whole(0));
        let padded = map.is_padded(self.left)?;
        let mut piece = vec![0; PIECE.min(usize::try_from(self.left).unwrap_or(PIECE))];
        for region in &map.regions {
            let mut at = region.start;
            while at < region.end {
                // To a boundary of whole pieces first: a file's blocks are then written once.
                let until = (at / PIECE as u64 + 1) * PIECE as u64;
                let room = usize::try_from(until.min(region.end) - at).unwrap_or(PIECE);
                let room = room.min(piece.len());
                let bytes = piece.get_mut(..room).unwrap_or_default();
                self.read(bytes)?;
                self.left = self.left.saturating_sub(room as u64);
                each(at, bytes)?;
                at += room as u64;
            }
            if padded {
                let filling = padding(region.end - region.start).min(self.left);
                self.discard(filling)?;
                self.left -= filling;
            }
        }
        Ok(())
    }

    /// Reads what follows the end mark, up to a bound.
    pub(crate) fn drain(&mut self, bytes: u64) {
        // The archive is complete: whatever happens here is of no matter.
        let _ = io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink());
    }

    fn member(
        &mut self,
        header: &Header,
        records: &Records,
        long_name: Option<Vec<u8>>,
        long_target: Option<Vec<u8>>,
    ) -> Result<Member> {
        let kind = header.entry_type();
        let size = header.entry_size().map_err(|_| ArchiveError::Number("the size"))?;
        let mut stored = records.number("size")?.unwrap_or(size);
        if stored > MAX_FILE_BYTES {
            return Err(ArchiveError::Number("the size").into());
        }
        let in_header = header.as_old();
        let sparse = records.get("GNU.sparse.name");
        let mut name = match sparse.or(records.get("path")) {
            Some(name) => name.to_vec(),
            None => long_name.unwrap_or_else(|| header.path_bytes().into_owned()),
        };
        let target = match records.get("linkpath") {
            Some(target) => target.to_vec(),
            None => long_target.unwrap_or_else(|| until_zero(&in_header.linkname)),
        };
        let target = bounded("a link's target", target)?;
        name = bounded("a name", name)?;
        let what = match kind.as_byte() {
            // The oldest programs had no type for directories.
            0 | b'0' if name.ends_with(b"/") => Kind::Directory,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            // What nobody knows is unpacked as a file, says POSIX.
            _ => Kind::File,
        };
        let link = (kind == EntryType::Link).then(|| target.clone());
        if link.is_some() {
            stored = 0;
        }
        let mut node = Self::node(header, what)?;
        if what == Kind::Symlink {
            node.target = target;
        }
        // Extended headers of the old sparse form stand before the contents.
        let old_map = if kind == EntryType::GNUSparse {
            Some(self.old_map(header)?)
        } else {
            None
        };
        self.expect(stored);
        self.map = match old_map {
            Some(map) => map,
            None if what != Kind::File || link.is_some() => Map::whole(0),
            None if records.get("GNU.sparse.major").is_some() => self.new_map(records)?,
            None => Map::of_records(records)?.unwrap_or_else(|| Map::whole(stored)),
        };
        // Told before the file is made.
        if what == Kind::File && link.is_none() {
            self.map.is_padded(self.left)?;
        }
        node.size = self.map.size;
        let left_out = complete(&mut node, records)?;
        if node.kind == Kind::Socket {
            node.size = 0;
        }
        Ok(Member {
            name,
            node,
            link,
            left_out,
        })
    }

    fn node(header: &Header, kind: Kind) -> Result<Node, ArchiveError> {
        let id = |value: io::Result<u64>, what| {
            let value = value.ok().and_then(|value| u32::try_from(value).ok());
            value.ok_or(ArchiveError::Number(what))
        };
        // What does not fit into the header is in the records, and the header may then say anything.
        let mtime = header.mtime().unwrap_or(0).cast_signed();
        let mode = header.mode().map_err(|_| ArchiveError::Number("the mode"))?;
        let device = match kind {
            Kind::Character | Kind::Block => {
                let part = |value: io::Result<Option<u32>>| {
                    let value = value.map_err(|_| ArchiveError::Number("the device"))?;
                    Ok::<_, ArchiveError>(u64::from(value.unwrap_or(0)))
                };
                nix::sys::stat::makedev(part(header.device_major())?, part(header.device_minor())?)
            }
            _ => 0,
        };
        Ok(Node {
            permissions: u16::try_from(mode & 0o7777).unwrap_or(0),
            uid: id(header.uid(), "the owner")?,
            gid: id(header.gid(), "the group")?,
            device,
            modified: Timestamp::new(mtime, 0),
            ..Node::new(kind)
        })
    }

    /// The next header that is no end mark.
    fn header(&mut self) -> Result<Option<Header>> {
        let Some(block) = self.block_or_end()? else {
            return Err(if self.at == 0 {
                ArchiveError::NotTar
            } else {
                ArchiveError::NoEndMark
            }
            .into());
        };
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let said = header.cksum().ok();
        let (unsigned, signed) = sums(&block);
        if said == Some(unsigned) || said == Some(signed) {
            return Ok(Some(header));
        }
        if self.at == BLOCK {
            let magic = COMPRESSED.iter().find(|(magic, _)| block.starts_with(magic));
            return Err(magic
                .map_or(ArchiveError::NotTar, |(_, undo)| ArchiveError::Compressed(undo))
                .into());
        }
        Err(ArchiveError::Checksum.into())
    }

    fn records(&mut self, size: u64) -> Result<Records> {
        Ok(Records::decode(&self.small("extended records", size, MAX_RECORDS)?)?)
    }

    fn long(&mut self, size: u64) -> Result<Vec<u8>> {
        Ok(until_zero(&self.small("a name", size, MAX_NAME as u64)?))
    }

    /// Contents that are read into memory.
    fn small(&mut self, what: &'static str, bytes: u64, limit: u64) -> Result<Vec<u8>> {
        if bytes > limit {
            return Err(ArchiveError::TooLong { what, bytes, limit }.into());
        }
        // Grown as bytes arrive: a header's word alone takes no memory.
        let mut content = Vec::new();
        let read = self.input.by_ref().take(bytes).read_to_end(&mut content)?;
        self.at += read as u64;
        if (read as u64) < bytes {
            return Err(ArchiveError::CutShort.into());
        }
        self.discard(padding(bytes))?;
        Ok(content)
    }

    /// The entries in a header of the old sparse form, and in those that go on with it.
    fn old_map(&mut self, header: &Header) -> Result<Map> {
        let wrong = || ArchiveError::Sparse("a number is missing");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let size = gnu.real_size().map_err(|_| wrong())?;
        let mut numbers = Vec::new();
        let mut take = |entries: &[GnuSparseHeader]| -> Result<()> {
            for entry in entries.iter().filter(|entry| !entry.is_empty()) {
                sparse::push(&mut numbers, entry.offset().map_err(|_| wrong())?)?;
                sparse::push(&mut numbers, entry.length().map_err(|_| wrong())?)?;
            }
            Ok(())
        };
        take(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut next = GnuExtSparseHeader::new();
            self.read(next.as_mut_bytes())?;
            take(&next.sparse)?;
            more = next.is_extended();
        }
        Ok(Map::of_numbers(size, &numbers)?)
    }

    /// The map in front of the contents.
    fn new_map(&mut self, records: &Records) -> Result<Map> {
        if (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")) != (Some(b"1"), Some(b"0")) {
            return Err(ArchiveError::Sparse("its version is not known").into());
        }
        let size = records.number("GNU.sparse.realsize")?;
        let size = size.ok_or(ArchiveError::Sparse("the size of the file is missing"))?;
        let (numbers, blocks) = {
            let mut left = self.left;
            sparse::read_numbers(|| {
                left = left.checked_sub(BLOCK).ok_or(ArchiveError::Sparse("it does not end"))?;
                self.block()
            })?
        };
        self.left -= blocks * BLOCK;
        Ok(Map::of_numbers(size, &numbers)?)
    }

    /// Contents of so many bytes follow.
    fn expect(&mut self, bytes: u64) {
        self.left = bytes;
        self.fill = padding(bytes);
    }

    fn skip_rest(&mut self) -> Result<()> {
        let (left, fill) = (std::mem::take(&mut self.left), std::mem::take(&mut self.fill));
        self.discard(left)?;
        self.discard(fill)
    }

    fn discard(&mut self, bytes: u64) -> Result<()> {
        let passed = io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink())?;
        self.at += passed;
        if passed < bytes {
            return Err(ArchiveError::CutShort.into());
        }
        Ok(())
    }

    fn block(&mut self) -> Result<[u8; BLOCK_BYTES]> {
        let mut block = [0; BLOCK_BYTES];
        self.read(&mut block)?;
        Ok(block)
    }

    fn block_or_end(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>> {
        let mut block = [0; BLOCK_BYTES];
        let mut have = 0;
        while have < BLOCK_BYTES {
            match self.input.read(block.get_mut(have..).unwrap_or_default()) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) => {
                    return Err(if self.at == 0 {
                        ArchiveError::NotTar
                    } else {
                        ArchiveError::CutShort
                    }
                    .into());
                }
                Ok(count) => have += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at += BLOCK;
        Ok(Some(block))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<()> {
        self.input.read_exact(into).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                anyhow::Error::from(ArchiveError::CutShort)
            } else {
                error.into()
            }
        })?;
        self.at += into.len() as u64;
        Ok(())
    }
}

/// The sum of a header's bytes with its checksum blank; some programs added them as signed.
fn sums(block: &[u8; BLOCK_BYTES]) -> (u32, u32) {
    let (mut unsigned, mut signed) = (0_u32, 0_u32);
    for (index, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&index) { b' ' } else { byte };
        unsigned = unsigned.wrapping_add(byte.into());
        signed = signed.wrapping_add_signed(i32::from(byte.cast_signed()));
    }
    (unsigned, signed)
}

/// Several headers together must not be longer than one may be.
fn within(records: &Records, limit: u64) -> Result<(), ArchiveError> {
    let bytes = records.bytes();
    let what = "extended records";
    if bytes > limit {
        return Err(ArchiveError::TooLong { what, bytes, limit });
    }
    Ok(())
}

fn until_zero(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}
