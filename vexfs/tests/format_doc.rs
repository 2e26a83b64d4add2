// SPDX-License-Identifier: MIT OR Apache-2.0

//! `docs/FORMAT.md` says what the code does: its tables are parsed and compared.
//!
//! A table of that page with a comment `check: <name>` above it is compared by the function of that name here; a table
//! without one holds no layout. Layouts at fixed offsets are compared by encoding distinct values and finding them where the page says;
//! sequences of fields by building bytes from the page alone and having the engine decode them.

#![expect(clippy::unwrap_used, reason = "a test: what cannot happen may panic")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use vexfs::checksum::Crc;
use vexfs::codec::{Reader, Writer};
use vexfs::data::row::{self, Row};
use vexfs::disk::{Disk, MemDisk};
use vexfs::fs::op::{self, Op};
use vexfs::fs::record::{
    AttributeKey, Entry, EntryKey, FileFlags, GroupKey, Inode, InodeKey, Kind, Orphan, OrphanKey, RowKey, SharedKey,
    Timestamp, Totals, TotalsKey,
};
use vexfs::fs::{self, name};
use vexfs::journal::{self, Journal};
use vexfs::meta::base::{self, Base, BlockSource, Settings};
use vexfs::meta::{Key, Record, encode_key};
use vexfs::pool::heartbeat::{self, Owner};
use vexfs::pool::superblock::{HEARTBEAT, MAX_LABEL, MIN_BLOCKS, MIN_JOURNAL_BLOCKS, PLACES};
use vexfs::pool::{Features, Manifest, State, Superblock, Tail, Timestamp as PoolTime};
use vexfs::space::{self, Space};
use vexfs::units::{BLOCK_SIZE, Block, Ino, Run, Seq};

/// Rows of a table: the cells, without the quotes of code.
type Rows = Vec<Vec<String>>;

fn tables() -> BTreeMap<String, Rows> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut tables = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line
            .strip_prefix("<!-- check: ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let rows = lines.by_ref().skip(2).take_while(|line| line.starts_with('|'));
        let cells = |line: &str| {
            let line = line.trim().trim_start_matches('|');
            let line = line.strip_suffix('|').unwrap_or(line);
            line.split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let rows: Rows = rows.map(cells).collect();
        assert!(!rows.is_empty(), "the table {name} has rows");
        assert!(tables.insert(name.to_owned(), rows).is_none(), "{name} is there twice");
    }
    tables
}

fn table(name: &str) -> Rows {
    tables()
        .remove(name)
        .unwrap_or_else(|| panic!("FORMAT.md has no table {name}"))
}

fn plain(cell: &str) -> String {
    cell.replace('`', "")
}

fn number(text: &str) -> u64 {
    let text = plain(text);
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).unwrap();
    }
    if let Some((power, less)) = text.split_once(" - ") {
        return number(power) - number(less);
    }
    match text.split_once('^') {
        Some((base, exponent)) => number(base).pow(exponent.parse().unwrap()),
        None => text.parse().unwrap_or_else(|_| panic!("{text:?} is no number")),
    }
}

/// The two columns of a table as strings.
fn pairs(name: &str) -> Vec<(String, String)> {
    let rows = table(name).into_iter();
    rows.map(|row| (plain(&row[0]), plain(&row[1]))).collect()
}

#[test]
fn every_table_with_a_layout_is_compared() {
    let known = [
        "batch",
        "change",
        "constants",
        "entry",
        "entry tags",
        "features",
        "file flags",
        "flags",
        "heartbeat",
        "inode",
        "kinds",
        "manifest block",
        "manifest stream",
        "manifest table",
        "operations",
        "orphan",
        "page",
        "pool",
        "records",
        "row kinds",
        "stretches",
        "superblock",
        "totals",
        "types",
        "unit",
        "vectors",
        "versions",
    ];
    let found = tables();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), known);
    // A table of fields has a comment above it: one that was forgotten would be a layout nobody compares.
    let text = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut plain_tables = 0;
    for at in 2..lines.len() {
        if lines[at].starts_with("|--") && !lines[at - 2].starts_with("<!-- check: ") {
            plain_tables += 1;
            assert!(
                lines[at - 1].contains("what it answers"),
                "a table that is not compared: {}",
                lines[at - 1]
            );
        }
    }
    assert_eq!(plain_tables, 1, "only the contents");
}

