// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the fuzz targets do with their bytes. `vexfs/fuzz` runs the same under libFuzzer.

use std::sync::Arc;

use vexfs::codec::{DecodeError, Reader, Writer as _};
use vexfs::data::compress::Algorithm;
use vexfs::data::row::Row;
use vexfs::disk::{Disk, MemDisk};
use vexfs::fs::op::decode_transaction;
use vexfs::fs::record::{
    AttributeKey, BitmapRow, Bytes, Entry, EntryKey, GroupKey, Inode, InodeKey, Orphan, OrphanKey, RowKey, SessionKey,
    SharedKey, Totals, TotalsKey,
};
use vexfs::fs::session::SessionRecord;
use vexfs::journal::{self, Journal, Log, Verdict};
use vexfs::meta::base::{Base, Settings};
use vexfs::meta::{Key, Record};
use vexfs::pool::heartbeat::Found;
use vexfs::pool::{Superblock, Survey, Tail, probe};
use vexfs::space::shared::References;
use vexfs::units::{BLOCK_SIZE, Block, Run, Seq};

use crate::images::Image;
use crate::layout::{self, Layout};
use crate::walk;

/// What a target does with its bytes.
pub type Body = fn(&[u8]);

/// The names of the targets, and what they do.
pub const ALL: [(&str, Body); 5] = [
    ("superblock", superblock),
    ("journal", journal),
    ("tables", tables),
    ("decoding", decoding),
    ("image", image),
];

fn block_of(bytes: &[u8]) -> [u8; BLOCK_SIZE] {
    let mut block = [0; BLOCK_SIZE];
    let length = bytes.len().min(BLOCK_SIZE);
    block[..length].copy_from_slice(&bytes[..length]);
    block
}

/// A superblock; what decodes encodes to the same bytes.
pub fn superblock(bytes: &[u8]) {
    let disk = MemDisk::new(16 << 20);
    disk.write(BLOCK_SIZE as u64, &block_of(bytes)).unwrap();
    disk.write(2 * BLOCK_SIZE as u64, &block_of(bytes.get(200..).unwrap_or(bytes)))
        .unwrap();
    let _ = Survey::of(&disk).newest();
    probe::probe(&disk).unwrap();
    layout::seal_superblocks(&disk, |block| {
        block[..12].copy_from_slice(b"VEXFSPL1\x01\0\0\0");
    });
    let survey = Survey::of(&disk);
    let _ = (survey.newest(), survey.damaged().count());
    let block = layout::read(&disk, Block(1));
    if let Ok(found) = Superblock::decode(&block)
        && found.features.unknown().is_empty()
    {
        assert_eq!(found.encode(), block);
    }
}

/// A ring of these bytes, then a log whose batches carry them.
pub fn journal(bytes: &[u8]) {
    let region = Run::new(Block(0), 64);
    let tail = Tail::default();
    let log = Log {
        region,
        tail,
        resumed_at: 0,
        epoch: 1,
        durable: Seq(0),
        tolerant: false,
    };
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(region.bytes()));
    let length = bytes.len().min(200_000);
    disk.write(0, &bytes[..length]).unwrap();
    let visit = |found: journal::Found<'_>| {
        let _ = decode_transaction(found.bytes);
        Ok(if found.bytes.first() == Some(&0xff) && !found.durable {
            Verdict::Ends
        } else {
            Verdict::Applied
        })
    };
    let _ = journal::recover(&*disk, &log, visit);
    let mut writer = Journal::resume(Arc::clone(&disk), region, 1, 0, tail);
    let mut transactions = 0;
    for piece in bytes[..length].chunks(700) {
        writer.push(|out| out.extend_from_slice(piece));
        transactions += 1;
        if piece.first().is_some_and(|first| first % 2 == 0) {
            writer.write_out(Seq(writer.written().0 / 2)).unwrap();
        }
    }
    writer.write_out(Seq(0)).unwrap();
    let found = journal::recover(&*disk, &log, |_| Ok(Verdict::Applied)).unwrap();
    assert_eq!((found.transactions, found.end), (transactions, writer.end()));
    let _ = journal::recover(&*disk, &log, visit);
}

