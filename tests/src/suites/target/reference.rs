// SPDX-License-Identifier: MIT OR Apache-2.0

//! A filesystem of the kernel on a loop device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::umount;

use super::super::Settings;
use super::{Target, shutdown};
use crate::host::command::command;

/// For how long an unmount waits for the last file to be closed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The reference, as every Linux has it.
    Ext4,
    /// A second opinion.
    Xfs,
    /// One that copies on write too.
    Btrfs,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    fn check(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["e2fsck", "-f", "-n"],
            Self::Xfs => &["xfs_repair", "-n"],
            Self::Btrfs => &["btrfs", "check", "--readonly"],
        }
    }
}

/// A filesystem in a file.
#[derive(Debug)]
pub(super) struct Loop {
    kind: Kind,
    image: PathBuf,
    directory: PathBuf,
}

impl Loop {
    pub(super) fn make(kind: Kind, settings: &Settings, directory: &Path, size: u64) -> Result<Self> {
        let image = settings.scratch.join(format!("{}.img", kind.name()));
        let file = File::create(&image).with_context(|| format!("creating {}", image.display()))?;
        file.set_len(size)?;
        command(format!("mkfs.{}", kind.name())).arg("-q").arg(&image).run()?;
        Ok(Self {
            kind,
            image,
            directory: directory.to_owned(),
        })
    }
}

impl Target for Loop {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn mount(&mut self) -> Result<()> {
        command("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.directory)
            .run()
    }

    fn kill_server(&mut self) -> Result<()> {
        if self.kind == Kind::Btrfs {
            bail!("btrfs cannot be ended in the middle of its work: use ext4 or xfs");
        }
        shutdown::shut_down(&self.directory)
    }

    fn remount(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn unmount(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            match umount(&self.directory) {
                Ok(()) => return Ok(()),
                Err(Errno::EBUSY) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(error).with_context(|| format!("unmounting {}", self.directory.display())),
            }
        }
    }

    fn check(&self) -> Result<()> {
        let (program, arguments) = self.kind.check().split_first().context("no checker")?;
        command(program).args(arguments).arg(&self.image).run()
    }

    fn log(&self) -> Option<String> {
        None
    }

    fn server(&self) -> Option<u32> {
        None
    }
}
