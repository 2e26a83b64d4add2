// SPDX-License-Identifier: MIT OR Apache-2.0

//! POSIX access control lists in the form that Linux keeps them in: the values of `system.posix_acl_access` and
//! `system.posix_acl_default`.
//!
//! Bytes: version 4 (= 2), then per entry tag 2, permissions 2, id 4, little-endian. Everything is untrusted. A list that
//! [`Acl::parse`] returns is valid by the kernel's rules:
//!
//! - Order: owner, named users, owning group, named groups, mask, others. Owner, owning group and others exactly once,
//!   the mask at most once.
//! - With named users or groups there is a mask.
//! - Permissions are `rwx` and nothing else; named entries have an id.
//!
//! The owner, the group (or the mask, if there is one) and others are the nine permission bits of the file's mode: both
//! must always agree, see [`Acl::mode`], [`Acl::set_mode`] and [`Acl::inherit`].

/// The attribute that says who may access a file.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory that says what new files in it get.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
const NOBODY: u32 = u32::MAX;

/// Whom an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
enum Tag {
    Owner = 0x01,
    User = 0x02,
    OwningGroup = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Others = 0x20,
}

impl Tag {
    fn of(number: u16) -> Option<Self> {
        Some(match number {
            0x01 => Self::Owner,
            0x02 => Self::User,
            0x04 => Self::OwningGroup,
            0x08 => Self::Group,
            0x10 => Self::Mask,
            0x20 => Self::Others,
            _ => return None,
        })
    }

