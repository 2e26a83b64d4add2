// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations and records: bytes made from the page alone are decoded by the engine.

use vexfs::checksum::Crc;
use vexfs::codec::{Reader, Writer};
use vexfs::data::row::Row;
use vexfs::fs::op::{self, Op};
use vexfs::fs::record::{
    AttributeKey, Entry, EntryKey, FileFlags, GroupKey, Inode, InodeKey, Kind, Marks, Orphan, OrphanKey, PlaceKey,
    RowKey, SessionKey, SharedKey, Timestamp, Totals, TotalsKey,
};
use vexfs::fs::session::{Session, SessionRecord, Window};
use vexfs::fs::vectors::record::{
    CentreKey, Embedding, EmbeddingKey, GrowingKey, IndexKey, IndexRecord, IndexState, LeafKey, LeafRow, Place, Slab,
    SlabKey, Space, SpaceKey, SpaceName, SpaceNameKey, SpaceState, Vector, VectorKey,
};
use vexfs::fs::vectors::slab::{self, Sealed};
use vexfs::fs::vectors::space::{Element, Field, FieldKind, Metric, Shape};
use vexfs::meta::{Key, Record, encode_key};
use vexfs::space::shared::References;
use vexfs::units::{Block, Ino, Run};
use vexfs::vector::codec::Tier;

use crate::page::{Fixed, distinct, number, pairs, plain, put, table};

#[test]
fn operations_have_the_numbers_and_fields_that_are_told() {
    let told = table("operations");
    let source_type = |kind: &str| match kind {
        "`u8`" => "u8",
        "`u16`" => "u16",
        "`u32`" => "u32",
        "`u64`" => "u64",
        "`ino`" => "Ino",
        "`file block`" => "FileBlock",
        "`time`" => "Timestamp",
        "`crc`" => "Crc",
        "`bytes`" => "&'a [u8]",
        "`runs`" => "Vec<Run>",
        "`crcs`" => "Vec<Crc>",
        "`names`" => "Vec<&'a [u8]>",
        "`numbers`" => "Vec<u64>",
        other => panic!("{other} is no type of an operation"),
    };
    assert_eq!(told.len(), op::LAYOUTS.len());
    for (row, layout) in told.iter().zip(op::LAYOUTS) {
        assert_eq!(
            (number(&row[0]), row[1].as_str()),
            (u64::from(layout.number), layout.name)
        );
        let fields: Vec<(&str, &str)> = row[2].split(", ").map(|field| field.split_once(' ').unwrap()).collect();
        let found: Vec<(&str, &str)> = fields.iter().map(|(name, kind)| (*name, source_type(kind))).collect();
        assert_eq!(found, layout.fields, "{}", layout.name);

        // Bytes made from the page are the operation, and its own bytes are they.
        let mut bytes = vec![layout.number];
        for (value, (_, kind)) in (0x41..).zip(&fields) {
            put(&mut bytes, &plain(kind), value);
        }
        let mut reader = Reader::new(&bytes);
        let decoded = Op::decode(&mut reader).unwrap();
        assert_eq!((decoded.name(), reader.remaining()), (layout.name, 0));
        let mut again = Vec::new();
        decoded.encode(&mut again);
        assert_eq!(again, bytes, "{}", layout.name);
    }
}

