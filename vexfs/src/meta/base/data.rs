// SPDX-License-Identifier: MIT OR Apache-2.0

//! Entries in a data page.
//!
//! Payload of a data page with `n` entries and a prefix of `p` bytes (both in the page's header):
//!
//! | at | size | content |
//! |---|---|---|
//! | 24 | 4 n | for each entry in key order: the first two bytes of its key's rest (its head), its offset in the page (u16) |
//! | 24 + 4 n | p | prefix that all keys of the page share |
//! | | | entries |
//! | | | zeros |
//!
//! An entry is: length of the key's rest (short number), value tag (short number), the key's rest, the value. Tag 0 is a
//! tombstone without value; tag 1 is a value in the blob pages, its offset there (u32) and length (u32); tag `t` ≥ 2 is an
//! inline value of `t − 2` bytes. A short number takes one byte below 128 and two otherwise: low seven bits with the top
//! bit set, then the other seven.
//!
//! A head is filled up with zeros where the rest is shorter. Every entry is reached without the ones before it, so `get` is a
//! binary search, which mostly decides by the heads and so stays in a few cache lines. The one prefix per page costs keys
//! of this filesystem (table tag, inode, …) little compared with per-entry prefixes.

use std::cmp::Ordering;
use std::ops::Range;

use super::page::{self, Checked, Counts, HEADER, Kind, PAYLOAD, PageBytes};
use super::{MAX_INLINE, MAX_KEY, MAX_VALUE};
use crate::checksum::Crc;
use crate::units::BLOCK_SIZE;

/// The most bytes an entry takes beyond key rest and inline value: its slot and two short numbers.
pub(super) const ENTRY_OVERHEAD: usize = SLOT + 4;
/// Bytes of head and offset.
const SLOT: usize = 4;
/// Bytes of a reference to a blob.
pub(super) const BLOB_REFERENCE: usize = 8;
/// The most an entry can take of a page.
pub(super) const MAX_FOOTPRINT: usize = MAX_KEY + MAX_INLINE + ENTRY_OVERHEAD;

const TAG_TOMBSTONE: usize = 0;
const TAG_BLOB: usize = 1;
const TAG_INLINE: usize = 2;

/// Where the value of an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stored {
    /// The key was deleted.
    Tombstone,
    /// In the page, at these bytes.
    Inline(Range<usize>),
    /// In the table's blob stream.
    Blob { at: u32, bytes: u32 },
}

/// Length of the common prefix.
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

fn head(rest: &[u8]) -> [u8; 2] {
    match *rest {
        [] => [0, 0],
        [one] => [one, 0],
        [one, two, ..] => [one, two],
    }
}

/// A data page's bytes, read with bounds everywhere.
#[derive(Clone, Copy)]
pub(super) struct DataPage<'a> {
    bytes: &'a PageBytes,
    count: usize,
    prefix: &'a [u8],
}

/// One entry of a page.
pub(super) struct Entry<'a> {
    pub(super) rest: &'a [u8],
    pub(super) stored: Stored,
}

const BROKEN: &str = "an entry reaches beyond the page";

fn short(bytes: &[u8]) -> Checked<(usize, usize)> {
    match bytes {
        [one, ..] if *one < 0x80 => Ok((usize::from(*one), 1)),
        [low, high, ..] if *high < 0x80 => Ok((usize::from(*low & 0x7f) | usize::from(*high) << 7, 2)),
        _ => Err(BROKEN),
    }
}

impl<'a> DataPage<'a> {
    pub(super) fn new(bytes: &'a PageBytes) -> Checked<Self> {
        let Counts { entries, prefix } = page::counts(bytes);
        let count = usize::from(entries);
        let prefix_at = HEADER + SLOT * count;
        let prefix = bytes
            .get(prefix_at..prefix_at + usize::from(prefix))
            .ok_or("the page's prefix reaches beyond it")?;
        Ok(Self { bytes, count, prefix })
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    fn slot(&self, index: usize) -> Checked<&'a [u8; SLOT]> {
        let slots = self.bytes.get(HEADER + SLOT * index..);
        slots.and_then(<[u8]>::first_chunk).ok_or(BROKEN)
    }

