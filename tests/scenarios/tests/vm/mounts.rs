// SPDX-License-Identifier: MIT OR Apache-2.0

//! What cannot be mounted, who may not, and several at once.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use lab::suites::target::On;
use lab_guest::measure::{Promise, check};
use lab_guest::sys;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::world::{AT, DISK, World, cli, program, refused};

/// Somebody without rights.
const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];
/// How many ask at once.
const CROWD: usize = 6;

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a name is text")
}

fn mkfs(path: &Path) -> Result<()> {
    sys::output(text(&program())?, &["mkfs", "--size", "64MiB", text(path)?]).map(drop)
}

/// The device that is mounted at a place.
fn device_at(place: &str) -> Result<String> {
    let mounts = sys::read("/proc/mounts")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(place));
    let device = line.and_then(|line| line.split(' ').next());
    Ok(device
        .with_context(|| format!("nothing is mounted at {place}"))?
        .to_owned())
}

/// A command as nobody, with the programs where nobody may run them.
fn as_nobody(command: &Command) -> Command {
    let mut other = Command::new("setpriv");
    other.args(NOBODY).arg(command.get_program()).args(command.get_args());
    other
}

#[lab_guest::test(disks = ["disk:768"], timeout = 120, stress = true)]
fn what_is_no_pool_is_refused_by_fuse_in_one_line() -> Result<()> {
    let world = World::without_pool(On::Fuse)?;
    let place = |name: &str| Path::new(DISK).join(name);
    mkfs(&place("whole"))?;
    fs::write(place("short"), &fs::read(place("whole"))?[..1 << 20])?;
    fs::write(place("text"), "no pool\n".repeat(10_000))?;
    File::create(place("empty"))?;
    File::create(place("zeros"))?.set_len(64 << 20)?;
    fs::create_dir(place("directory"))?;
    for bad in ["short", "text", "empty", "zeros", "directory", "not there"] {
        let said = refused(bad, &mut cli(On::Fuse, &["mount", "--fuse", text(&place(bad))?, AT]))?;
        ensure!(said.contains(bad), "of {bad} it says {said:?}");
    }
    refused("/dev/null", &mut cli(On::Fuse, &["mount", "--fuse", "/dev/null", AT]))?;
    refused(
        "a place that is not there",
        &mut cli(On::Fuse, &["mount", "--fuse", text(&place("whole"))?, "/mnt/nowhere"]),
    )?;
    world.nothing_left()
}

#[lab_guest::test(disks = ["disk:768"], timeout = 120, stress = true)]
fn a_pool_of_another_user_is_not_mounted_through_fuse() -> Result<()> {
    let world = World::without_pool(On::Fuse)?;
    let pool = World::pool();
    mkfs(&pool)?;
    fs::set_permissions(&pool, fs::Permissions::from_mode(0o600))?;
    let place = Path::new("/run/place of nobody");
    fs::create_dir_all(place)?;
    std::os::unix::fs::chown(place, Some(65534), Some(65534))?;
    let mut command = as_nobody(&cli(On::Fuse, &["mount", "--fuse", text(&pool)?, text(place)?]));
    let said = refused("a pool of root", command.env("VEXFS_RUNTIME_DIR", place))?;
    check(
        Promise::RightErrno,
        said.contains("Permission denied"),
        format!("the reason is told: {said}"),
    )?;
    world.nothing_left()
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 120, stress = true)]
fn who_is_root_in_a_namespace_only_mounts_no_device() -> Result<()> {
    let world = World::new(On::Module)?;
    let device = device_at(AT)?;
    // So that the device itself is no obstacle.
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666))?;
    let place = "/run/place";
    fs::create_dir_all(place)?;
    let mut command = Command::new("setpriv");
    command
        .args(NOBODY)
        .args(["unshare", "--user", "--map-root-user", "--mount"]);
    command.args(["mount", "-i", "-t", "vexfs", &device, place]);
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    check(
        Promise::RightErrno,
        !output.status.success() && (said.contains("permission denied") || said.contains("Operation not permitted")),
        format!("{}: {said}", output.status),
    )?;
    check(
        Promise::GracefulError,
        fs::write(Path::new(AT).join("after"), "after").is_ok(),
        "the mount that was there goes on",
    )?;
    world.finish()
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 120, stress = true)]
fn who_may_not_use_the_driver_adds_no_device() -> Result<()> {
    let world = World::without_pool(On::Module)?;
    let pool = World::pool();
    mkfs(&pool)?;
    fs::set_permissions(&pool, fs::Permissions::from_mode(0o600))?;
    let runtime = Path::new("/run/runtime of nobody");
    fs::create_dir_all(runtime)?;
    std::os::unix::fs::chown(runtime, Some(65534), Some(65534))?;
    let mut command = as_nobody(&cli(On::Module, &["add", text(&pool)?]));
    let said = refused(
        "a device of somebody else's pool",
        command.env("VEXFS_RUNTIME_DIR", runtime),
    )?;
    check(
        Promise::RightErrno,
        said.contains("Permission denied") || said.contains("permitted"),
        format!("the reason is told: {said}"),
    )?;
    world.nothing_left()
}

