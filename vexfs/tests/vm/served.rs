// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool in the guest's memory, its server, and its mount by the kernel module.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::{kmod, measure, sys};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use vexfs::check::assert_sound;
use vexfs::disk::{Access, FileDisk};
use vexfs::pool::format::{FormatOptions, format_path};

/// Where the tests mount.
pub(crate) const AT: &str = "/mnt";
pub(crate) const IMAGE: &str = "/tmp/served.img";
const IMAGE_BYTES: u64 = 512 << 20;
/// Serves the device of the pool: one that waits for a server, or a new one.
const SERVE: [&str; 3] = ["--target", "fs", IMAGE];

/// An executable of this workspace. Those of other packages are built beside the tests' own.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let directory = this.ancestors().nth(2).context("a test lies below its target folder")?;
    let path = directory.join(name);
    ensure!(path.exists(), "{} is not built", path.display());
    Ok(path)
}

/// A running server; killed on drop, so that a failing test leaves no process behind.
pub(crate) struct Server {
    process: Child,
    pub(crate) device: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        kmod::modprobe("ublk_drv")?;
        let mut process = Command::new(program("vexfs-ublkd")?)
            .arg("serve")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the server")?;
        let stdout = process.stdout.take().context("the server has no standard output")?;
        let mut device = String::new();
        BufReader::new(stdout).read_line(&mut device)?;
        let device = device.trim_end().to_owned();
        let server = Self { process, device };
        ensure!(
            Path::new(&server.device).exists(),
            "ready, but {:?} is not there",
            server.device
        );
        Ok(server)
    }

    /// An empty pool, and who serves it.
    pub(crate) fn of_new_pool() -> Result<Self> {
        File::create(IMAGE)?.set_len(IMAGE_BYTES)?;
        let force = FormatOptions {
            force: true,
            ..FormatOptions::default()
        };
        format_path(Path::new(IMAGE), &force)?;
        Self::of_pool()
    }

    /// Who serves the pool that is there.
    pub(crate) fn of_pool() -> Result<Self> {
        Self::start(&SERVE)
    }

    /// Kills it, and starts another for the same device. Tells how long that one took.
    pub(crate) fn replace(&mut self) -> Result<Duration> {
        self.process.kill()?;
        self.process.wait()?;
        let start = Instant::now();
        let next = Self::of_pool()?;
        ensure!(
            next.device == self.device,
            "{} was taken over as {}",
            self.device,
            next.device
        );
        *self = next;
        let took = start.elapsed();
        measure::recovered("the server", start)?;
        Ok(took)
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        sys::output("kill", &[signal, &self.process.id().to_string()]).map(drop)
    }

    /// Stops it as a service manager does, and looks for damage.
    pub(crate) fn stop_and_check(self) -> Result<()> {
        self.stop()?;
        Ok(assert_sound(Arc::new(FileDisk::open(
            Path::new(IMAGE),
            Access::ReadOnly,
        )?))?)
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal("-TERM")?;
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(30), "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Mounts the device. `options` as for mount(8) with `-o`.
    pub(crate) fn mount(&self, options: &str) -> Result<Mount> {
        mount(
            Some(self.device.as_str()),
            AT,
            Some("vexfs"),
            MsFlags::empty(),
            Some(options),
        )
        .with_context(|| format!("mounting {}", self.device))?;
        Ok(Mount {
            name: self.device.trim_start_matches("/dev/").to_owned(),
            options: options.to_owned(),
            mounted: true,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// A mount at [`AT`].
pub(crate) struct Mount {
    name: String,
    options: String,
    mounted: bool,
}

impl Mount {
    /// A file of the mount in sysfs.
    pub(crate) fn attribute(&self, attribute: &str) -> Result<String> {
        sys::read(format!("/sys/fs/vexfs/{}/{attribute}", self.name))
    }

    pub(crate) fn counter(&self, attribute: &str) -> Result<u64> {
        Ok(self.attribute(attribute)?.parse()?)
    }

    pub(crate) fn unmount(mut self) -> Result<()> {
        self.mounted = false;
        umount2(AT, MntFlags::empty()).context("unmounting")
    }

    /// Unmounts it, and mounts it again with the same options.
    pub(crate) fn again(self, server: &Server) -> Result<Self> {
        let options = self.options.clone();
        self.unmount()?;
        server.mount(&options)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            let _gone = umount2(AT, MntFlags::MNT_DETACH);
        }
    }
}

/// A path below the mount.
pub(crate) fn at(name: &str) -> PathBuf {
    Path::new(AT).join(name)
}

/// Nothing that was read stays cached.
pub(crate) fn drop_caches() -> Result<()> {
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}
