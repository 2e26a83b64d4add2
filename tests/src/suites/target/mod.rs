// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is tested: a filesystem that can be mounted, lose its server, be mounted again, and be checked.
//!
//! - [`ours`]: a pool served over FUSE.
//! - [`module`]: a pool served as a device and mounted by the kernel module. Its file is an [`image`], as for `ours`.
//! - [`reference`]: a filesystem of the kernel on a loop device, to test the suites themselves.

mod image;
mod module;
mod ours;
mod reference;
mod shutdown;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};

use super::Settings;

/// Where a filesystem is made.
#[derive(Debug, Clone)]
pub enum Room {
    /// In a new file of so many bytes.
    File(u64),
    /// On a device, whatever it holds.
    Device(PathBuf),
    /// Nowhere: it was made, and is used as it is.
    Made(PathBuf),
}

/// A filesystem that was made empty.
pub trait Target: std::fmt::Debug {
    /// Where it is mounted.
    fn directory(&self) -> &Path;

    /// Mounts it and returns once it serves.
    fn mount(&mut self) -> Result<()>;

    /// Takes away what serves it, at once, in the middle of whatever it does. What it had answered must be there after
    /// [`Target::remount`]; calls fail until then.
    fn kill_server(&mut self) -> Result<()>;

    /// Mounts it again, with nothing cached, whether it was mounted or had lost its server.
    fn remount(&mut self) -> Result<()>;

    /// Unmounts it and returns once everything is in its file.
    fn unmount(&mut self) -> Result<()>;

    /// Looks for damage; it must not be mounted.
    fn check(&self) -> Result<()>;

    /// The end of what its server said, if it has one.
    fn log(&self) -> Option<String>;

    /// The process that serves it, if one does at the moment.
    fn server(&self) -> Option<u32>;
}

/// Which filesystem is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Ours, over FUSE.
    Fuse,
    /// Ours, by the kernel module.
    Module,
    /// A filesystem of the kernel.
    Reference(reference::Kind),
}

impl On {
    /// The word it is chosen with, and under which results are filed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fuse => "fuse",
            Self::Module => "module",
            Self::Reference(kind) => kind.name(),
        }
    }

    /// Makes one, empty unless it was made before, to be mounted on `directory`.
    pub fn make(self, settings: &Settings, directory: &Path, room: Room) -> Result<Box<dyn Target>> {
        Ok(match (self, room) {
            (Self::Fuse, room) => Box::new(ours::Pool::make(settings, directory, room)?),
            (Self::Module, room) => Box::new(module::Pool::make(settings, directory, room)?),
            (Self::Reference(kind), Room::File(size)) => {
                Box::new(reference::Loop::make(kind, settings, directory, size)?)
            }
            (Self::Reference(kind), Room::Device(_) | Room::Made(_)) => bail!("{} is made in files only", kind.name()),
        })
    }
}

impl FromStr for On {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "fuse" => Ok(Self::Fuse),
            "module" => Ok(Self::Module),
            "reference" | "ext4" => Ok(Self::Reference(reference::Kind::Ext4)),
            "xfs" => Ok(Self::Reference(reference::Kind::Xfs)),
            "btrfs" => Ok(Self::Reference(reference::Kind::Btrfs)),
            _ => Err(format!(
                "{word}: fuse, module, reference (which is ext4), ext4, xfs or btrfs"
            )),
        }
    }
}
