// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds out whether filesystems can be mounted here. Where they cannot, the tests that mount say so as "ignored", with the
//! reason, instead of passing or failing.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=/dev/fuse");
    println!("cargo::rustc-check-cfg=cfg(can_mount)");
    let is_root = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0\t")));
    println!("cargo::rustc-check-cfg=cfg(users_can_mount)");
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if is_root && device.is_ok() {
        println!("cargo::rustc-cfg=can_mount");
        let for_all = std::fs::metadata("/dev/fuse").is_ok_and(|device| device.permissions().mode() & 0o6 == 0o6);
        if for_all && Command::new("fusermount3").arg("--version").output().is_ok() {
            println!("cargo::rustc-cfg=users_can_mount");
        }
    }
}
