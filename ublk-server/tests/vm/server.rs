// SPDX-License-Identifier: MIT OR Apache-2.0

//! A running `vexfs-ublkd serve`, and what tests do with its device.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::{kmod, sys};

pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_vexfs-ublkd");
pub(crate) const FIO_JOBS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fio");

/// A running server; killed on drop, so that a failing test leaves no process behind.
pub(crate) struct Server {
    process: Child,
    pub(crate) device: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        Self::spawn(Command::new(SERVER).arg("serve").args(arguments))
    }

    /// Starts what is a server with whatever else was set; its standard output must be free.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        kmod::modprobe("ublk_drv")?;
        let mut process = command.stdout(Stdio::piped()).spawn().context("starting the server")?;
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

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGKILL, and does not wait for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        Ok(self.process.kill()?)
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        sys::output("kill", &[signal, &self.process.id().to_string()]).map(drop)
    }

    /// Stops the server as a service manager does; its device must be gone when it has ended.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal("-TERM")?;
        let status = self.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "the server ended with {status}");
        ensure!(!Path::new(&self.device).exists(), "{} outlived its server", self.device);
        Ok(())
    }

    pub(crate) fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            ensure!(start.elapsed() < bound, "the server did not end within {bound:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

pub(crate) fn fio(device: &str, arguments: &[&str]) -> Result<String> {
    let filename = format!("--filename={device}");
    let mut all = vec![filename.as_str()];
    all.extend(arguments);
    sys::output("fio", &all)
}

/// The message with which the server refuses a command line.
pub(crate) fn refusal(arguments: &[&str]) -> Result<String> {
    kmod::modprobe("ublk_drv")?;
    let output = Command::new(SERVER).arg("serve").args(arguments).output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "{arguments:?} was not refused");
    ensure!(
        output.stdout.is_empty(),
        "{arguments:?} claims to be ready: {:?}",
        output.stdout
    );
    Ok(stderr)
}

/// Fills a part of a device with a byte, past the page cache.
pub(crate) fn fill(device: &str, byte: char, from_mib: u32, mib: u32) -> Result<()> {
    let script = format!(
        "tr '\\0' {byte} < /dev/zero | dd of={device} bs=1M seek={from_mib} count={mib} iflag=fullblock oflag=direct conv=notrunc"
    );
    sys::output("sh", &["-ec", &script]).map(drop)
}
