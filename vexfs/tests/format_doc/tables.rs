// SPDX-License-Identifier: MIT OR Apache-2.0

//! A reader of manifest and tables that is made from the page alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use vexfs::checksum::Crc;
use vexfs::codec::Reader;
use vexfs::disk::{Disk, MemDisk};
use vexfs::meta::base::{Base, BlockSource, Settings};
use vexfs::units::{BLOCK_SIZE, Block, Run};

use crate::page::{Fixed, block_of, bytes_of, number, pairs, table};

/// Gives blocks one after the other.
struct Bottom(Mutex<u64>);

impl BlockSource for Bottom {
    fn take(&self, want: u32) -> vexfs::error::Result<Run> {
        let mut next = self.0.lock();
        let run = Run::new(Block(*next), want);
        *next += u64::from(want);
        Ok(run)
    }

    fn give_back(&self, _: Run) {}
}

/// A sequence of numbers and keys, read by the page's types.
fn walk(name: &str, reader: &mut Reader<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for (field, kind) in pairs(name) {
        let value = match kind.as_str() {
            "v" => bytes_of(reader.varint("v").unwrap()),
            "u16" => bytes_of(u64::from(reader.u16("u16").unwrap())),
            "u32" => bytes_of(u64::from(reader.u32("u32").unwrap())),
            "key" => reader.counted("key").unwrap().to_vec(),
            other => panic!("{other}"),
        };
        found.insert(field, value);
    }
    found
}

fn value(fields: &BTreeMap<String, Vec<u8>>, field: &str) -> u64 {
    u64::from_le_bytes(fields[field].as_slice().try_into().unwrap())
}

/// A table read with nothing but the page.
struct Read {
    fields: BTreeMap<String, Vec<u8>>,
    pages: Vec<Block>,
}

fn read_tables(reader: &mut Reader<'_>) -> Vec<Read> {
    let mut found = Vec::new();
    for _ in 0..reader.varint("tables").unwrap() {
        let fields = walk("manifest table", reader);
        let mut pages = Vec::new();
        for _ in 0..value(&fields, "runs") {
            let start = Block(reader.varint("start").unwrap());
            pages.extend(Run::new(start, reader.varint32("count").unwrap()).blocks());
        }
        found.push(Read { fields, pages });
    }
    found
}

fn short(bytes: &[u8]) -> (usize, usize) {
    if bytes[0] < 128 {
        (bytes[0].into(), 1)
    } else {
        (usize::from(bytes[0] & 127) | usize::from(bytes[1]) << 7, 2)
    }
}

impl Read {
    /// Every entry, and the checksums of the pages as the guide should have them.
    fn entries(&self, disk: &MemDisk) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let layout = Fixed::read("page", BLOCK_SIZE);
        let of = |kind: &str| usize::try_from(value(&self.fields, kind)).unwrap();
        let (data, blob, guide) = (of("data pages"), of("blob pages"), of("guide pages"));
        assert_eq!(self.pages.len(), data + blob + guide);
        let pages: Vec<_> = self.pages.iter().map(|at| block_of(disk, *at)).collect();
        let mut crcs: Vec<u8> = Vec::new();
        for (index, page) in pages.iter().enumerate() {
            let kind = if index < data {
                1
            } else {
                2 + u64::from(index >= data + blob)
            };
            let expected = [
                ("kind", kind),
                ("format", 1),
                ("table", value(&self.fields, "identity")),
                ("index", index as u64),
            ];
            for (field, expected) in expected {
                assert_eq!(layout.number(page, field), expected, "{field} of page {index}");
            }
            assert_eq!(layout.number(page, "zero"), 0);
            assert_eq!(layout.number(page, "crc"), u64::from(Crc::of(&page[4..]).0));
            crcs.extend(layout.get(page, "crc"));
        }
        let stream = |pages: &[[u8; BLOCK_SIZE]]| -> Vec<u8> {
            pages
                .iter()
                .flat_map(|page| layout.get(page, "payload").to_vec())
                .collect()
        };
        let blobs = stream(&pages[data..data + blob]);
        let tags: Vec<u64> = table("entry tags").iter().map(|row| number(&row[0])).collect();
        let mut found = Vec::new();
        let mut firsts = Vec::new();
        for page in &pages[..data] {
            let at = |field| usize::try_from(layout.number(page, field)).unwrap();
            let (count, prefix_len) = (at("entries"), at("prefix length"));
            let prefix = &page[24 + 4 * count..][..prefix_len];
            firsts.push(found.len());
            for slot in page[24..24 + 4 * count].chunks(4) {
                let entry = &page[usize::from(u16::from_le_bytes([slot[2], slot[3]]))..];
                let (length, one) = short(entry);
                let (tag, two) = short(&entry[one..]);
                let rest = &entry[one + two..][..length];
                let behind = &entry[one + two + length..];
                let head = [rest.first().copied().unwrap_or(0), rest.get(1).copied().unwrap_or(0)];
                assert_eq!(slot[..2], head);
                let content = if tag as u64 == tags[0] {
                    None
                } else if tag as u64 == tags[1] {
                    let word = |at: usize| u32::from_le_bytes(behind[at..at + 4].try_into().unwrap()) as usize;
                    Some(blobs[word(0)..word(0) + word(4)].to_vec())
                } else {
                    Some(behind[..tag - usize::try_from(tags[2]).unwrap()].to_vec())
                };
                found.push(([prefix, rest].concat(), content));
            }
        }
        // The guide: fences, checksums, filter.
        let mut guide = stream(&pages[data + blob..]);
        guide.truncate(of("guide bytes"));
        assert_eq!(u64::from(Crc::of(&guide).0), value(&self.fields, "guide crc"));
        let mut reader = Reader::new(&guide);
        let mut fence = Vec::new();
        for &first in &firsts[1..] {
            fence.truncate(usize::try_from(reader.varint("shared").unwrap()).unwrap());
            fence.extend(reader.counted("fence").unwrap());
            assert!(found[first - 1].0 < fence && fence <= found[first].0);
        }
        let checked = 4 * (data + blob);
        assert_eq!(reader.bytes(checked, "checksums").unwrap(), &crcs[..checked]);
        let filter = reader.bytes(reader.remaining(), "filter").unwrap();
        assert!(found.iter().all(|(key, _)| filter_knows(filter, key)));
        assert!(!filter_knows(filter, b"a key that is not there") || !filter_knows(filter, b"nor this one"));
        assert_eq!(found.first().unwrap().0, self.fields["first"]);
        assert_eq!(found.last().unwrap().0, self.fields["last"]);
        let tombstones = found.iter().filter(|(_, content)| content.is_none()).count();
        let counts = (value(&self.fields, "entries"), value(&self.fields, "tombstones"));
        assert_eq!(counts, (found.len() as u64, tombstones as u64));
        found
    }
}