#[test]
fn constants_are_those_of_the_code() {
    let expected: &[(&str, u64)] = &[
        ("BLOCK_SIZE", BLOCK_SIZE as u64),
        ("BLOCK_LIMIT", Block::LIMIT),
        ("POOL_BLOCKS_MIN", MIN_BLOCKS),
        ("POOL_BLOCKS_MAX", Space::MAX_BLOCKS),
        ("JOURNAL_BLOCKS_MIN", u64::from(MIN_JOURNAL_BLOCKS)),
        ("LABEL_MAX", MAX_LABEL as u64),
        ("HOST_NAME_MAX", heartbeat::MAX_HOST_NAME as u64),
        ("BATCH_HEADER", journal::HEADER_BYTES as u64),
        ("BATCH_PAYLOAD_MAX", journal::MAX_PAYLOAD as u64),
        ("KEY_MAX", base::MAX_KEY as u64),
        ("VALUE_MAX", base::MAX_VALUE as u64),
        ("VALUE_INLINE_MAX", base::MAX_INLINE as u64),
        ("GROUP_BYTES", space::ROW_BYTES as u64),
        ("CHUNK_BLOCKS", vexfs::data::CHUNK_BLOCKS),
        ("INLINE_MAX", row::INLINE_BYTES as u64),
        ("SYMLINK_MAX", row::SYMLINK_BYTES as u64),
        ("NAME_MAX", name::MAX_NAME as u64),
        ("COOKIE_CHAIN", name::CHAIN),
        ("COOKIE_LAST", name::LAST_COOKIE),
        ("FILE_BYTES_MAX", fs::MAX_FILE_BYTES),
        ("FILE_BLOCKS_MAX", fs::MAX_FILE_BLOCKS),
        ("FILE_POOL_BLOCKS_MAX", Inode::MAX_BLOCKS),
        ("LINKS_MAX", u64::from(fs::MAX_LINKS)),
        ("INODES_LIMIT", Totals::LAST_INO),
        ("XATTR_NAME_MAX", fs::MAX_XATTR_NAME as u64),
        ("XATTR_VALUE_MAX", fs::MAX_XATTR_VALUE as u64),
        ("STEP_BLOCKS_MAX", fs::MAX_STEP_BLOCKS),
        ("MOVED_ROWS_MAX", fs::MAX_MOVED_ROWS as u64),
    ];
    let told: Vec<(String, u64)> = pairs("constants")
        .into_iter()
        .map(|(name, value)| (name, number(&value)))
        .collect();
    let expected: Vec<(String, u64)> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn values_to_test_with_are_right() {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    };
    let mut varint = Vec::new();
    varint.put_varint(300);
    let mut zigzag = Vec::new();
    put(&mut zigzag, "z", (-3_i64).cast_unsigned());
    for row in table("vectors") {
        let result = match plain(&row[0]).as_str() {
            "crc" => hex(&Crc::of(plain(&row[1]).as_bytes()).0.to_be_bytes()),
            "cookie" => hex(&name::cookie(&[5; 16], b"a name").to_be_bytes()),
            "varint" => hex(&varint),
            "zigzag" => hex(&zigzag),
            other => panic!("{other}"),
        };
        assert_eq!(result, plain(&row[2]), "{}", row[0]);
    }
}

#[test]
fn fixed_blocks_lie_where_the_page_says() {
    let small = Superblock::journal_of(1019).start.0;
    let large = Superblock::journal_of(1020).start.0;
    let rows: Vec<(u64, String)> = table("pool")
        .into_iter()
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect();
    let at = |what: &str| {
        let mut found = rows.iter().filter(|(_, content)| content == what);
        found.next().unwrap_or_else(|| panic!("{what} is told")).0
    };
    let slots = [
        "superblock, slot 0",
        "superblock, slot 1",
        "superblock, slot 0, copy",
        "superblock, slot 1, copy",
    ];
    assert_eq!(slots.map(at), PLACES.map(|block| block.0));
    assert_eq!(at("heartbeat"), HEARTBEAT.0);
    assert_eq!(at("where a journal of fewer than 1020 blocks begins"), small);
    assert_eq!(at("where a larger journal begins"), large);
    let block = Superblock::journal_of(64);
    assert_eq!(rows.len(), 10, "a row that nobody compares");
    let disk = MemDisk::new(64 << 20);
    let seeds = vexfs::pool::format::Seeds::from_number(1);
    let made =
        vexfs::pool::format::format_disk(&disk, &Default::default(), &seeds, &vexfs::pool::Host::this()).unwrap();
    assert_eq!(
        made.fixed_runs()[..2],
        [Run::new(Block(0), 4), Run::new(Block(1024), 4)]
    );
    assert_eq!(block.start, made.journal.start);
    for (generation, place) in [(2, 1), (1, 2), (2, 1025), (1, 1026)] {
        let found = Superblock::decode(&block_of(&disk, Block(place))).unwrap();
        assert_eq!((found.generation, &found.uuid), (generation, &made.uuid));
    }
}

