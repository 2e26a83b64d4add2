// SPDX-License-Identifier: MIT OR Apache-2.0

//! The Debian packages in a Debian of their own: installed, used, upgraded and removed as an administrator does it.
//!
//! One machine, whose steps build on each other. It takes long where instructions are emulated, and fetches Debian when it
//! is run for the first time: it runs when it is asked for, `cargo xtask test --vm packages`. `VEXFS_LAB_PACKAGES` names a
//! directory with packages to be taken instead of new ones.

mod examples;
mod guest;
mod repository;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dsmil_sim::{Settings, Simulator};
use lab::host::{apt, cache, workspace};
use lab::runner::discover::cargo;
use lab::vm::system::System;
use lab::vm::{Disk, Ivshmem};

use guest::Guest;

/// A directory with packages.
const PACKAGES: &str = "VEXFS_LAB_PACKAGES";
/// The packages' own tests, which Debian runs whenever something changes that they depend on.
const TESTS: &str = "packaging/debian/tests";
/// A step that only asks and waits.
const SHORT: Duration = Duration::from_secs(5 * 60);
/// One that compiles kernel modules.
const LONG: Duration = Duration::from_secs(60 * 60);

const INSTALL: &str = include_str!("install.sh");
const OWN_TESTS: &str = include_str!("own-tests.sh");
const POOLS: &str = include_str!("pools.sh");
const DSMIL: &str = include_str!("dsmil.sh");
const AFTER_BOOT: &str = include_str!("after-boot.sh");
const LOAD: &str = include_str!("load.sh");
const SEARCH: &str = include_str!("search.sh");
const APPLICATION: &str = include_str!("application.sh");
const KILL: &str = include_str!("kill.sh");
const UPGRADE: &str = include_str!("upgrade.sh");
const PURGE: &str = include_str!("purge.sh");

#[lab_guest::test(kernels = "stock", timeout = 14400, filter_word = "packages")]
fn they_are_installed_used_upgraded_and_removed_in_a_debian_with_nothing_of_the_host(kernel: &str) -> Result<()> {
    let begun = Instant::now();
    let system = System::ensure(kernel.parse()?)?;
    let directory = workspace::machine_directory(&format!("packages-{kernel}"));
    let given = directory.join("given");
    {
        // Another kernel's test may run beside this one.
        let _alone = cache::lock("packages")?;
        repository::make(&packages()?, &given)?;
        give(examples::DOCS, &given)?;
        give(TESTS, &given)?;
    }

    // Paths of sockets must be short.
    let sockets = tempfile::tempdir()?;
    let simulator = Simulator::start(Settings::at(sockets.path().join("sim")))?;
    let mut spec = system.machine(&directory, &given)?;
    spec.disks.push(Disk::create(&directory, "pool", 512)?);
    spec.ivshmem = Some(Ivshmem::Server(simulator.socket().to_owned()));
    println!(
        "Debian with {}, {:.0} s to prepare",
        system.release(),
        begun.elapsed().as_secs_f64()
    );

    let mut guest = Guest::boot(spec)?;
    guest.step("install with apt; DKMS builds for the running kernel", LONG, INSTALL)?;
    examples::happen(&mut guest)?;
    guest.step("dsmil: the module, udev, the service, the device", SHORT, DSMIL)?;
    guest.step("the packages' own tests", SHORT, OWN_TESTS)?;
    guest.step("pools in a file and on a disk, mounted from fstab", SHORT, POOLS)?;
    guest.reboot("reboot")?;
    guest.step(
        "everything is there and mounted, and was closed in order",
        SHORT,
        AFTER_BOOT,
    )?;
    guest.step("fio", SHORT, LOAD)?;
    guest.step("vectors and search", SHORT, SEARCH)?;
    let application = guest.start(APPLICATION)?;
    guest.step("kill -9 of the servers under an application", SHORT, KILL)?;
    guest.still_runs(application, "the application, after the kill")?;
    guest.step("upgrade with busy mounts", LONG, UPGRADE)?;
    guest.still_runs(application, "the application, after the upgrade")?;
    guest.step("the application ends without an error", SHORT, "touch /root/enough")?;
    guest.ends(application, SHORT)?;
    guest.reboot("reboot into the new version")?;
    guest.step("everything is there again", SHORT, AFTER_BOOT)?;
    guest.step(
        "purge is refused to a mount in use, and leaves nothing behind",
        LONG,
        PURGE,
    )?;
    guest.shut_down()?;
    println!("{:8.1} s  all of it", begun.elapsed().as_secs_f64());
    Ok(fs::remove_dir_all(&directory)?)
}

/// Puts a folder of the checkout where the machine finds it.
fn give(folder: &str, given: &Path) -> Result<()> {
    let (from, to) = (workspace::root().join(folder), given.join(folder));
    fs::create_dir_all(&to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(&from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name())).with_context(|| format!("copying {folder}"))?;
    }
    Ok(())
}

/// The directory with the packages of this checkout, built if need be.
fn packages() -> Result<PathBuf> {
    apt::ensure(apt::DEB)?;
    if let Some(directory) = std::env::var_os(PACKAGES) {
        return Ok(directory.into());
    }
    cargo()
        .args(["xtask", "deb"])
        .run()
        .context("building the packages; cargo xtask deb shows more")?;
    Ok(workspace::target().join("deb"))
}
