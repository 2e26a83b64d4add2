// SPDX-License-Identifier: MIT OR Apache-2.0

//! Debian trees: a release's own compiler and headers in a directory, whatever the host runs.
//!
//! Made once by mmdebstrap and kept in the cache. Commands run inside by chroot, in a mount namespace of their own with
//! `/proc` mounted: nothing stays mounted when a command, or the lab, is killed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::host::command::{Cmd, privileged};
use crate::host::progress::Step;
use crate::host::{apt, cache};

/// A Debian release with its backports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suite {
    /// Its code name.
    pub name: &'static str,
    /// The compiler its kernels are built with.
    pub gcc: &'static str,
}

impl Suite {
    /// Debian 12: the 6.12 kernel is in its backports.
    pub const BOOKWORM: Self = Self {
        name: "bookworm",
        gcc: "gcc-12",
    };
    /// Debian 13: the 7.x kernels are in its backports.
    pub const TRIXIE: Self = Self {
        name: "trixie",
        gcc: "gcc-14",
    };
}

/// A tree in the cache.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree of a suite, made if it is not there.
    pub fn ensure(suite: Suite) -> Result<Self> {
        let root = cache::entry(&format!("trees/{}", suite.name), |directory| {
            let mirror = apt::mirror()?;
            let step = Step::start(format!("Debian {} tree", suite.name));
            privileged("mmdebstrap")
                .args(["--variant=apt", "--skip=cleanup/apt/lists"])
                .arg(format!(
                    "--include=ca-certificates,make,kmod,xz-utils,libelf-dev,pahole,{}",
                    suite.gcc
                ))
                .arg(suite.name)
                .arg(directory)
                .args(["", "-updates", "-backports"].map(|part| format!("deb {mirror} {}{part} main", suite.name)))
                .lines(|line| step.now(line.to_owned()))
                .with_context(|| format!("making the Debian {} tree", suite.name))?;
            step.done();
            Ok(())
        })?;
        Ok(Self { root })
    }

    /// A path inside the tree as the host sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// A command inside the tree.
    pub fn command(&self, program: &str) -> Cmd {
        // The script's arguments are data, never part of its text.
        privileged("unshare")
            .args(["--mount", "--propagation", "private", "--", "/bin/sh", "-ec"])
            .arg(r#"mount -t proc proc "$1/proc"; root=$1; shift; exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root DEBIAN_FRONTEND=noninteractive "$@""#)
            .arg("tree")
            .arg(&self.root)
            .arg(program)
    }

    /// Installs packages inside.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        let step = Step::start(format!("installing {} in the tree", packages.join(" ")));
        self.command("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "-o", "APT::Status-Fd=1"])
            .args(packages)
            .lines(|line| apt::show(line, &step))?;
        step.done();
        Ok(())
    }

    /// Fetches the package lists anew.
    pub fn update(&self) -> Result<()> {
        self.command("apt-get").args(["update", "--quiet"]).run()
    }

    /// Unpacks packages, without installing them, into a directory of the host.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let step = Step::start(format!("fetching {}", packages.join(" ")));
        let archive = "/var/cache/lab-unpack";
        let outside = self.path(archive);
        cache::remove(&outside)?;
        self.command("mkdir").args(["-p", archive]).run()?;
        self.command("/bin/sh")
            .args([
                "-ec",
                r#"cd "$1"; shift; exec apt-get download -o APT::Sandbox::User=root -o APT::Status-Fd=1 "$@""#,
                "download",
                archive,
            ])
            .args(packages)
            .lines(|line| apt::show(line, &step))?;
        // `dpkg-deb -x` would replace the tree's /lib, a link to /usr/lib, by the directory that a package holds.
        let unpack = r#"for deb in "$1"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$2"; done"#;
        privileged("/bin/sh")
            .args(["-ec", unpack, "unpack"])
            .args([&outside, into])
            .run()?;
        cache::remove(&outside)?;
        step.done();
        Ok(())
    }
}
