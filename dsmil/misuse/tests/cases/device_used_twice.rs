// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::registry::{Device, DeviceId, Registry};

fn up(registry: &Registry, id: DeviceId) {
    let offline = Device::claim(registry, id).unwrap();
    let _first = offline.attach();
    let _second = offline.attach();
}

fn main() {
    let _ = up;
}
