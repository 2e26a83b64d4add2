// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::memory::Register;

const BEHIND: Register<u32, { 4 << 20 }> = Register::new();

fn main() {
    let _ = BEHIND;
}
