// SPDX-License-Identifier: MIT OR Apache-2.0

//! The device of a pool, mounted by the kernel module.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab_guest::sys;
use nix::libc;
use serde_json::Value;

use crate::scene::{Scene, daemon, daemons, shell, signal};

const POOL: &str = "/mnt/disk/pool";
const AT: &str = "/mnt/pool";

/// An application that takes no errors.
struct Application {
    stop: &'static AtomicBool,
    thread: JoinHandle<Result<u64>>,
}

impl Application {
    fn start(stop: &'static AtomicBool) -> Self {
        stop.store(false, Relaxed);
        let work = move || {
            let mut round = 0_u64;
            while !stop.load(Relaxed) {
                let (draft, name) = (format!("{AT}/draft"), format!("{AT}/{}", round % 5));
                let text = format!("round {round} ").repeat(300);
                fs::write(&draft, &text)?;
                fs::File::open(&draft)?.sync_all()?;
                fs::rename(&draft, &name)?;
                ensure!(fs::read_to_string(&name)? == text, "round {round} reads otherwise");
                round += 1;
            }
            Ok(round)
        };
        Self {
            stop,
            thread: thread::spawn(work),
        }
    }

    fn end(self) -> Result<u64> {
        self.stop.store(true, Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the application panicked"))?
    }
}

fn mounted(device: &str) -> Result<()> {
    fs::create_dir_all(AT)?;
    sys::output("mount", &["-i", "-t", "vexfs", "-o", "timeout=20000", device, AT]).map(drop)
}

fn counter(device: &str, name: &str) -> Result<String> {
    sys::read(format!("/sys/fs/vexfs/{}/{name}", device.trim_start_matches("/dev/")))
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 300)]
fn a_mounted_pool_outlives_its_daemons_and_applications_do_not_notice() -> Result<()> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "300MiB", "a", "16MiB")?;
    let device = scene.add(&[POOL])?;
    mounted(&device)?;
    let application = Application::start(&STOP);

    thread::sleep(Duration::from_secs(1));
    signal("-KILL", daemon()?)?;
    ensure!(scene.ok(&["recover"])? == device, "the device was not recovered");
    thread::sleep(Duration::from_secs(1));
    for _ in 0..2 {
        let answer = scene.json(&["handover", POOL])?;
        println!("handover: applications waited {} s", answer["waited_seconds"]);
        thread::sleep(Duration::from_secs(1));
    }
    // As a service that is stopped, and started again.
    signal("-TERM", daemon()?)?;
    sys::wait_for("the daemon's end", Duration::from_secs(20), || daemons().is_empty())?;
    ensure!(scene.json(&["list"])?["devices"][0]["state"] == "orphaned");
    let text = scene.refused(&["volume", "create", POOL, "b", "--size", "4MiB"])?;
    ensure!(text.contains("cut off its mount"), "{text:?}");
    let mut service = std::process::Command::new("/run/programs/vexfs-ublkd")
        .args(["serve", POOL, "--target", "fs"])
        .stdout(std::process::Stdio::null())
        .spawn()?;
    thread::sleep(Duration::from_secs(2));
    let rounds = application.end()?;
    println!("{rounds} rounds, 4 daemons");
    ensure!(counter(&device, "health")? == "HEALTHY" && counter(&device, "degraded")? == "0");
    sys::output("umount", &[AT])?;
    // Nobody uses it now.
    signal("-TERM", service.id())?;
    ensure!(service.wait()?.success());
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 300)]
fn a_pool_is_presented_as_a_filesystem_or_volume_by_volume() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "300MiB", "a", "16MiB")?;
    let device = scene.add(&[POOL])?;
    let list = scene.json(&["list"])?;
    let found = &list["devices"][0];
    ensure!(
        found["device"] == device.as_str() && found["state"] == "live",
        "{list:#}"
    );
    ensure!(found["spec"]["target"]["filesystem"].is_object(), "{list:#}");
    ensure!(scene.ok(&["list"])?.contains("filesystem"));
    for (words, expected) in [
        (&["add", POOL][..], "already"),
        (&["add", POOL, "--volume", "a"], "volume by volume"),
        (&["volume", "create", POOL, "b", "--size", "4MiB"], "would not learn"),
        (&["volume", "rm", POOL, "a"], "would not learn"),
        (
            &["snapshot", &format!("{POOL}:/volumes"), &format!("{POOL}:/copy")],
            "would not learn",
        ),
    ] {
        let text = scene.refused(words)?;
        ensure!(text.contains(expected), "{words:?}: {text:?}");
    }
    let volumes = scene.json(&["volume", "list", POOL])?;
    ensure!(volumes["volumes"][0]["path"] == "/volumes/a", "{volumes:#}");
    scene.ok(&["label", POOL, "named"])?;
    let status = scene.json(&["status", POOL])?;
    ensure!(status["pool"]["label"] == "named", "{status:#}");

    mounted(&device)?;
    ensure!(fs::metadata(format!("{AT}/volumes/a"))?.len() == 16 << 20);
    let text = scene.refused(&["del", &device])?;
    ensure!(text.contains("is in use") && text.contains(AT), "{text:?}");
    shell(&format!("echo kept > {AT}/file"))?;
    // Its users get errors, and the pool what had arrived.
    shell(&format!("sync -f {AT}"))?;
    scene.ok(&["del", "--force", &device])?;
    ensure!(
        fs::write(format!("{AT}/other"), "").is_err(),
        "written to a device that is gone"
    );
    sys::output("umount", &[AT])?;
    scene.nothing_left()?;
    ensure!(scene.ok(&["cat", &format!("{POOL}:/file")])? == "kept");

    let volume = scene.add(&[POOL, "--volume", "a"])?;
    let text = scene.refused(&["add", POOL])?;
    ensure!(text.contains("volume by volume"), "{text:?}");
    scene.ok(&["del", &volume])?;
    let options = ["--read-only", "--io-size"];
    for option in [&[options[0]][..], &[options[1], "64KiB"]] {
        let text = scene.refused(&[&["add", POOL], option].concat())?;
        ensure!(text.contains("filesystem device"), "{option:?}: {text:?}");
    }
    scene.nothing_left()?;
    ensure!(Path::new(POOL).exists());
    scene.check(POOL).context("after all that")
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 300)]
fn a_device_of_the_pool_that_was_there_before_keeps_nobody_from_recovering_the_one_of_now() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "100MiB", "a", "16MiB")?;
    let left = scene.add(&[POOL])?;
    signal("-KILL", daemon()?)?;
    sys::wait_for("the daemon's end", Duration::from_secs(20), || daemons().is_empty())?;
    let new = format!("{POOL}-new");
    scene.pool(&new, "100MiB", "a", "16MiB")?;
    fs::rename(&new, POOL)?;
    let device = scene.add(&[POOL])?;
    ensure!(device != left, "a device of another pool was taken over");
    for round in 0..2 {
        signal("-KILL", daemon()?)?;
        // What is left is told, and is no reason to leave the other one too.
        let text = scene.refused(&["recover", &device])?;
        ensure!(text.contains("made of something else"), "round {round}: {text:?}");
        let list = scene.json(&["list"])?;
        let devices = list["devices"].as_array().context("a list")?;
        let found = devices.iter().find(|found| found["device"] == device.as_str());
        ensure!(
            found.is_some_and(|found| found["state"] == "live"),
            "round {round}: {list:#}"
        );
    }
    scene.ok(&["del", &device])?;
    scene.ok(&["del", &left])?;
    scene.nothing_left()
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 300)]
fn mount_makes_the_device_of_a_pool_which_goes_when_it_is_unmounted() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.ok(&["mkfs", "--force", "--size", "300MiB", POOL])?;
    shell("for name in mount umount; do ln -sf /run/programs/vexfs-ublk /sbin/$name.vexfs; done")?;
    fs::create_dir_all(AT)?;
    fs::create_dir_all("/mnt/other")?;
    let mounted = || -> Result<String> {
        let table = fs::read_to_string("/proc/mounts")?;
        let line = table.lines().find(|line| line.contains(&format!(" {AT} ")));
        Ok(line.unwrap_or_default().to_owned())
    };
    sys::output("mount", &["-t", "vexfs", "-o", "noatime,timeout=20000", POOL, AT])?;
    let line = mounted()?;
    ensure!(
        line.contains(" vexfs rw,noatime,") && line.contains("timeout=20000"),
        "{line}"
    );
    fs::write(format!("{AT}/file"), "kept")?;
    let by_mount_point = scene.ok(&["status", AT])?;
    ensure!(by_mount_point.contains(POOL), "{by_mount_point}");
    let twice = sys::output("mount", &["-t", "vexfs", POOL, "/mnt/other"]).map_err(|error| format!("{error:#}"));
    ensure!(
        twice
            .as_ref()
            .is_err_and(|text| text.contains("is mounted on /mnt/pool")),
        "{twice:?}"
    );
    sys::output("umount", &[AT])?;
    scene.nothing_left()?;
    ensure!(scene.ok(&["cat", &format!("{POOL}:/file")])? == "kept");

    // By fstab, and taken away without the help of umount.vexfs.
    shell(&format!("echo '{POOL} {AT} vexfs noauto,ro,x-later 0 0' >> /etc/fstab"))?;
    sys::output("mount", &[AT])?;
    ensure!(mounted()?.contains(" vexfs ro,"), "{}", mounted()?);
    ensure!(fs::read_to_string(format!("{AT}/file"))? == "kept");
    sys::output("umount", &["-i", AT])?;
    scene.nothing_left()?;

    // Its daemon was told to end while the device was in use, so nobody else takes the device away.
    sys::output("mount", &["-t", "vexfs", POOL, AT])?;
    sys::output("sync", &["-f", AT])?;
    signal("-TERM", daemon()?)?;
    sys::wait_for("the daemon's end", Duration::from_secs(20), || daemons().is_empty())?;
    sys::output("umount", &[AT])?;
    scene.nothing_left()?;

    // A device that somebody made stays when it is unmounted.
    let device = scene.add(&[POOL])?;
    let said = scene.ok(&["mount", "--kernel", "-v", &device, AT])?;
    ensure!(said.contains(&device), "{said}");
    let said = scene.ok(&["umount", "-v", AT])?;
    ensure!(said.contains("still") && Path::new(&device).exists(), "{said}");
    sys::output("mount", &["-t", "vexfs", POOL, AT])?;
    ensure!(mounted()?.starts_with(&device), "{}", mounted()?);
    sys::output("umount", &[AT])?;
    scene.ok(&["del", &device])?;
    scene.nothing_left()?;

    // What cannot be mounted leaves nothing behind.
    sys::output("umount", &["/mnt/other"])
        .err()
        .context("nothing is mounted there")?;
    let refused = sys::output("mount", &["-t", "vexfs", POOL, "/mnt/nowhere"]);
    ensure!(refused.is_err());
    scene.nothing_left()?;
    scene.check(POOL)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 300)]
