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
use vexfs::fs::op::{LAYOUTS, Op};
use vexfs::fs::record::{
    AttributeKey, BitmapRow, Bytes, Entry, EntryKey, FileFlags, GroupKey, Inode, InodeKey, Kind, Marks, Orphan,
    OrphanKey, PlaceKey, RowKey, SessionKey, SharedKey, Timestamp, Totals, TotalsKey,
};
use vexfs::fs::session::{Session, SessionRecord, Window};
use vexfs::fs::vectors::record::{
    CentreKey, Embedding, EmbeddingKey, GrowingKey, IndexKey, IndexRecord, IndexState, LeafKey, LeafRow, Place, Slab,
    SlabKey, Space, SpaceKey, SpaceName, SpaceNameKey, SpaceState, Vector, VectorKey,
};
use vexfs::fs::vectors::slab::Sealed;
use vexfs::fs::vectors::space::{Element, Field, FieldKind, Metric, Shape};
use vexfs::journal::Journal;
use vexfs::meta::base::{Base, BlockSource, Settings};
use vexfs::meta::{Record, encode_key};
use vexfs::pool::{Features, Manifest, State, Superblock, Tail};
use vexfs::space::shared::References;
use vexfs::units::{BLOCK_SIZE, Block, FileBlock, Ino, Run, Seq};
use vexfs::vector::codec::Tier;

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
    line(out, "key of a window", &encode_key(&SessionKey { part: 0x0708 }));
    let (directory, cookie) = (Ino(0x0506), 0x0708);
    line(
        out,
        "key of a further name",
        &encode_key(&PlaceKey { ino, directory, cookie }),
    );
    let (space, vector) = (Ino(0x0910), 0x1112);
    line(out, "key of a space", &encode_key(&SpaceKey { space }));
    let name = b"name".as_slice().into();
    line(out, "key of a space's name", &encode_key(&SpaceNameKey { name }));
    let ordinal = 0x1314;
    line(
        out,
        "key of an embedding",
        &encode_key(&EmbeddingKey { ino, space, ordinal }),
    );
    line(out, "key of a vector", &encode_key(&VectorKey { space, vector }));
    line(
        out,
        "key of a growing vector",
        &encode_key(&GrowingKey { space, vector }),
    );
    line(out, "key of a slab", &encode_key(&SlabKey { space, at: 0x1516 }));
    line(out, "key of an index", &encode_key(&IndexKey { space }));
    let leaf = 0x1718;
    line(out, "key of a leaf", &encode_key(&LeafKey { space, leaf }));
    line(out, "key of a centre", &encode_key(&CentreKey { space, leaf }));
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
        place: 0x4300,
        uid: 1000,
        gid: 100,
        links: 2,
        flags: FileFlags(FileFlags::COMPRESS.0 | FileFlags::ZSTD.0),
        mode: Kind::File.mode_bits() | 0o4755,
        marks: Marks::SECURITY,
        hidden: 3000,
        hidden_in: 2,
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
    let session = Session {
        ordinal: 2,
        id: 0x61,
        hello: 0x62,
        read_only: true,
        posted: 300,
        answered: vec![1, 400],
        grant_from: Ino(500),
        grant_count: 64,
        ..Session::default()
    };
    record(out, "session", &SessionRecord::Session(Box::new(session)));
    let window = Window {
        ino: Ino(300),
        span: 1 << 40,
    };
    record(out, "window", &SessionRecord::Window(window));
    records_of_vectors(out);
}

