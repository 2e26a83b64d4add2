// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mounts by the kernel module: `mount` of a pool makes its device and mounts that; the device goes with the mount.
//!
//! Whether a mount is made in this way or through FUSE is decided by what the machine can do, and by the options: those that
//! only one of the two knows mean that one, the words `fuse` and `kernel` mean what they say.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use ublk_server::args::DeviceArgs;
use ublk_server::daemon::protocol::{Backing, DeviceFacts, Request, Spec, Wanted};
use ublk_server::daemon::report::Background;
use ublk_server::device::State;
use vexfs_fuse::mount_table::{self, Mount};
use vexfs_fuse::unmount::{Left, how_left};

use crate::commands::{add, del, recover};
use crate::failure::failed;
use crate::image;
use crate::ublk::{self, Known};

/// The type of such mounts.
const TYPE: &str = "vexfs";
/// How long the end of a device may take whose mount is gone.
const CLOSING: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// What only servers of FUSE mounts know.
const ONLY_FUSE: [&str; 8] = [
    "allow_other",
    "allow_root",
    "auto_unmount",
    "writeback",
    "threads",
    "cache",
    "cache_names",
    "cache_rows",
];
/// What only the module knows.
const ONLY_KERNEL: [&str; 2] = ["timeout", "retries"];

/// Which way the options ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the module if the machine can, else through FUSE.
    Either,
    Kernel,
    Fuse,
}

/// Mount options, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) way: Way,
    /// For mount(2).
    flags: MsFlags,
    /// For the module.
    data: String,
    /// For FUSE: all but the words that choose the way, and what only the module knows.
    pub(crate) fuse: Vec<String>,
}

impl Asked {
    /// Reads lists of `-o`, of whose words later ones win. Unknown words go to FUSE, which refuses them.
    pub(crate) fn read(lists: &[String]) -> Self {
        let mut asked = Self {
            way: Way::Either,
            flags: MsFlags::empty(),
            data: String::new(),
            fuse: Vec::new(),
        };
        for word in lists
            .iter()
            .flat_map(|list| list.split(','))
            .filter(|word| !word.is_empty())
        {
            let name = word.split_once('=').map_or(word, |(name, _)| name);
            match word {
                "kernel" => asked.way = Way::Kernel,
                "fuse" => asked.way = Way::Fuse,
                _ if ONLY_KERNEL.contains(&name) => {
                    if asked.way == Way::Either {
                        asked.way = Way::Kernel;
                    }
                    let comma = if asked.data.is_empty() { "" } else { "," };
                    asked.data = format!("{}{comma}{word}", asked.data);
                }
                _ => {
                    if ONLY_FUSE.contains(&name) && asked.way == Way::Either {
                        asked.way = Way::Fuse;
                    }
                    asked.flag(word);
                    asked.fuse.push(word.to_owned());
                }
            }
        }
        asked
    }

    fn flag(&mut self, word: &str) {
        let (flag, set) = match word {
            "ro" | "rw" => (MsFlags::MS_RDONLY, word == "ro"),
            "suid" | "nosuid" => (MsFlags::MS_NOSUID, word == "nosuid"),
            "dev" | "nodev" => (MsFlags::MS_NODEV, word == "nodev"),
            "exec" | "noexec" => (MsFlags::MS_NOEXEC, word == "noexec"),
            "atime" | "noatime" => (MsFlags::MS_NOATIME, word == "noatime"),
            "diratime" | "nodiratime" => (MsFlags::MS_NODIRATIME, word == "nodiratime"),
            "async" | "sync" => (MsFlags::MS_SYNCHRONOUS, word == "sync"),
            "dirsync" => (MsFlags::MS_DIRSYNC, true),
            _ => return,
        };
        self.flags.set(flag, set);
    }
}

/// Why the module cannot be used here; none if it can. What can be loaded is loaded.
pub(crate) fn unusable() -> Option<String> {
    let reason = without_module();
    if reason.is_some() {
        return reason;
    }
    let driver = Path::new("/dev/ublk-control");
    if !driver.exists() {
        load("ublk_drv");
        if !driver.exists() {
            return Some("this kernel has no ublk driver".to_owned());
        }
    }
    None
}

/// The same of the module alone, which is enough for sealed images.
pub(crate) fn without_module() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can use the kernel module".to_owned());
    }
    let registered = || {
        let table = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        table.split_whitespace().any(|word| word == TYPE)
    };
    if !registered() {
        load("vexfs");
        if !registered() {
            return Some("this kernel has no module vexfs".to_owned());
        }
    }
    None
}