fn places_are_measured_beside_each_other_and_nothing_stays_there() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.ok(&["mkfs", "--force", "--size", "300MiB", POOL])?;
    let device = scene.add(&[POOL])?;
    fs::create_dir_all(AT)?;
    scene.ok(&["mount", "--kernel", &device, AT])?;
    let short = ["--size", "16MiB", "--rounds", "1", "--seconds", "1"];
    let jobs = ["--job", "sequential-read", "--job", "synced-write"];
    let measured = scene.json(&[&["bench", AT, "/tmp"], &short[..], &jobs].concat())?;
    let findings = measured["findings"].as_array().context("no findings")?;
    ensure!(findings.len() == 4, "{measured}");
    for found in findings {
        let positive = |name: &str| found[name].as_f64().is_some_and(|value| value > 0.0);
        ensure!(
            positive("median") && positive("p50_nanoseconds") && positive("ratio"),
            "{found}"
        );
    }
    ensure!(fs::read_dir(AT)?.count() == 0, "something is left in {AT}");
    for (place, more, words) in [
        (device.as_str(), &["--overwrite"][..], "in use"),
        (device.as_str(), &["--job", "mixed"], "would overwrite"),
        (AT, &["--size", "400MiB"], "has room for"),
    ] {
        let told = scene.refused(&[&["bench", place], more].concat())?;
        ensure!(told.contains(words), "{told}");
    }
    scene.ok(&["umount", AT])?;
    scene.ok(&["del", &device])?;
    scene.check(POOL)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:512"], timeout = 300)]