fn block_of(disk: &MemDisk, at: Block) -> [u8; BLOCK_SIZE] {
    let mut bytes = [0; BLOCK_SIZE];
    disk.read(at.byte_at(), &mut bytes).unwrap();
    bytes
}

/// A layout at fixed offsets: name, first byte, size.
struct Fixed(Vec<(String, usize, usize)>);

impl Fixed {
    /// Its fields follow each other from 0 to `end`.
    fn read(name: &str, end: usize) -> Self {
        let fields: Vec<_> = table(name)
            .iter()
            .map(|row| {
                let size = |cell: &str| usize::try_from(number(cell)).unwrap();
                (row[2].clone(), size(&row[0]), size(&row[1]))
            })
            .collect();
        let mut at = 0;
        for (field, start, size) in &fields {
            assert_eq!(*start, at, "{name}: {field} begins where the field before ends");
            at += size;
        }
        assert_eq!(at, end, "{name}: the whole of it is told");
        Self(fields)
    }

    fn get<'b>(&self, bytes: &'b [u8], field: &str) -> &'b [u8] {
        let (_, at, size) = self
            .0
            .iter()
            .find(|(name, ..)| name == field)
            .unwrap_or_else(|| panic!("{field} is told"));
        &bytes[*at..at + size]
    }

    fn number(&self, bytes: &[u8], field: &str) -> u64 {
        let mut number = [0; 8];
        let found = self.get(bytes, field);
        number[..found.len()].copy_from_slice(found);
        u64::from_le_bytes(number)
    }

    /// Every field holds what it should, and every field was asked for.
    fn compare(&self, bytes: &[u8], expected: &[(&str, Vec<u8>)]) {
        let names: Vec<&str> = self.0.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (field, value) in expected {
            assert_eq!(self.get(bytes, field), value, "{field}");
        }
    }
}

/// Eight bytes that occur once in a test.
const fn distinct(number: u8) -> u64 {
    u64::from_le_bytes([number, number, number, 0x11, 0x12, 0x13, number, 0x14])
}

/// Four such bytes.
const fn distinct32(number: u8) -> u32 {
    u32::from_le_bytes([number, 0x15, number, 0x16])
}

