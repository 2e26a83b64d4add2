// SPDX-License-Identifier: MIT OR Apache-2.0

//! One example of each structure of the format, in hexadecimal digits. Zeros at the end are counted instead of written.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use vexfs::checksum::Crc;
use vexfs::data::compress::Algorithm;
use vexfs::data::row::{Map, Ptr, Row, Unit};
use vexfs::disk::{Disk, MemDisk};
use vexfs::error::Result;
use vexfs::fs::name;
use vexfs::fs::op::Op;
use vexfs::fs::record::{
    AttributeKey, BitmapRow, Bytes, Entry, EntryKey, FileFlags, GroupKey, Inode, InodeKey, Kind, Orphan, OrphanKey,
    RowKey, SharedKey, Timestamp, Totals, TotalsKey,
};
use vexfs::journal::Journal;
use vexfs::meta::base::{Base, BlockSource, Settings};
use vexfs::meta::{Record, encode_key};
use vexfs::pool::{Features, Manifest, State, Superblock, Tail};
use vexfs::space::shared::References;
use vexfs::units::{BLOCK_SIZE, Block, FileBlock, Ino, Run, Seq};

/// See the module.
pub(crate) fn all() -> String {
    let mut out = String::from("# See main.rs before changing anything here.\n");
    superblock(&mut out);
    keys(&mut out);
    records(&mut out);
    operations(&mut out);
    journal(&mut out);
    tables(&mut out);
    let cookie = name::cookie(&[5; 16], b"a name");
    line(&mut out, "cookie of a name", &cookie.to_be_bytes());
    out
}

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    write!(out, "{name}: ").unwrap();
    for byte in &bytes[..length] {
        write!(out, "{byte:02x}").unwrap();
    }
    writeln!(out, " + {}", bytes.len() - length).unwrap();
}

fn record(out: &mut String, name: &str, record: &impl Record) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    line(out, name, &bytes);
}

fn superblock(out: &mut String) {
    let time = |seconds| vexfs::pool::Timestamp { seconds, nanos: 77 };
    let superblock = Superblock {
        generation: 0x0102,
        uuid: Uuid::from_bytes(*b"0123456789abcdef"),
        label: "Größe".into(),
        total_blocks: 1 << 20,
        features: Features::default(),
        created: time(1),
        state: State::Dirty,
        name_hash_key: [7; 16],
        journal: Superblock::journal_of(2048),
        needs_check: true,
        epoch: 3,
        boot_id: [9; 16],
        tail: Tail {
            position: 40_960,
            seq: Seq(77),
            chain: Crc(0xdead_beef),
        },
        manifest: Manifest {
            first: Some(Block(5000)),
            blocks: 2,
            bytes: 4097,
            crc: Crc(0x0a0b_0c0d),
        },
        durable_seq: Seq(78),
        resumed_at: 12,
        last_mounted: time(-2),
        last_checked: time(3),
        error_count: 5,
    };
    line(out, "superblock", &superblock.encode());
}

fn keys(out: &mut String) {
    let ino = Ino(0x0102);
    line(out, "key of an inode", &encode_key(&InodeKey { ino }));
    line(
        out,
        "key of an entry",
        &encode_key(&EntryKey {
            directory: ino,
            cookie: 0x0304,
        }),
    );
    line(out, "key of a row", &encode_key(&RowKey { ino, chunk: 5 }));
    let name = b"user.name".as_slice().into();
    line(out, "key of an attribute", &encode_key(&AttributeKey { ino, name }));
    line(out, "key of a group", &encode_key(&GroupKey { group: 6 }));
    line(out, "key of shared blocks", &encode_key(&SharedKey { group: 7 }));
    line(out, "key of an orphan", &encode_key(&OrphanKey { ino }));
    line(out, "key of the totals", &encode_key(&TotalsKey {}));
}

