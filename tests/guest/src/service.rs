// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long it takes until a mounted filesystem answers: after its server was killed, and when it is mounted. For the program
//! `lab-service`, in a machine.
//!
//! A server is a command that serves [`DEVICE`] until it is told to end. All clocks run here, beside it: what a word to the host
//! takes is in nobody's time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::syncfs;
use serde::{Deserialize, Serialize};

use crate::sys;

/// The first device of the driver.
pub const DEVICE: &str = "/dev/ublkb0";
/// Where it is mounted.
pub const MOUNT: &str = "/mnt";
/// Whatever is waited for is given up after that.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at what is waited for: what a time may be wrong by.
const LOOK: Duration = Duration::from_millis(1);

/// Seconds from the start of a server until its filesystem was of use.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Returned {
    /// The device was there.
    pub device: f64,
    /// It was mounted.
    pub mounted: f64,
    /// Its top directory was listed, with attributes.
    pub listed: f64,
}

/// What to kill, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Servers that are killed, one after the other.
    pub kills: usize,
    /// Files that are made just before each.
    pub dirty: usize,
}

/// Serves and mounts what is there, and kills the server again and again. Seconds from each kill until a byte was durable
/// again.
///
/// Another server is started as soon as the last one has ended, as a service manager would.
pub fn outages(outage: Outage, kind: &str, server: &[String]) -> Result<Vec<f64>> {
    let mut serving = start(server)?;
    wait_for_device(&mut serving)?;
    mount_device(kind)?;
    let mut seconds = Vec::with_capacity(outage.kills);
    for kill in 0..outage.kills {
        let directory = Path::new(MOUNT).join(format!("outage-{kill}"));
        fs::create_dir(&directory)?;
        for number in 0..outage.dirty {
            File::create_new(directory.join(number.to_string()))?;
        }
        let begin = Instant::now();
        serving.kill().context("killing the server")?;
        // Only then is it certain that nobody is left to answer.
        serving.wait()?;
        serving = start(server)?;
        wait_for_answer(&mut serving, begin)?;
        seconds.push(begin.elapsed().as_secs_f64());
        syncfs(File::open(MOUNT)?).context("syncing the mount")?;
    }
    umount2(MOUNT, MntFlags::empty()).context("unmounting")?;
    sys::output("kill", &["-TERM", &serving.id().to_string()])?;
    let status = serving.wait()?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(seconds)
}

/// Starts a server, mounts its device and lists it. Unmounts it then, and ends the server by a shell command.
pub fn returned(kind: &str, end: &str, server: &[String]) -> Result<Returned> {
    let begin = Instant::now();
    let mut serving = start(server)?;
    wait_for_device(&mut serving)?;
    let device = begin.elapsed();
    mount_device(kind)?;
    let mounted = begin.elapsed();
    for entry in fs::read_dir(MOUNT)? {
        entry?.metadata()?;
    }
    let listed = begin.elapsed();
    umount2(MOUNT, MntFlags::empty()).context("unmounting")?;
    sys::output("/bin/sh", &["-ec", end])?;
    serving.wait()?;
    Ok(Returned {
        device: device.as_secs_f64(),
        mounted: mounted.as_secs_f64(),
        listed: listed.as_secs_f64(),
    })
}

/// Seconds that a command takes which must succeed. What it prints is kept for its failure.
pub fn command(words: &[String]) -> Result<f64> {
    let (program, arguments) = words.split_first().context("no command")?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let begin = Instant::now();
    sys::output(program, &arguments)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn start(server: &[String]) -> Result<Child> {
    let (program, arguments) = server.split_first().context("no server")?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        // What a server prints there is not what its caller does.
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))
}

fn mount_device(kind: &str) -> Result<()> {
    mount(Some(DEVICE), MOUNT, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting {DEVICE} as {kind}"))
}

fn wait_for_device(serving: &mut Child) -> Result<()> {
    let is_there = || fs::metadata(DEVICE).is_ok_and(|found| found.file_type().is_block_device());
    wait(serving, Instant::now(), || {
        is_there().then_some(()).ok_or_else(|| io::ErrorKind::NotFound.into())
    })
}

/// A byte is durable: what is known of a filesystem, its mount may say without a server.
fn wait_for_answer(serving: &mut Child, begin: Instant) -> Result<()> {
    wait(serving, begin, || {
        let mut file = File::create(Path::new(MOUNT).join("answered"))?;
        file.write_all(&[1])?;
        file.sync_all()
    })
}

/// Tries until something succeeds, while there is a server.
fn wait(serving: &mut Child, begin: Instant, mut attempt: impl FnMut() -> io::Result<()>) -> Result<()> {
    loop {
        let Err(error) = attempt() else { return Ok(()) };
        if let Some(status) = serving.try_wait()? {
            bail!("the server ended with {status}");
        }
        ensure!(begin.elapsed() < PATIENCE, "no service: {error}");
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_timed_and_its_failure_told() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(command(&words("sleep 0.02")).unwrap() >= 0.02);
        assert!(command(&words("false")).is_err());
        assert!(command(&[]).is_err());
    }

    #[test]
    fn who_waits_for_a_server_that_ended_is_told() {
        let mut ended = start(&["true".to_owned()]).unwrap();
        let result = wait(&mut ended, Instant::now(), || Err(io::ErrorKind::NotFound.into()));
        assert!(result.unwrap_err().to_string().contains("ended"));
        let mut serving = start(&["sleep".to_owned(), "60".to_owned()]).unwrap();
        let mut attempts = 0;
        wait(&mut serving, Instant::now(), || {
            attempts += 1;
            if attempts == 3 {
                Ok(())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        })
        .unwrap();
        serving.kill().unwrap();
        serving.wait().unwrap();
    }
}
