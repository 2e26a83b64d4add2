// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which record means what of a file. Names, sizes and maps belong to the stream: see `writer` and `reader`.

use std::collections::BTreeMap;
use std::ops::Range;

use nix::unistd::{Group, User};
use vexfs::fs::record::{FileFlags, Kind, Timestamp};

use super::acl::{self, Who};
use super::pax::{Records, number, time_text, time_value};
use super::{ArchiveError, MAX_NAME, embeddings};
use crate::copy::embeddings::Embeddings;
use crate::copy::{ACCESS_LIST, DEFAULT_LIST, Node};

const XATTR: &str = "SCHILY.xattr.";
const LISTS: [(&str, &[u8]); 2] = [("SCHILY.acl.access", ACCESS_LIST), ("SCHILY.acl.default", DEFAULT_LIST)];
const BORN: &str = "VEXFS.born";
const FLAGS: &str = "VEXFS.flags";
const PROMISED: &str = "VEXFS.promised";
const TYPE: &str = "VEXFS.type";
/// Largest number that seven octal digits of a header hold.
const SEVEN_DIGITS: u32 = 0o7_777_777;

/// The records of a file. `portable`: only those that other programs know.
pub(super) fn describe(node: &Node, portable: bool) -> Records {
    let mut records = Records::default();
    records.push("mtime", time_text(node.modified));
    if let Some(accessed) = node.accessed {
        records.push("atime", time_text(accessed));
    }
    for (keyword, id) in [("uid", node.uid), ("gid", node.gid)] {
        if id > SEVEN_DIGITS {
            records.push(keyword, id.to_string());
        }
    }
    for (name, value) in &node.attributes {
        let list = LISTS.iter().find(|(_, list)| **name == **list);
        match list.and_then(|(keyword, _)| Some((*keyword, acl::to_text(value)?))) {
            Some((keyword, text)) => records.push(keyword, text),
            None => records.push([XATTR.as_bytes(), &escape(name)].concat(), value.as_slice()),
        }
    }
    if portable {
        let attributes = node.embeddings.iter().filter_map(Embeddings::attribute);
        for (name, value) in attributes.filter(|(_, value)| !value.is_empty()) {
            records.push([XATTR.as_bytes(), &escape(&name)].concat(), value);
        }
        return records;
    }
    for each in &node.embeddings {
        embeddings::describe(each, &mut records);
    }
    if let Some(born) = node.born {
        records.push(BORN, time_text(born));
    }
    if let Some(flags) = node.flags.filter(|flags| flags.0 != 0) {
        records.push(FLAGS, format!("{:#x}", flags.0));
    }
    if !node.promised.is_empty() {
        let ranges: Vec<_> = node
            .promised
            .iter()
            .map(|range| format!("{}+{}", range.start, range.end - range.start))
            .collect();
        records.push(PROMISED, ranges.join(","));
    }
    if node.kind == Kind::Socket {
        records.push(TYPE, "socket");
    }
    records
}

