// SPDX-License-Identifier: MIT OR Apache-2.0

//! The bytes of a model file: sparse, cheap to copy, comparable by fingerprint.
//!
//! Only pages that hold a byte other than zero are kept, so two files with the same bytes have the same pages whatever
//! happened to them. A copy shares its pages with the original.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes per page. The same as a block of the engine, which makes reading it in pages cheap; nothing depends on it.
pub const PAGE: u64 = 4096;
const PAGE_BYTES: usize = PAGE as usize;

struct Page {
    bytes: Box<[u8; PAGE_BYTES]>,
    print: u64,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Content {
    size: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

/// Fingerprint of a page's bytes.
pub fn page_print(page: &[u8]) -> u64 {
    let mut print = 0x9e37_79b9_7f4a_7c15_u64;
    for word in page.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        print = (print ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29);
    }
    print ^ (print >> 32)
}

impl Content {
    /// Length of the file.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The pages that are not zero, by number, with their fingerprints.
    pub fn prints(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pages.iter().map(|(&number, page)| (number, page.print))
    }

    /// Bytes of a range; those beyond the end are missing.
    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let length = self.size.saturating_sub(at).min(length as u64) as usize;
        let mut bytes = vec![0; length];
        self.pieces(at, length, |number, inside, offset, count| {
            if let Some(page) = self.pages.get(&number) {
                bytes[offset..offset + count].copy_from_slice(&page.bytes[inside..inside + count]);
            }
        });
        bytes
    }

    /// Calls back for the part of each page that a range touches: page, offset in it, offset in the range, length.
    #[expect(clippy::unused_self, reason = "reads as iterating over this file")]
    fn pieces(&self, at: u64, length: usize, mut each: impl FnMut(u64, usize, usize, usize)) {
        let mut offset = 0;
        while offset < length {
            let place = at + offset as u64;
            let inside = (place % PAGE) as usize;
            let count = (PAGE_BYTES - inside).min(length - offset);
            each(place / PAGE, inside, offset, count);
            offset += count;
        }
    }

    fn put(&mut self, number: u64, bytes: Box<[u8; PAGE_BYTES]>) {
        if bytes.iter().all(|&byte| byte == 0) {
            self.pages.remove(&number);
        } else {
            let print = page_print(&*bytes);
            self.pages.insert(number, Arc::new(Page { bytes, print }));
        }
    }

    fn overlay(&mut self, at: u64, length: usize, from: impl Fn(usize, usize) -> Vec<u8>) {
        let mut changed = Vec::new();
        self.pieces(at, length, |number, inside, offset, count| {
            let mut bytes = self
                .pages
                .get(&number)
                .map_or_else(|| Box::new([0; PAGE_BYTES]), |page| page.bytes.clone());
            bytes[inside..inside + count].copy_from_slice(&from(offset, count));
            changed.push((number, bytes));
        });
        for (number, bytes) in changed {
            self.put(number, bytes);
        }
    }

    /// Puts bytes at an offset; the file grows to hold them.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        self.overlay(at, bytes.len(), |offset, count| bytes[offset..offset + count].to_vec());
        self.size = self.size.max(at + bytes.len() as u64);
    }

    /// Makes a range zero. The size stays.
    pub fn zero(&mut self, at: u64, end: u64) {
        let inside: Vec<u64> = self
            .pages
            .range(at.div_ceil(PAGE)..)
            .map(|(&number, _)| number)
            .collect();
        for number in inside.into_iter().take_while(|number| (number + 1) * PAGE <= end) {
            self.pages.remove(&number);
        }
        for page in [at / PAGE, end / PAGE] {
            let (from, to) = (at.max(page * PAGE), end.min((page + 1) * PAGE));
            if from < to && self.pages.contains_key(&page) {
                self.overlay(from, (to - from) as usize, |_, count| vec![0; count]);
            }
        }
    }

    /// Sets the size; what is cut off is gone, what is added is zero.
    pub fn resize(&mut self, size: u64) {
        if size < self.size {
            self.zero(size, self.size.next_multiple_of(PAGE));
        }
        self.size = size;
    }

    /// Takes whole pages out; what follows moves down.
    pub fn collapse(&mut self, at: u64, length: u64) {
        let (first, count) = (at / PAGE, length / PAGE);
        let moved = self.pages.split_off(&first);
        let kept = moved.into_iter().filter(|(number, _)| *number >= first + count);
        self.pages.extend(kept.map(|(number, page)| (number - count, page)));
        self.size -= length;
    }

    /// Puts zeros in between; what follows moves up.
    pub fn insert(&mut self, at: u64, length: u64) {
        let moved = self.pages.split_off(&(at / PAGE));
        self.pages
            .extend(moved.into_iter().map(|(number, page)| (number + length / PAGE, page)));
        self.size += length;
    }

    /// Makes a range the same as one of another file. Offsets are whole pages; a length that is not ends at the end of both.
    pub fn clone_range(&mut self, from: &Self, at: u64, to_at: u64, length: u64) {
        self.zero(to_at, (to_at + length).next_multiple_of(PAGE));
        let (first, target, count) = (at / PAGE, to_at / PAGE, length.div_ceil(PAGE));
        let source = from.pages.range(first..first + count);
        let copies: Vec<_> = source
            .map(|(number, page)| (number - first + target, Arc::clone(page)))
            .collect();
        self.pages.extend(copies);
        self.size = self.size.max(to_at + length);
    }
}