#[test]
fn flags_have_the_values_that_are_told() {
    let expect = |table: &str, expected: &[(&str, u64)]| {
        let told: Vec<(String, u64)> = pairs(table)
            .into_iter()
            .map(|(value, name)| (name, number(&value)))
            .collect();
        let expected: Vec<(String, u64)> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        assert_eq!(told, expected, "{table}");
    };
    expect(
        "change",
        &[
            ("MODE", op::change::MODE.into()),
            ("UID", op::change::UID.into()),
            ("GID", op::change::GID.into()),
            ("ACCESSED", op::change::ACCESSED.into()),
            ("MODIFIED", op::change::MODIFIED.into()),
            ("FLAGS", op::change::FLAGS.into()),
            ("CHANGED", op::change::CHANGED.into()),
        ],
    );
    expect(
        "flags",
        &[
            ("rename::NO_REPLACE", op::rename::NO_REPLACE.into()),
            ("rename::EXCHANGE", op::rename::EXCHANGE.into()),
            ("rename::WHITEOUT", op::rename::WHITEOUT.into()),
            ("xattr::CREATE", op::xattr::CREATE.into()),
            ("xattr::REPLACE", op::xattr::REPLACE.into()),
            ("vectors::CREATE", op::vectors::CREATE.into()),
            ("vectors::REPLACE", op::vectors::REPLACE.into()),
            ("vectors::WHOLE", op::vectors::WHOLE.into()),
        ],
    );
    expect(
        "file flags",
        &[
            ("COMPRESS", FileFlags::COMPRESS.0.into()),
            ("IMMUTABLE", FileFlags::IMMUTABLE.0.into()),
            ("APPEND", FileFlags::APPEND.0.into()),
            ("NO_DUMP", FileFlags::NO_DUMP.0.into()),
            ("NO_ATIME", FileFlags::NO_ATIME.0.into()),
            ("ZSTD", FileFlags::ZSTD.0.into()),
            ("NO_CHECKSUM", FileFlags::NO_CHECKSUM.0.into()),
        ],
    );
    let all = pairs("file flags").iter().map(|(value, _)| number(value)).sum::<u64>();
    assert_eq!(all, u64::from(FileFlags::ALL.0), "no flag is left out");
    let kinds: Vec<(u8, String)> = (0..=u8::MAX)
        .filter_map(|number| Kind::of_number(number).map(|kind| (number, format!("{kind:?}"))))
        .collect();
    let told: Vec<(u8, String)> = pairs("kinds")
        .into_iter()
        .map(|(value, name)| (number(&value).try_into().unwrap(), name))
        .collect();
    assert_eq!(told, kinds);
}

#[test]
fn records_have_the_tags_and_keys_that_are_told() {
    let (ino, group) = (Ino(distinct(0x21)), distinct(0x22));
    let keys: Vec<(&str, Vec<u8>)> = vec![
        ("Inode", encode_key(&InodeKey { ino })),
        (
            "Entry",
            encode_key(&EntryKey {
                directory: ino,
                cookie: group,
            }),
        ),
        ("Row", encode_key(&RowKey { ino, chunk: group })),
        (
            "Attribute",
            encode_key(&AttributeKey {
                ino,
                name: b"rest".as_slice().into(),
            }),
        ),
        ("Bitmap", encode_key(&GroupKey { group })),
        ("References", encode_key(&SharedKey { group })),
        ("Orphan", encode_key(&OrphanKey { ino })),
        ("Totals", encode_key(&TotalsKey {})),
        ("Session", encode_key(&SessionKey { part: group })),
        (
            "Place",
            encode_key(&PlaceKey {
                ino,
                directory: Ino(distinct(0x23)),
                cookie: group,
            }),
        ),
        ("Space", encode_key(&SpaceKey { space: ino })),
        (
            "SpaceName",
            encode_key(&SpaceNameKey {
                name: b"rest".as_slice().into(),
            }),
        ),
        (
            "Embedding",
            encode_key(&EmbeddingKey {
                ino,
                space: Ino(distinct(0x23)),
                ordinal: group,
            }),
        ),
        (
            "Vector",
            encode_key(&VectorKey {
                space: ino,
                vector: group,
            }),
        ),
        (
            "Growing",
            encode_key(&GrowingKey {
                space: ino,
                vector: group,
            }),
        ),
        ("Slab", encode_key(&SlabKey { space: ino, at: group })),
        ("Index", encode_key(&IndexKey { space: ino })),
        (
            "Leaf",
            encode_key(&LeafKey {
                space: ino,
                leaf: group,
            }),
        ),
        (
            "Centre",
            encode_key(&CentreKey {
                space: ino,
                leaf: group,
            }),
        ),
    ];
    assert_eq!(table("records").len(), keys.len());
    for (row, (record, key)) in table("records").iter().zip(keys) {
        assert_eq!(row[1], record);
        let mut told = vec![u8::try_from(number(&row[0])).unwrap()];
        for field in row[2].split(", ").filter(|field| !field.is_empty()) {
            match field {
                "space 8" if record == "Embedding" => told.extend(distinct(0x23).to_be_bytes()),
                "directory 8" if record == "Place" => told.extend(distinct(0x23).to_be_bytes()),
                "ino 8" | "directory 8" | "space 8" => told.extend(ino.0.to_be_bytes()),
                "cookie 8" | "chunk 8" | "group 8" | "part 8" | "ordinal 8" | "vector 8" | "at 8" | "leaf 8" => {
                    told.extend(group.to_be_bytes());
                }
                "name rest" => told.extend(b"rest"),
                other => panic!("{other}"),
            }
        }
        assert_eq!(told, key, "{record}");
    }
    assert_eq!(TotalsKey::TAG, 8);
}

