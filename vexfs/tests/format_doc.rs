// SPDX-License-Identifier: MIT OR Apache-2.0

//! `docs/FORMAT.md` says what the code does: its tables are parsed and compared.
//!
//! A table of that page with a comment `check: <name>` above it is compared here; a table without one holds no layout.
//!
//! | module | job |
//! |---|---|
//! | `page` | the page's tables |
//! | `fixed` | layouts at fixed offsets |
//! | `records` | operations and records |
//! | `tables` | manifest and tables |

#![expect(clippy::unwrap_used, reason = "a test: what cannot happen may panic")]

#[path = "format_doc/fixed.rs"]
mod fixed;
#[path = "format_doc/page.rs"]
mod page;
#[path = "format_doc/records.rs"]
mod records;
#[path = "format_doc/tables.rs"]
mod tables;

use vexfs::checksum::Crc;
use vexfs::codec::Writer;
use vexfs::data::row;
use vexfs::disk::MemDisk;
use vexfs::fs::record::{Inode, Totals};
use vexfs::fs::{self, name, vectors};
use vexfs::journal;
use vexfs::meta::base;
use vexfs::pool::format::{FormatOptions, Seeds, format_disk};
use vexfs::pool::heartbeat;
use vexfs::pool::superblock::{HEARTBEAT, MAX_LABEL, MIN_BLOCKS, MIN_JOURNAL_BLOCKS, PLACES};
use vexfs::pool::{Features, Host, Superblock};
use vexfs::space::{self, Space};
use vexfs::units::{BLOCK_SIZE, Block, Run};

use page::{Fixed, block_of, number, pairs, plain, put, table};

/// A new pool, and its superblock.
fn new_pool() -> (MemDisk, Superblock) {
    let disk = MemDisk::new(64 << 20);
    let made = format_disk(&disk, &FormatOptions::default(), &Seeds::from_number(1), &Host::this()).unwrap();
    (disk, made)
}

#[test]
fn every_table_with_a_layout_is_compared() {
    let known = [
        "batch",
        "change",
        "constants",
        "elements",
        "embedding",
        "entry",
        "entry tags",
        "features",
        "file flags",
        "flags",
        "heartbeat",
        "index",
        "inode",
        "kinds",
        "leaf",
        "manifest block",
        "manifest stream",
        "manifest table",
        "metrics",
        "operations",
        "orphan",
        "page",
        "pool",
        "records",
        "row kinds",
        "session",
        "slab",
        "slab record",
        "space",
        "space name",
        "stretches",
        "superblock",
        "tiers",
        "totals",
        "types",
        "unit",
        "uses",
        "vector",
        "vectors",
        "versions",
        "window",
    ];
    let found = page::tables();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), known);
    // A table of fields has a comment above it: one that was forgotten would be a layout nobody compares.
    let text = page::text();
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
        ("SLOTS_MAX", u64::from(fs::session::MAX_SLOTS)),
        ("DIMENSIONS_MAX", u64::from(vectors::space::MAX_DIMENSIONS)),
        ("SPACES_MAX", vectors::MAX_SPACES as u64),
        ("SPACE_NAME_MAX", vectors::MAX_SPACE_NAME as u64),
        ("ORDINALS_LIMIT", u64::from(vectors::MAX_ORDINALS)),
        ("VECTORS_LIMIT", vectors::MAX_VECTOR),
        ("FIELDS_MAX", vectors::MAX_FIELDS as u64),
        ("SLAB_BYTES_MAX", vectors::slab::MAX_BYTES as u64),
        ("SLAB_VECTORS_MAX", vectors::slab::MAX_VECTORS as u64),
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
    let mut zigzag = Vec::new();
    for row in table("vectors") {
        let input = plain(&row[1]);
        let result = match plain(&row[0]).as_str() {
            "crc" => hex(&Crc::of(input.as_bytes()).0.to_be_bytes()),
            "cookie" => {
                assert_eq!(input, "key of 16 bytes 05, name a name");
                hex(&name::cookie(&[5; 16], b"a name").to_be_bytes())
            }
            "varint" => {
                varint.put_varint(number(&input));
                hex(&varint)
            }
            "zigzag" => {
                put(&mut zigzag, "z", input.parse::<i64>().unwrap().cast_unsigned());
                hex(&zigzag)
            }
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
    let places: Vec<u64> = rows.iter().map(|(at, _)| *at).collect();
    assert_eq!(
        places,
        [0, 1, 2, 3, 4, 1024, 1025, 1026, 1027, 1028],
        "the ends of the fixed areas too"
    );
    let (disk, made) = new_pool();
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
    let (_, made) = new_pool();
    let newest = Fixed::read("superblock", BLOCK_SIZE).number(&made.encode(), "version");
    assert_eq!(number(&versions.last().unwrap().0), newest);
}