    /// Entry `index` < `len()`.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> Checked<Entry<'a>> {
        let &[_, _, low, high] = self.slot(index)?;
        let at = usize::from(u16::from_le_bytes([low, high]));
        let bytes = self.bytes.get(at..).ok_or(BROKEN)?;
        let (rest_len, first) = short(bytes)?;
        let (tag, second) = short(bytes.get(first..).ok_or(BROKEN)?)?;
        let rest_at = first + second;
        let rest = bytes.get(rest_at..rest_at + rest_len).ok_or(BROKEN)?;
        let value_at = at + rest_at + rest_len;
        let stored = match tag {
            TAG_TOMBSTONE => Stored::Tombstone,
            TAG_BLOB => {
                let reference = self
                    .bytes
                    .get(value_at..)
                    .and_then(<[u8]>::first_chunk::<BLOB_REFERENCE>);
                let reference = u64::from_le_bytes(*reference.ok_or(BROKEN)?);
                #[expect(clippy::cast_possible_truncation, reason = "the lower and the upper half")]
                Stored::Blob {
                    at: reference as u32,
                    bytes: (reference >> 32) as u32,
                }
            }
            tag => {
                let end = value_at + tag - TAG_INLINE;
                if end > BLOCK_SIZE {
                    return Err(BROKEN);
                }
                Stored::Inline(value_at..end)
            }
        };
        Ok(Entry { rest, stored })
    }

    /// Finds a key.
    pub(super) fn find(&self, key: &[u8]) -> Checked<Option<Stored>> {
        let Some(wanted) = key.strip_prefix(self.prefix) else {
            return Ok(None);
        };
        let wanted_head = head(wanted);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            let &[first, second, _, _] = self.slot(middle)?;
            let order = match [first, second].cmp(&wanted_head) {
                Ordering::Equal => {
                    let entry = self.entry(middle)?;
                    match entry.rest.cmp(wanted) {
                        Ordering::Equal => return Ok(Some(entry.stored)),
                        order => order,
                    }
                }
                order => order,
            };
            if order == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(None)
    }

    /// Index of the first entry whose key is not less; `len()` when there is none.
    pub(super) fn lower_bound(&self, key: &[u8]) -> Checked<usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.compare(&self.entry(middle)?, key) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Compares an entry's whole key with a key.
    pub(super) fn compare(&self, entry: &Entry<'_>, key: &[u8]) -> Ordering {
        let split = self.prefix.len().min(key.len());
        let (start, rest) = key.split_at(split);
        self.prefix.cmp(start).then_with(|| entry.rest.cmp(rest))
    }

    /// Decodes every entry once: all inside the page, keys strictly ascending and not below `from`, and below `to` (or
    /// equal to it where `inclusive`), blobs inside a stream of `blob_bytes`.
    pub(super) fn check(&self, from: &[u8], to: &[u8], inclusive: bool, blob_bytes: u64) -> Checked<()> {
        let mut previous: Option<&[u8]> = None;
        let mut last = None;
        for index in 0..self.count {
            let entry = self.entry(index)?;
            if self.slot(index)?[..2] != head(entry.rest) {
                return Err("a key and its head differ");
            }
            if self.prefix.len() + entry.rest.len() > MAX_KEY {
                return Err("a key is too long");
            }
            match previous {
                None if self.compare(&entry, from) == Ordering::Less => {
                    return Err("keys begin before the page's range");
                }
                Some(previous) if previous >= entry.rest => return Err("keys out of order"),
                _ => {}
            }
            if let Stored::Blob { at, bytes } = entry.stored
                && (bytes as usize > MAX_VALUE || u64::from(at) + u64::from(bytes) > blob_bytes)
            {
                return Err("a value lies outside the blob pages");
            }
            previous = Some(entry.rest);
            last = Some(entry);
        }
        let last = last.ok_or("a data page without entries")?;
        match self.compare(&last, to) {
            Ordering::Less => Ok(()),
            Ordering::Equal if inclusive => Ok(()),
            _ => Err("keys end behind the page's range"),
        }
    }
}

