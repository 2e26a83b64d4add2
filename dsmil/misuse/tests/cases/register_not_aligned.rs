// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::memory::Register;

fn main() {
    let _ = Register::<u64, 4>::new();
}
