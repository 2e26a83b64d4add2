// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool on the scratch disk, mounted through a front end, and taken down again without a rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::suites::Settings;
use lab::suites::target::{On, Room, Target};
use lab_guest::measure::{Promise, check};
use lab_guest::{kmod, sys};
use nix::mount::{MntFlags, umount2};

/// Where the pool is mounted.
pub(crate) const AT: &str = "/mnt/target";
/// Where the file system of the scratch disk is.
pub(crate) const DISK: &str = "/mnt/disk";
/// Where servers of FUSE mounts have their sockets; [`Target`] puts it beside the mount.
const RUNTIME: &str = "/mnt/run";
/// Where the programs are in the guest: reading them from the host's root takes half a second each time.
const PROGRAMS: &str = "/run/programs";
/// Size of a pool on which space is not the point.
pub(crate) const ROOMY: u64 = 384 << 20;
/// Nothing that is told an error, or ends, takes longer; emulated machines are slow.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// The scene of a scenario. Whatever is left of it goes on drop.
pub(crate) struct World {
    pub(crate) on: On,
    /// Nothing in scenarios that have their own way to mount.
    target: Option<Box<dyn Target>>,
    disk: bool,
}

impl World {
    /// A pool in a file on the scratch disk's own file system, mounted.
    pub(crate) fn new(on: On) -> Result<Self> {
        Self::with_file(on, ROOMY)
    }

    /// The same, of so many bytes.
    pub(crate) fn with_file(on: On, bytes: u64) -> Result<Self> {
        let mut world = Self::without_pool(on)?;
        world.make(Room::File(bytes))?;
        Ok(world)
    }

    /// A pool on a device, mounted.
    pub(crate) fn on_device(on: On, device: &Path) -> Result<Self> {
        prepare(on)?;
        let mut world = Self {
            on,
            target: None,
            disk: false,
        };
        world.make(Room::Device(device.to_owned()))?;
        Ok(world)
    }

    /// The scratch disk's file system, and programs that run.
    pub(crate) fn without_pool(on: On) -> Result<Self> {
        prepare(on)?;
        let disk = sys::disk("disk")?;
        let disk = disk.to_str().context("a device's name is text")?;
        sys::output("mkfs.ext4", &["-q", "-F", disk])?;
        fs::create_dir_all(DISK)?;
        sys::output("mount", &[disk, DISK])?;
        Ok(Self {
            on,
            target: None,
            disk: true,
        })
    }

    fn make(&mut self, room: Room) -> Result<()> {
        let scratch = if self.disk { DISK } else { "/run" };
        let mut target = self.on.make(&settings(self.on, scratch), Path::new(AT), room)?;
        target.mount()?;
        self.target = Some(target);
        Ok(())
    }

    pub(crate) fn target(&mut self) -> Result<&mut dyn Target> {
        Ok(self.target.as_mut().context("this scene has no pool")?.as_mut())
    }

    /// The pool's file.
    pub(crate) fn pool() -> PathBuf {
        Path::new(DISK).join("pool.img")
    }

    /// The process that serves the mount.
    pub(crate) fn server(&self) -> Result<u32> {
        let server = self.target.as_ref().and_then(|target| target.server());
        server.context("nobody serves the mount")
    }

    /// Runs `vexfs-ublk`.
    pub(crate) fn cli(&self, words: &[&str]) -> Result<Output> {
        Ok(cli(self.on, words).output()?)
    }

    /// What the mount says of itself, where it is the kernel's.
    pub(crate) fn health(&self) -> Result<()> {
        if self.on != On::Module {
            return Ok(());
        }
        let mounts = sys::read("/proc/mounts")?;
        let device = mounts
            .lines()
            .find_map(|line| line.split_once(&format!(" {AT} "))?.0.strip_prefix("/dev/"));
        let place = Path::new("/sys/fs/vexfs").join(device.context("it is not mounted")?);
        let (health, degraded) = (sys::read(place.join("health"))?, sys::read(place.join("degraded"))?);
        check(
            Promise::Stability,
            health == "HEALTHY" && degraded == "0",
            format!("the mount is {health}, and was degraded {degraded} times"),
        )
    }