/// Collects entries of one data page.
#[derive(Default)]
pub(super) struct PageBuilder {
    items: Vec<Item>,
    keys: Vec<u8>,
    values: Vec<u8>,
    prefix: usize,
}

struct Item {
    key_end: u32,
    value_end: u32,
    tag: u16,
}

/// The value of an entry as a page stores it.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    Tombstone,
    Inline(&'a [u8]),
    Blob { at: u32, bytes: u32 },
}

impl Payload<'_> {
    const fn bytes(&self) -> usize {
        match self {
            Self::Tombstone => 0,
            Self::Inline(value) => value.len(),
            Self::Blob { .. } => BLOB_REFERENCE,
        }
    }
}

impl PageBuilder {
    pub(super) const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn prefix_with(&self, key: &[u8]) -> usize {
        if self.items.is_empty() {
            key.len()
        } else {
            common(&self.keys[..self.prefix], key)
        }
    }

    /// Adds an entry unless the page has no room for it. An empty page has room for any.
    pub(super) fn push(&mut self, key: &[u8], payload: Payload<'_>) -> bool {
        let prefix = self.prefix_with(key);
        let count = self.items.len() + 1;
        let bytes = count * ENTRY_OVERHEAD + self.keys.len() + key.len() + self.values.len() + payload.bytes();
        if bytes - (count - 1) * prefix > PAYLOAD {
            return false;
        }
        self.prefix = prefix;
        self.keys.extend_from_slice(key);
        let tag = match payload {
            Payload::Tombstone => TAG_TOMBSTONE,
            Payload::Inline(value) => {
                self.values.extend_from_slice(value);
                TAG_INLINE + value.len()
            }
            Payload::Blob { at, bytes } => {
                self.values.extend_from_slice(&at.to_le_bytes());
                self.values.extend_from_slice(&bytes.to_le_bytes());
                TAG_BLOB
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "all of it fits one page")]
        self.items.push(Item {
            key_end: self.keys.len() as u32,
            value_end: self.values.len() as u32,
            tag: tag as u16,
        });
        true
    }

    /// Appends the page to `into` and empties the builder.
    #[expect(clippy::cast_possible_truncation, reason = "all of it fits one page")]
    pub(super) fn finish(&mut self, table: u64, index: u32, into: &mut Vec<u8>) -> Crc {
        let mut page = [0; BLOCK_SIZE];
        let count = self.items.len();
        let mut slot = HEADER;
        let mut at = HEADER + SLOT * count;
        page[at..at + self.prefix].copy_from_slice(&self.keys[..self.prefix]);
        at += self.prefix;
        let (mut key_at, mut value_at) = (0, 0);
        for item in &self.items {
            let (key_end, value_end) = (item.key_end as usize, item.value_end as usize);
            let rest = &self.keys[key_at + self.prefix..key_end];
            let value = &self.values[value_at..value_end];
            page[slot..slot + 2].copy_from_slice(&head(rest));
            page[slot + 2..slot + SLOT].copy_from_slice(&(at as u16).to_le_bytes());
            slot += SLOT;
            at = put_short(&mut page, at, rest.len());
            at = put_short(&mut page, at, usize::from(item.tag));
            page[at..at + rest.len()].copy_from_slice(rest);
            at += rest.len();
            page[at..at + value.len()].copy_from_slice(value);
            at += value.len();
            (key_at, value_at) = (key_end, value_end);
        }
        let counts = Counts {
            entries: count as u16,
            prefix: self.prefix as u16,
        };
        let crc = page::seal(&mut page, Kind::Data, table, index, counts);
        into.extend_from_slice(&page);
        self.items.clear();
        self.keys.clear();
        self.values.clear();
        self.prefix = 0;
        crc
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below 2^14, seven bits at a time")]
fn put_short(page: &mut PageBytes, at: usize, number: usize) -> usize {
    if number < 0x80 {
        page[at] = number as u8;
        at + 1
    } else {
        page[at] = number as u8 | 0x80;
        page[at + 1] = (number >> 7) as u8;
        at + 2
    }
}
