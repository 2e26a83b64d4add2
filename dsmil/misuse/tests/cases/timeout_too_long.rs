// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::smi::Timeout;

const LONG: Timeout = Timeout::of_millis::<201>();

fn main() {
    let _ = LONG;
}
