// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pools that are mounted while systemd runs: their daemons are units.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab_guest::sys;

use crate::scene::{Scene, daemon, signal};
use crate::systemd::Manager;

const POOL: &str = "/mnt/disk/pool";
const UNIT: &str = "vexfs-ublk@mnt-disk-pool.service";
/// An application that takes no errors, until it is told.
const APPLICATION: &str = "i=0; while [ ! -e /mnt/disk/enough ]; do
    echo round $i > /mnt/pool/draft; sync /mnt/pool/draft; mv /mnt/pool/draft /mnt/pool/$((i % 5))
    [ \"$(cat /mnt/pool/$((i % 5)))\" = \"round $i\" ]; i=$((i + 1)); done; echo $i > /mnt/disk/rounds";

/// A pool that is mounted under a manager.
fn mounted(scene: &Scene) -> Result<Manager> {
    scene.ok(&["mkfs", "--force", "--size", "300MiB", POOL])?;
    let manager = Manager::start(Path::new("/run/programs"), Path::new("/mnt/disk"));
    manager.ok(&format!(
        "mkdir -p /mnt/pool; mount -t vexfs -o timeout=20000 {POOL} /mnt/pool"
    ));
    ensure!(manager.property(UNIT, "ActiveState") == "active", "no unit was started");
    ensure!(manager.ok("findmnt --noheadings --output FSTYPE /mnt/pool") == "vexfs");
    Ok(manager)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 480)]
fn systemd_replaces_a_daemon_that_dies_under_its_mount_and_no_application_notices() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    let mut manager = mounted(&scene)?;
    let script = "/mnt/disk/application";
    fs::write(script, APPLICATION)?;
    let mut application = Command::new("nsenter")
        .args(["--target", &manager.process.to_string(), "--mount", "sh", "-eu", script])
        .stdin(Stdio::null())
        .spawn()?;
    for round in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        let killed = daemon()?;
        signal("-KILL", killed)?;
        manager.wait_for("another daemon", |manager| {
            manager.property(UNIT, "SubState") == "running" && daemon().is_ok_and(|pid| pid != killed)
        });
        ensure!(
            application.try_wait()?.is_none(),
            "the application ended in round {round}"
        );
    }
    let pid = daemon()?;
    manager.ok("vexfs-ublk handover --all");
    ensure!(daemon()? == pid, "another process serves");
    std::thread::sleep(Duration::from_secs(1));
    fs::write("/mnt/disk/enough", "")?;
    ensure!(application.wait()?.success(), "the application met an error");
    println!("{} rounds, 5 daemons", sys::read("/mnt/disk/rounds")?.trim());
    manager.ok("umount /mnt/pool");
    manager.wait_for("the unit's end", |manager| {
        manager.property(UNIT, "ActiveState") == "inactive"
    });
    ensure!(manager.property(UNIT, "Result") == "success");
    ensure!(manager.ok("ls /run/vexfs-ublk/units").is_empty(), "an order is left");
    drop(manager);
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 480)]
fn when_the_system_goes_down_a_mount_is_written_out_before_its_daemon_ends() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    let manager = mounted(&scene)?;
    // Nobody syncs it.
    manager.ok("seq 100000 > /mnt/pool/numbers");
    manager.ok("systemctl poweroff --no-wall");
    let log = manager.ended();
    scene.nothing_left()?;
    let numbers = scene.ok(&["cat", &format!("{POOL}:/numbers")])?;
    ensure!(
        numbers.lines().count() == 100_000,
        "{} lines are left\n{log}",
        numbers.lines().count()
    );
    let info = scene.json(&["info", POOL])?;
    let state = info["state"].as_str().context("a state")?;
    ensure!(state == "clean", "the pool was not closed in order: {state}\n{log}");
    scene.check(POOL)
}