/// Bytes that belong to a number, at any offset: noise, or text that compresses.
pub fn pattern(fill: u8, at: u64, length: usize) -> Vec<u8> {
    let seed = u64::from(fill).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let noisy = fill.is_multiple_of(2);
    let mut bytes = Vec::with_capacity(length + 16);
    let mut word_at = at / 8;
    while bytes.len() < length + 8 {
        let number = if noisy { word_at } else { word_at / 48 };
        let mut word = (seed ^ number).wrapping_mul(0xff51_afd7_ed55_8ccd);
        word = (word ^ (word >> 32)).wrapping_mul(0xc4ce_b9fe_1a85_ec53) ^ (word >> 29);
        bytes.extend_from_slice(&word.to_le_bytes());
        word_at += 1;
    }
    let skip = (at % 8) as usize;
    bytes.drain(..skip);
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Change {
        Write(u64, usize, u8),
        Zero(u64, u64),
        Resize(u64),
        Collapse(u64, u64),
        Insert(u64, u64),
        Clone(u64, u64, u64),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let at = 0..5 * PAGE;
        let change = prop_oneof![
            (at.clone(), 1..9000_usize, any::<u8>()).prop_map(|(at, length, fill)| Change::Write(at, length, fill)),
            (at.clone(), 0..3 * PAGE).prop_map(|(at, length)| Change::Zero(at, at + length)),
            (0..6 * PAGE).prop_map(Change::Resize),
            (0..5_u64, 1..3_u64).prop_map(|(at, count)| Change::Collapse(at, count)),
            (0..5_u64, 1..3_u64).prop_map(|(at, count)| Change::Insert(at, count)),
            (0..5_u64, 0..5_u64, 1..3_u64).prop_map(|(at, to, count)| Change::Clone(at, to, count)),
        ];
        prop::collection::vec(change, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn sparse_pages_behave_as_plain_bytes(changes in changes()) {
            let page = PAGE_BYTES;
            let (mut sparse, mut plain) = (Content::default(), Vec::<u8>::new());
            for change in changes {
                match change {
                    Change::Write(at, length, fill) => {
                        let bytes = pattern(fill, at, length);
                        sparse.write(at, &bytes);
                        let end = at as usize + length;
                        plain.resize(plain.len().max(end), 0);
                        plain[at as usize..end].copy_from_slice(&bytes);
                    }
                    Change::Zero(at, end) => {
                        let end = end.min(plain.len() as u64);
                        sparse.zero(at, end.max(at));
                        if at < end {
                            plain[at as usize..end as usize].fill(0);
                        }
                    }
                    Change::Resize(size) => {
                        sparse.resize(size);
                        plain.resize(size as usize, 0);
                    }
                    Change::Collapse(at, count) => {
                        if (at + count) * PAGE < plain.len() as u64 {
                            sparse.collapse(at * PAGE, count * PAGE);
                            plain.drain(at as usize * page..(at + count) as usize * page);
                        }
                    }
                    Change::Insert(at, count) => {
                        if at * PAGE < plain.len() as u64 {
                            sparse.insert(at * PAGE, count * PAGE);
                            let hole = vec![0; count as usize * page];
                            plain.splice(at as usize * page..at as usize * page, hole);
                        }
                    }
                    Change::Clone(at, to, count) => {
                        if (at + count) * PAGE <= plain.len() as u64 && at.abs_diff(to) >= count {
                            let source = sparse.clone();
                            sparse.clone_range(&source, at * PAGE, to * PAGE, count * PAGE);
                            let bytes = plain[at as usize * page..(at + count) as usize * page].to_vec();
                            let end = (to + count) as usize * page;
                            plain.resize(plain.len().max(end), 0);
                            plain[to as usize * page..end].copy_from_slice(&bytes);
                        }
                    }
                }
                prop_assert_eq!(sparse.size(), plain.len() as u64);
                prop_assert!(sparse.read(0, usize::MAX >> 1) == plain);
            }
        }
    }
}
