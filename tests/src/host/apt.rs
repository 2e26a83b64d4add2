// SPDX-License-Identifier: MIT OR Apache-2.0

//! Debian packages of the host: what is missing is installed, nothing else is touched.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::command::{command, privileged};
use super::progress::Step;

/// A package and a file that proves it is there.
pub type Package = (&'static str, &'static str);

/// Packages of the lab itself: machines, trees, module files, and what tests run inside.
pub const LAB: &[Package] = &[
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    (
        "debian-archive-keyring",
        "/usr/share/keyrings/debian-archive-keyring.gpg",
    ),
    ("kmod", "/sbin/depmod"),
    ("xz-utils", "/usr/bin/xz"),
    ("util-linux", "/usr/bin/setpriv"),
    ("fio", "/usr/bin/fio"),
    ("dmsetup", "/sbin/dmsetup"),
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("xfsprogs", "/sbin/mkfs.xfs"),
    ("btrfs-progs", "/usr/bin/btrfs"),
    ("gcc", "/usr/bin/cc"),
    ("libc6-dev", "/usr/include/stdio.h"),
];

/// What the ublk server needs to be built: bindgen reads the kernel's headers through libclang.
pub const UBLK_BUILD: &[Package] = &[
    ("libclang-dev", "/usr/share/doc/libclang-dev/copyright"),
    ("linux-libc-dev", "/usr/include/linux/fs.h"),
];

/// What C programs against `libdsmil` are built and checked with.
pub const C_TESTS: &[Package] = &[
    ("gcc", "/usr/bin/cc"),
    ("make", "/usr/bin/make"),
    ("pkg-config", "/usr/bin/pkg-config"),
    ("valgrind", "/usr/bin/valgrind"),
];

/// The filesystems that the engine is compared with.
pub const FILESYSTEMS: &[Package] = &[
    ("btrfs-progs", "/usr/bin/btrfs"),
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("util-linux", "/usr/bin/findmnt"),
];

/// Filesystems over FUSE that ours is compared with.
pub const FUSE_PEERS: &[Package] = &[
    ("bindfs", "/usr/bin/bindfs"),
    ("mergerfs", "/usr/bin/mergerfs"),
    ("fuse2fs", "/usr/bin/fuse2fs"),
    ("ntfs-3g", "/usr/bin/ntfs-3g"),
    ("e2fsprogs", "/sbin/mkfs.ext4"),
];

/// What the vector benchmark needs to make its data and to install its peers.
pub const VECTOR_PEERS: &[Package] = &[
    ("python3-venv", "/usr/bin/python3"),
    ("npm", "/usr/bin/npm"),
    ("g++", "/usr/bin/g++"),
];

/// What the Debian packages are built and checked with, beside what the server needs.
pub const DEB: &[Package] = &[
    ("build-essential", "/usr/share/build-essential/essential-packages-list"),
    ("debhelper", "/usr/bin/dh"),
    ("dh-dkms", "/usr/bin/dh_dkms"),
    ("dpkg-dev", "/usr/bin/dpkg-buildpackage"),
    ("help2man", "/usr/bin/help2man"),
    ("lintian", "/usr/bin/lintian"),
];

/// Installs what is missing of `packages`.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, proof)| !Path::new(proof).exists())
        .map(|&(package, _)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if command("apt-get").arg("--version").read().is_err() {
        bail!(
            "this machine lacks {} and has no apt-get: install what provides them by hand",
            missing.join(", ")
        );
    }
    eprintln!("installing Debian packages: {}", missing.join(" "));
    let step = Step::start("apt-get install");
    let install = || {
        privileged("apt-get")
            .args([
                "install",
                "--yes",
                "--no-install-recommends",
                "-o",
                "APT::Status-Fd=1",
                "-o",
                "DPkg::Lock::Timeout=300",
            ])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .lines(|line| show(line, &step))
    };
    // The package lists may be absent or older than the archive: refresh them and try once more before giving up.
    if install().is_err() {
        privileged("apt-get")
            .args(["update", "-o", "APT::Status-Fd=1"])
            .lines(|line| show(line, &step))?;
        install()?;
    }
    step.done();
    Ok(())
}

/// Shows a line of `APT::Status-Fd` (`dlstatus:item:percent:text`, `pmstatus:package:percent:text`) as progress.
pub fn show(line: &str, step: &Step) {
    let mut fields = line.splitn(4, ':');
    let (Some("dlstatus" | "pmstatus"), Some(_), Some(percent), Some(text)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return;
    };
    if let Ok(percent) = percent.parse::<f64>() {
        step.length(100);
        // Percentages are small and positive: the conversion cannot lose anything that matters on a bar.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=100")]
        step.at(percent as u64);
    }
    step.now(text.to_owned());
}

/// Where this machine gets Debian from: the mirror its own apt uses, or `$VEXFS_LAB_MIRROR`.
pub fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("VEXFS_LAB_MIRROR") {
        return Ok(mirror);
    }
    let targets = command("apt-get")
        .args(["indextargets", "--format", "$(CREATED_BY) $(LABEL) $(REPO_URI)"])
        .read()
        .context("asking apt for its sources")?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in targets.lines() {
        if let Some(uri) = line.strip_prefix("Packages Debian ") {
            *counts.entry(uri.trim_end_matches('/')).or_default() += 1;
        }
    }
    let best = counts
        .into_iter()
        .max_by_key(|&(_, count)| count)
        .map(|(uri, _)| uri.to_owned());
    best.context("no source of this machine's apt is a Debian archive: set VEXFS_LAB_MIRROR to the address of one")
}
