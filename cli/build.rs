// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds out whether filesystems can be mounted here, and units run. Where they cannot, the tests that do say so as "ignored", with the
//! reason, instead of passing or failing.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The number of the capability to mount; root of a container often lacks it.
const CAP_SYS_ADMIN: u32 = 21;

fn main() {
    println!("cargo::rerun-if-changed=/dev/fuse");
    println!("cargo::rustc-check-cfg=cfg(can_mount)");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let is_root = field("Uid:").is_some_and(|ids| ids.starts_with("0\t0\t"));
    let capabilities = field("CapEff:").and_then(|bits| u64::from_str_radix(bits, 16).ok());
    let may_mount = is_root && capabilities.is_some_and(|bits| bits >> CAP_SYS_ADMIN & 1 == 1);
    println!("cargo::rustc-check-cfg=cfg(users_can_mount)");
    println!("cargo::rustc-check-cfg=cfg(can_manage)");
    let systemd = "/lib/systemd/systemd";
    println!("cargo::rerun-if-changed={systemd}");
    if may_mount && Path::new(systemd).exists() {
        println!("cargo::rustc-cfg=can_manage");
    }
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if may_mount && device.is_ok() {
        println!("cargo::rustc-cfg=can_mount");
        let for_all = std::fs::metadata("/dev/fuse").is_ok_and(|device| device.permissions().mode() & 0o6 == 0o6);
        if for_all && Command::new("fusermount3").arg("--version").output().is_ok() {
            println!("cargo::rustc-cfg=users_can_mount");
        }
    }
}
