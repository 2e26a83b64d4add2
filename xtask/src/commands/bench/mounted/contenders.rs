// SPDX-License-Identifier: MIT OR Apache-2.0

//! The filesystems, and how each is made, mounted and unmounted in the machine.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::vm::{Job, Machine};
use lab_guest::protocol::Command;
use lab_guest::service::{DEVICE, MOUNT};

use super::super::super::demo::{serve, stop};
use super::DISK;
use super::programs::Programs;

/// The name of ours, in the table.
pub(in super::super) const OURS: &str = "vexfs";
pub(in super::super) const OVER_FUSE: &str = "vexfs over FUSE";
pub(in super::super) const EXT4: &str = "ext4 on rublk";
pub(in super::super) const BTRFS: &str = "btrfs on rublk";
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Contender {
    Ours,
    OursOverFuse,
    Ext4,
    Btrfs,
    Xfs,
}

impl Contender {
    pub(in super::super) const ALL: [Self; 5] = [Self::Ours, Self::OursOverFuse, Self::Ext4, Self::Btrfs, Self::Xfs];
    /// All that a module of the kernel mounts.
    pub(in super::super) const OF_THE_KERNEL: [Self; 4] = [Self::Ours, Self::Ext4, Self::Btrfs, Self::Xfs];

    /// Those of a list whose names contain one of the parts, if there are parts; ours always.
    pub(in super::super) fn wanted(all: &[Self], parts: &[String]) -> Result<Vec<Self>> {
        let is_wanted = |one: &Self| {
            let has = |part: &String| one.name().contains(part.as_str());
            *one == Self::Ours || parts.is_empty() || parts.iter().any(has)
        };
        let found: Vec<_> = all.iter().copied().filter(is_wanted).collect();
        if found.len() < 2 {
            let names: Vec<_> = all.iter().map(|one| one.name()).collect();
            bail!("no contender has such a name; there are: {}", names.join(", "));
        }
        Ok(found)
    }

    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::OursOverFuse => OVER_FUSE,
            Self::Ext4 => EXT4,
            Self::Btrfs => BTRFS,
            Self::Xfs => "xfs on rublk",
        }
    }

    /// As mount(2) calls it.
    pub(in super::super) fn kind(self) -> &'static str {
        match self {
            Self::Ours => "vexfs",
            Self::OursOverFuse => "fuse",
            Self::Ext4 => "ext4",
            Self::Btrfs => "btrfs",
            Self::Xfs => "xfs",
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

    /// The command that serves what is on the disk, until it is told to end.
    pub(in super::super) fn server(self, programs: &Programs) -> Vec<&str> {
        match self {
            Self::Ours => vec![&programs.server, "serve", "--target", "fs", DISK],
            Self::OursOverFuse => vec![&programs.cli, "mount", "-f", DISK, MOUNT],
            // In the foreground: a daemon would end with the command that started it.
            Self::Ext4 | Self::Btrfs | Self::Xfs => {
                let add = ["add", "loop", "--file", DISK, "--number", "0", "--foreground"];
                [&[programs.rublk.as_str()][..], &add].concat()
            }
        }
    }

    /// The shell command that ends the server of what is not mounted any more.
    pub(in super::super) fn end(self, programs: &Programs) -> String {
        match self {
            Self::Ours => "pkill -TERM -x vexfs-ublkd".to_owned(),
            // The server ends with the mount.
            Self::OursOverFuse => "true".to_owned(),
            Self::Ext4 | Self::Btrfs | Self::Xfs => format!("{} del --number 0", programs.rublk),
        }
    }

    /// Makes it anew on the disk, and mounts it.
    pub(in super::super) fn start(self, machine: &mut Machine, programs: &Programs) -> Result<Job> {
        let (job, mount) = if let Some(mkfs) = self.mkfs() {
            let job = machine.start(&Command::new(self.server(programs)))?;
            let ready = wait_for(&format!("test -b {DEVICE}"));
            (job, format!("{ready} && {mkfs} {DEVICE} && mount {DEVICE} {MOUNT}"))
        } else {
            machine.succeed(&format!("{} mkfs --force {DISK}", programs.cli), LIMIT)?;
            if self == Self::Ours {
                (
                    serve(machine, &programs.server, &programs.modules, &["--target", "fs", DISK])?,
                    // Not by the helper, which would make a device of its own.
                    format!("mount -i -t vexfs {DEVICE} {MOUNT}"),
                )
            } else {
                (
                    machine.start(&Command::new(self.server(programs)))?,
                    wait_for(&format!("grep -q ' {MOUNT} fuse' /proc/mounts")),
                )
            }
        };
        machine.succeed(&mount, LIMIT).context("mounting it")?;
        Ok(job)
    }

    /// Unmounts it, and waits for the end of whoever served it.
    pub(in super::super) fn stop(self, machine: &mut Machine, job: Job, programs: &Programs) -> Result<()> {
        machine.succeed(&format!("umount {MOUNT}"), LIMIT)?;
        if self == Self::Ours {
            return stop(machine, job);
        }
        machine.succeed(&self.end(programs), LIMIT)?;
        machine.wait(job, LIMIT, |_, _| {});
        Ok(())
    }
}

/// A script that waits until a condition holds.
fn wait_for(condition: &str) -> String {
    format!("for i in $(seq 400); do if {condition}; then break; fi; sleep 0.05; done; {condition}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_always_there_and_never_alone() {
        let wanted = |parts: &[&str]| {
            let parts: Vec<String> = parts.iter().map(|&part| part.to_owned()).collect();
            Contender::wanted(&Contender::OF_THE_KERNEL, &parts)
        };
        assert_eq!(wanted(&[]).unwrap().len(), 4);
        assert_eq!(wanted(&["xfs"]).unwrap(), [Contender::Ours, Contender::Xfs]);
        let error = wanted(&["zfs"]).unwrap_err().to_string();
        assert!(error.contains("ext4 on rublk"), "{error}");
    }
}
