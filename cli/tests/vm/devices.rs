// SPDX-License-Identifier: MIT OR Apache-2.0

//! Adding, listing and deleting devices.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::sys;

use crate::scene::{LOG, Load, Scene, daemon, daemons, shell, signal};

const POOL: &str = "/mnt/disk/pool";

#[lab_guest::test(disks = ["disk:256"], timeout = 180)]
fn one_daemon_serves_all_volumes_of_a_pool_and_ends_with_the_last() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "200MiB", "a", "32MiB")?;
    scene.ok(&["volume", "create", POOL, "/b", "--size", "16MiB"])?;
    let first = scene.add(&[POOL, "--volume", "a"])?;
    let second = scene.add(&[POOL, "--volume", "/b", "--queues", "1", "--depth", "16", "--read-only"])?;
    ensure!(first != second, "both are {first}");
    let pid = daemon()?;
    let oom = sys::read(format!("/proc/{pid}/oom_score_adj"))?;
    ensure!(oom == "-1000", "the daemon may be killed for memory: {oom}");

    let list = scene.json(&["list"])?;
    let devices = list["devices"].as_array().context("a list")?;
    ensure!(devices.len() == 2, "{list:#}");
    for (device, path, size) in [(&devices[0], "/volumes/a", 32_u64 << 20), (&devices[1], "/b", 16 << 20)] {
        ensure!(device["state"] == "live" && device["process"] == pid, "{device:#}");
        ensure!(
            device["spec"]["target"]["volume"]["path"] == path && device["size"] == size,
            "{device:#}"
        );
    }
    ensure!(devices[1]["queues"] == 1 && devices[1]["depth"] == 16, "{devices:#?}");
    let name = second.trim_start_matches("/dev/");
    ensure!(
        sys::read(format!("/sys/block/{name}/ro"))? == "1",
        "{second} can be written to"
    );
    let status = scene.json(&["status"])?;
    let pool = &status["pools"][0];
    ensure!(pool["server"]["front_end"] == "ublk", "{status:#}");
    let reads = format!("{} read", first.trim_start_matches("/dev/"));
    let reads = pool["metrics"]["vexfs_ublk_operation_seconds"][reads]["count"].as_u64();
    ensure!(
        reads.is_some_and(|count| count > 0),
        "the kernel looked for partitions: {status:#}"
    );
    ensure!(
        scene
            .ok(&["status", POOL, "--metrics"])?
            .contains("vexfs_device_size_bytes{")
    );

    let text = scene.refused(&["add", POOL, "--volume", "a"])?;
    ensure!(text.contains("already"), "a second device of a volume: {text:?}");
    let text = scene.refused(&["add", POOL])?;
    ensure!(
        text.contains("volume by volume"),
        "a pool whose volumes are devices: {text:?}"
    );
    let text = scene.refused(&["add", POOL, "--volume", "nothing"])?;
    ensure!(text.contains("no such file"), "no volume: {text:?}");
    ensure!(scene.ok(&["recover"])?.is_empty(), "there was nothing to recover");

    scene.ok(&["del", &first])?;
    ensure!(daemon()? == pid, "the daemon ended before its last device");
    scene.ok(&["del", &second])?;
    scene.nothing_left()?;
    let text = scene.refused(&["del", &second])?;
    ensure!(text.contains("there is no ublk device"), "{text:?}");
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:64"], timeout = 120)]
fn files_disks_and_memory_become_devices_in_one_command() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    shell("truncate -s 16M /mnt/disk/file")?;
    let looped = scene.add(&["/mnt/disk/file"])?;
    let memory = scene.add(&["mem", "--size", "8MiB"])?;
    let null = scene.add(&["--target", "null"])?;
    ensure!(daemons().len() == 3, "{:?}", daemons());
    shell(&format!(
        "echo kept | dd of={looped} bs=4k conv=sync,fsync; dd if={memory} of=/dev/null bs=1M; cat {null} | head -c 1M > /dev/null"
    ))?;
    let text = scene.refused(&["add", "/mnt/disk/file"])?;
    ensure!(
        text.contains("in use") || text.contains("already"),
        "a file twice: {text:?}"
    );
    scene.ok(&["del", &looped, &memory, &null])?;
    scene.nothing_left()?;
    ensure!(fs::read("/mnt/disk/file")?.starts_with(b"kept\n"));
    for (words, expected) in [
        (&["add", "/nonexistent"][..], "No such file"),
        (&["add", "/mnt/disk"], "/mnt/disk"),
        (&["add", "mem", "--size", "1000"], "whole number of blocks"),
        (&["add", "null", "--id", "9999999"], "ids 0 to"),
    ] {
        let text = scene.refused(words)?;
        ensure!(text.contains(expected), "{words:?}: {text:?}");
    }
    scene.nothing_left()
}

