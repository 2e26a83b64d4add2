// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::memory::Register;

fn main() {
    let _ = Register::<u32, { 4 << 20 }>::new();
}
