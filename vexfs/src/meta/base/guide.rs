// SPDX-License-Identifier: MIT OR Apache-2.0

//! What finding a key in a table needs beside its data pages: where each page begins, the checksums, the bloom filter.
//!
//! The guide is a byte stream in the last pages of a table; length and checksum of the stream are in the manifest:
//!
//! | content |
//! |---|
//! | for each data page but the first, its fence: length shared with the fence before (varint), the rest (counted) |
//! | for each data page, then each blob page, its checksum (u32) |
//! | blocks of the bloom filter (64 bytes each, at least one) |
//!
//! The fence of a page is the shortest key that is greater than every key of the page before and not greater than any of
//! the page. The fence of the first page is the table's first key, the empty key stands before it in the stream.

use std::cmp::Ordering;

use super::bloom::{self, Bloom};
use super::data::{DataPage, common};
use super::fences::Fences;
use super::manifest::TableInfo;
use super::page::{Checked, Kind, PAYLOAD, PageBytes};
use super::{MAX_KEY, cache::Slot};
use crate::checksum::Crc;
use crate::codec::{DecodeError, Reader, Writer};

/// The guide of a table, in memory; together with a place for each of its pages that happens to be cached.
pub(super) struct Guide {
    pub(super) fences: Fences,
    pub(super) bloom: Bloom,
    crcs: Vec<Crc>,
    slots: Vec<Slot>,
}

/// Collects the first part of the stream while data pages are made.
#[derive(Default)]
pub(super) struct FenceWriter {
    stream: Vec<u8>,
    previous: Vec<u8>,
}

impl FenceWriter {
    /// A data page begins with `key`; the one before ended with `last`.
    pub(super) fn push(&mut self, last: &[u8], key: &[u8]) {
        let fence = key.get(..=common(last, key)).unwrap_or(key);
        let shared = common(&self.previous, fence);
        self.stream.put_varint(shared as u64);
        self.stream.put_counted(&fence[shared..]);
        self.previous.clear();
        self.previous.extend_from_slice(fence);
    }

    /// The whole stream.
    pub(super) fn finish(self, crcs: &[Crc], hashes: &[u64]) -> Vec<u8> {
        let mut stream = self.stream;
        for crc in crcs {
            stream.put_u32(crc.0);
        }
        Bloom::new(hashes).encode(&mut stream);
        stream
    }
}

/// Makes a guide from pages, some of which are lost.
#[derive(Default)]
pub(super) struct Rebuilt {
    fences: Vec<Option<Box<[u8]>>>,
    crcs: Vec<Crc>,
    hashes: Vec<u64>,
}

impl Rebuilt {
    /// The next page, if it can be read.
    pub(super) fn add(&mut self, kind: Kind, page: Option<(&PageBytes, Crc)>) {
        let mut first = None;
        if let (Kind::Data, Some((bytes, _))) = (kind, page)
            && let Ok(data) = DataPage::new(bytes)
        {
            for entry in (0..data.len()).filter_map(|slot| data.entry(slot).ok()) {
                let key = [data.prefix(), entry.rest].concat();
                self.hashes.push(bloom::hash(&key));
                first.get_or_insert(key.into_boxed_slice());
            }
        }
        if kind == Kind::Data {
            self.fences.push(first);
        }
        // A page that is lost now is lost later too: its first four bytes are not its own checksum.
        self.crcs.push(page.map_or(Crc(0), |(_, crc)| crc));
    }

    /// The guide. A lost page begins where the next one does, so that no key is looked for in it.
    pub(super) fn finish(mut self, table: &TableInfo) -> Guide {
        let mut next = table.last.clone();
        for fence in self.fences.iter_mut().rev() {
            match fence {
                Some(fence) if **fence <= *next => next.clone_from(fence),
                _ => *fence = Some(next.clone()),
            }
        }
        let pages = self.crcs.len();
        Guide {
            fences: Fences::new(self.fences.iter().flatten().map(|fence| &**fence)),
            bloom: Bloom::new(&self.hashes),
            crcs: self.crcs,
            slots: (0..pages).map(|_| Slot::default()).collect(),
        }
    }
}

