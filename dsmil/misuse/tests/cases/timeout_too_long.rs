// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::smi::Timeout;

fn main() {
    let _ = Timeout::of_millis::<201>();
}
