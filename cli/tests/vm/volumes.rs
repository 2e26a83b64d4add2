// SPDX-License-Identifier: MIT OR Apache-2.0

//! Volumes: made, resized and removed, whoever has the pool.

use std::fs;

use anyhow::{Context, Result, ensure};
use lab_guest::sys;

use crate::scene::{Load, Scene, sectors, shell};

const POOL: &str = "/mnt/disk/pool";

fn names(scene: &Scene) -> Result<Vec<String>> {
    let list = scene.json(&["volume", "list", POOL])?;
    let volumes = list["volumes"].as_array().context("a list")?;
    Ok(volumes
        .iter()
        .filter_map(|volume| volume["path"].as_str().map(str::to_owned))
        .collect())
}

#[lab_guest::test(disks = ["disk:256"], timeout = 180)]
fn volumes_are_made_and_removed_whoever_has_the_pool() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "200MiB", "offline", "16MiB")?;
    let cycle = |name: &str| -> Result<()> {
        scene.ok(&["volume", "create", POOL, name, "--size", "8MiB", "--preallocate"])?;
        ensure!(names(&scene)?.contains(&format!("/volumes/{name}")));
        scene.ok(&["volume", "resize", POOL, name, "12MiB"])?;
        let text = scene.refused(&["volume", "resize", POOL, name, "4MiB"])?;
        ensure!(text.contains("--force"), "{text:?}");
        scene.ok(&["volume", "resize", POOL, name, "4MiB", "--force"])?;
        scene.ok(&["volume", "rm", POOL, name]).map(drop)
    };
    cycle("nobody")?;
    let device = scene.add(&[POOL, "--volume", "offline"])?;
    cycle("daemon")?;
    let text = scene.refused(&["volume", "rm", POOL, "offline"])?;
    ensure!(text.contains(&device), "{text:?}");
    let text = scene.refused(&["volume", "resize", POOL, "offline", "4MiB", "--force"])?;
    ensure!(text.contains("under it"), "{text:?}");
    scene.ok(&["del", &device])?;
    crate::scene::daemons()
        .is_empty()
        .then_some(())
        .map_or_else(|| scene.nothing_left(), Ok)?;
    fs::create_dir_all("/mnt/fuse")?;
    scene.ok(&["mount", POOL, "/mnt/fuse"])?;
    let text = scene.refused(&["add", POOL, "--volume", "offline"])?;
    ensure!(text.contains("unmount it first"), "{text:?}");
    cycle("mounted")?;
    scene.ok(&["volume", "create", POOL, "seen", "--size", "8MiB"])?;
    ensure!(fs::metadata("/mnt/fuse/volumes/seen")?.len() == 8 << 20);
    scene.ok(&["umount", "/mnt/fuse"])?;
    scene.check(POOL)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 180)]
fn a_volume_grows_under_its_users_where_the_driver_can() -> Result<()> {
    let scene = Scene::with_disk("disk")?;
    scene.pool(POOL, "200MiB", "a", "32MiB")?;
    let device = scene.add(&[POOL, "--volume", "a"])?;
    let name = device.trim_start_matches("/dev/").to_owned();
    sys::output("mkfs.ext4", &["-q", &device])?;
    fs::create_dir_all("/mnt/volume")?;
    sys::output("mount", &[&device, "/mnt/volume"])?;
    let answer = scene.json(&["volume", "resize", POOL, "a", "96MiB"])?;
    let can = scene.ok(&["features"])?.lines().any(|feature| feature == "UPDATE_SIZE");
    let size = || sys::read(format!("/sys/block/{name}/size"));
    if can {
        ensure!(
            answer["note"].is_null() && size()? == (96 * 2048).to_string(),
            "{answer:#} {}",
            size()?
        );
        sys::output("resize2fs", &[&device])?;
        shell("dd if=/dev/urandom of=/mnt/volume/large bs=1M count=64 status=none; sync")?;
    } else {
        let note = answer["note"]
            .as_str()
            .context("a driver that cannot resize, and no word of it")?;
        ensure!(
            note.contains("made anew") && size()? == (32 * 2048).to_string(),
            "{note} {}",
            size()?
        );
    }
    sys::output("umount", &["/mnt/volume"])?;
    sys::output("fsck.ext4", &["-fn", &device])?;
    scene.ok(&["del", &device])?;
    let device = scene.add(&[POOL, "--volume", "a"])?;
    ensure!(
        size()? == (96 * 2048).to_string(),
        "made anew, it has {} sectors",
        size()?
    );
    // And under load.
    let mut load = Load::start(&device)?;
    let before = sectors(&device)?;
    load.moves(&before)?;
    scene.ok(&["volume", "resize", POOL, "a", "128MiB"])?;
    let before = sectors(&device)?;
    load.moves(&before)?;
    load.stop()?;
    scene.ok(&["del", &device])?;
    scene.nothing_left()?;
    scene.check(POOL)
}
