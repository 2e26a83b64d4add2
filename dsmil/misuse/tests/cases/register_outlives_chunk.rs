// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::memory::{Bound, Region, Register};

fn take(region: &Region) -> Bound<'static, u32, 0> {
    let chunk = region.chunk(0).unwrap();
    chunk.register(Register::new())
}

fn main() {
    let _ = take;
}