fn records(out: &mut String) {
    let inode = Inode {
        size: 1_000_000,
        blocks: 245,
        accessed: Timestamp(1_700_000_000_000_000_001),
        modified: Timestamp(1_700_000_000_000_000_300),
        changed: Timestamp(1_600_000_000_000_000_000),
        born: Timestamp(1_700_000_000_000_000_000),
        device: 0x0801,
        parent: Ino(300),
        uid: 1000,
        gid: 100,
        links: 2,
        flags: FileFlags(FileFlags::COMPRESS.0 | FileFlags::ZSTD.0),
        mode: Kind::File.mode_bits() | 0o4755,
    };
    record(out, "inode", &inode);
    let entry = Entry {
        ino: Ino(300),
        kind: Kind::Symlink,
        chained: true,
        name: b"name".as_slice().into(),
    };
    record(out, "entry", &entry);
    let mark = Entry {
        ino: Ino(0),
        name: Box::default(),
        ..entry
    };
    record(out, "mark of an entry", &mark);
    record(out, "inline row", &Row::Inline(b"bytes".as_slice().into()));
    let mut map = Map::default();
    for (index, ptr) in [
        (1, Ptr::Promised),
        (2, Ptr::Data(Block(0x1234), Crc(0x0102_0304))),
        (3, Ptr::Data(Block(0x1235), Crc(0x0506_0708))),
        (5, Ptr::Bare(Block(9))),
    ] {
        map.set(index, ptr);
    }
    for algorithm in [Algorithm::Lz4, Algorithm::Zstd] {
        let unit = map.add_unit(Unit {
            algorithm,
            file_blocks: 4,
            bytes: 5000,
            crc: Crc(0x1122_3344),
            runs: vec![Run::new(Block(700), 1), Run::new(Block(800), 1)],
        });
        for index in 0..4 {
            map.set(
                8 + 6 * usize::from(unit) + usize::from(index),
                Ptr::Packed { unit, index },
            );
        }
    }
    record(out, "row of blocks", &Row::Map(map));
    record(out, "attribute", &Bytes(b"value".as_slice().into()));
    let mut bits = [0; 512];
    bits[3] = 0x81;
    record(out, "row of the bitmap", &BitmapRow(Box::new(bits)));
    let mut references = References::default();
    for block in [64, 64, 95] {
        references.add(Block(block)).unwrap();
    }
    record(out, "shared blocks", &references);
    record(out, "orphan", &Orphan { next_chunk: 300 });
    let totals = Totals {
        next_ino: Ino(301),
        inodes: 200,
        promised: 7,
    };
    record(out, "totals", &totals);
}

/// One of each, every field different from the others.
fn examples() -> Vec<Op<'static>> {
    let (ino, parent, time) = (Ino(0x21), Ino(0x22), Timestamp(0x0102_0304));
    let (from, count, end) = (FileBlock(0x31), 0x32, 0x33);
    let runs = vec![Run::new(Block(0x41), 2), Run::new(Block(0x42), 1)];
    let name = b"name".as_slice();
    vec![
        Op::Create {
            parent,
            ino,
            mode: 0o100_644,
            uid: 3,
            gid: 4,
            device: 5,
            flags: 6,
            time,
            name,
            target: b"target",
        },
        Op::Link {
            ino,
            parent,
            time,
            name,
        },
        Op::Unlink { parent, time, name },
        Op::RemoveDirectory { parent, time, name },
        Op::Rename {
            from: ino,
            to: parent,
            flags: 4,
            whiteout: Ino(0x23),
            time,
            name,
            new_name: b"new",
        },
        Op::SetAttributes {
            ino,
            fields: 0x7f,
            mode: 0o755,
            uid: 3,
            gid: 4,
            flags: 5,
            accessed: Timestamp(6),
            modified: Timestamp(7),
            changed: Timestamp(8),
        },
        Op::Truncate { ino, size: 5, time },
        Op::SetXattr {
            ino,
            flags: 1,
            time,
            name,
            value: b"value",
        },
        Op::RemoveXattr { ino, time, name },
        Op::Write {
            ino,
            at: from,
            end,
            time,
            runs: runs.clone(),
            checksums: vec![Crc(1), Crc(2), Crc(3)],
        },
        Op::WriteInline {
            ino,
            at: 9,
            time,
            bytes: b"bytes",
        },
        Op::WritePacked {
            ino,
            at: from,
            count: 5,
            algorithm: 2,
            bytes: 9000,
            checksum: Crc(7),
            end,
            time,
            runs,
        },
        Op::Preallocate {
            ino,
            from,
            count,
            end,
            time,
        },
        Op::Punch { ino, from, count, time },
        Op::Collapse { ino, from, count, time },
        Op::Insert { ino, from, count, time },
        Op::Clone {
            from: ino,
            from_block: from,
            to: parent,
            to_block: FileBlock(0x34),
            count,
            end,
            time,
        },
        Op::Purge { ino, until: 0x35 },
        Op::Adopt {
            ino,
            parent,
            time,
            name,
        },
    ]
}

