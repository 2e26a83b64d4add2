// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::memory::Register;

const CROOKED: Register<u64, 4> = Register::new();

fn main() {
    let _ = CROOKED;
}