/// Triples of place and byte, applied to the metadata of a real pool that is sealed again.
pub fn tables(bytes: &[u8]) {
    let disk = Image::Rich.snapshot();
    let layout = Layout::of(&disk);
    let mut places: Vec<Block> = layout.chain.clone();
    places.extend(layout.tables.iter().flat_map(|table| &table.pages));
    let (edits, _) = bytes.as_chunks::<4>();
    for &[page, low, high, value] in edits {
        let at = places[usize::from(page) % places.len()];
        let mut block = layout::read(&disk, at);
        block[4 + usize::from(u16::from_le_bytes([low, high])) % (BLOCK_SIZE - 4)] = value;
        layout::write(&disk, at, &block);
    }
    layout.seal_tables(&disk);
    let superblock = Survey::of(&disk).newest().unwrap().clone();
    let settings = Settings {
        page_cache_bytes: 0,
        ..Settings::for_pool(superblock.total_blocks)
    };
    let Ok(base) = Base::open(Arc::new(disk), superblock.total_blocks, &superblock.manifest, settings) else {
        return;
    };
    let _ = base.stats();
    let mut previous = Vec::new();
    for entry in base.scan(&[], &[0xff; 20]).into_iter().flatten() {
        let Ok((key, _)) = entry else { break };
        assert!(previous < key || previous.is_empty(), "keys out of order");
        let _ = base.get(&key);
        previous = key;
    }
    let _ = base.verify_all(|_| std::ops::ControlFlow::Continue(()));
}

fn record<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(record) = R::decode(bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(R::decode(&again), Ok(record), "a record is not what it was");
    }
}

fn key<K: Key>(bytes: &[u8]) {
    if let Ok(key) = K::decode(bytes) {
        let mut again = Vec::new();
        key.encode(&mut again);
        assert_eq!(again, bytes, "{key:?} has two encodings");
    }
}

/// Everything that is decoded from a few bytes.
pub fn decoding(bytes: &[u8]) {
    record::<Inode>(bytes);
    record::<Entry>(bytes);
    record::<Row>(bytes);
    record::<Bytes>(bytes);
    record::<BitmapRow>(bytes);
    record::<References>(bytes);
    record::<Orphan>(bytes);
    record::<Totals>(bytes);
    record::<SessionRecord>(bytes);
    key::<InodeKey>(bytes);
    key::<EntryKey>(bytes);
    key::<RowKey>(bytes);
    key::<GroupKey>(bytes);
    key::<SharedKey>(bytes);
    key::<OrphanKey>(bytes);
    key::<TotalsKey>(bytes);
    key::<SessionKey>(bytes);
    key::<AttributeKey>(bytes);
    let mut again = Vec::new();
    if let Ok(operations) = decode_transaction(bytes) {
        for operation in &operations {
            operation.encode(&mut again);
        }
        assert_eq!(again, bytes, "a transaction has two encodings");
    }
    for algorithm in [Algorithm::Lz4, Algorithm::Zstd] {
        let _ = algorithm.unpack(bytes, 32 * BLOCK_SIZE);
    }
    let _ = Found::decode(&block_of(bytes));
    let mut reader = Reader::new(bytes);
    let mut varints = || -> Result<Vec<u64>, DecodeError> { (0..3).map(|_| reader.varint("number")).collect() };
    if let Ok(numbers) = varints() {
        let mut again = Vec::new();
        for number in numbers {
            again.put_varint(number);
        }
        assert!(again.len() <= bytes.len(), "varints grow");
    }
}

/// Edits of a real pool (block 2, offset 2, length 1, bytes), used in every way then. The first byte chooses the pool, and
/// whether its checksums are put right.
pub fn image(bytes: &[u8]) {
    let Some((&how, edits)) = bytes.split_first() else {
        return;
    };
    let image = [Image::Fresh, Image::Rich, Image::Journal][usize::from(how % 3)];
    let disk = image.snapshot();
    let layout = Layout::of(&disk);
    let mut reader = Reader::new(edits);
    let mut edit = || -> Result<(), DecodeError> {
        let block = u64::from(reader.u16("block")?) % (disk.size_bytes() / BLOCK_SIZE as u64);
        let at = usize::from(reader.u16("offset")?) % BLOCK_SIZE;
        let length = usize::from(reader.u8("length")?)
            .min(BLOCK_SIZE - at)
            .min(reader.remaining());
        let new = reader.bytes(length, "bytes")?;
        disk.write(Block(block).byte_at() + at as u64, new).unwrap();
        Ok(())
    };
    while edit().is_ok() {}
    if how & 0x80 == 0 {
        layout.seal_journal(&disk);
        layout.seal_tables(&disk);
    }
    walk::use_it(disk, u64::from(how >> 4));
}
