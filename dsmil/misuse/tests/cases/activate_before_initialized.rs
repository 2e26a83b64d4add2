// SPDX-License-Identifier: MIT OR Apache-2.0

use dsmil::registry::{Device, DeviceId, Registry};

fn up(registry: &Registry, id: DeviceId) {
    let device = Device::claim(registry, id).unwrap();
    let _ = device.activate();
}

fn main() {
    let _ = up;
}
