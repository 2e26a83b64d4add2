// SPDX-License-Identifier: MIT OR Apache-2.0

//! Operations and records: bytes made from the page alone are decoded by the engine.

use vexfs::checksum::Crc;
use vexfs::codec::{Reader, Writer};
use vexfs::data::row::Row;
use vexfs::fs::op::{self, Op};
use vexfs::fs::record::{
    AttributeKey, Entry, EntryKey, FileFlags, GroupKey, Inode, InodeKey, Kind, Orphan, OrphanKey, RowKey, SharedKey,
    Timestamp, Totals, TotalsKey,
};
use vexfs::meta::{Key, Record, encode_key};
use vexfs::space::shared::References;
use vexfs::units::{Block, Ino, Run};

use crate::page::{distinct, number, pairs, plain, put, table};

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
    ];
    assert_eq!(table("records").len(), keys.len());
    for (row, (record, key)) in table("records").iter().zip(keys) {
        assert_eq!(row[1], record);
        let mut told = vec![u8::try_from(number(&row[0])).unwrap()];
        for field in row[2].split(", ").filter(|field| !field.is_empty()) {
            match field {
                "ino 8" | "directory 8" => told.extend(ino.0.to_be_bytes()),
                "cookie 8" | "chunk 8" | "group 8" => told.extend(group.to_be_bytes()),
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
            uid: 1000,
            gid: 1001,
            links: 3,
            flags: FileFlags(0x84),
            mode: 0o100_640,
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
    // The paragraph about references: count, then index and references of each.
    let mut references = References::default();
    for block in [64, 64, 95] {
        references.add(Block(block)).unwrap();
    }
    same(&[2, 0, 2, 31, 1], &references);
    assert_eq!(References::group_of(Block(64)), 2);
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
