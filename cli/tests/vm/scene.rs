// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands, pools, and what loads devices.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::{kmod, sys};
use serde_json::Value;

const CLI: &str = env!("CARGO_BIN_EXE_vexfs-ublk");
/// Where the programs are in the guest: the machine's root is another's, and reading programs of this size from there takes
/// half a second each time.
const PROGRAMS: &str = "/run/programs";
/// What daemons of these tests say.
pub(crate) const LOG: &str = "/run/daemons.log";

/// The driver, the programs, and no device.
pub(crate) struct Scene {
    program: String,
    runtime: &'static str,
    mounted: bool,
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        kmod::modprobe("ublk_drv")?;
        fs::create_dir_all(PROGRAMS)?;
        let daemon = Path::new(CLI).with_file_name("vexfs-ublkd");
        for (from, name) in [(Path::new(CLI), "vexfs-ublk"), (daemon.as_path(), "vexfs-ublkd")] {
            let to = Path::new(PROGRAMS).join(name);
            if !to.exists() {
                fs::copy(from, &to).with_context(|| from.display().to_string())?;
            }
        }
        let scene = Self {
            program: format!("{PROGRAMS}/vexfs-ublk"),
            runtime: "/run/vexfs-ublk",
            mounted: false,
        };
        scene.clear()?;
        fs::write(LOG, "")?;
        Ok(scene)
    }

    /// The same, with a file system on the scratch disk at `/mnt/disk`.
    pub(crate) fn with_disk(disk: &str) -> Result<Self> {
        let mut scene = Self::new()?;
        let disk = sys::disk(disk)?;
        let disk = disk.to_str().context("a device's name is text")?;
        sys::output("mkfs.ext4", &["-q", "-F", disk])?;
        fs::create_dir_all("/mnt/disk")?;
        sys::output("mount", &[disk, "/mnt/disk"])?;
        scene.mounted = true;
        Ok(scene)
    }

    /// No device, whatever a test before left.
    fn clear(&self) -> Result<()> {
        let output = self.output(&["del", "--all", "--force"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words);
        command
    }

    pub(crate) fn output(&self, words: &[&str]) -> Result<Output> {
        Ok(self.command(words).stdin(Stdio::null()).output()?)
    }

    /// What a command prints that must succeed.
    pub(crate) fn ok(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = || fs::read_to_string(LOG).unwrap_or_default();
        ensure!(output.status.success(), "{words:?}: {stderr}\n{}", log());
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Result<Value> {
        let words = [words, &["--json"]].concat();
        Ok(serde_json::from_str(&self.ok(&words)?)?)
    }

    /// The one line of a command that must fail.
    pub(crate) fn refused(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1),
            "{words:?} ended with {}: {stderr}",
            output.status
        );
        ensure!(stderr.lines().count() == 1, "{words:?} says {stderr}");
        Ok(stderr)
    }

    /// A device; its daemon logs where a test can read it.
    pub(crate) fn add(&self, words: &[&str]) -> Result<String> {
        self.ok(&[&["add", "--log-file", LOG], words].concat())
    }

    /// A pool with a volume.
    pub(crate) fn pool(&self, path: &str, size: &str, volume: &str, volume_size: &str) -> Result<()> {
        if Path::new(path).metadata().is_ok_and(|found| !found.is_file()) {
            self.ok(&["mkfs", "--force", path])?;
        } else {
            self.ok(&["mkfs", "--force", "--size", size, path])?;
        }
        self.ok(&["volume", "create", path, volume, "--size", volume_size])
            .map(drop)
    }

    /// A pool in order.
    pub(crate) fn check(&self, pool: &str) -> Result<()> {
        self.ok(&["check", pool]).map(drop)
    }

    /// Nothing of a device is left, nor of its daemon.
    pub(crate) fn nothing_left(&self) -> Result<()> {
        sys::wait_for("the end of the last daemon", Duration::from_secs(20), || {
            daemons().is_empty()
        })?;
        let left = |directory: &str| -> Vec<String> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        };
        let devices: Vec<_> = left("/dev")
            .into_iter()
            .filter(|name| name.starts_with("ublkb"))
            .collect();
        ensure!(devices.is_empty(), "{devices:?} are left in /dev");
        let mut files = left(self.runtime);
        files.extend(left(&format!("{}/devices", self.runtime)));
        files.retain(|name| ![".lock", "devices"].contains(&name.as_str()));
        ensure!(files.is_empty(), "{files:?} are left in {}", self.runtime);
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            println!("clearing: {error:#}");
        }
        if self.mounted {
            // Daemons hold what they serve from for a moment longer than their devices.
            let waited = sys::wait_for("the end of daemons", Duration::from_secs(20), || daemons().is_empty());
            if let Err(error) = waited.and_then(|()| sys::output("umount", &["/mnt/disk"]).map(drop)) {
                println!("{error:#}");
            }
        }
    }
}