/// Section 8 of the page.
fn filter_knows(filter: &[u8], key: &[u8]) -> bool {
    assert!(!filter.is_empty() && filter.len().is_multiple_of(64));
    let hash = siphasher::sip::SipHasher13::new_with_keys(0, 0).hash(key);
    let block = ((hash >> 32) * (filter.len() as u64 / 64)) >> 32;
    let bits = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (1..=6).all(|k| {
        let bit = (bits >> (64 - 9 * k)) % 512;
        let at = usize::try_from(block * 64 + bit / 64 * 8).unwrap();
        let word = u64::from_le_bytes(filter[at..at + 8].try_into().unwrap());
        word >> (bit % 64) & 1 == 1
    })
}

#[test]
fn manifest_and_tables_can_be_read_with_the_page_alone() {
    let disk = Arc::new(MemDisk::new(8 << 20));
    let base = Base::create(Arc::clone(&disk) as Arc<dyn Disk>, Settings::for_pool(4096));
    // Block 0 is nobody's: 0 ends the chain.
    let source = Bottom(Mutex::new(1));
    let mut change = base.begin(&source).unwrap();
    let older: Vec<(Vec<u8>, Option<Vec<u8>>)> = (0..300_u16)
        .map(|key| {
            let length = [3, 40, 500, 9000][usize::from(key % 4)];
            let key = [
                b"prefix".as_slice(),
                &key.to_be_bytes(),
                &vec![b'k'; usize::from(key % 150)],
            ]
            .concat();
            let fill = key[7];
            (key, Some(vec![fill; length]))
        })
        .collect();
    let newer = vec![(older[7].0.clone(), None), (older[9].0.clone(), Some(b"new".to_vec()))];
    change.write_run(older.clone()).unwrap();
    change.write_run(newer.clone()).unwrap();
    let prepared = change.prepare().unwrap();
    let reference = prepared.manifest();

    let layout = Fixed::read("manifest block", BLOCK_SIZE);
    let mut stream = Vec::new();
    let mut next = reference.first.unwrap().0;
    let mut blocks = 0;
    while next != 0 {
        let block = block_of(&disk, Block(next));
        assert_eq!(layout.get(&block, "magic"), b"VXMF");
        assert_eq!(layout.number(&block, "crc"), u64::from(Crc::of(&block[4..]).0));
        assert_eq!(layout.number(&block, "index"), blocks);
        let bytes = usize::try_from(layout.number(&block, "payload bytes")).unwrap();
        stream.extend(&layout.get(&block, "payload")[..bytes]);
        next = layout.number(&block, "next");
        blocks += 1;
    }
    assert_eq!(
        (blocks, stream.len() as u64, Crc::of(&stream)),
        (u64::from(reference.blocks), reference.bytes, reference.crc)
    );
    let mut reader = Reader::new(&stream);
    let head = walk("manifest stream", &mut reader);
    let numbers = ["format", "next table", "runs", "batch"].map(|field| value(&head, field));
    assert_eq!((numbers[0], numbers[2], numbers[3]), (1, 2, 0));
    assert_eq!(head["cursor"], b"");
    let runs: Vec<Vec<Read>> = (0..2).map(|_| read_tables(&mut reader)).collect();
    assert_eq!(reader.varint("levels").unwrap(), 0);
    reader.end().unwrap();
    let entries = |run: &[Read]| run.iter().flat_map(|table| table.entries(&disk)).collect::<Vec<_>>();
    assert_eq!(entries(&runs[0]), newer, "the newest run is first");
    assert_eq!(entries(&runs[1]), older);
    let identities = runs.iter().flatten().map(|table| value(&table.fields, "identity"));
    assert!(identities.max().unwrap() < numbers[1]);
    assert!(
        runs[1].iter().any(|table| value(&table.fields, "data pages") > 1),
        "there are fences"
    );
}
