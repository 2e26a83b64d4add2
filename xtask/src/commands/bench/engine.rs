// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench engine`: the engine against ext4 and btrfs, on this host.
//!
//! The pool and both filesystems lie in files of the build directory, the filesystems behind loop devices: the same storage
//! for all. The directory itself is compared too, as whatever it is on.

use std::path::PathBuf;

use anyhow::{Context, Result};
use lab::host::apt;
use lab::host::command::{command, privileged};
use lab::host::workspace;
use lab::runner::discover::cargo;

/// Builds nothing twice; takes some minutes.
pub(super) fn run() -> Result<()> {
    apt::ensure(apt::FILESYSTEMS)?;
    let work = workspace::target().join("bench-engine");
    std::fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
    let below = command("findmnt")
        .args(["-n", "-o", "FSTYPE", "-T"])
        .arg(&work)
        .read()?;
    let mut subjects = vec![(below.trim().to_owned(), work.clone())];
    let mut mounted = Vec::new();
    for kind in ["ext4", "btrfs"] {
        let filesystem = Mounted::make(&work, kind)?;
        subjects.push((format!("{kind}-loop"), filesystem.at.clone()));
        mounted.push(filesystem);
    }
    let mut run = cargo().args(["bench", "-p", "vexfs", "--bench", "host", "--"]);
    for (name, path) in &subjects {
        run = run.arg(format!("{name}={}", path.display()));
    }
    run.run_shown()
}

/// A filesystem in a file, mounted until dropped.
struct Mounted {
    image: PathBuf,
    at: PathBuf,
}

impl Mounted {
    fn make(work: &std::path::Path, kind: &str) -> Result<Self> {
        let image = work.join(format!("{kind}.img"));
        let at = work.join(kind);
        std::fs::create_dir_all(&at).with_context(|| format!("creating {}", at.display()))?;
        let file = std::fs::File::create(&image).with_context(|| format!("creating {}", image.display()))?;
        file.set_len(4 << 30)?;
        privileged(&format!("mkfs.{kind}")).arg("-q").arg(&image).run()?;
        privileged("mount").args(["-o", "loop"]).arg(&image).arg(&at).run()?;
        Ok(Self { image, at })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for result in [
            privileged("umount").arg(&self.at).run(),
            std::fs::remove_file(&self.image).map_err(Into::into),
        ] {
            if let Err(error) = result {
                eprintln!("cleaning up {}: {error:#}", self.at.display());
            }
        }
    }
}