/// Processes of daemons.
pub(crate) fn daemons() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        // A zombie serves nothing.
        let state = fs::read_to_string(entry.path().join("stat")).ok()?;
        (name.trim() == "vexfs-ublkd" && !state.contains(") Z ")).then_some(pid)
    });
    named.collect()
}

/// The daemon, where there must be one.
pub(crate) fn daemon() -> Result<u32> {
    let found = daemons();
    ensure!(found.len() == 1, "{found:?} serve");
    Ok(found[0])
}

pub(crate) fn signal(name: &str, pid: u32) -> Result<()> {
    sys::output("kill", &[name, &pid.to_string()]).map(drop)
}

/// Reads back what it writes, all the time, and ends with an error at the first that is not as it was written.
pub(crate) struct Load {
    fio: Child,
    device: String,
    log: String,
}

impl Load {
    pub(crate) fn start(device: &str) -> Result<Self> {
        let log = format!("/run/fio-{}.log", device.trim_start_matches("/dev/"));
        let fio = Command::new("fio")
            .arg(format!("--filename={device}"))
            .arg(format!("--output={log}"))
            .args(["--name=load", "--rw=randrw", "--bsrange=4k-64k", "--direct=1"])
            .args(["--ioengine=io_uring", "--iodepth=16", "--fsync=64"])
            .args(["--verify=crc32c", "--verify_backlog=128", "--verify_fatal=1"])
            .args(["--time_based", "--runtime=3600"])
            .stdout(Stdio::null())
            .spawn()?;
        let mut load = Self {
            fio,
            device: device.to_owned(),
            log,
        };
        let before = sectors(device)?;
        load.moves(&before)?;
        Ok(load)
    }

    /// It works, and has met no error.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.fio.try_wait()? {
            anyhow::bail!("fio ended with {status}: {}", fs::read_to_string(&self.log)?);
        }
        Ok(())
    }

    /// Requests are answered.
    pub(crate) fn moves(&mut self, before: &[String]) -> Result<()> {
        let start = Instant::now();
        while sectors(&self.device)? == before {
            ensure!(start.elapsed() < Duration::from_secs(20), "nothing moves any more");
            self.check()?;
            std::thread::sleep(Duration::from_millis(10));
        }
        self.check()
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        signal("-INT", self.fio.id())?;
        let status = self.fio.wait()?;
        let text = fs::read_to_string(&self.log)?;
        ensure!(status.code() == Some(128), "fio ended with {status}: {text}");
        ensure!(text.contains("err= 0") && !text.contains("verify:"), "{text}");
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.fio.kill();
        let _status = self.fio.wait();
    }
}

/// What the block layer counts as read and written.
pub(crate) fn sectors(device: &str) -> Result<Vec<String>> {
    let stat = sys::read(format!("/sys/block/{}/stat", device.trim_start_matches("/dev/")))?;
    let words = stat.split_ascii_whitespace().map(str::to_owned);
    Ok(words
        .enumerate()
        .filter(|(at, _)| [2, 6].contains(at))
        .map(|(_, word)| word)
        .collect())
}

/// Bytes of a file that no other has, in the guest's `/run`.
pub(crate) fn shell(script: &str) -> Result<String> {
    sys::output("sh", &["-ec", script])
}