fn records_of_vectors(out: &mut String) {
    let space = Space {
        state: SpaceState::Active,
        shape: Shape::new(384, Element::F16, Metric::Cosine).unwrap(),
        effort: 7,
        created: Timestamp(0x0102_0304),
        next: 1000,
        vectors: 900,
        growing: 300,
        name: b"name".as_slice().into(),
        fields: vec![Field::new(FieldKind::Text, b"user.title".as_slice())],
    };
    record(out, "space", &space);
    record(out, "name of a space", &SpaceName { space: 300 });
    record(out, "embedding", &Embedding { vector: 301 });
    let vector = Vector {
        ino: Ino(302),
        ordinal: 303,
        of: Timestamp(0x0506_0708),
        place: Place::Growing,
        indexed: false,
    };
    record(out, "growing vector", &vector);
    let (place, indexed) = (Place::Sealed(0x0900), true);
    record(
        out,
        "sealed vector",
        &Vector {
            place,
            indexed,
            ..vector
        },
    );
    let slab = Slab {
        blocks: 256,
        vectors: 600,
        alive: 500,
    };
    record(out, "slab", &slab);
    let mut bytes = Vec::new();
    let sealed = Sealed {
        space: Ino(0x0910),
        vector: 0x1112,
        ino: Ino(0x1314),
        ordinal: 0x1516,
        bytes: b"a vector",
    };
    sealed.encode(&mut bytes);
    line(out, "vector in a slab", &bytes);
    let index = IndexRecord {
        state: IndexState::InUse,
        tier: Tier::Nibble,
        seed: 0x0a0b,
        below: 600,
        origin: b"origin".as_slice().into(),
    };
    record(out, "index", &index);
    record(out, "leaf", &LEAF);
}

/// A leaf of an index.
const LEAF: LeafRow = LeafRow {
    generation: 3,
    items: 200,
    stuck: 100,
    centred: 150,
    radii: [0.5, 1.5],
    at: 700,
    blocks: 18,
};

/// One of each, every field different from the others.
#[expect(clippy::too_many_lines, reason = "one example of each")]
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
            runs: runs.clone(),
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
        Op::Extend {
            ino,
            size: end,
            modified: time,
            changed: Timestamp(9),
        },
        Op::Store {
            ino,
            at: from,
            reach: 0x36,
            runs: runs.clone(),
            checksums: vec![Crc(1), Crc(2), Crc(3)],
        },
        Op::StorePacked {
            ino,
            at: from,
            count: 5,
            algorithm: 2,
            bytes: 9000,
            checksum: Crc(7),
            reach: 0x36,
            runs,
        },
        Op::BeginSession {
            session: 0x51,
            hello: 0x52,
            slots: 0x53,
            read_only: 1,
        },
        Op::EndSession { session: 0x51 },
        Op::Answered { slot: 0x54, seq: 0x55 },
        Op::Posted { position: 0x56 },
        Op::Grant { count: 0x57 },
        Op::Map {
            ino,
            base: 0x58,
            span: 0x59,
        },
        Op::Unmap { ino },
        Op::CreateSpace {
            space: parent,
            dimensions: 384,
            element: 2,
            metric: 1,
            effort: 3,
            time,
            name,
            fields: vec![b"\x01user.a", b"\x02user.b"],
        },
        Op::AlterSpace {
            space: parent,
            effort: 4,
            time,
            name,
            fields: vec![b"\x01user.a"],
        },
        Op::DropSpace { space: parent, time },
        Op::DrainSpace {
            space: parent,
            until: 0x36,
        },
        Op::PutVectors {
            ino,
            space: parent,
            flags: 4,
            ordinal: 5,
            of: Timestamp(6),
            time,
            bytes: b"bytes",
        },
        Op::RemoveVectors {
            ino,
            space: parent,
            from: 7,
            count: 8,
            time,
        },
        Op::SealVectors {
            space: parent,
            at: from,
            vectors: vec![0x37, 0x38],
        },
        Op::DropSlab {
            space: parent,
            at: from,
        },
        Op::SetIndex {
            space: parent,
            record: b"record",
        },
        Op::PutLeaves {
            space: parent,
            leaves: vec![b"leaf", b"another"],
            dropped: vec![0x39],
            placed: vec![0x3a, 0x3b],
        },
        Op::ForgetLeaves {
            space: parent,
            until: 0x3c,
        },
    ]
}

fn operations(out: &mut String) {
    // Whoever adds an operation adds an example.
    assert_eq!(examples().len(), LAYOUTS.len());
    for (operation, layout) in examples().iter().zip(LAYOUTS) {
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        assert_eq!(bytes[0], layout.number, "one example of every operation, in order");
        line(out, operation.name(), &bytes);
    }
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