pub(crate) fn load(module: &str) {
    let mut modprobe = Command::new("modprobe");
    modprobe.args(["--quiet", module]).stdin(Stdio::null());
    // Who is called by mount(8) in a unit of systemd has no PATH at all.
    modprobe.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    // Whether it could is seen by what is there then.
    let _tried = modprobe.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// Whether a path is a block device of ours that can be mounted.
pub(crate) fn is_device(path: &Path) -> bool {
    device_of(path).is_some()
}

fn device_of(path: &Path) -> Option<Known> {
    let path = path.canonicalize().ok()?;
    if !fs::metadata(&path).ok()?.file_type().is_block_device() {
        return None;
    }
    let id = path.to_str().and_then(|path| ublk::id(path).ok())?;
    let known = ublk::find(id).ok().flatten()?;
    known.is_filesystem().then_some(known)
}

/// Mounts a pool, or the device of one, or a sealed image. Returns the device; of an image that it is in.
pub(crate) fn mount_pool(pool: &Path, directory: &Path, asked: &Asked, log_file: Option<&Path>) -> Result<String> {
    if image::is_image(pool) {
        // What only questions to a server are about (timeouts) is not asked for; that it is read-only goes without saying.
        let words = asked.fuse.iter().map(String::as_str);
        let words: Vec<&str> = words.filter(|word| !["ro", "rw"].contains(word)).collect();
        image::mount(pool, directory, &words.join(","))?;
        return Ok(pool.display().to_string());
    }
    let (device, made) = match device_of(pool) {
        Some(known) => (known.path(), None),
        None => device_for(pool, log_file)?,
    };
    let data = (!asked.data.is_empty()).then_some(asked.data.as_str());
    let mounted = mount(Some(device.as_str()), directory, Some(TYPE), asked.flags, data);
    if let Err(errno) = mounted {
        if let Some(facts) = made {
            undo(&facts);
        }
        return Err(errno).with_context(|| {
            format!(
                "mounting {device} on {}: the kernel log may say more",
                directory.display()
            )
        });
    }
    Ok(device)
}

/// The device of a pool: the one it has, with a server, or a new one that goes when it is unmounted.
fn device_for(pool: &Path, log_file: Option<&Path>) -> Result<(String, Option<DeviceFacts>)> {
    let pool = pool.canonicalize().with_context(|| pool.display().to_string())?;
    if let Some(known) = ublk::of_filesystem(&pool)? {
        let path = known.path();
        if let Some(found) = mount_of(Path::new(&path))? {
            return Err(failed(
                format!("{} is mounted on {}", pool.display(), found.directory.display()),
                "unmount it there first, or use mount --bind",
            ));
        }
        if known.state() != State::Live {
            recover::group(&Backing::Pool { path: pool }, None, log_file)?;
        }
        return Ok((path, None));
    }
    let mut wanted = DeviceArgs::default().wanted_of_pool(&pool)?;
    for spec in &mut wanted.devices {
        spec.until_unmounted = true;
    }
    let facts = added(&wanted, log_file)?;
    Ok((facts.path.clone(), Some(facts)))
}

fn added(wanted: &Wanted, log_file: Option<&Path>) -> Result<DeviceFacts> {
    let spec: &Spec = wanted.devices.first().context("a pool has a device")?;
    let program = ublk::program();
    let background = Background {
        program: &program,
        log: None,
        log_file,
        lock_memory: false,
    };
    add::add(wanted, spec, &background)
}

/// A device that was made for a mount that failed.
fn undo(facts: &DeviceFacts) {
    let deleted = ublk::must_find(facts.id).and_then(|known| {
        let daemon = known.daemon()?.context("its daemon is gone")?;
        let request = Request::Delete {
            id: facts.id,
            force: false,
        };
        Ok(daemon.call(request)?)
    });
    if let Err(error) = deleted {
        eprintln!("vexfs-ublk: {} stays behind: {error:#}", facts.path);
    }
}

/// The mount of a device, or of the pool that it presents.
pub(crate) fn mount_of(place: &Path) -> Result<Option<Mount>> {
    let mounts = mount_table::all().context("the table of mounts")?;
    let ours = |mount: &&Mount| mount.kind == TYPE;
    let absolute = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    // What is seen on a directory is what was mounted there last.
    let on = mounts.iter().rev().find(|mount| mount.directory == absolute);
    if let Some(mount) = on.filter(ours) {
        return Ok(Some(mount.clone()));
    }
    let device = match ublk::of_filesystem(&absolute)? {
        Some(known) => PathBuf::from(known.path()),
        None => absolute,
    };
    Ok(mounts
        .iter()
        .rev()
        .filter(ours)
        .find(|mount| mount.source == device)
        .cloned())
}

/// The mount by the module that an absolute path is in, and the pool that is mounted there.
pub(crate) fn around(path: &Path) -> Result<Option<(Mount, PathBuf)>> {
    let mounts = mount_table::all().context("the table of mounts")?;
    // The innermost one; of two on one directory the last. Paths below a bind mount of a directory are no paths of the pool.
    let around = mounts.into_iter().filter(|mount| path.starts_with(&mount.directory));
    let innermost = around.max_by_key(|mount| mount.directory.components().count());
    Ok(innermost
        .filter(|mount| mount.kind == TYPE && mount.root == Path::new("/"))
        .and_then(|mount| {
            let record = device_of(&mount.source)?.record?;
            let pool = record.backing.path()?.to_owned();
            Some((mount, pool))
        }))
}

/// Unmounts. A device that was made for the mount is waited for, and so its pool; tells how that was left. None: the device
/// is still there, or will be for a while.
pub(crate) fn unmount(mount: &Mount, lazily: bool) -> Result<Option<Left>> {
    let known = device_of(&mount.source);
    // A daemon that was started for the mount closes the pool when its device is gone, and ends.
    let daemon = known.as_ref().and_then(|known| known.daemon().ok().flatten());
    let ends = daemon
        .map(|daemon| daemon.overview.server)
        .filter(|server| server.until_idle);
    let command = ends.map(|server| PathBuf::from(format!("/proc/{}/cmdline", server.pid)));
    let line = || command.as_ref().and_then(|command| fs::read(command).ok());
    // Nothing is in it of one that has ended and was not waited for, and another's number may be used again.
    let started_as = line();
    let runs = || line().is_some_and(|line| !line.is_empty() && Some(line) == started_as);
    let flags = if lazily {
        MntFlags::MNT_DETACH
    } else {
        MntFlags::UMOUNT_NOFOLLOW
    };
    umount2(&mount.directory, flags).with_context(|| format!("unmounting {}", mount.directory.display()))?;
    let record = known.and_then(|known| known.record);
    let record = record.filter(|record| record.spec.until_unmounted && !lazily);
    let Some(record) = record else {
        return Ok(None);
    };
    let deadline = Instant::now() + CLOSING;
    while mount.source.exists() || runs() {
        if !runs() && delete_abandoned(record.id)? {
            let pool = record.backing.path();
            return Ok(Some(pool.map_or(Left::Unknown, |pool| how_left(pool, mount.read_only))));
        }
        if Instant::now() >= deadline {
            return Err(failed(
                format!(
                    "{} is unmounted, but {} or its daemon is still there",
                    mount.directory.display(),
                    mount.source.display()
                ),
                "vexfs-ublk list shows who uses it",
            ));
        }
        thread::sleep(PAUSE);
    }
    Ok(Some(Left::Clean))
}

/// Deletes a device that nobody serves: its daemon ended, told to or not, before it saw that nobody uses it any more.
fn delete_abandoned(id: u32) -> Result<bool> {
    let Some(known) = ublk::find(id)? else { return Ok(false) };
    let served = known.state() == State::Live || known.daemon().is_ok_and(|daemon| daemon.is_some());
    // Refused to who has it open, who may be about to close it.
    Ok(!served && del::delete(&known, false).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Asked {
        Asked::read(&[list.to_owned()])
    }

    #[test]
    fn options_choose_the_way_and_reach_who_knows_them() {
        let asked = read("ro,noatime,timeout=100,retries=2,x-systemd.automount,rw");
        assert_eq!(asked.way, Way::Kernel);
        assert_eq!(asked.flags, MsFlags::MS_NOATIME);
        assert_eq!(asked.data, "timeout=100,retries=2");
        assert_eq!(asked.fuse, ["ro", "noatime", "x-systemd.automount", "rw"]);
        for (list, way) in [
            ("", Way::Either),
            ("defaults", Way::Either),
            ("kernel,ro", Way::Kernel),
            ("allow_other", Way::Fuse),
            ("threads=3", Way::Fuse),
            ("fuse,timeout=3", Way::Fuse),
            // Who says so gets it, and is told what is not known there.
            ("threads=3,kernel", Way::Kernel),
        ] {
            assert_eq!(read(list).way, way, "{list}");
        }
    }
}