fn bytes_of(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

fn bytes_of32(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

#[test]
fn the_superblock_is_laid_out_as_told() {
    let layout = Fixed::read("superblock", BLOCK_SIZE);
    let time = |number: u8| PoolTime {
        seconds: distinct(number).cast_signed(),
        nanos: distinct32(number),
    };
    let label = "a label";
    let superblock = Superblock {
        generation: distinct(0x21),
        uuid: Uuid::from_bytes(*b"0123456789abcdef"),
        label: label.into(),
        total_blocks: distinct(0x22),
        features: Features {
            compat: distinct(0x23),
            ro_compat: distinct(0x24),
            incompat: distinct(0x25),
        },
        created: time(0x26),
        state: State::Dirty,
        name_hash_key: *b"ghijklmnopqrstuv",
        journal: Run::new(Block(distinct(0x27)), distinct32(0x28)),
        needs_check: true,
        epoch: distinct(0x29),
        boot_id: *b"GHIJKLMNOPQRSTUV",
        tail: Tail {
            position: distinct(0x2a),
            seq: Seq(distinct(0x2b)),
            chain: Crc(distinct32(0x2c)),
        },
        manifest: Manifest {
            first: Some(Block(distinct(0x2d))),
            blocks: distinct32(0x2e),
            bytes: distinct(0x2f),
            crc: Crc(distinct32(0x30)),
        },
        durable_seq: Seq(distinct(0x31)),
        resumed_at: distinct(0x32),
        last_mounted: time(0x33),
        last_checked: time(0x34),
        error_count: distinct(0x35),
    };
    let block = superblock.encode();
    let mut label_bytes = label.as_bytes().to_vec();
    label_bytes.resize(63, 0);
    let crc = Crc::of(&block[..4092]).0;
    layout.compare(
        &block,
        &[
            ("magic", b"VEXFSPL1".to_vec()),
            ("version", bytes_of32(1)),
            ("block shift", bytes_of32(12)),
            ("generation", bytes_of(distinct(0x21))),
            ("uuid", b"0123456789abcdef".to_vec()),
            ("label length", vec![7]),
            ("label", label_bytes),
            ("total blocks", bytes_of(distinct(0x22))),
            ("compat", bytes_of(distinct(0x23))),
            ("ro_compat", bytes_of(distinct(0x24))),
            ("incompat", bytes_of(distinct(0x25))),
            ("created seconds", bytes_of(distinct(0x26))),
            ("created nanos", bytes_of32(distinct32(0x26))),
            ("state", bytes_of32(1)),
            ("name hash key", b"ghijklmnopqrstuv".to_vec()),
            ("journal start", bytes_of(distinct(0x27))),
            ("journal blocks", bytes_of32(distinct32(0x28))),
            ("flags", bytes_of32(1)),
            ("epoch", bytes_of(distinct(0x29))),
            ("boot id", b"GHIJKLMNOPQRSTUV".to_vec()),
            ("tail position", bytes_of(distinct(0x2a))),
            ("tail seq", bytes_of(distinct(0x2b))),
            ("tail chain", bytes_of32(distinct32(0x2c))),
            ("manifest blocks", bytes_of32(distinct32(0x2e))),
            ("manifest first", bytes_of(distinct(0x2d))),
            ("manifest bytes", bytes_of(distinct(0x2f))),
            ("manifest crc", bytes_of32(distinct32(0x30))),
            ("mounted nanos", bytes_of32(distinct32(0x33))),
            ("durable seq", bytes_of(distinct(0x31))),
            ("resumed at", bytes_of(distinct(0x32))),
            ("mounted seconds", bytes_of(distinct(0x33))),
            ("checked seconds", bytes_of(distinct(0x34))),
            ("checked nanos", bytes_of32(distinct32(0x34))),
            ("zero", vec![0; 4]),
            ("error count", bytes_of(distinct(0x35))),
            ("reserved", vec![0; 3788]),
            ("crc", bytes_of32(crc)),
        ],
    );
}

#[test]
fn the_heartbeat_is_laid_out_as_told() {
    let layout = Fixed::read("heartbeat", BLOCK_SIZE);
    let record = heartbeat::Record {
        pool: Uuid::from_bytes(*b"0123456789abcdef"),
        owner: Owner {
            machine_id: *b"ghijklmnopqrstuv",
            boot_id: *b"GHIJKLMNOPQRSTUV",
            process: distinct32(0x21),
            host_name: "a host".into(),
        },
        interval: Duration::from_millis(u64::from(distinct32(0x22))),
        counter: distinct(0x23),
        claim: distinct(0x24),
    };
    let block = record.encode();
    let mut name = b"a host".to_vec();
    name.resize(64, 0);
    let crc = Crc::of(&block[..4092]).0;
    layout.compare(
        &block[..],
        &[
            ("magic", b"VEXFSHB1".to_vec()),
            ("version", bytes_of32(1)),
            ("state", bytes_of32(1)),
            ("pool", b"0123456789abcdef".to_vec()),
            ("machine", b"ghijklmnopqrstuv".to_vec()),
            ("boot", b"GHIJKLMNOPQRSTUV".to_vec()),
            ("process", bytes_of32(distinct32(0x21))),
            ("interval", bytes_of32(distinct32(0x22))),
            ("counter", bytes_of(distinct(0x23))),
            ("claim", bytes_of(distinct(0x24))),
            ("name length", vec![6]),
            ("name", name),
            ("zero", vec![0; 3939]),
            ("crc", bytes_of32(crc)),
        ],
    );
    assert_eq!(layout.number(&record.encode_free()[..], "state"), 0);
    let row = table("heartbeat").into_iter().find(|row| row[2] == "interval").unwrap();
    let [shortest, longest] = heartbeat::INTERVALS.map(|interval| interval.as_millis());
    assert!(
        row[3].ends_with(&format!("nearest of {shortest} to {longest}")),
        "{}",
        row[3]
    );
}

#[test]
fn a_batch_is_laid_out_as_told() {
    let layout = Fixed::read("batch", journal::HEADER_BYTES);
    let disk = Arc::new(MemDisk::new(64 * BLOCK_SIZE as u64));
    let end = Tail {
        position: distinct(0x21),
        seq: Seq(distinct(0x22)),
        chain: Crc(distinct32(0x23)),
    };
    let ring = Run::new(Block(0), 64);
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
    let mut journal = Journal::resume(shared, ring, distinct(0x24), end.position, end);
    journal.push(|out| out.extend_from_slice(b"one"));
    journal.push(|out| out.extend_from_slice(b"three"));
    journal.write_out(Seq(distinct(0x25))).unwrap();
    let mut batch = vec![0; 56 + 4 + 3 + 4 + 5];
    disk.read(end.position % ring.bytes(), &mut batch).unwrap();
    let crc = Crc::of(&batch[8..]).0;
    layout.compare(
        &batch,
        &[
            ("magic", b"VXJB".to_vec()),
            ("crc", bytes_of32(crc)),
            ("chain", bytes_of32(distinct32(0x23))),
            ("payload bytes", bytes_of32(16)),
            ("position", bytes_of(distinct(0x21))),
            ("epoch", bytes_of(distinct(0x24))),
            ("first seq", bytes_of(distinct(0x22) + 1)),
            ("durable seq", bytes_of(distinct(0x25))),
            ("transactions", bytes_of32(2)),
            ("zero", vec![0; 4]),
        ],
    );
    assert_eq!(batch[56..], *b"\x03\0\0\0one\x05\0\0\0three");
}

/// Appends a value of a type of the page. Numbers that do not fit are cut.
fn put(out: &mut Vec<u8>, kind: &str, value: u64) {
    let fixed = table("types")
        .into_iter()
        .find(|row| plain(&row[0]) == kind)
        .unwrap_or_else(|| panic!("the type {kind} is told"));
    match kind {
        "v" => out.put_varint(value),
        "z" => out.put_varint((value << 1) ^ (value.cast_signed() >> 63).cast_unsigned()),
        "key" => out.put_counted(&value.to_le_bytes()),
        "rest" => out.put(b"rest"),
        "bytes" => {
            out.put_u32(3);
            out.put(&[b'a', b'b', value.to_le_bytes()[0]]);
        }
        "runs" => {
            out.put_u32(2);
            for start in [value, value + 9] {
                out.put_u64(start);
                out.put_u32(1);
            }
        }
        "crcs" => {
            out.put_u32(2);
            out.put_u32(0x0102_0304);
            out.put_u32(0x0506_0708);
        }
        _ => out.put(&value.to_le_bytes()[..usize::try_from(number(&fixed[1])).unwrap()]),
    }
}

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
    let mut references = space::shared::References::default();
    for block in [64, 64, 95] {
        references.add(Block(block)).unwrap();
    }
    same(&[2, 0, 2, 31, 1], &references);
    assert_eq!(space::shared::References::group_of(Block(64)), 2);
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

#[test]
fn features_and_versions_are_those_of_the_code() {
    let sets: Vec<String> = pairs("features").into_iter().map(|(set, _)| set).collect();
    assert_eq!(sets, ["compat", "ro_compat", "incompat"]);
    let all = Features {
        compat: u64::MAX,
        ro_compat: u64::MAX,
        incompat: u64::MAX,
    };
    assert_eq!(
        all.unknown(),
        all,
        "a feature bit has a meaning that the page does not tell"
    );
    let versions = pairs("versions");
    let disk = MemDisk::new(64 << 20);
    let seeds = vexfs::pool::format::Seeds::from_number(1);
    let made =
        vexfs::pool::format::format_disk(&disk, &Default::default(), &seeds, &vexfs::pool::Host::this()).unwrap();
    let newest = Fixed::read("superblock", BLOCK_SIZE).number(&made.encode(), "version");
    assert_eq!(number(&versions.last().unwrap().0), newest);
}

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
        let mut crcs = Vec::new();
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
