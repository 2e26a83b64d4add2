// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that serve a block device, and how they are started and stopped in the machine.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::host::cache;
use lab::runner::discover::cargo;
use lab::vm::{Job, Machine};
use lab_guest::protocol::Command;

use super::super::super::demo::{build_server, serve, stop};
use super::super::super::suite::build_command_line;

/// The ublk server by the author of the driver.
const RUBLK: &str = "0.2.15";
const LIMIT: Duration = Duration::from_secs(60);

/// Where everything is.
pub(super) struct Programs {
    pub(super) ours: String,
    /// Makes the pools.
    pub(super) cli: String,
    rublk: String,
    modules: PathBuf,
}

impl Programs {
    pub(super) fn build(modules: PathBuf) -> Result<Self> {
        build_command_line(true)?;
        Ok(Self {
            ours: build_server()?,
            cli: lab::host::workspace::target()
                .join("release/vexfs-ublk")
                .to_string_lossy()
                .into_owned(),
            rublk: rublk()?,
            modules,
        })
    }
}

/// Builds the peer once, into the cache.
pub(crate) fn rublk() -> Result<String> {
    let tool = cache::entry(&format!("tools/rublk-{RUBLK}"), |directory| {
        cargo()
            .args(["install", "--locked", "--version", RUBLK, "rublk", "--root"])
            .arg(directory)
            .run_shown()
    })?;
    Ok(tool.join("bin/rublk").to_string_lossy().into_owned())
}

/// A program and its options, without those that all contenders get.
#[derive(Debug, Clone)]
pub(super) enum Contender {
    Ours(Vec<String>),
    Rublk(Vec<String>),
    /// The file it serves.
    QemuNbd(String),
}

/// A contender that has been started.
pub(super) struct Serving {
    pub(super) device: String,
    /// The name of the process, as the kernel knows it.
    pub(super) process: &'static str,
    job: Job,
}

impl Contender {
    pub(super) fn ours<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Ours(arguments.into_iter().map(str::to_owned).collect())
    }

    pub(super) fn rublk<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Rublk(arguments.into_iter().map(str::to_owned).collect())
    }

    /// What its options need of the driver, as `vexfs-ublk features` calls it.
    pub(super) fn needs(&self) -> Vec<&'static str> {
        let options = match self {
            Self::Ours(options) | Self::Rublk(options) => options.as_slice(),
            Self::QemuNbd(_) => &[],
        };
        let need = |option: &String| match option.trim_start_matches("--") {
            "zero-copy" => Some("AUTO_BUF_REG"),
            "user-copy" => Some("USER_COPY"),
            "batch" => Some("BATCH_IO"),
            "threads" => Some("PER_IO_DAEMON"),
            _ => None,
        };
        options.iter().filter_map(need).collect()
    }

    /// Starts it, and waits until its device is usable.
    pub(super) fn start(&self, machine: &mut Machine, programs: &Programs) -> Result<Serving> {
        match self {
            Self::Ours(arguments) => {
                let mut all: Vec<_> = arguments.iter().map(String::as_str).collect();
                all.extend(["--queues", "1", "--depth", "128"]);
                Ok(Serving {
                    job: serve(machine, &programs.ours, &programs.modules, &all)?,
                    device: "/dev/ublkb0".to_owned(),
                    process: "vexfs-ublkd",
                })
            }
            Self::Rublk(arguments) => {
                let mut argv = vec![programs.rublk.as_str(), "add"];
                argv.extend(arguments.iter().map(String::as_str));
                argv.extend(["--number", "0", "--queue", "1", "--depth", "128", "--foreground"]);
                // In the foreground: a daemon would end with the command that started it.
                let job = machine.start(&Command::new(argv))?;
                let ready = "for i in $(seq 200); do if [ -b /dev/ublkb0 ]; then exit 0; fi; sleep 0.05; done; exit 1";
                machine.succeed(ready, LIMIT).context("waiting for the peer's device")?;
                Ok(Serving {
                    device: "/dev/ublkb0".to_owned(),
                    process: "rublk",
                    job,
                })
            }
            Self::QemuNbd(file) => {
                // As fast as it can: the kernel's asynchronous I/O past the page cache. The server leaves the program that
                // started it, and must not end with it.
                let script = format!(
                    "qemu-nbd --connect=/dev/nbd0 --format=raw --cache=none --aio=native {file} && \
                     tail --pid=$(pgrep -x -o qemu-nbd) -f /dev/null"
                );
                let job = machine.start(&Command::shell(&script))?;
                let ready = "for i in $(seq 200); do if [ $(cat /sys/block/nbd0/size) != 0 ]; then exit 0; fi; sleep 0.05; \
                             done; exit 1";
                machine.succeed(ready, LIMIT).context("waiting for qemu-nbd's device")?;
                Ok(Serving {
                    device: "/dev/nbd0".to_owned(),
                    process: "qemu-nbd",
                    job,
                })
            }
        }
    }

    /// Ends it in its own way, and waits for that.
    pub(super) fn stop(&self, machine: &mut Machine, Serving { job, .. }: Serving, programs: &Programs) -> Result<()> {
        let command = match self {
            Self::Ours(_) => return stop(machine, job),
            Self::Rublk(_) => format!("{} del --number 0", programs.rublk),
            Self::QemuNbd(_) => "qemu-nbd --disconnect /dev/nbd0".to_owned(),
        };
        machine.succeed(&command, LIMIT)?;
        machine.wait(job, LIMIT, |_, _| {});
        Ok(())
    }
}
