// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writing an archive.
//!
//! For each file: [`Writer::file`], then its contents in order through [`Writer::contents`], exactly as many bytes as its
//! map says; or [`Writer::link`] alone. [`Writer::end`] at last: an archive without its end mark counts as cut short.

use std::io::{self, Write};

use anyhow::{Result, ensure};
use tar::{EntryType, Header};
use vexfs::fs::record::Kind;

use super::member::{bounded, describe};
use super::pax::Records;
use super::sparse::Map;
use super::{ArchiveError, BLOCK, MAX_RECORDS, padding};
use crate::copy::Node;

/// Archives are whole records of this many bytes, as tapes wanted them and tar programs still write.
const RECORD: u64 = 10_240;
/// Bytes of a name, and of a link's target, in a header.
const NAME: usize = 100;

/// An archive being written.
pub(crate) struct Writer<W> {
    out: W,
    written: u64,
    portable: bool,
}

impl<W: Write> Writer<W> {
    /// `portable`: only records that other programs know.
    pub(crate) fn new(out: W, portable: bool) -> Self {
        Self {
            out,
            written: 0,
            portable,
        }
    }

    /// Bytes written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The headers of a file; its contents follow.
    pub(crate) fn file(&mut self, name: &[u8], node: &Node, map: &Map) -> Result<()> {
        let mut records = describe(node, self.portable);
        let mut header = header(node);
        let mut stored = map.stored();
        let mut named = name.to_vec();
        let mut text = None;
        if node.kind == Kind::File && map.has_holes() {
            records.push("GNU.sparse.major", "1");
            records.push("GNU.sparse.minor", "0");
            records.push("GNU.sparse.name", name);
            records.push("GNU.sparse.realsize", map.size.to_string());
            named = beside(name, "GNUSparseFile.0");
            let encoded = map.encode();
            stored += encoded.len() as u64;
            text = Some(encoded);
        }
        if node.kind == Kind::Symlink {
            put_target(&mut header, &mut records, &node.target)?;
        }
        header.set_size(stored);
        if stored > 0o77_777_777_777 {
            records.push("size", stored.to_string());
        }
        self.headers(header, &named, records)?;
        if let Some(text) = text {
            self.put(&text)?;
        }
        Ok(())
    }

    /// Another name of a file that came before.
    pub(crate) fn link(&mut self, name: &[u8], node: &Node, first: &[u8]) -> Result<()> {
        // The first name tells everything else.
        let bare = Node {
            attributes: Vec::new(),
            embeddings: Vec::new(),
            promised: Vec::new(),
            flags: None,
            born: None,
            kind: Kind::File,
            ..node.clone()
        };
        let mut records = describe(&bare, self.portable);
        let mut header = header(&bare);
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        put_target(&mut header, &mut records, first)?;
        self.headers(header, name, records)
    }

    /// Bytes of the file's regions.
    pub(crate) fn contents(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes)
    }

    /// Fills up to a whole block, behind the contents.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.zeros(padding(self.written))
    }

    /// Ends the archive.
    pub(crate) fn end(mut self) -> io::Result<W> {
        self.zeros(2 * BLOCK)?;
        self.zeros((RECORD - self.written % RECORD) % RECORD)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn headers(&mut self, mut header: Header, name: &[u8], mut records: Records) -> Result<()> {
        let plain = name.len() <= NAME && name.is_ascii();
        if name.len() > NAME || !plain && std::str::from_utf8(name).is_ok() {
            records.push("path", bounded("a name", name.to_vec())?);
        }
        let bytes = records.encode();
        ensure!(
            bytes.len() as u64 <= MAX_RECORDS,
            ArchiveError::TooLong {
                what: "extended attributes, vectors and preallocated ranges",
                bytes: bytes.len() as u64,
                limit: MAX_RECORDS
            }
        );
        let mut extended = Header::new_ustar();
        extended.set_entry_type(EntryType::XHeader);
        extended.set_mode(0o644);
        extended.set_uid(0);
        extended.set_gid(0);
        extended.set_mtime(0);
        extended.set_size(bytes.len() as u64);
        put_name(&mut extended, &beside(name, "PaxHeaders"));
        extended.set_cksum();
        self.put(extended.as_bytes())?;
        self.put(&bytes)?;
        self.fill()?;
        put_name(&mut header, name);
        header.set_cksum();
        self.put(header.as_bytes())?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(count).unwrap_or(0)];
        self.put(&zeros)
    }
}

/// What of a node fits into a header.
fn header(node: &Node) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(match node.kind {
        Kind::File | Kind::Socket => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::Fifo => EntryType::Fifo,
        Kind::Character => EntryType::Char,
        Kind::Block => EntryType::Block,
    });
    header.set_mode(u32::from(node.permissions));
    header.set_uid(node.uid.into());
    header.set_gid(node.gid.into());
    // A time before 1970 is in the records alone.
    header.set_mtime(u64::try_from(node.modified.seconds()).unwrap_or(0));
    if let (Kind::Character | Kind::Block, Some(fields)) = (node.kind, header.as_ustar_mut()) {
        let part = |part| u32::try_from(part).unwrap_or(u32::MAX);
        fields.set_device_major(part(nix::sys::stat::major(node.device)));
        fields.set_device_minor(part(nix::sys::stat::minor(node.device)));
    }
    header
}

/// As much of the name as fits; the whole one is in the records if it does not.
fn put_name(header: &mut Header, name: &[u8]) {
    let field = &mut header.as_old_mut().name;
    field.fill(0);
    for (place, byte) in field.iter_mut().zip(name) {
        *place = *byte;
    }
}

fn put_target(header: &mut Header, records: &mut Records, target: &[u8]) -> Result<()> {
    let field = &mut header.as_old_mut().linkname;
    field.fill(0);
    for (place, byte) in field.iter_mut().zip(target) {
        *place = *byte;
    }
    if target.len() > NAME || !target.is_ascii() && std::str::from_utf8(target).is_ok() {
        records.push("linkpath", bounded("a link's target", target.to_vec())?);
    }
    Ok(())
}

/// A name in a folder beside the file, as programs that do not know what it is for would unpack it.
fn beside(name: &[u8], folder: &str) -> Vec<u8> {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    let (directory, last) = match trimmed.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => trimmed.split_at(slash + 1),
        None => (&b""[..], trimmed),
    };
    [directory, folder.as_bytes(), b"/", last].concat()
}
