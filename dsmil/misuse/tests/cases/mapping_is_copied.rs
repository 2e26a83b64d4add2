// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::memory::Mapping;

fn both(mapping: Mapping) -> (Mapping, Mapping) {
    (mapping.clone(), mapping)
}

fn main() {
    let _ = both;
}
