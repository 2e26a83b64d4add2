// SPDX-License-Identifier: MIT OR Apache-2.0

//! The filesystems, and how each is made, mounted and unmounted in the machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::host::progress::Step;
use lab::host::workspace;
use lab::runner::discover::cargo;
use lab::vm::{Job, Machine};
use lab_guest::protocol::Command;

use super::super::super::demo::{build_server, serve, stop};
use super::super::super::suite::build_command_line;
use super::super::ublk::rublk;

/// The name of ours, in the table.
pub(super) const OURS: &str = "vexfs";
pub(super) const OVER_FUSE: &str = "vexfs over FUSE";
pub(super) const EXT4: &str = "ext4 on rublk";
pub(super) const BTRFS: &str = "btrfs on rublk";
pub(super) const MOUNT: &str = "/mnt";
/// The disk under all of them.
pub(super) const DISK: &str = "/dev/disk/bench";
const DEVICE: &str = "/dev/ublkb0";
const LIMIT: Duration = Duration::from_secs(120);

/// Where everything is.
pub(super) struct Programs {
    pub(super) work: String,
    pub(super) modules: PathBuf,
    server: String,
    cli: String,
    rublk: String,
}

impl Programs {
    pub(super) fn build(modules: PathBuf) -> Result<Self> {
        build_command_line(true)?;
        let step = Step::start("building lab-work");
        cargo()
            .args(["build", "--release", "--package", "lab-guest", "--bin", "lab-work"])
            .lines(|line| step.now(line.trim().to_owned()))?;
        step.done();
        let built = |name: &str| {
            workspace::target()
                .join("release")
                .join(name)
                .to_string_lossy()
                .into_owned()
        };
        Ok(Self {
            work: built("lab-work"),
            cli: built("vexfs-ublk"),
            server: build_server()?,
            rublk: rublk()?,
            modules,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Ours,
    OursOverFuse,
    Ext4,
    Btrfs,
    Xfs,
}

impl Contender {
    pub(super) const ALL: [Self; 5] = [Self::Ours, Self::OursOverFuse, Self::Ext4, Self::Btrfs, Self::Xfs];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::OursOverFuse => OVER_FUSE,
            Self::Ext4 => EXT4,
            Self::Btrfs => BTRFS,
            Self::Xfs => "xfs on rublk",
        }
    }

    /// How the others are made.
    fn mkfs(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::OursOverFuse => None,
            Self::Ext4 => Some("mkfs.ext4 -q -F"),
            Self::Btrfs => Some("mkfs.btrfs -q -f"),
            Self::Xfs => Some("mkfs.xfs -q -f"),
        }
    }

    /// Makes it anew on the disk, and mounts it.
    pub(super) fn start(self, machine: &mut Machine, programs: &Programs) -> Result<Job> {
        let cli = programs.cli.as_str();
        let (job, mount) = if let Some(mkfs) = self.mkfs() {
            // In the foreground: a daemon would end with the command that started it.
            let add = ["add", "loop", "--file", DISK, "--number", "0", "--foreground"];
            let job = machine.start(&Command::new([programs.rublk.as_str()].into_iter().chain(add)))?;
            let ready = wait_for(&format!("test -b {DEVICE}"));
            (job, format!("{ready} && {mkfs} {DEVICE} && mount {DEVICE} {MOUNT}"))
        } else {
            machine.succeed(&format!("{cli} mkfs --force {DISK}"), LIMIT)?;
            if self == Self::Ours {
                (
                    serve(machine, &programs.server, &programs.modules, &["--target", "fs", DISK])?,
                    // Not by the helper, which would make a device of its own.
                    format!("mount -i -t vexfs {DEVICE} {MOUNT}"),
                )
            } else {
                (
                    machine.start(&Command::new([cli, "mount", "-f", DISK, MOUNT]))?,
                    wait_for(&format!("grep -q ' {MOUNT} fuse' /proc/mounts")),
                )
            }
        };
        machine.succeed(&mount, LIMIT).context("mounting it")?;
        Ok(job)
    }

    /// Unmounts it, and waits for the end of whoever served it.
    pub(super) fn stop(self, machine: &mut Machine, job: Job, programs: &Programs) -> Result<()> {
        machine.succeed(&format!("umount {MOUNT}"), LIMIT)?;
        match self {
            Self::Ours => return stop(machine, job),
            // The server ends with the mount.
            Self::OursOverFuse => {}
            Self::Ext4 | Self::Btrfs | Self::Xfs => {
                machine.succeed(&format!("{} del --number 0", programs.rublk), LIMIT)?;
            }
        }
        machine.wait(job, LIMIT, |_, _| {});
        Ok(())
    }
}

/// A script that waits until a condition holds.
fn wait_for(condition: &str) -> String {
    format!("for i in $(seq 400); do if {condition}; then break; fi; sleep 0.05; done; {condition}")
}