/// Bytes of a record with these values, in the order and with the types of the page.
fn record(name: &str, values: &[(&str, u64)]) -> Vec<u8> {
    let rows = pairs(name);
    let names: Vec<&str> = rows.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(names, values.iter().map(|(field, _)| *field).collect::<Vec<_>>());
    let mut out = Vec::new();
    for ((_, kind), (_, value)) in rows.iter().zip(values) {
        put(&mut out, kind, *value);
    }
    out
}

fn same<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8], expected: &R) {
    assert_eq!(R::decode(bytes).as_ref(), Ok(expected));
    let mut out = Vec::new();
    expected.encode(&mut out);
    assert_eq!(out, bytes);
}

#[test]
fn records_have_the_fields_that_are_told() {
    let minus = |nanos: i64| nanos.cast_unsigned();
    let inode = record(
        "inode",
        &[
            ("version", 1),
            ("mode", 0o100_640),
            ("uid", 1000),
            ("gid", 1001),
            ("links", 3),
            ("size", 123_456),
            ("blocks", 31),
            ("born", 1_000_000),
            ("accessed", 5),
            ("modified", minus(-7)),
            ("changed", 300),
            ("device", 77),
            ("flags", 0x84),
            ("parent", 501),
            ("place", 0x4300),
            ("marks", 3),
            ("hidden", 4000),
            ("hidden in", 6),
        ],
    );
    same(
        &inode,
        &Inode {
            size: 123_456,
            blocks: 31,
            accessed: Timestamp(1_000_005),
            modified: Timestamp(999_993),
            changed: Timestamp(1_000_300),
            born: Timestamp(1_000_000),
            device: 77,
            parent: Ino(501),
            place: 0x4300,
            uid: 1000,
            gid: 1001,
            links: 3,
            flags: FileFlags(0x84),
            mode: 0o100_640,
            marks: Marks::ACL.with(Marks::XATTRS),
            hidden: 4000,
            hidden_in: 6,
        },
    );
    let entry = record("entry", &[("ino", 501), ("kind", 0x80 | 8), ("name", 0)]);
    let entry_of = |ino, name: &[u8]| Entry {
        ino: Ino(ino),
        kind: Kind::File,
        chained: true,
        name: name.into(),
    };
    same(&entry, &entry_of(501, b"rest"));
    same(&[0, 0x88], &entry_of(0, b""));
    same(&record("orphan", &[("next chunk", 700)]), &Orphan { next_chunk: 700 });
    let totals = record(
        "totals",
        &[("version", 1), ("next ino", 502), ("inodes", 400), ("promised", 9)],
    );
    same(
        &totals,
        &Totals {
            next_ino: Ino(502),
            inodes: 400,
            promised: 9,
        },
    );
    vectors();
    // The paragraph about references: count, then index and references of each.
    let mut references = References::default();
    for block in [64, 64, 95] {
        references.add(Block(block)).unwrap();
    }
    same(&[2, 0, 2, 31, 1], &references);
    assert_eq!(References::group_of(Block(64)), 2);
}