/// Completes a node made from a header with what its records say. What is not understood and can be left out is told.
pub(super) fn complete(node: &mut Node, records: &Records) -> Result<Vec<String>, ArchiveError> {
    let time = |keyword| match records.get(keyword) {
        None => Ok(None),
        Some(text) => time_value(text).map(Some).ok_or(ArchiveError::Number(keyword)),
    };
    let id = |keyword, there: u32| match records.number(keyword)? {
        None => Ok(there),
        Some(id) => u32::try_from(id).map_err(|_| ArchiveError::Number(keyword)),
    };
    let mut left_out = Vec::new();
    node.modified = time("mtime")?.unwrap_or(node.modified);
    node.accessed = time("atime")?.or(node.accessed);
    let born: Option<Timestamp> = time(BORN)?;
    node.born = born.or(time("LIBARCHIVE.creationtime")?);
    node.uid = id("uid", node.uid)?;
    node.gid = id("gid", node.gid)?;
    if matches!(node.kind, Kind::Character | Kind::Block) {
        let part = |keyword, there| Ok::<_, ArchiveError>(records.number(keyword)?.unwrap_or(there));
        let (major, minor) = (
            part("SCHILY.devmajor", nix::sys::stat::major(node.device))?,
            part("SCHILY.devminor", nix::sys::stat::minor(node.device))?,
        );
        node.device = nix::sys::stat::makedev(major, minor);
    }
    if let Some(text) = records.get(FLAGS) {
        node.flags = Some(flags(text).ok_or(ArchiveError::Number(FLAGS))?);
    }
    if let Some(text) = records.get(PROMISED) {
        node.promised = ranges(text).ok_or(ArchiveError::Number(PROMISED))?;
    }
    if records.get(TYPE) == Some(b"socket") && node.kind == Kind::File {
        node.kind = Kind::Socket;
    }
    node.embeddings = embeddings::read(records)?;
    // The last value of a name counts; an archive may name very many.
    let mut attributes: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (keyword, value) in records.iter() {
        if let Some(name) = keyword.strip_prefix(XATTR.as_bytes()) {
            attributes.insert(unescape(name), value.to_vec());
        } else if keyword == b"RHT.security.selinux" {
            attributes.insert(b"security.selinux".to_vec(), value.to_vec());
        }
    }
    for (keyword, name) in LISTS {
        let Some(text) = records.get(keyword).filter(|text| !text.is_empty()) else {
            continue;
        };
        match acl::from_text(&String::from_utf8_lossy(text), look_up) {
            Ok(list) => {
                // In the header bsdtar has the permissions of the group itself, not the mask.
                let own = acl::permissions(&list).filter(|_| name == ACCESS_LIST);
                node.permissions = own.map_or(node.permissions, |own| node.permissions & !0o777 | own);
                attributes.insert(name.to_vec(), list);
            }
            Err(error) => left_out.push(format!("its access list, since {error}")),
        }
    }
    node.attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    Ok(left_out)
}

fn look_up(who: Who, name: &str) -> Option<u32> {
    match who {
        Who::User => Some(User::from_name(name).ok()??.uid.as_raw()),
        Who::Group => Some(Group::from_name(name).ok()??.gid.as_raw()),
    }
}

fn flags(text: &[u8]) -> Option<FileFlags> {
    let digits = std::str::from_utf8(text.strip_prefix(b"0x")?).ok()?;
    let bits = u32::from_str_radix(digits, 16).ok()?;
    (bits & !FileFlags::ALL.0 == 0).then_some(FileFlags(bits))
}

fn ranges(text: &[u8]) -> Option<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    for text in text.split(|&byte| byte == b',') {
        let plus = text.iter().position(|&byte| byte == b'+')?;
        let (at, length) = text.split_at(plus);
        let (at, length) = (number(at)?, number(length.get(1..)?)?);
        ranges.push(at..at.checked_add(length).filter(|&end| end > at)?);
    }
    Some(ranges)
}

/// A name of an attribute inside a keyword, which ends at the first `=`.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::new();
    for &byte in name {
        match byte {
            b'%' => escaped.extend(b"%25"),
            b'=' => escaped.extend(b"%3D"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), name);
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match after {
            [b'2', b'5', after @ ..] if byte == b'%' => (b'%', after),
            [b'3', b'D', after @ ..] if byte == b'%' => (b'=', after),
            _ => (byte, after),
        };
        plain.push(byte);
        rest = after;
    }
    plain
}

/// That a name is of bounded length.
pub(super) fn bounded(what: &'static str, name: Vec<u8>) -> Result<Vec<u8>, ArchiveError> {
    if name.len() > MAX_NAME {
        return Err(ArchiveError::TooLong {
            what,
            bytes: name.len() as u64,
            limit: MAX_NAME as u64,
        });
    }
    Ok(name)
}