    /// How far the three permission bits are from the right in a mode.
    const fn shift(self) -> u32 {
        match self {
            Self::Owner => 6,
            Self::OwningGroup | Self::Mask => 3,
            Self::User | Self::Group | Self::Others => 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: Tag,
    permissions: u16,
    id: u32,
}

/// A valid list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

/// The bytes are no valid list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid access control list: {0}")]
pub struct Invalid(&'static str);

fn bytes<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N], Invalid> {
    let found = from.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or(Invalid("too short"))
}

impl Acl {
    /// Decodes and validates. `None` is the list without entries, which means that there is to be none.
    pub fn parse(value: &[u8]) -> Result<Option<Self>, Invalid> {
        if u32::from_le_bytes(bytes(value, 0)?) != VERSION {
            return Err(Invalid("unknown version"));
        }
        let rest = value.get(4..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        if !rest.len().is_multiple_of(ENTRY_BYTES) {
            return Err(Invalid("an entry is cut off"));
        }
        let mut entries = Vec::with_capacity(rest.len() / ENTRY_BYTES);
        for chunk in rest.chunks_exact(ENTRY_BYTES) {
            let tag = u16::from_le_bytes(bytes(chunk, 0)?);
            let entry = Entry {
                tag: Tag::of(tag).ok_or(Invalid("unknown tag"))?,
                permissions: u16::from_le_bytes(bytes(chunk, 2)?),
                id: u32::from_le_bytes(bytes(chunk, 4)?),
            };
            entries.push(entry);
        }
        let acl = Self { entries };
        acl.validate()?;
        Ok(Some(acl))
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut last = None;
        for entry in &self.entries {
            if entry.permissions & !7 != 0 {
                return Err(Invalid("unknown permissions"));
            }
            let named = matches!(entry.tag, Tag::User | Tag::Group);
            if named && entry.id == NOBODY {
                return Err(Invalid("a named entry without an id"));
            }
            // Named entries may follow their like, the others come once.
            let in_order = last.is_none_or(|last| last < entry.tag || last == entry.tag && named);
            if !in_order {
                return Err(Invalid("entries out of order, or twice"));
            }
            last = Some(entry.tag);
        }
        for needed in [Tag::Owner, Tag::OwningGroup, Tag::Others] {
            if self.find(needed).is_none() {
                return Err(Invalid("owner, owning group or others are missing"));
            }
        }
        let named = self.find(Tag::User).or(self.find(Tag::Group));
        if named.is_some() && self.find(Tag::Mask).is_none() {
            return Err(Invalid("named entries without a mask"));
        }
        Ok(())
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.entries.len() * ENTRY_BYTES);
        out.extend(VERSION.to_le_bytes());
        for entry in &self.entries {
            out.extend((entry.tag as u16).to_le_bytes());
            out.extend(entry.permissions.to_le_bytes());
            out.extend(entry.id.to_le_bytes());
        }
        out
    }

    fn find(&self, tag: Tag) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    /// Whether it says no more than nine permission bits can.
    pub fn is_mode(&self) -> bool {
        !self
            .entries
            .iter()
            .any(|entry| matches!(entry.tag, Tag::User | Tag::Group | Tag::Mask))
    }

    /// The entry that the group bits of the mode stand for.
    fn group_class(&self) -> Tag {
        if self.find(Tag::Mask).is_some() {
            Tag::Mask
        } else {
            Tag::OwningGroup
        }
    }

    fn is_class(&self, tag: Tag) -> bool {
        tag == Tag::Owner || tag == Tag::Others || tag == self.group_class()
    }

    /// The nine permission bits of a file with this list.
    pub fn mode(&self) -> u16 {
        let classes = self.entries.iter().filter(|entry| self.is_class(entry.tag));
        classes.fold(0, |mode, entry| mode | entry.permissions << entry.tag.shift())
    }

    /// Whether somebody who is not the administrator may do all that the bits (`rwx`) say, to a file of this owner and
    /// group. As acl(5) says: the first entry of the caller decides; of groups, any that allows it.
    pub fn permits(&self, (owner, group): (u32, u32), uid: u32, in_group: impl Fn(u32) -> bool, wanted: u16) -> bool {
        let mask = self.find(Tag::Mask).map_or(7, |mask| mask.permissions);
        let allows = |permissions: u16| permissions & wanted == wanted;
        if uid == owner {
            return self.find(Tag::Owner).is_some_and(|entry| allows(entry.permissions));
        }
        let named = |tag: Tag| self.entries.iter().filter(move |entry| entry.tag == tag);
        if let Some(entry) = named(Tag::User).find(|entry| entry.id == uid) {
            return allows(entry.permissions & mask);
        }
        let owning = named(Tag::OwningGroup).filter(|_| in_group(group));
        let mut groups = owning
            .chain(named(Tag::Group).filter(|entry| in_group(entry.id)))
            .peekable();
        if groups.peek().is_some() {
            return groups.any(|entry| allows(entry.permissions & mask));
        }
        self.find(Tag::Others).is_some_and(|entry| allows(entry.permissions))
    }

    /// Makes the list follow a `chmod`.
    pub fn set_mode(&mut self, mode: u16) {
        let group_class = self.group_class();
        for entry in &mut self.entries {
            if matches!(entry.tag, Tag::Owner | Tag::Others) || entry.tag == group_class {
                entry.permissions = mode >> entry.tag.shift() & 7;
            }
        }
    }

    /// Makes a directory's default list the access list of a new file that was asked for with a mode: both lose what the
    /// other does not have. Returns the mode to create the file with.
    pub fn inherit(&mut self, mode: u16) -> u16 {
        let group_class = self.group_class();
        for entry in &mut self.entries {
            if matches!(entry.tag, Tag::Owner | Tag::Others) || entry.tag == group_class {
                entry.permissions &= mode >> entry.tag.shift() & 7;
            }
        }
        mode & !0o777 | self.mode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tag, permissions, id.
    type Raw = (u16, u16, u32);

    fn value(entries: &[Raw]) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(permissions.to_le_bytes());
            out.extend(id.to_le_bytes());
        }
        out
    }

    const PLAIN: [(u16, u16, u32); 3] = [(1, 7, NOBODY), (4, 5, NOBODY), (0x20, 4, NOBODY)];
    const FULL: [(u16, u16, u32); 6] = [
        (1, 7, NOBODY),
        (2, 6, 1000),
        (4, 5, NOBODY),
        (8, 7, 50),
        (0x10, 6, NOBODY),
        (0x20, 1, NOBODY),
    ];

    fn parsed(entries: &[(u16, u16, u32)]) -> Acl {
        Acl::parse(&value(entries)).unwrap().unwrap()
    }

    #[test]
    fn what_was_parsed_encodes_to_the_same_bytes() {
        for entries in [&PLAIN[..], &FULL[..]] {
            assert_eq!(parsed(entries).encode(), value(entries));
        }
        assert_eq!(Acl::parse(&value(&[])), Ok(None));
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let refused = |change: &dyn Fn(&mut Vec<Raw>)| {
            let mut entries = FULL.to_vec();
            change(&mut entries);
            assert!(Acl::parse(&value(&entries)).is_err(), "{entries:?}");
        };
        refused(&|entries| entries.swap(0, 2));
        refused(&|entries| entries.swap(1, 2));
        refused(&|entries| entries.insert(0, (1, 7, NOBODY)));
        refused(&|entries| entries.push((0x20, 7, NOBODY)));
        refused(&|entries| entries.insert(4, (0x10, 7, NOBODY)));
        refused(&|entries| {
            entries.remove(0);
        });
        refused(&|entries| {
            entries.remove(2);
        });
        refused(&|entries| {
            entries.remove(5);
        });
        refused(&|entries| {
            entries.remove(4);
        });
        refused(&|entries| entries[1].1 = 8);
        refused(&|entries| entries[1].2 = NOBODY);
        refused(&|entries| entries[1].0 = 3);
        refused(&|entries| entries[1].0 = 0);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let good = value(&FULL);
        for length in 0..good.len() {
            let _ = Acl::parse(&good[..length]);
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(Some(acl)) = Acl::parse(&bytes) {
                    assert_eq!(acl.encode(), bytes);
                }
            }
        }
        assert!(Acl::parse(&3u32.to_le_bytes()).is_err());
    }

    #[test]
    fn the_mask_stands_for_the_group_bits() {
        assert_eq!(parsed(&PLAIN).mode(), 0o754);
        assert!(parsed(&PLAIN).is_mode());
        assert_eq!(parsed(&FULL).mode(), 0o761);
        assert!(!parsed(&FULL).is_mode());
    }

    #[test]
    fn a_chmod_changes_the_mask_and_not_the_owning_group() {
        let mut acl = parsed(&FULL);
        acl.set_mode(0o2640);
        assert_eq!(acl.mode(), 0o640);
        assert_eq!(acl.find(Tag::OwningGroup).unwrap().permissions, 5);
        assert_eq!(acl.find(Tag::User).unwrap().permissions, 6);
    }

    #[test]
    fn a_new_file_gets_what_both_its_mode_and_the_default_list_allow() {
        let mut acl = parsed(&FULL);
        assert_eq!(acl.inherit(0o4644), 0o4640);
        assert_eq!(acl.mode(), 0o640);
        assert_eq!(acl.find(Tag::Mask).unwrap().permissions, 4);
        assert_eq!(acl.find(Tag::OwningGroup).unwrap().permissions, 5);
        let mut plain = parsed(&PLAIN);
        assert_eq!(plain.inherit(0o666), 0o644);
    }
}
