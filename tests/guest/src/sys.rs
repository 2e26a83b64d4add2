// SPDX-License-Identifier: MIT OR Apache-2.0

//! Small things that tests inside the guest need again and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Reads a sysfs or procfs file, without its trailing newline.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a sysfs or procfs file.
pub fn write(path: impl AsRef<Path>, value: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, value).with_context(|| format!("writing {value:?} to {}", path.display()))
}

/// The block device of the scratch disk that the test asked for under this name.
pub fn disk(name: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block").context("listing /sys/block")? {
        let path = entry?.path();
        if fs::read_to_string(path.join("serial")).is_ok_and(|serial| serial.trim_end() == name)
            && let Some(node) = path.file_name()
        {
            return Ok(Path::new("/dev").join(node));
        }
    }
    bail!("this machine has no disk called {name:?}: name it in the test's `disks`")
}

/// Runs a command, expects success, and returns its standard output.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("running {program}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}\n{stdout}{stderr}", arguments.join(" "), output.status);
    }
    Ok(stdout)
}

/// Waits until a condition holds; fails with `what` after `bound`.
pub fn wait_for(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > bound {
            bail!("{what} did not happen within {bound:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// Watches that kernel memory does not grow with what a test does again and again.
///
/// On kernels with kmemleak that is the judge: their checkers keep freed memory and records of every object, so the
/// sum of all slabs says nothing there. On others the slabs must not grow by more than they do without any leak.
#[derive(Debug)]
pub struct LeakCheck {
    before: u64,
}

impl LeakCheck {
    /// Per-CPU caches and deferred frees move by this much without any leak.
    const NOISE: u64 = 4 << 20;

    /// Starts watching; what is allocated once should be by now.
    pub fn start() -> Result<Self> {
        if Path::new(KMEMLEAK).exists() {
            write(KMEMLEAK, "clear")?;
        }
        Ok(Self { before: slab_bytes()? })
    }

    /// Fails if memory was lost since the start. Any loss counts, whoever is to blame: the trace of a leak in a module
    /// that has been unloaded names nobody.
    pub fn finish(self) -> Result<()> {
        if let Some(leaks) = kmemleak()? {
            ensure!(leaks.is_empty(), "kmemleak:\n{leaks}");
            return Ok(());
        }
        let (before, after) = (self.before, slab_bytes()?);
        ensure!(
            after < before + Self::NOISE,
            "kernel memory grew from {before} to {after} bytes"
        );
        Ok(())
    }
}

/// Bytes in the kernel's slab caches that cannot be reclaimed.
fn slab_bytes() -> Result<u64> {
    let meminfo = read("/proc/meminfo")?;
    let kib = meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("SUnreclaim:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .context("/proc/meminfo has no SUnreclaim line")?;
    Ok(kib * 1024)
}

/// What kmemleak finds, on kernels that have it. Objects allocated a moment ago may look unreferenced for as long as a
/// pointer to them lives only in a register or a freed stack, so only what a second scan confirms counts.
fn kmemleak() -> Result<Option<String>> {
    if !Path::new(KMEMLEAK).exists() {
        return Ok(None);
    }
    for _ in 0..2 {
        write(KMEMLEAK, "scan")?;
        // Younger objects than this many seconds are never reported.
        std::thread::sleep(Duration::from_secs(6));
    }
    write(KMEMLEAK, "scan")?;
    Ok(Some(read(KMEMLEAK)?))
}
