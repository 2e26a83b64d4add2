// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs/kernel/vexfs_sealed.h`, its mirror in Rust and `docs/FORMAT-SEALED.md` say the same: a C compiler tells what the
//! header means, and the tables of the page are parsed.

#![expect(clippy::unwrap_used, reason = "a test: what cannot happen may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use vexfs::sealed::layout::{CONSTANTS, LAYOUTS};

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn a_c_compiler_finds_every_field_and_constant_where_the_mirror_has_it() {
    let mut expected = String::new();
    let mut program =
        String::from("#include <stdio.h>\n#include <stddef.h>\n#include \"vexfs_sealed.h\"\nint main(void) {\n");
    for layout in LAYOUTS {
        let name = layout.name;
        writeln!(program, "printf(\"{name} %zu\\n\", sizeof(struct {name}));").unwrap();
        writeln!(expected, "{name} {}", layout.size).unwrap();
        for (field, offset, size) in layout.fields {
            writeln!(
                program,
                "printf(\"{name}.{field} %zu %zu\\n\", offsetof(struct {name}, {field}), sizeof(((struct {name} *)0)->{field}));"
            )
            .unwrap();
            writeln!(expected, "{name}.{field} {offset} {size}").unwrap();
        }
    }
    for (name, value) in CONSTANTS {
        writeln!(
            program,
            "printf(\"{name} %llu\\n\", (unsigned long long)VEXFS_SEALED_{name});"
        )
        .unwrap();
        writeln!(expected, "{name} {value}").unwrap();
    }
    program.push_str("return 0;\n}\n");
    let folder = std::env::temp_dir().join(format!("vexfs-sealed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, binary) = (folder.join("sealed.c"), folder.join("sealed"));
    std::fs::write(&source, program).unwrap();
    let compiled = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([&file("kernel"), &source])
        .arg("-o")
        .arg(&binary)
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let told = Command::new(&binary).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    for (told, expected) in told.lines().zip(expected.lines()) {
        assert_eq!(told, expected, "the header on the left");
    }
    assert_eq!(told.lines().count(), expected.lines().count());
}

#[test]
fn nothing_of_the_header_is_left_out() {
    let text = std::fs::read_to_string(file("kernel/vexfs_sealed.h")).unwrap();
    let structures = text
        .lines()
        .filter_map(|line| line.strip_prefix("struct ")?.strip_suffix(" {"));
    assert!(structures.eq(LAYOUTS.iter().map(|layout| layout.name)));
    for layout in LAYOUTS {
        let covered: usize = layout.fields.iter().map(|(_, _, size)| size).sum();
        assert_eq!(covered, layout.size, "{} has a field that is not mirrored", layout.name);
    }
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