fn vectors_of_a_mounted_pool_are_put_found_and_seen_as_attributes() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "100MiB", "a", "16MiB")?;
    let device = scene.add(&[POOL])?;
    mounted(&device)?;
    scene.ok(&["space", "create", AT, "text", "--dimensions", "64"])?;
    scene.ok(&["space", "create", AT, "two", "--dimensions", "2", "--metric", "l2"])?;
    fs::create_dir(format!("{AT}/texts"))?;
    for (name, text) in [("bridges", "bridges over the river"), ("soup", "onion soup with bread")] {
        fs::write(format!("{AT}/texts/{name}"), text)?;
    }
    let said = scene.ok(&["embed", &format!("{AT}/texts"), "--space", "text"])?;
    ensure!(said.starts_with("2 vectors of 2 files"), "{said}");
    let best = |words: &[&str]| -> Result<Value> {
        Ok(scene.json(&[&["search", AT], words].concat())?["results"][0]["path"].clone())
    };
    ensure!(best(&["--space", "text", "bread"])? == "/texts/soup");

    // To other programs they are attributes.
    let attribute = "user.vexfs.vec.two";
    let file = format!("{AT}/texts/bridges");
    let vector = [1.0_f32, 0.5].map(f32::to_le_bytes).concat();
    xattr::set(&file, attribute, &vector)?;
    ensure!(best(&["--space", "two", "--vector", "[1, 0.5]"])? == "/texts/bridges");
    let names: Vec<_> = xattr::list(&file)?.collect();
    ensure!(names == ["user.vexfs.vec.text", attribute], "{names:?}");
    let refused = xattr::set(&file, attribute, &vector[..7]);
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)),
        "{refused:?}"
    );
    // They go with the file, and outlive the server and the mount.
    fs::remove_file(format!("{AT}/texts/soup"))?;
    signal("-KILL", daemon()?)?;
    scene.ok(&["recover"])?;
    ensure!(best(&["--space", "text", "bread"])? == "/texts/bridges");
    sys::output("umount", &[AT])?;
    mounted(&device)?;
    ensure!(xattr::get(&file, attribute)?.as_deref() == Some(&vector[..]));
    sys::output("umount", &[AT])?;
    scene.ok(&["del", &device])?;
    scene.nothing_left()?;
    scene.check(POOL)
}
