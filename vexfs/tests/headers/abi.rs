// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs/kernel/vexfs_abi.h` and `vexfs::client::wire`.

use std::collections::BTreeSet;

use vexfs::client::wire::{CONSTANTS, LAYOUTS, OPCODES};

use crate::header::Header;

fn header() -> Header {
    let opcodes = OPCODES.iter().map(|&(name, number)| (name, u64::from(number)));
    Header {
        name: "vexfs_abi.h",
        prefix: "VEXFS_",
        layouts: LAYOUTS,
        constants: CONSTANTS.iter().copied().chain(opcodes).collect(),
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