/// Makes places to mount on.
fn places() -> Result<Vec<PathBuf>> {
    let places: Vec<PathBuf> = (0..CROWD).map(|number| format!("/mnt/place-{number}").into()).collect();
    for place in &places {
        fs::create_dir_all(place)?;
    }
    Ok(places)
}

#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn of_several_who_mount_a_pool_through_fuse_at_once_one_gets_it() -> Result<()> {
    let world = World::without_pool(On::Fuse)?;
    let pool = World::pool();
    mkfs(&pool)?;
    let places = places()?;
    for round in 0..3 {
        let running = places.iter().map(|place| {
            let mut command = cli(On::Fuse, &["mount", "--fuse", text(&pool)?, text(place)?]);
            Ok(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
        });
        let running: Vec<_> = running.collect::<Result<_>>()?;
        let mut outcomes = Vec::new();
        for mount in running {
            outcomes.push(mount.wait_with_output()?);
        }
        let won: Vec<&PathBuf> = places
            .iter()
            .zip(&outcomes)
            .filter_map(|(place, outcome)| outcome.status.success().then_some(place))
            .collect();
        let in_one_line = |stderr: &[u8]| String::from_utf8_lossy(stderr).trim().lines().count() == 1;
        let graceful = outcomes
            .iter()
            .all(|outcome| outcome.status.success() || in_one_line(&outcome.stderr));
        check(
            Promise::GracefulError,
            graceful && won.len() == 1,
            format!("round {round}: {} of {CROWD} got it; {outcomes:?}", won.len()),
        )?;
        let winner = won[0];
        let name = winner.join(format!("round {round}"));
        fs::write(&name, round.to_string())?;
        let output = world.cli(&["umount", text(winner)?])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let output = world.cli(&["check", text(&pool)?])?;
    check(
        Promise::Integrity,
        output.status.success(),
        format!("the check says: {}", String::from_utf8_lossy(&output.stdout).trim()),
    )?;
    world.nothing_left()
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 180, stress = true)]
fn several_who_mount_a_device_at_once_share_one_filesystem() -> Result<()> {
    let world = World::new(On::Module)?;
    let device = device_at(AT)?;
    let places = places()?;
    for round in 0..10 {
        let outcomes: Vec<Result<(), Errno>> = thread::scope(|scope| {
            let mounting: Vec<_> = places
                .iter()
                .map(|place| {
                    let device = device.as_str();
                    scope.spawn(move || mount(Some(device), place, Some("vexfs"), MsFlags::empty(), None::<&str>))
                })
                .collect();
            let joined = mounting
                .into_iter()
                .map(|thread| thread.join().unwrap_or(Err(Errno::EDEADLK)));
            joined.collect()
        });
        check(
            Promise::GracefulError,
            outcomes.iter().all(Result::is_ok),
            format!("round {round}: {outcomes:?}"),
        )?;
        fs::write(places[0].join("shared"), round.to_string())?;
        let seen = places
            .iter()
            .filter(|place| fs::read_to_string(place.join("shared")).is_ok_and(|text| text == round.to_string()));
        check(Promise::Integrity, seen.count() == CROWD, "all see what one wrote")?;
        for place in &places {
            umount2(place, MntFlags::empty()).with_context(|| format!("unmounting {}", place.display()))?;
        }
    }
    world.health()?;
    world.finish()
}
