// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs/kernel/vexfs_abi.h` and its mirror say the same: a C compiler tells what the header means.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use vexfs::client::wire::{CONSTANTS, LAYOUTS, OPCODES};

fn header() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("kernel/vexfs_abi.h")
}

#[test]
fn a_c_compiler_finds_every_field_and_constant_where_the_mirror_has_it() {
    let mut expected = String::new();
    let mut program =
        String::from("#include <stdio.h>\n#include <stddef.h>\n#include \"vexfs_abi.h\"\nint main(void) {\n");
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
    let numbers = OPCODES.iter().map(|&(name, number)| (name, u64::from(number)));
    for (name, value) in CONSTANTS.iter().copied().chain(numbers) {
        writeln!(program, "printf(\"{name} %llu\\n\", (unsigned long long)VEXFS_{name});").unwrap();
        writeln!(expected, "{name} {value}").unwrap();
    }
    program.push_str("return 0;\n}\n");
    let folder = std::env::temp_dir().join(format!("vexfs-abi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (source, binary) = (folder.join("abi.c"), folder.join("abi"));
    std::fs::write(&source, program).unwrap();
    let include = header().parent().unwrap().to_owned();
    let compiled = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([&include, &source])
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
    let text = std::fs::read_to_string(header()).unwrap();
    let structures: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("struct ")?.strip_suffix(" {"))
        .collect();
    assert_eq!(structures, LAYOUTS.iter().map(|layout| layout.name).collect());
    for layout in LAYOUTS {
        let covered: usize = layout.fields.iter().map(|(_, _, size)| size).sum();
        assert_eq!(covered, layout.size, "{} has a field that is not mirrored", layout.name);
    }
    let names = |prefix: &'static str, end: char| -> BTreeSet<String> {
        let lines = text
            .lines()
            .filter_map(move |line| line.trim_start().strip_prefix(prefix));
        lines
            .filter_map(|rest| Some(rest.split(end).next()?.trim().to_owned()))
            .filter(|name| !name.contains('('))
            .collect()
    };
    let mut constants = names("#define VEXFS_", '\t');
    // The header's guard.
    constants.remove("ABI_H");
    assert_eq!(
        constants,
        CONSTANTS.iter().map(|(name, _)| (*name).to_owned()).collect()
    );
    let opcodes: BTreeSet<String> = names("VEXFS_", '=')
        .into_iter()
        .filter(|name| !name.starts_with("ABI_"))
        .collect();
    assert_eq!(opcodes, OPCODES.iter().map(|(name, _)| (*name).to_owned()).collect());
}
