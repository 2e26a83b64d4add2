// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs/kernel/vexfs_sealed.h`, `vexfs::sealed::layout` and the tables of `docs/FORMAT-SEALED.md`.

use std::collections::BTreeMap;

use vexfs::sealed::layout::{CONSTANTS, LAYOUTS};

use crate::header::{Header, file};

fn header() -> Header {
    Header {
        name: "vexfs_sealed.h",
        prefix: "VEXFS_SEALED_",
        layouts: LAYOUTS,
        constants: CONSTANTS.to_vec(),
    }
}

#[test]
fn a_c_compiler_finds_every_field_and_constant_where_the_mirror_has_it() {
    header().compare();
}

#[test]
fn nothing_of_the_header_is_left_out() {
    header().has_no_more_structures();
    let text = header().text();
    let defined = text
        .lines()
        .filter_map(|line| line.strip_prefix("#define VEXFS_SEALED_"));
    let mut defined: Vec<&str> = defined.filter_map(|rest| rest.split_whitespace().next()).collect();
    // The header's guard.
    defined.retain(|name| *name != "H");
    let mut mirrored: Vec<&str> = CONSTANTS.iter().map(|(name, _)| *name).collect();
    defined.sort_unstable();
    mirrored.sort_unstable();
    assert_eq!(defined, mirrored);
}

/// The tables of the page that have a name, as cells.
fn tables() -> BTreeMap<String, Vec<Vec<String>>> {
    let text = std::fs::read_to_string(file("../docs/FORMAT-SEALED.md")).unwrap();
    let mut tables = BTreeMap::new();
    let mut lines = text.lines();
    let mut named = 0;
    while let Some(line) = lines.next() {
        let Some(name) = line
            .strip_prefix("<!-- check: ")
            .and_then(|rest| rest.strip_suffix(" -->"))
        else {
            assert!(!line.starts_with("|--"), "a table that is not compared");
            continue;
        };
        let rows = lines.by_ref().skip(2).take_while(|line| line.starts_with('|'));
        let cells = |line: &str| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        };
        tables.insert(name.to_owned(), rows.map(cells).collect());
        named += 1;
    }
    assert_eq!(tables.len(), named);
    tables
}

#[test]
fn the_page_tells_every_field_and_constant() {
    let mut tables = tables();
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    let constants = tables.remove("constants").unwrap();
    let mut told: Vec<(&str, u64)> = constants.iter().map(|row| (row[0].as_str(), number(&row[1]))).collect();
    let mut expected = CONSTANTS.to_vec();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
    for layout in LAYOUTS {
        let name = layout.name.strip_prefix("vexfs_sealed_").unwrap();
        let rows = tables.remove(name).unwrap_or_else(|| panic!("the page tells {name}"));
        let told = rows
            .iter()
            .map(|row| (row[2].as_str(), number(&row[0]), number(&row[1])));
        let fields = layout.fields.iter();
        let expected = fields.map(|&(name, at, size)| (name, at as u64, size as u64));
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(tables.into_keys().collect::<Vec<_>>(), Vec::<String>::new());
}
