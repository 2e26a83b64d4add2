// SPDX-License-Identifier: MIT OR Apache-2.0

//! Daemons that are killed, stopped for a while, or replaced: applications wait, and nothing else happens to them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::{measure, sys};

use crate::scene::{LOG, Load, Scene, daemon, daemons, sectors, shell, signal};

const POOL: &str = "/mnt/disk/pool";
/// What the 99th percentile of takeovers may take, from the kill until the device is live again, beyond what two programs
/// take to start on this machine, which is emulated.
const BOUND: Duration = Duration::from_secs(1);
/// The same for a few takeovers, whose worst is no percentile, on a machine that others may load: finds hangs, not delays.
const LOOSE_BOUND: Duration = Duration::from_secs(4);
/// Added for a pool on a block device: a claim stands half a second, and one that was written too slowly is watched for
/// two and a half seconds more before it counts (see `vexfs::pool::heartbeat`).
const CLAIM: Duration = Duration::from_secs(3);

/// Kills the daemon, and has the device recovered. Returns how long applications had to wait at least.
fn replace(scene: &Scene, device: &str) -> Result<Duration> {
    let pid = daemon()?;
    let start = Instant::now();
    // Not waited for: the successor has to cope with a process that is still ending.
    signal("-KILL", pid)?;
    let recovered = scene.ok(&["recover", "--log-file", LOG])?;
    let took = start.elapsed();
    measure::recovered("the device", start)?;
    ensure!(recovered == device, "recovered is {recovered:?}, not {device}");
    Ok(took)
}

/// How long it takes on this machine to start the two programs that a recovery needs.
fn start_time(scene: &Scene) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        let device = scene.add(&["null"])?;
        times.push(start.elapsed());
        scene.ok(&["del", &device])?;
    }
    times.sort();
    Ok(times[1])
}

/// Kills and replaces the daemon so many times while an application works, which must not notice.
fn survives(scene: &Scene, add: &[&str], cycles: usize, bound: Duration) -> Result<()> {
    let start = start_time(scene)?;
    let device = scene.add(add)?;
    let mut load = Load::start(&device)?;
    let mut times = Vec::new();
    for cycle in 0..cycles {
        // Another moment each time, so that all kinds of requests are under way.
        std::thread::sleep(Duration::from_millis(200 + 37 * (cycle as u64 % 11)));
        let before = sectors(&device)?;
        times.push(replace(scene, &device).with_context(|| format!("cycle {cycle}"))?);
        load.moves(&before).with_context(|| format!("cycle {cycle}"))?;
    }
    load.stop()?;
    times.sort();
    let p99 = times[(times.len() * 99).div_ceil(100) - 1];
    let figures = format!(
        "recovery: {cycles} cycles of {}, start {start:?}, median {:?}, p99 {p99:?}, worst {:?}",
        add[0],
        times[times.len() / 2],
        times[times.len() - 1]
    );
    println!("{figures}");
    // Also where figures of a test that passes can be found: the log of the console.
    fs::write("/dev/kmsg", figures)?;
    ensure!(
        p99 < start + bound,
        "the 99th percentile of takeovers is {p99:?}, and a start takes {start:?}"
    );
    scene.ok(&["del", &device])?;
    scene.nothing_left()
}

fn file_survives(cycles: usize, bound: Duration) -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    shell("truncate -s 32M /mnt/disk/file")?;
    survives(&scene, &["/mnt/disk/file"], cycles, bound)
}

fn volume_survives(cycles: usize, bound: Duration) -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "200MiB", "a", "32MiB")?;
    survives(&scene, &[POOL, "--volume", "a"], cycles, bound)?;
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:64"], timeout = 300)]
fn no_application_notices_that_the_daemon_of_a_file_was_killed() -> Result<()> {
    file_survives(10, LOOSE_BOUND)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 300)]
fn no_application_notices_that_the_daemon_of_a_volume_was_killed() -> Result<()> {
    volume_survives(10, LOOSE_BOUND)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 300)]
fn no_application_notices_that_the_daemon_of_a_volume_on_a_device_was_killed() -> Result<()> {
    let scene = Scene::new()?;
    let disk = sys::disk("disk")?;
    let disk = disk.to_str().context("a device's name is text")?;
    scene.pool(disk, "", "a", "32MiB")?;
    survives(&scene, &[disk, "--volume", "a"], 6, LOOSE_BOUND + CLAIM)?;
    scene.check(disk)
}

