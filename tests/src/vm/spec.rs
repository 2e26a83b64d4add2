// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a machine is made of.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::kernel::{Kernel, modules};

/// A machine before it is booted. Booting twice from one specification boots twice on the same disks.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What it boots.
    pub kernel: Kernel,
    /// What it boots into.
    pub root: Root,
    /// Memory in MiB.
    pub memory: u64,
    /// CPUs.
    pub cpus: u32,
    /// Disks, found in the guest by their name.
    pub disks: Vec<Disk>,
    /// An ivshmem PCI device.
    pub ivshmem: Option<Ivshmem>,
    /// Directory for the console log and files exchanged with the guest (`/lab` there).
    pub directory: PathBuf,
    /// When silence counts as a hang.
    pub bounds: Bounds,
    /// Modules whose crashes are ours; see [`crate::crash::Classifier::new`].
    pub watched: Vec<String>,
    /// Further kernel command line.
    pub command_line: String,
}

impl Spec {
    /// A plain machine: two CPUs, 1.5 GiB, no disks, this project's modules watched.
    pub fn new(kernel: &Kernel, directory: impl Into<PathBuf>) -> Self {
        Self {
            kernel: kernel.clone(),
            root: Root::Host,
            memory: 1536,
            cpus: 2,
            disks: Vec::new(),
            ivshmem: None,
            directory: directory.into(),
            bounds: Bounds::of(kernel),
            watched: modules::WATCHED.map(str::to_owned).to_vec(),
            command_line: String::new(),
        }
    }
}

/// The root file system of a machine, and its first process.
#[derive(Debug, Clone)]
pub enum Root {
    /// The host's files, read-only, below an overlay in memory. The agent is the first process.
    Host,
    /// The first disk. It has an init of its own, and the agent among its services; nothing of the host is to be seen.
    Disk {
        /// What the kernel unpacks first: it finds the disk.
        initramfs: PathBuf,
    },
}

/// Time limits of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From power-on to the agent's first word.
    pub boot: Duration,
    /// A kernel that boots and says nothing for so long is stuck.
    pub boot_quiet: Duration,
    /// From being told to power off to the end.
    pub power_off: Duration,
    /// Without a sign of life: then the guest is lost.
    pub silence: Duration,
    /// A task blocked this long is hung, by the kernel's own detector.
    pub hung_task: Duration,
    /// A CPU stuck this long is locked up, by the kernel's own detector (twice its `watchdog_thresh`).
    pub soft_lockup: Duration,
}

impl Bounds {
    /// What the kernel's speed allows.
    pub fn of(kernel: &Kernel) -> Self {
        let slowness = kernel.id.slowness();
        Self {
            boot: Duration::from_secs(60) * slowness,
            boot_quiet: Duration::from_secs(15) * slowness,
            power_off: Duration::from_secs(15) * slowness,
            silence: Duration::from_secs(20) * slowness,
            hung_task: Duration::from_secs(20) * slowness,
            soft_lockup: Duration::from_secs(20) * slowness.min(3),
        }
    }

    /// The settings that tell the guest's detectors.
    pub(super) fn sysctl(&self) -> Vec<(String, String)> {
        let setting = |name: &str, value: u64| (format!("kernel.{name}"), value.to_string());
        vec![
            setting("hung_task_timeout_secs", self.hung_task.as_secs()),
            // By default the detector looks once per timeout, which doubles the time to a verdict.
            setting("hung_task_check_interval_secs", 2),
            setting("hung_task_warnings", 10),
            setting("watchdog_thresh", self.soft_lockup.as_secs() / 2),
            // Everything on the console: it is what the classifier sees.
            setting("printk", 8),
            setting("sysrq", 1),
            // A crash is seen on the console at once; panicking on it would take the evidence and level-1 recovery away.
            setting("panic_on_oops", 0),
        ]
    }
}

/// A disk, which survives the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its serial number in the guest; at most 20 bytes.
    pub name: String,
    /// What is behind it.
    pub medium: Medium,
}

/// What is behind a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// A sparse file. It keeps all that a machine wrote to it, flushed or not.
    File(PathBuf),
    /// The socket of an NBD server; see [`super::VolatileDisk`].
    Served(PathBuf),
}

impl Disk {
    /// Makes the file `name.img` of this size in `directory`, empty, or opens the one that is there.
    pub fn create(directory: &Path, name: &str, mebibytes: u64) -> Result<Self> {
        if name.is_empty() || name.len() > 20 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            bail!("disk name {name:?}: 1 to 20 letters, digits and hyphens");
        }
        let path = directory.join(format!("{name}.img"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("making {}", path.display()))?;
        file.set_len(mebibytes << 20)
            .with_context(|| format!("sizing {}", path.display()))?;
        Ok(Self {
            name: name.to_owned(),
            medium: Medium::File(path),
        })
    }
}

/// What is behind the guest's ivshmem PCI device.
#[derive(Debug, Clone)]
pub enum Ivshmem {
    /// A file in BAR 2; no interrupts.
    Memory(SharedMemory),
    /// The socket of a server of QEMU's ivshmem protocol, which gives the memory of BAR 2, one interrupt, and
    /// doorbells. It must listen before the machine boots.
    Server(PathBuf),
}

/// The file behind the guest's ivshmem PCI device (BAR 2), shared by both sides while the machine runs.
#[derive(Debug, Clone)]
pub struct SharedMemory {
    path: PathBuf,
}

impl SharedMemory {
    /// Bytes in it: the next power of two that holds 360 MiB, as a PCI BAR must be.
    pub const SIZE: u64 = 512 << 20;

    /// Makes the file, all zeros, in `directory`; on tmpfs where the caller wants speed.
    pub fn create(directory: &Path) -> Result<Self> {
        let path = directory.join("ivshmem");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        file.set_len(Self::SIZE)
            .with_context(|| format!("sizing {}", path.display()))?;
        Ok(Self { path })
    }

    /// The file, for QEMU.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The host's handle: reads, writes and mappings of this file see the guest's BAR and are seen in it.
    pub fn open(&self) -> Result<File> {
        let file = File::options().read(true).write(true).open(&self.path);
        file.with_context(|| format!("opening {}", self.path.display()))
    }
}