/// Records of spaces and vectors.
#[expect(clippy::too_many_lines, reason = "one example of each")]
fn vectors() {
    let mut space = record(
        "space",
        &[
            ("version", 1),
            ("state", 0),
            ("element", 2),
            ("metric", 1),
            ("dimensions", 384),
            ("effort", 7),
            ("created", 1_000_000),
            ("next vector", 1000),
            ("vectors", 900),
            ("growing", 300),
        ],
    );
    // Then the name, and the declared attributes.
    space.put_counted(b"name");
    space.put_varint(1);
    space.put_u8(2);
    space.put_counted(b"user.title");
    same(
        &space,
        &Space {
            state: SpaceState::Active,
            shape: Shape::new(384, Element::F16, Metric::Cosine).unwrap(),
            effort: 7,
            created: Timestamp(1_000_000),
            next: 1000,
            vectors: 900,
            growing: 300,
            name: b"name".as_slice().into(),
            fields: vec![Field::new(FieldKind::Text, b"user.title".as_slice())],
        },
    );
    same(&record("space name", &[("space", 501)]), &SpaceName { space: 501 });
    same(&record("embedding", &[("vector", 502)]), &Embedding { vector: 502 });
    let vector = |place| {
        record(
            "vector",
            &[
                ("ino", 501),
                ("ordinal", 503),
                ("of", 77),
                ("place", place),
                ("indexed", u64::from(place > 0)),
            ],
        )
    };
    let expected = |place| Vector {
        ino: Ino(501),
        ordinal: 503,
        of: Timestamp(77),
        place,
        indexed: place != Place::Growing,
    };
    same(&vector(0), &expected(Place::Growing));
    same(&vector(1), &expected(Place::Sealed(0)));
    let slab = record("slab", &[("blocks", 256), ("vectors", 600), ("alive", 500)]);
    same(
        &slab,
        &Slab {
            blocks: 256,
            vectors: 600,
            alive: 500,
        },
    );
    let mut index = record(
        "index",
        &[("version", 1), ("state", 1), ("tier", 2), ("seed", 505), ("below", 506)],
    );
    index.put(b"origin");
    same(
        &index,
        &IndexRecord {
            state: IndexState::InUse,
            tier: Tier::Nibble,
            seed: 505,
            below: 506,
            origin: b"origin".as_slice().into(),
        },
    );
    let radii = [0.5_f32, 1.5];
    let leaf = record(
        "leaf",
        &[
            ("generation", 3),
            ("items", 200),
            ("stuck", 100),
            ("centred", 150),
            ("inner", radii[0].to_bits().into()),
            ("outer", radii[1].to_bits().into()),
            ("at", 507),
            ("blocks", 18),
        ],
    );
    same(
        &leaf,
        &LeafRow {
            generation: 3,
            items: 200,
            stuck: 100,
            centred: 150,
            radii,
            at: 507,
            blocks: 18,
        },
    );
    let words = |numbers: &str| -> Vec<(u64, String)> {
        let told = pairs(numbers).into_iter();
        told.map(|(value, name)| (self::number(&value), name)).collect()
    };
    let listed = |all: &mut dyn Iterator<Item = (u8, &'static str)>| -> Vec<(u64, String)> {
        all.map(|(value, name)| (u64::from(value), name.to_owned())).collect()
    };
    let mut elements = Element::ALL.iter().map(|item| (*item as u8, item.text()));
    assert_eq!(words("elements"), listed(&mut elements));
    let mut metrics = Metric::ALL.iter().map(|item| (*item as u8, item.text()));
    assert_eq!(words("metrics"), listed(&mut metrics));
    let mut tiers = Tier::ALL.iter().map(|item| (*item as u8, item.text()));
    assert_eq!(words("tiers"), listed(&mut tiers));
    let mut uses = FieldKind::ALL.iter().map(|item| (*item as u8, item.text()));
    assert_eq!(words("uses"), listed(&mut uses));
    let told = Fixed::read("slab record", slab::HEADER);
    let mut bytes = Vec::new();
    let sealed = Sealed {
        space: Ino(501),
        vector: 502,
        ino: Ino(503),
        ordinal: 504,
        bytes: b"a vector",
    };
    sealed.encode(&mut bytes);
    let header: Vec<u64> = ["bytes", "space", "vector", "ino", "ordinal"]
        .iter()
        .map(|field| told.number(&bytes, field))
        .collect();
    assert_eq!(header, [8, 501, 502, 503, 504]);
    assert_eq!(told.number(&bytes, "crc"), u64::from(Crc::of(&bytes[4..]).0));
    assert_eq!((&bytes[48..56], bytes.len()), (b"a vector".as_slice(), 64));
}

