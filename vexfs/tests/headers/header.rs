// SPDX-License-Identifier: MIT OR Apache-2.0

//! A header: its text, and what a C compiler finds in it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use vexfs::mirror::Layout;

pub(crate) fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A header below `vexfs/kernel`, and what its mirror says.
pub(crate) struct Header {
    pub(crate) name: &'static str,
    /// Of its constants.
    pub(crate) prefix: &'static str,
    pub(crate) layouts: &'static [Layout],
    /// Without the prefix.
    pub(crate) constants: Vec<(&'static str, u64)>,
}

impl Header {
    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(file("kernel").join(self.name)).unwrap()
    }

    /// A C compiler finds every field and constant where the mirror has it.
    pub(crate) fn compare(&self) {
        let (program, expected) = self.program();
        let told = run(self.name, &program);
        for (told, expected) in told.lines().zip(expected.lines()) {
            assert_eq!(told, expected, "the header on the left");
        }
        assert_eq!(told.lines().count(), expected.lines().count());
    }

    /// No structure is left out, and no field of one.
    pub(crate) fn has_no_more_structures(&self) {
        let text = self.text();
        let mut structures: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("struct ")?.strip_suffix(" {"))
            .collect();
        let mut mirrored: Vec<&str> = self.layouts.iter().map(|layout| layout.name).collect();
        structures.sort_unstable();
        mirrored.sort_unstable();
        assert_eq!(structures, mirrored);
        for layout in self.layouts {
            let covered: usize = layout.fields.iter().map(|(_, _, size)| size).sum();
            assert_eq!(covered, layout.size, "{} has a field that is not mirrored", layout.name);
        }
    }

    /// A program that tells sizes, offsets and values, and what it should say.
    fn program(&self) -> (String, String) {
        let mut expected = String::new();
        let mut program = format!(
            "#include <stdio.h>\n#include <stddef.h>\n#include \"{}\"\nint main(void) {{\n",
            self.name
        );
        for layout in self.layouts {
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
        for (name, value) in &self.constants {
            let prefix = self.prefix;
            writeln!(
                program,
                "printf(\"{name} %llu\\n\", (unsigned long long){prefix}{name});"
            )
            .unwrap();
            writeln!(expected, "{name} {value}").unwrap();
        }
        program.push_str("return 0;\n}\n");
        (program, expected)
    }
}

/// Compiles and runs a program that includes a header.
fn run(header: &str, program: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("program.c"), folder.path().join("program"));
    std::fs::write(&source, program).unwrap();
    let compiled = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([&file("kernel"), &source])
        .arg("-o")
        .arg(&binary)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{header}: {complaints}");
    String::from_utf8(Command::new(&binary).output().unwrap().stdout).unwrap()
}
