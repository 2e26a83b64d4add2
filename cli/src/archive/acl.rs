// SPDX-License-Identifier: MIT OR Apache-2.0

//! POSIX access lists: the bytes of the kernel's extended attribute, and the text that archives hold.
//!
//! Bytes: version 2 as u32, then per entry tag u16, permissions u16, id u32, little-endian, ordered by tag and id.
//! Text: an entry per line or comma, `user:1000:rw-`; ids are written as numbers. When it is read, names are looked up, and
//! a fourth field with the id, which star and bsdtar add, counts more than a name.

use std::fmt::Write;

const VERSION: u32 = 2;
/// Id of entries that name nobody.
const NOBODY: u32 = u32::MAX;
/// More entries than this fit into no extended attribute.
const MOST_ENTRIES: usize = 8191;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Who a name in a list is: a user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    User,
    Group,
}

/// Why text is no access list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AclError {
    #[error("entry {0:?} is not understood")]
    Entry(String),
    #[error("{0:?} is nobody here")]
    Unknown(String),
    #[error("it has too many entries")]
    TooMany,
}

/// The text of a list; `None` if the bytes are none that the kernel would take.
pub(crate) fn to_text(bytes: &[u8]) -> Option<String> {
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % 8 != 0 {
        return None;
    }
    let mut text = String::new();
    for entry in entries.chunks_exact(8) {
        let [tag0, tag1, perm0, perm1, id @ ..] = entry else {
            return None;
        };
        let (tag, permissions) = (u16::from_le_bytes([*tag0, *tag1]), u16::from_le_bytes([*perm0, *perm1]));
        let id = u32::from_le_bytes(id.try_into().ok()?);
        let (name, named) = match tag {
            USER_OBJ => ("user", false),
            USER => ("user", true),
            GROUP_OBJ => ("group", false),
            GROUP => ("group", true),
            MASK => ("mask", false),
            OTHER => ("other", false),
            _ => return None,
        };
        if permissions > 7 || named == (id == NOBODY) {
            return None;
        }
        let id = if named { id.to_string() } else { String::new() };
        let letter = |bit, letter| if permissions & bit != 0 { letter } else { '-' };
        writeln!(
            text,
            "{name}:{id}:{}{}{}",
            letter(4, 'r'),
            letter(2, 'w'),
            letter(1, 'x')
        )
        .ok()?;
    }
    // A list that is read back gives the same bytes.
    let same = from_text(&text, |_, _| None).is_ok_and(|again| again == bytes);
    same.then_some(text)
}

/// The permissions that a file with this list has: as the kernel keeps them, the group's are those of the mask.
pub(crate) fn permissions(bytes: &[u8]) -> Option<u16> {
    let (mut user, mut group, mut mask, mut other) = (None, None, None, None);
    for entry in bytes.get(4..)?.chunks_exact(8) {
        let [tag0, tag1, bits0, bits1, ..] = entry else {
            return None;
        };
        let bits = Some(u16::from_le_bytes([*bits0, *bits1]));
        match u16::from_le_bytes([*tag0, *tag1]) {
            USER_OBJ => user = bits,
            GROUP_OBJ => group = bits,
            MASK => mask = bits,
            OTHER => other = bits,
            _ => {}
        }
    }
    Some(user? << 6 | mask.or(group)? << 3 | other?)
}

/// The bytes of a list; `look_up` knows names.
pub(crate) fn from_text(text: &str, look_up: impl Fn(Who, &str) -> Option<u32>) -> Result<Vec<u8>, AclError> {
    let mut entries = Vec::new();
    for line in text.split(['\n', ',']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if entries.len() == MOST_ENTRIES {
            return Err(AclError::TooMany);
        }
        entries.push(entry(line, &look_up)?);
    }
    entries.sort_unstable();
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    Ok(bytes)
}

fn entry(line: &str, look_up: &impl Fn(Who, &str) -> Option<u32>) -> Result<(u16, u32, u16), AclError> {
    let wrong = || AclError::Entry(line.chars().take(80).collect());
    let line = line.strip_prefix("default:").unwrap_or(line);
    let mut fields = line.split(':').map(str::trim);
    let (kind, name) = (fields.next().unwrap_or_default(), fields.next().ok_or_else(wrong)?);
    // `mask:rwx` and `other:rwx` are written too.
    let (name, permissions) = match (kind, fields.next()) {
        (_, Some(permissions)) => (name, permissions),
        ("mask" | "m" | "other" | "o", None) => ("", name),
        _ => return Err(wrong()),
    };
    let id = fields.next();
    let (tag, who) = match (kind, name.is_empty()) {
        ("user" | "u", true) => (USER_OBJ, None),
        ("user" | "u", false) => (USER, Some(Who::User)),
        ("group" | "g", true) => (GROUP_OBJ, None),
        ("group" | "g", false) => (GROUP, Some(Who::Group)),
        ("mask" | "m", true) => (MASK, None),
        ("other" | "o", true) => (OTHER, None),
        _ => return Err(wrong()),
    };
    let id = match who {
        None => NOBODY,
        Some(who) => {
            let number = |text: &str| text.parse::<u32>().ok().filter(|&id| id != NOBODY);
            let known = id.and_then(number).or_else(|| number(name));
            known
                .or_else(|| look_up(who, name))
                .ok_or_else(|| AclError::Unknown(name.to_owned()))?
        }
    };
    let mut bits = 0;
    for letter in permissions.chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err(wrong()),
        };
    }
    Ok((tag, id, bits))
}
