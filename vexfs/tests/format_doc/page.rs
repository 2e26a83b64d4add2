// SPDX-License-Identifier: MIT OR Apache-2.0

//! The page: its tables, and layouts told by them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vexfs::codec::Writer;
use vexfs::disk::{Disk, MemDisk};
use vexfs::units::{BLOCK_SIZE, Block};

/// The whole page, and that of vectors.
pub(crate) fn text() -> String {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = |name| std::fs::read_to_string(docs.join(name)).unwrap();
    page("FORMAT.md") + &page("FORMAT-VECTORS.md")
}

/// Rows of a table: the cells, without the quotes of code.
pub(crate) type Rows = Vec<Vec<String>>;

pub(crate) fn tables() -> BTreeMap<String, Rows> {
    let text = text();
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

pub(crate) fn table(name: &str) -> Rows {
    tables()
        .remove(name)
        .unwrap_or_else(|| panic!("the pages have no table {name}"))
}

pub(crate) fn plain(cell: &str) -> String {
    cell.replace('`', "")
}

pub(crate) fn number(text: &str) -> u64 {
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
pub(crate) fn pairs(name: &str) -> Vec<(String, String)> {
    let rows = table(name).into_iter();
    rows.map(|row| (plain(&row[0]), plain(&row[1]))).collect()
}

pub(crate) fn block_of(disk: &MemDisk, at: Block) -> [u8; BLOCK_SIZE] {
    let mut bytes = [0; BLOCK_SIZE];
    disk.read(at.byte_at(), &mut bytes).unwrap();
    bytes
}

/// A layout at fixed offsets: name, first byte, size.
pub(crate) struct Fixed(Vec<(String, usize, usize)>);

impl Fixed {
    /// Its fields follow each other from 0 to `end`.
    pub(crate) fn read(name: &str, end: usize) -> Self {
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

    pub(crate) fn get<'b>(&self, bytes: &'b [u8], field: &str) -> &'b [u8] {
        let (_, at, size) = self
            .0
            .iter()
            .find(|(name, ..)| name == field)
            .unwrap_or_else(|| panic!("{field} is told"));
        &bytes[*at..at + size]
    }

    pub(crate) fn number(&self, bytes: &[u8], field: &str) -> u64 {
        let mut number = [0; 8];
        let found = self.get(bytes, field);
        number[..found.len()].copy_from_slice(found);
        u64::from_le_bytes(number)
    }

    /// Every field holds what it should, and every field was asked for.
    pub(crate) fn compare(&self, bytes: &[u8], expected: &[(&str, Vec<u8>)]) {
        let names: Vec<&str> = self.0.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (field, value) in expected {
            assert_eq!(self.get(bytes, field), value, "{field}");
        }
    }
}

/// Eight bytes that occur once in a test.
pub(crate) const fn distinct(number: u8) -> u64 {
    u64::from_le_bytes([number, number, number, 0x11, 0x12, 0x13, number, 0x14])
}

/// Four such bytes.
pub(crate) const fn distinct32(number: u8) -> u32 {
    u32::from_le_bytes([number, 0x15, number, 0x16])
}

pub(crate) fn bytes_of(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(crate) fn bytes_of32(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// Appends a value of a type of the page. Numbers that do not fit are cut.
pub(crate) fn put(out: &mut Vec<u8>, kind: &str, value: u64) {
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
        "names" => {
            out.put_u32(2);
            for name in [b"ab", b"cd"] {
                out.put_u32(2);
                out.put(name);
            }
        }
        "numbers" => {
            out.put_u32(2);
            out.put_u64(value);
            out.put_u64(value + 1);
        }
        _ => out.put(&value.to_le_bytes()[..usize::try_from(number(&fixed[1])).unwrap()]),
    }
}
