// SPDX-License-Identifier: MIT OR Apache-2.0

//! A page: one block of the pool that says itself what it is.
//!
//! | at | size | content |
//! |---|---|---|
//! | 0 | 4 | CRC32C of bytes 4..4096 |
//! | 4 | 1 | kind: 1 data, 2 blob, 3 guide |
//! | 5 | 1 | format of the page, 1 |
//! | 6 | 2 | data: number of entries; otherwise 0 |
//! | 8 | 8 | identity of the table |
//! | 16 | 4 | index of the page in the table |
//! | 20 | 2 | data: length of the prefix that all keys share; otherwise 0 |
//! | 22 | 2 | 0 |
//! | 24 | 4072 | payload |
//!
//! Table and index detect a page that was written to, or read from, the wrong place. A stale page of the same identity is
//! detected one level up: whoever refers to pages (the guide to data and blob pages, the manifest to the guide) also
//! stores their checksums, so the superblock vouches for every byte of the base.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::checksum::Crc;
use crate::units::BLOCK_SIZE;

/// Bytes before the payload.
pub(super) const HEADER: usize = 24;
/// Bytes of payload.
pub(super) const PAYLOAD: usize = BLOCK_SIZE - HEADER;

const FORMAT: u8 = 1;

/// A page's bytes.
pub(super) type PageBytes = [u8; BLOCK_SIZE];

/// A check of a page or of what it says; the error says what is wrong, the caller knows the place.
pub(super) type Checked<T> = Result<T, &'static str>;

/// What a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Data = 1,
    Blob = 2,
    Guide = 3,
}

/// A checked page in memory. The flag lies in the cache line of the page's header.
#[repr(C)]
pub(super) struct Page {
    /// Set by every use, cleared by the cache's clock hand.
    touched: AtomicBool,
    pub(super) bytes: PageBytes,
}

impl Page {
    pub(super) const fn new(bytes: &PageBytes) -> Self {
        Self {
            touched: AtomicBool::new(false),
            bytes: *bytes,
        }
    }

    /// Notes a use; only the first one since the hand came by writes to the shared cache line.
    pub(super) fn touch(&self) {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was used since the last call.
    pub(super) fn was_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }
}

/// Header fields that depend on the content of a data page.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) entries: u16,
    pub(super) prefix: u16,
}

/// Writes the header of a page whose payload is complete.
pub(super) fn seal(page: &mut PageBytes, kind: Kind, table: u64, index: u32, counts: Counts) -> Crc {
    page[4] = kind as u8;
    page[5] = FORMAT;
    page[6..8].copy_from_slice(&counts.entries.to_le_bytes());
    page[8..16].copy_from_slice(&table.to_le_bytes());
    page[16..20].copy_from_slice(&index.to_le_bytes());
    page[20..22].copy_from_slice(&counts.prefix.to_le_bytes());
    page[22..24].fill(0);
    let crc = Crc::of(&page[4..]);
    page[..4].copy_from_slice(&crc.0.to_le_bytes());
    crc
}

/// The header's counts.
pub(super) const fn counts(page: &PageBytes) -> Counts {
    Counts {
        entries: u16::from_le_bytes([page[6], page[7]]),
        prefix: u16::from_le_bytes([page[20], page[21]]),
    }
}

/// Checks checksum, kind and identity; gives the checksum.
pub(super) fn check(page: &PageBytes, kind: Kind, table: u64, index: u32) -> Checked<Crc> {
    let crc = Crc::of(&page[4..]);
    if page[..4] != crc.0.to_le_bytes() {
        return Err("wrong checksum");
    }
    if page[4] != kind as u8 || page[5] != FORMAT || page[22..24] != [0, 0] {
        return Err("not a page of the expected kind");
    }
    if page[8..16] != table.to_le_bytes() || page[16..20] != index.to_le_bytes() {
        return Err("a page of another place");
    }
    Ok(crc)
}

/// Splits a byte stream into sealed pages of one kind, appended to `into`. Gives their checksums.
pub(super) fn seal_stream(stream: &[u8], kind: Kind, table: u64, first: u32, into: &mut Vec<u8>) -> Vec<Crc> {
    let mut crcs = Vec::with_capacity(stream.len().div_ceil(PAYLOAD));
    for (index, payload) in (first..).zip(stream.chunks(PAYLOAD)) {
        let mut page = [0; BLOCK_SIZE];
        page[HEADER..HEADER + payload.len()].copy_from_slice(payload);
        crcs.push(seal(&mut page, kind, table, index, Counts::default()));
        into.extend_from_slice(&page);
    }
    crcs
}