#[lab_guest::test(disks = ["disk:64"], timeout = 3600, stress = true)]
fn no_application_notices_two_hundred_kills_of_the_daemon_of_a_file() -> Result<()> {
    file_survives(200, BOUND)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 3600, stress = true)]
fn no_application_notices_two_hundred_kills_of_the_daemon_of_a_volume() -> Result<()> {
    volume_survives(200, BOUND)
}

/// Unpacks a tree onto a file system on a volume while the daemon is hurt so many times; the tree is whole, and so are file
/// system and pool.
fn untar_survives(cycles: usize, hurt: impl Fn(&Scene, &str, usize) -> Result<()>) -> Result<()> {
    const BEGIN: &str = "a tree is unpacked";
    let scene = Scene::with_disk("disk")?;
    // Tests before this one may have had errors on purpose, on a device of the same name.
    fs::write("/dev/kmsg", BEGIN)?;
    scene.pool(POOL, "400MiB", "a", "256MiB")?;
    let device = scene.add(&[POOL, "--volume", "a"])?;
    shell(
        "mkdir -p /run/tree; cd /run/tree
        for d in $(seq 20); do mkdir -p d$d; for f in $(seq 40); do head -c $((d * f * 13)) /dev/urandom > d$d/f$f; done; done
        tar -C /run -cf /run/tree.tar tree",
    )?;
    sys::output("mkfs.ext4", &["-q", &device])?;
    fs::create_dir_all("/mnt/volume")?;
    sys::output("mount", &[&device, "/mnt/volume"])?;
    let untar = "n=0; while [ ! -e /run/enough ]; do n=$((n + 1)); mkdir /mnt/volume/$n; tar -C /mnt/volume/$n -xf /run/tree.tar
        sync -f /mnt/volume; [ $n -lt 3 ] || rm -r /mnt/volume/$((n - 2)); done; echo $n > /run/last";
    let mut untar: Child = Command::new("sh").args(["-ec", untar]).spawn()?;
    for cycle in 0..cycles {
        std::thread::sleep(Duration::from_millis(150 + 61 * (cycle as u64 % 7)));
        hurt(&scene, &device, cycle).with_context(|| format!("cycle {cycle}"))?;
        ensure!(untar.try_wait()?.is_none(), "unpacking ended early in cycle {cycle}");
    }
    fs::write("/run/enough", "")?;
    let status = untar.wait()?;
    ensure!(status.success(), "unpacking ended with {status}");
    shell(
        "n=$(cat /run/last); diff -r /run/tree /mnt/volume/$n/tree; umount /mnt/volume; rm -r /run/tree /run/enough",
    )?;
    sys::output("fsck.ext4", &["-fn", &device])?;
    let log = sys::output("dmesg", &[])?;
    let (_, log) = log
        .rsplit_once(BEGIN)
        .context("the kernel's log does not reach back to the beginning")?;
    ensure!(
        !log.contains("I/O error, dev ublkb"),
        "the kernel saw an I/O error:\n{log}"
    );
    scene.ok(&["del", &device])?;
    scene.nothing_left()?;
    scene.check(POOL)
}

fn kill(scene: &Scene, device: &str, _: usize) -> Result<()> {
    replace(scene, device).map(drop)
}

fn pause(_: &Scene, _: &str, cycle: usize) -> Result<()> {
    let pid = daemon()?;
    signal("-STOP", pid)?;
    std::thread::sleep(Duration::from_millis(300 + 200 * (cycle as u64 % 5)));
    signal("-CONT", pid)
}

#[lab_guest::test(disks = ["disk:512"], timeout = 480)]
fn a_tree_is_unpacked_onto_a_volume_whose_daemon_is_killed_again_and_again() -> Result<()> {
    untar_survives(8, kill)
}

#[lab_guest::test(disks = ["disk:512"], timeout = 480)]
fn a_tree_is_unpacked_onto_a_volume_whose_daemon_stands_still_again_and_again() -> Result<()> {
    untar_survives(5, pause)
}

#[lab_guest::test(disks = ["disk:512"], timeout = 7200, stress = true)]
fn a_tree_is_unpacked_during_two_hundred_kills() -> Result<()> {
    untar_survives(200, kill)
}