#[lab_guest::test(disks = ["disk:128"], timeout = 180)]
fn a_device_in_use_is_refused_by_name_and_goes_by_force() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "100MiB", "a", "48MiB")?;
    let device = scene.add(&[POOL, "--volume", "a"])?;
    sys::output("mkfs.ext4", &["-q", &device])?;
    fs::create_dir_all("/mnt/volume")?;
    sys::output("mount", &[&device, "/mnt/volume"])?;
    let text = scene.refused(&["del", &device])?;
    ensure!(text.contains("is mounted on /mnt/volume"), "{text:?}");
    sys::output("umount", &["/mnt/volume"])?;

    let mut reader = std::process::Command::new("sleep")
        .arg("600")
        .stdin(Stdio::from(fs::File::open(&device)?))
        .spawn()?;
    let text = scene.refused(&["del", &device])?;
    ensure!(text.contains(&format!("process {} (sleep)", reader.id())), "{text:?}");
    scene.ok(&["del", &device, "--force"])?;
    reader.kill()?;
    reader.wait()?;
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:128"], timeout = 180)]
fn a_stopped_daemon_keeps_nobody_from_deleting_its_device() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "100MiB", "a", "32MiB")?;
    scene.ok(&["volume", "create", POOL, "b", "--size", "16MiB"])?;
    let device = scene.add(&[POOL, "--volume", "a"])?;
    let other = scene.add(&[POOL, "--volume", "b"])?;
    let pid = daemon()?;
    let load = Load::start(&device)?;
    let mut kept = Load::start(&other)?;
    std::thread::sleep(Duration::from_secs(2));
    signal("-STOP", pid)?;
    let start = Instant::now();
    let text = scene.refused(&["del", &device])?;
    ensure!(text.contains("--force"), "{text:?}");
    scene.ok(&["del", &device, "--force"])?;
    ensure!(
        start.elapsed() < Duration::from_secs(60),
        "it took {:?}",
        start.elapsed()
    );
    drop(load);
    // The other device of the daemon that was killed goes on with a new one.
    ensure!(daemon()? != pid);
    let before = crate::scene::sectors(&other)?;
    kept.moves(&before)?;
    kept.stop()?;
    scene.ok(&["del", &other])?;
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:128"], timeout = 180)]
fn of_two_who_add_the_same_volume_at_once_one_gets_it() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "100MiB", "a", "8MiB")?;
    scene.ok(&["volume", "create", POOL, "b", "--size", "8MiB"])?;
    // The daemon is there already: both ask it at the same time.
    let other = scene.add(&[POOL, "--volume", "b"])?;
    for round in 0..5 {
        let add = || {
            let mut command = scene.command(&["add", "--log-file", LOG, POOL, "--volume", "a"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        };
        let outputs = [add()?, add()?].map(std::process::Child::wait_with_output);
        let [one, two] = outputs;
        let (winner, loser) = match (one?, two?) {
            (one, two) if one.status.success() => (one, two),
            (one, two) => (two, one),
        };
        let text = String::from_utf8_lossy(&loser.stderr).into_owned();
        ensure!(
            winner.status.success() && loser.status.code() == Some(1),
            "round {round}: {winner:?} and {loser:?}"
        );
        ensure!(text.contains("already") || text.contains("somebody else"), "{text:?}");
        let device = String::from_utf8(winner.stdout)?;
        scene.ok(&["del", device.trim()])?;
    }
    scene.ok(&["del", &other])?;
    scene.nothing_left()
}

#[lab_guest::test(timeout = 300)]
fn sixteen_devices_at_once_are_added_and_deleted_side_by_side() -> Result<()> {
    let scene = Scene::new()?;
    shell("truncate -s 200M /run/pool.img")?;
    scene.ok(&["mkfs", "/run/pool.img", "--force"])?;
    let volumes: Vec<String> = (0..8).map(|number| format!("v{number}")).collect();
    for volume in &volumes {
        scene.ok(&["volume", "create", "/run/pool.img", volume, "--size", "16MiB"])?;
    }
    let mut adds = Vec::new();
    for volume in &volumes {
        let of_pool = [
            "add",
            "/run/pool.img",
            "--volume",
            volume,
            "--queues",
            "1",
            "--depth",
            "8",
        ];
        let in_memory = ["add", "mem", "--size", "8MiB", "--queues", "1", "--depth", "8"];
        for words in [&of_pool[..], &in_memory] {
            adds.push(
                scene
                    .command(words)
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()?,
            );
        }
    }
    let mut devices = Vec::new();
    for add in adds {
        let output = add.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        devices.push(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    devices.sort();
    devices.dedup();
    ensure!(devices.len() == 16, "{devices:?}");
    for device in &devices {
        shell(&format!(
            "echo {device} | dd of={device} bs=4k conv=sync,fsync status=none"
        ))?;
    }
    for device in &devices {
        let found = shell(&format!(
            "dd if={device} bs=4k count=1 iflag=direct status=none | head -n 1"
        ))?;
        ensure!(found.trim() == device.as_str(), "{device} holds {found:?}");
    }
    ensure!(daemons().len() == 9, "{} daemons serve them", daemons().len());
    scene.ok(&["del", "--all"])?;
    scene.nothing_left()?;
    scene.check("/run/pool.img")?;
    Ok(fs::remove_file("/run/pool.img")?)
}

/// Adds and deletes devices so many times; what the machine, the daemon and the directories hold stays the same.
fn comes_and_goes(cycles: usize) -> Result<()> {
    let scene = Scene::new()?;
    shell("truncate -s 100M /run/pool.img")?;
    scene.ok(&["mkfs", "/run/pool.img", "--force"])?;
    for volume in ["kept", "a"] {
        scene.ok(&["volume", "create", "/run/pool.img", volume, "--size", "8MiB"])?;
    }
    let kept = scene.add(&["/run/pool.img", "--volume", "kept", "--queues", "1", "--depth", "4"])?;
    let pid = daemon()?;
    let cycle = || -> Result<()> {
        let device = scene.add(&["/run/pool.img", "--volume", "a", "--queues", "1", "--depth", "4"])?;
        ensure!(device == "/dev/ublkb1", "the number was not free again: {device}");
        scene.ok(&["del", &device]).map(drop)
    };
    let held = || -> Result<(usize, usize, u64)> {
        let count = |what: &str| Ok::<_, std::io::Error>(fs::read_dir(format!("/proc/{pid}/{what}"))?.count());
        let status = sys::read(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        // Threads of helpers end a moment after their device.
        std::thread::sleep(Duration::from_millis(200));
        Ok((count("fd")?, count("task")?, resident.context("VmRSS")?))
    };
    // The first fill caches that stay.
    for _ in 0..5 {
        cycle()?;
    }
    let check = sys::LeakCheck::start()?;
    let before = held()?;
    for number in 0..cycles {
        cycle().with_context(|| format!("cycle {number}"))?;
    }
    let after = held()?;
    ensure!(
        (before.0, before.1) == (after.0, after.1),
        "descriptors and threads: {before:?}, then {after:?}"
    );
    ensure!(after.2 < before.2 + 4096, "resident KiB: {before:?}, then {after:?}");
    check.finish()?;
    scene.ok(&["del", &kept])?;
    scene.nothing_left()?;
    Ok(fs::remove_file("/run/pool.img")?)
}

#[lab_guest::test(timeout = 480)]
fn devices_come_and_go_and_leave_nothing() -> Result<()> {
    comes_and_goes(60)
}

#[lab_guest::test(timeout = 7200, stress = true)]
fn a_thousand_devices_come_and_go_and_leave_nothing() -> Result<()> {
    comes_and_goes(1000)
}