#[test]
fn records_of_a_client_have_the_fields_that_are_told() {
    let mut session = record(
        "session",
        &[
            ("version", 1),
            ("flags", 1),
            ("ordinal", 300),
            ("id", 5),
            ("hello", 6),
            ("posted", 700),
            ("grant from", 800),
            ("grant count", 9),
            ("slots", 2),
            // The newest call of each, and the count of ranges, follow.
            ("ranges", 11),
        ],
    );
    session.extend([12, 1, 20, 3]);
    let expected = Session {
        ordinal: 300,
        id: 5,
        hello: 6,
        read_only: true,
        posted: 700,
        answered: vec![11, 12],
        grant_from: Ino(800),
        grant_count: 9,
        unused: SessionRecord::decode(&session).map_or_else(
            |error| panic!("{error}"),
            |record| match record {
                SessionRecord::Session(session) => session.unused,
                SessionRecord::Window(_) => panic!("a window"),
            },
        ),
    };
    let unused: Vec<u64> = (15..30)
        .filter(|&number| expected.unused.contains(Ino(number)))
        .collect();
    assert_eq!(unused, [20, 21, 22]);
    same(&session, &SessionRecord::Session(Box::new(expected)));
    let window = record("window", &[("version", 2), ("ino", 501), ("span", 1 << 40)]);
    let span = 1 << 40;
    same(&window, &SessionRecord::Window(Window { ino: Ino(501), span }));
}

#[test]
fn rows_are_laid_out_as_told() {
    let kinds: Vec<String> = table("row kinds")
        .iter()
        .map(|row| row[1].split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["Inline", "Map"]);
    for (first, row) in (0_u8..).zip(table("row kinds")) {
        assert_eq!(number(&row[0]), u64::from(first));
    }
    same(b"\0bytes", &Row::Inline(b"bytes".as_slice().into()));

    let unit_names: Vec<String> = pairs("unit").into_iter().map(|(field, _)| field).collect();
    assert_eq!(unit_names, ["algorithm", "file blocks", "bytes", "crc", "runs"]);
    let mut unit = Vec::new();
    for ((_, kind), value) in pairs("unit").iter().zip([2, 5, 5000, 0x0403_0201, 1]) {
        put(&mut unit, kind, value);
    }
    // The unit's one run: first block and blocks.
    unit.put_varint(900);
    unit.put_varint(2);

    let told = table("stretches");
    let names: Vec<&str> = told.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(names, ["Hole", "Promised", "Data", "Bare", "Packed", "Lost"]);
    for row in &told {
        let packed = row[1] == "Packed";
        let mut bytes = vec![1, u8::from(packed)];
        if packed {
            bytes.extend(&unit);
        }
        let tag = u8::try_from(number(&row[0])).unwrap();
        let head = bytes.len();
        bytes.extend([tag, 2]);
        for field in row[2].split(", ").filter(|field| !field.is_empty()) {
            match field {
                "start `v`" => bytes.put_varint(700),
                "`crc` per block" => {
                    bytes.put_u32(0x0102_0304);
                    bytes.put_u32(0x0506_0708);
                }
                "unit `u8`" => bytes.put_u8(0),
                "index `u8`" => bytes.put_u8(3),
                other => panic!("{other}"),
            }
        }
        if row[1] == "Hole" {
            // A hole is never the last.
            bytes.extend([1, 1]);
        }
        let Ok(Row::Map(map)) = Row::decode(&bytes) else {
            panic!("{} decodes: {:?}", row[1], Row::decode(&bytes));
        };
        let found: Vec<String> = (0..2).map(|index| format!("{:?}", map.get(index))).collect();
        let expected = match row[1].as_str() {
            "Data" => ["Data(block 700, Crc(16909060))", "Data(block 701, Crc(84281096))"],
            "Bare" => ["Bare(block 700)", "Bare(block 701)"],
            "Packed" => ["Packed { unit: 0, index: 3 }", "Packed { unit: 0, index: 4 }"],
            same => [same, same],
        };
        assert_eq!(found, expected);
        if packed {
            let unit = map.unit(0).unwrap();
            assert_eq!(
                (unit.algorithm as u8, unit.file_blocks, unit.bytes, unit.crc),
                (2, 5, 5000, Crc(0x0403_0201))
            );
            assert_eq!(unit.runs, [Run::new(Block(900), 2)]);
        }
        let mut again = Vec::new();
        Row::Map(map).encode(&mut again);
        assert_eq!(again, bytes);
        // One tag further there is nothing.
        bytes[head] = u8::try_from(told.len()).unwrap();
        assert!(Row::decode(&bytes).is_err(), "a tag that is not told");
    }
}
