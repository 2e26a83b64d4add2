// SPDX-License-Identifier: MIT OR Apache-2.0

//! Devices of users who are not root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab_guest::{kmod, sys};
use nix::sys::stat::{major, minor};

use crate::server::{FIO_JOBS, SERVER, Server, fio, refusal};

/// `nobody`
const USER: u32 = 65534;
/// Any other.
const OTHER: u32 = 65533;
/// Where that user may run the server from.
const PROGRAM: &str = "/run/vexfs-ublkd";
/// Where that user's server may keep its socket.
const RUNTIME: &str = "/run/user-vexfs";

/// What udev has for others to look at.
const UDEV: &str = "/run/udev";

/// Does what udev does: gives the nodes of new devices to the user, and leaves a record of those it has done with. There
/// are none but the server's.
fn hand_over_nodes(stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with("ublkc") && !name.starts_with("ublkb") {
                continue;
            }
            // It may be gone again.
            if let Ok(node) = entry.metadata()
                && chown(entry.path(), Some(USER), Some(USER)).is_ok()
                && name.starts_with("ublkb")
            {
                let number = format!("{}:{}", major(node.rdev()), minor(node.rdev()));
                // The server says so if it never comes.
                let _written = fs::write(format!("{UDEV}/data/b{number}"), "");
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn as_user(user: u32, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    let user = user.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups", program]);
    if program == PROGRAM {
        command.arg("serve").env("VEXFS_RUNTIME_DIR", RUNTIME);
    }
    command
}

fn serve_and_verify() -> Result<()> {
    let target = ["mem", "--size", "8MiB", "--unprivileged"];
    let start = Instant::now();
    let server = Server::spawn(as_user(USER, PROGRAM).args(target))?;
    let took = start.elapsed();
    ensure!(
        took < Duration::from_secs(8),
        "the server waited {took:?}, for udev in vain?"
    );
    let status = sys::read(format!("/proc/{}/status", server.id()))?;
    ensure!(
        status
            .lines()
            .any(|line| line.starts_with("Uid:") && line.contains(&USER.to_string())),
        "the server runs as somebody else: {status}"
    );
    let job = format!("{FIO_JOBS}/sizes.fio");
    let file = format!("--filename={}", server.device);
    let verified = as_user(USER, "fio").args([&file, &job]).current_dir("/tmp").output()?;
    ensure!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    // A trap that a user sets for another one: the driver lets only the owner in, and root.
    fs::set_permissions(&server.device, Permissions::from_mode(0o666))?;
    let read = ["--name=read", "--rw=read", "--bs=4k", "--size=4k"];
    let other = as_user(OTHER, "fio")
        .arg(&file)
        .args(read)
        .current_dir("/tmp")
        .output()?;
    ensure!(!other.status.success(), "one user opened the device of another");
    fio(&server.device, &read)?;
    let channel = server.device.replace("ublkb", "ublkc");
    ensure!(Path::new(&channel).exists(), "there is no {channel}");
    server.stop()?;
    ensure!(!Path::new(&channel).exists(), "{channel} outlived its server");
    Ok(())
}

#[lab_guest::test(timeout = 120)]
fn a_user_serves_a_device_and_has_it_alone() -> Result<()> {
    kmod::modprobe("ublk_drv")?;
    fs::copy(SERVER, PROGRAM)?;
    fs::create_dir(RUNTIME)?;
    chown(RUNTIME, Some(USER), Some(USER))?;
    let refused = as_user(USER, PROGRAM).args(["mem", "--unprivileged"]).output()?;
    let text = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        text.contains("/dev/ublk-control"),
        "without access to the driver: {text:?}"
    );
    let text = refusal(&["mem", "--unprivileged"])?;
    ensure!(text.contains("for users only"), "as root: {text:?}");
    fs::set_permissions("/dev/ublk-control", Permissions::from_mode(0o666))?;
    fs::create_dir_all(format!("{UDEV}/data"))?;
    fs::write(format!("{UDEV}/control"), "")?;
    let stop = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| hand_over_nodes(&stop));
        let result = serve_and_verify();
        stop.store(true, Relaxed);
        result
    });
    fs::remove_dir_all(UDEV)?;
    fs::set_permissions("/dev/ublk-control", Permissions::from_mode(0o600))?;
    result
}