impl Guide {
    /// The keys a data page may hold: from the first, up to the second.
    pub(super) fn range<'a>(&'a self, table: &'a TableInfo, index: u32) -> Option<(&'a [u8], &'a [u8])> {
        if index >= table.data_pages {
            return None;
        }
        let to = if index + 1 < table.data_pages {
            self.fences.key(index as usize + 1)
        } else {
            &*table.last
        };
        Some((self.fences.key(index as usize), to))
    }

    /// From the stream of a table, whose checksum was right.
    pub(super) fn decode(stream: &[u8], table: &TableInfo) -> Result<Self, String> {
        let text = |error: DecodeError| error.to_string();
        let mut reader = Reader::new(stream);
        let mut bytes = table.first.to_vec();
        let mut ends = vec![bytes.len()];
        let mut fence = Vec::new();
        for _ in 1..table.data_pages {
            let shared = reader.varint32("fence").map_err(text)? as usize;
            let rest = reader.counted("fence").map_err(text)?;
            if shared > fence.len() || shared + rest.len() > MAX_KEY {
                return Err("a fence has an impossible length".to_owned());
            }
            fence.truncate(shared);
            fence.extend_from_slice(rest);
            let previous = ends.len().checked_sub(2).map_or(0, |index| ends[index]);
            if bytes[previous..] >= fence[..] || fence[..] > table.last[..] {
                return Err("fences out of order".to_owned());
            }
            bytes.extend_from_slice(&fence);
            ends.push(bytes.len());
        }
        let pages = table.data_pages as usize + table.blob_pages as usize;
        let crcs = reader.bytes(4 * pages, "checksums").map_err(text)?;
        let crcs = crcs
            .as_chunks()
            .0
            .iter()
            .map(|crc| Crc(u32::from_le_bytes(*crc)))
            .collect();
        let bloom = Bloom::decode(reader.bytes(reader.remaining(), "bloom filter").map_err(text)?)?;
        Ok(Self {
            fences: Fences::from_parts(bytes, ends),
            bloom,
            crcs,
            slots: (0..pages).map(|_| Slot::default()).collect(),
        })
    }

    /// Where page `index`, data or blob, is cached.
    pub(super) fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }

    /// Checks a data or blob page, whose checksum is `crc`, against the guide: afterwards its entries are known to be whole,
    /// in order, and within what the guide and the manifest say about the page.
    pub(super) fn check(&self, table: &TableInfo, index: u32, crc: Crc, bytes: &PageBytes) -> Checked<()> {
        if self.crcs.get(index as usize) != Some(&crc) {
            return Err("not the page that was written last");
        }
        if index >= table.data_pages {
            return Ok(());
        }
        let blob_bytes = u64::from(table.blob_pages) * PAYLOAD as u64;
        let from = self.fences.key(index as usize);
        let (to, inclusive) = if index + 1 < table.data_pages {
            (self.fences.key(index as usize + 1), false)
        } else {
            (&*table.last, true)
        };
        let page = DataPage::new(bytes)?;
        page.check(from, to, inclusive, blob_bytes)?;
        let edge = |at, key: &[u8]| Ok::<_, &'static str>(page.compare(&page.entry(at)?, key) == Ordering::Equal);
        if index == 0 && !edge(0, &table.first)? || inclusive && !edge(page.len() - 1, &table.last)? {
            return Err("the table's first or last key is not what the manifest says");
        }
        Ok(())
    }

    /// Bytes of memory without the pages.
    pub(super) fn memory(&self) -> usize {
        self.fences.memory() + self.bloom.memory() + self.crcs.len() * (size_of::<Crc>() + size_of::<Slot>())
    }
}