#[lab_guest::test(disks = ["disk:512"], timeout = 7200, stress = true)]
fn a_tree_is_unpacked_while_the_daemon_stands_still_two_hundred_times() -> Result<()> {
    untar_survives(200, pause)
}

/// A daemon is killed at any moment of taking devices over; in the end another takes them over.
fn takeovers_are_cut_short(cycles: u32) -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "200MiB", "a", "32MiB")?;
    let device = scene.add(&[POOL, "--volume", "a", "--queues", "2"])?;
    let mut load = Load::start(&device)?;
    let usual = {
        std::thread::sleep(Duration::from_secs(1));
        replace(&scene, &device)?
    };
    for cycle in 0..cycles {
        let before = sectors(&device)?;
        signal("-KILL", daemon()?)?;
        let mut recovering = scene
            .command(&["recover", "--log-file", LOG])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // Spread over the second half of a takeover, where the driver is spoken to.
        std::thread::sleep(usual / 2 + usual.mul_f64(f64::from(cycle) / f64::from(cycles) / 1.5));
        for pid in daemons() {
            // It may have ended.
            let _ended = signal("-KILL", pid);
        }
        recovering.wait()?;
        let text = scene
            .ok(&["recover", "--log-file", LOG])
            .with_context(|| format!("cycle {cycle}"))?;
        ensure!(
            text.is_empty() || text == device,
            "cycle {cycle}: recovered is {text:?}"
        );
        load.moves(&before).with_context(|| format!("cycle {cycle}"))?;
    }
    load.stop()?;
    let mended = fs::read_to_string(LOG)?.matches("mending").count();
    println!("takeovers cut short: {cycles}, mended {mended}");
    scene.ok(&["del", &device])?;
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 480)]
fn a_daemon_killed_while_it_takes_a_device_over_is_replaced_like_any_other() -> Result<()> {
    takeovers_are_cut_short(12)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 3600, stress = true)]
fn two_hundred_takeovers_are_cut_short() -> Result<()> {
    takeovers_are_cut_short(200)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 300)]