    /// Ends the mount and its server whatever they have met; then goes on with a sound pool in the file's place.
    pub(crate) fn go_on_with(&mut self, sound: &Path) -> Result<()> {
        let pid = self.target.take().and_then(|target| target.server());
        // It may have ended already, with its server or without.
        let _gone = umount2(AT, MntFlags::MNT_DETACH);
        if let Some(pid) = pid {
            let _told = sys::output("kill", &["-TERM", &pid.to_string()]);
            let ended = sys::wait_for("the end of the server", BOUND, || is_over(pid));
            if ended.is_err() {
                sys::output("kill", &["-KILL", &pid.to_string()])?;
            }
        }
        if self.on == On::Module {
            let output = self.cli(&["del", "--all", "--force"])?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        fs::rename(sound, Self::pool())?;
        self.make(Room::Made(Self::pool()))
    }

    /// Unmounts it, checks the pool, and makes sure that nothing is left.
    pub(crate) fn finish(mut self) -> Result<()> {
        if let Some(mut target) = self.target.take() {
            target.unmount()?;
            let sound = target.check();
            let said = sound.as_ref().err().map(|error| format!("{error:#}"));
            check(
                Promise::Integrity,
                sound.is_ok(),
                said.unwrap_or_else(|| "the pool is sound".to_owned()),
            )?;
        }
        self.nothing_left()
    }

    /// Nothing of mounts, servers, devices and references is left, after the pool was unmounted.
    pub(crate) fn nothing_left(mut self) -> Result<()> {
        let start = Instant::now();
        let mut left = left_over();
        while !left.is_empty() && start.elapsed() < BOUND {
            std::thread::sleep(Duration::from_millis(50));
            left = left_over();
        }
        if self.disk {
            self.disk = false;
            if let Err(error) = sys::output("umount", &[DISK]) {
                left.push(format!("{error:#}"));
            }
        }
        let words = if left.is_empty() {
            "no mount, server, device or reference is left".to_owned()
        } else {
            left.join("; ")
        };
        check(Promise::CleanUp, left.is_empty(), words)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A scenario that failed: the next one on this machine finds it empty, as far as that can be done.
        if let Some(pid) = self.target.as_ref().and_then(|target| target.server()) {
            let _ended = sys::output("kill", &["-KILL", &pid.to_string()]);
        }
        let _gone = umount2(AT, MntFlags::MNT_DETACH);
        if self.on == On::Module {
            let _deleted = self.cli(&["del", "--all", "--force"]);
        }
        if self.disk {
            let _gone = umount2(DISK, MntFlags::MNT_DETACH);
        }
    }
}

/// Drivers, programs, and a directory to mount on.
fn prepare(on: On) -> Result<()> {
    kmod::modprobe(if on == On::Module { "ublk_drv" } else { "fuse" })?;
    fs::create_dir_all(PROGRAMS)?;
    fs::create_dir_all(AT)?;
    let this = std::env::current_exe()?;
    let built = this.ancestors().nth(2).context("a test lies below its target folder")?;
    for name in ["vexfs-ublk", "vexfs-ublkd"] {
        let (from, to) = (built.join(name), Path::new(PROGRAMS).join(name));
        if !to.exists() {
            fs::copy(&from, &to).with_context(|| format!("{} is not built", from.display()))?;
        }
    }
    Ok(())
}

pub(crate) fn settings(on: On, scratch: &str) -> Settings {
    Settings {
        on,
        program: program(),
        full: false,
        share: 1,
        seed: 1,
        scratch: scratch.into(),
    }
}

/// `vexfs-ublk`.
pub(crate) fn program() -> PathBuf {
    Path::new(PROGRAMS).join("vexfs-ublk")
}

/// `vexfs-ublk` with arguments, and without input.
pub(crate) fn cli(on: On, words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(words).stdin(Stdio::null());
    if on == On::Fuse {
        command.env("VEXFS_RUNTIME_DIR", RUNTIME);
    }
    command
}

/// Whether a process has ended; a zombie holds nothing.
fn is_over(pid: u32) -> bool {
    sys::read(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

/// What is there that should not be.
fn left_over() -> Vec<String> {
    let mut left = Vec::new();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(" fuse.vexfs ") || line.contains(" vexfs ") || line.contains(AT))
            .map(|line| format!("the mount {line}")),
    );
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let pid = entry.file_name().to_string_lossy().parse();
        if name.starts_with("vexfs-ublk") && pid.is_ok_and(|pid| !is_over(pid)) {
            left.push(format!("process {} ({})", entry.file_name().display(), name.trim()));
        }
    }
    for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("ublkb") {
            left.push(format!("the device {name}"));
        }
    }
    if let Ok(count) = sys::read("/sys/module/vexfs/refcnt")
        && count != "0"
    {
        left.push(format!("{count} references to the module"));
    }
    left
}

/// The one line of a command that must be refused, in bounded time.
pub(crate) fn refused(what: &str, command: &mut Command) -> Result<String> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let took = start.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let graceful = !output.status.success() && output.status.code().is_some() && stderr.lines().count() == 1;
    check(
        Promise::GracefulError,
        graceful && took < BOUND,
        format!("{what}: {} after {took:.1?}: {stderr}", output.status),
    )?;
    Ok(stderr)
}

/// The control socket of the server answers.
pub(crate) fn answers(world: &World) -> Result<()> {
    let output = world.cli(&["status", AT])?;
    ensure!(
        output.status.success(),
        "status: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