fn operations(out: &mut String) {
    for (index, operation) in examples().iter().enumerate() {
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        assert_eq!(
            usize::from(bytes[0]),
            index + 1,
            "one example of every operation, in order"
        );
        line(out, operation.name(), &bytes);
    }
    // Whoever adds an operation adds an example.
    let next = u8::try_from(examples().len() + 1).unwrap();
    let bytes = [&[next][..], &[0; 200]].concat();
    let unknown = vexfs::fs::op::decode_transaction(&bytes);
    assert!(
        unknown.is_err_and(|error| error.to_string().starts_with("operation ")),
        "operation {next} has no example"
    );
}

fn journal(out: &mut String) {
    let disk = Arc::new(MemDisk::new(1 << 20));
    let end = Tail {
        position: 8192,
        seq: Seq(0x51),
        chain: Crc(0x5253_5455),
    };
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
    let mut journal = Journal::resume(shared, Run::new(Block(0), 64), 0x56, 4096, end);
    journal.push(|out| out.extend_from_slice(b"one"));
    journal.push(|out| out.extend_from_slice(b"two and more"));
    journal.write_out(Seq(0x50)).unwrap();
    let mut bytes = vec![0; 100];
    disk.read(8192, &mut bytes).unwrap();
    line(out, "batch of the journal", &bytes);
}

/// Blocks from the first on.
struct Bottom(Mutex<u64>);

impl BlockSource for Bottom {
    fn take(&self, want: u32) -> Result<Run> {
        let mut next = self.0.lock();
        let run = Run::new(Block(*next), want);
        *next += u64::from(want);
        Ok(run)
    }

    fn give_back(&self, _: Run) {}
}

fn tables(out: &mut String) {
    let disk = Arc::new(MemDisk::new(1 << 20));
    let base = Base::create(Arc::clone(&disk) as Arc<dyn Disk>, Settings::for_pool(4096));
    let source = Bottom(Mutex::new(0));
    let mut change = base.begin(&source).unwrap();
    // Two data pages, a blob page, a guide; a run with a tombstone above it.
    let values = [vec![1; 10], vec![2; 500], vec![3; 600], vec![4; 300]];
    let keys = (0_u8..24).map(|key| vec![9, key, b'k']);
    let entries = keys.map(|key| (key.clone(), Some(values[usize::from(key[1] % 4)].clone())));
    change.write_run(entries).unwrap();
    change
        .write_run([(vec![9, 3, b'k'], None::<Vec<u8>>), (vec![9, 4], Some(vec![5]))])
        .unwrap();
    let prepared = change.prepare().unwrap();
    let manifest = prepared.manifest();
    let blocks = *source.0.lock();
    for at in 0..blocks {
        let mut page = [0; BLOCK_SIZE];
        disk.read(Block(at).byte_at(), &mut page).unwrap();
        // Of most of a page its own checksum tells.
        let length = page.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        line(
            out,
            &format!("block {at} of tables, its beginning"),
            &page[..length.min(160)],
        );
    }
    writeln!(out, "manifest: {manifest:?}").unwrap();
}