fn a_daemon_hands_its_devices_over_to_the_next_program_without_an_error() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "200MiB", "a", "32MiB")?;
    scene.ok(&["volume", "create", POOL, "b", "--size", "16MiB"])?;
    let device = scene.add(&[POOL, "--volume", "a"])?;
    let other = scene.add(&[POOL, "--volume", "b"])?;
    let pid = daemon()?;
    let mut loads = [Load::start(&device)?, Load::start(&other)?];
    let mut waits = Vec::new();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(700));
        let answer = scene.json(&["handover", POOL])?;
        waits.push(
            answer["waited_seconds"]
                .as_f64()
                .context("how long applications waited")?,
        );
        ensure!(
            answer["devices"].as_array().is_some_and(|devices| devices.len() == 2),
            "{answer:#}"
        );
        ensure!(daemon()? == pid, "another process serves");
        for (load, device) in loads.iter_mut().zip([&device, &other]) {
            let before = sectors(device)?;
            load.moves(&before)?;
        }
    }
    let figures = format!("handover: applications waited {waits:.3?} s");
    println!("{figures}");
    fs::write("/dev/kmsg", figures)?;
    for load in loads {
        load.stop()?;
    }
    let status = scene.json(&["status", POOL])?;
    ensure!(
        status["metrics"]["vexfs_recovery_transactions"] == 0,
        "the pool was not closed in order before it was handed over: {}",
        status["metrics"]["vexfs_recovery_transactions"]
    );
    let memory = scene.add(&["mem", "--size", "8MiB"])?;
    let text = scene.refused(&["handover", &memory])?;
    ensure!(text.contains("would not outlive"), "{text:?}");
    scene.ok(&["del", &device, &other, &memory])?;
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 300)]
fn a_service_that_is_stopped_keeps_devices_in_use_and_heals_when_it_starts_again() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "200MiB", "used", "32MiB")?;
    scene.ok(&["volume", "create", POOL, "idle", "--size", "16MiB"])?;
    let used = scene.add(&[POOL, "--volume", "used"])?;
    let idle = scene.add(&[POOL, "--volume", "idle"])?;
    let mut load = Load::start(&used)?;
    std::thread::sleep(Duration::from_secs(1));
    signal("-TERM", daemon()?)?;
    sys::wait_for("the daemon's end", Duration::from_secs(20), || daemons().is_empty())?;
    ensure!(!Path::new(&idle).exists(), "{idle} was in no use and is still there");
    let list = scene.json(&["list"])?;
    ensure!(list["devices"][0]["state"] == "orphaned", "{list:#}");
    let text = scene.refused(&["volume", "rm", POOL, "used"])?;
    ensure!(text.contains("has no server"), "{text:?}");
    let text = scene.refused(&["del", &used])?;
    ensure!(text.contains("is in use"), "{text:?}");
    // As a service manager does; both devices are there again.
    let before = sectors(&used)?;
    let mut service = Command::new("/run/programs/vexfs-ublkd")
        .args(["serve", POOL, "--volume", "idle"])
        .stdout(Stdio::null())
        .spawn()?;
    load.moves(&before)?;
    sys::wait_for("the other device", Duration::from_secs(20), || {
        Path::new(&idle).exists()
    })?;
    load.stop()?;
    // Nobody uses them now.
    signal("-TERM", service.id())?;
    ensure!(service.wait()?.success());
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:64"], timeout = 240)]
fn a_device_goes_on_with_what_it_was_made_of_and_nothing_else() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    shell("truncate -s 32M /mnt/disk/file")?;
    let device = scene.add(&["/mnt/disk/file"])?;
    let id = device.trim_start_matches("/dev/ublkb").to_owned();
    shell(&format!("echo kept | dd of={device} bs=4k conv=sync,fsync status=none"))?;
    ensure!(scene.ok(&["recover", &id])?.is_empty(), "a live device was recovered");
    signal("-KILL", daemon()?)?;

    shell("mv /mnt/disk/file /mnt/disk/kept; truncate -s 32M /mnt/disk/file")?;
    let text = scene.refused(&["recover", &device])?;
    ensure!(text.contains("made of something else"), "another file: {text:?}");
    shell("mv /mnt/disk/kept /mnt/disk/file; truncate -s 16M /mnt/disk/file")?;
    let text = scene.refused(&["recover", &device])?;
    ensure!(text.contains("what is behind it only"), "a file cut short: {text:?}");
    shell("truncate -s 32M /mnt/disk/file")?;
    // None of that has changed the device.
    ensure!(scene.ok(&["recover", &device])? == device);
    let found = shell(&format!(
        "dd if={device} bs=4k count=1 iflag=direct status=none | head -n 1"
    ))?;
    ensure!(found.trim() == "kept", "other bytes after the takeover: {found:?}");

    // Without its record nobody knows what it is made of.
    signal("-KILL", daemon()?)?;
    fs::remove_file(format!("/run/vexfs-ublk/devices/{id}.json"))?;
    let text = scene.refused(&["recover", &device])?;
    ensure!(text.contains("record is gone"), "{text:?}");
    scene.ok(&["del", &device])?;
    scene.nothing_left()
}

#[lab_guest::test(disks = ["disk:64"], timeout = 240)]
fn a_device_without_a_daemon_can_be_deleted_and_lets_nobody_hang() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    shell("truncate -s 32M /mnt/disk/file")?;
    let device = scene.add(&["/mnt/disk/file"])?;
    ensure!(
        scene
            .ok(&["features"])?
            .lines()
            .any(|name| name == "USER_RECOVERY_REISSUE")
    );
    signal("-KILL", daemon()?)?;
    let mut reader = Command::new("dd")
        .args([
            &format!("if={device}"),
            "of=/dev/null",
            "bs=4k",
            "count=1",
            "iflag=direct",
        ])
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(reader.try_wait()?.is_none(), "a read was answered by nobody");
    let text = scene.refused(&["del", &device])?;
    ensure!(text.contains("(dd)"), "{text:?}");
    scene.ok(&["del", &device, "--force"])?;
    ensure!(!reader.wait()?.success(), "a read of a deleted device succeeded");
    scene.nothing_left()?;

    // A RAM disk does not outlive its daemon: its readers got errors at once, and it is deleted in the same way.
    let device = scene.add(&["mem", "--size", "8MiB"])?;
    signal("-KILL", daemon()?)?;
    sys::wait_for("the daemon's end", Duration::from_secs(10), || daemons().is_empty())?;
    let text = scene.refused(&["recover", &device])?;
    ensure!(text.contains("cannot be taken over"), "a RAM disk: {text:?}");
    ensure!(scene.ok(&["recover"])?.is_empty());
    scene.ok(&["del", &device])?;
    scene.nothing_left()
}
