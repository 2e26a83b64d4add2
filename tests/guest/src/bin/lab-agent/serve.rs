// SPDX-License-Identifier: MIT OR Apache-2.0

//! The agent's service: reads the host's frames, hands them to [`jobs`](crate::jobs), says that the guest is alive.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab_guest::protocol::{
    self, CHECKPOINT_DISK, Decoder, HEARTBEAT_EVERY, Message, PORT_NAME, ToGuest, ToHost, Vitals,
};
use lab_guest::sys;
use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::utsname::uname;

use crate::jobs::{Jobs, Outbox};

/// What the agent is in its machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// The first process.
    Init,
    /// A service of systemd.
    Service,
}

/// Serves the host until it says power off. Returns only with an error.
pub(crate) fn serve(place: Place) -> Result<()> {
    let mut port = open_port()?;
    let writer = Mutex::new(port.try_clone()?);
    let outbox: Outbox = Arc::new(move |message: &ToHost| {
        let mut wire = Vec::new();
        message.encode(&mut wire);
        let mut port = writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A host that no longer listens has lost interest in this machine and is about to end it.
        let _unheard = port.write_all(&wire);
    });
    let jobs = Jobs::new(Arc::clone(&outbox))?;
    outbox(&ToHost::Ready(uname()?.release().to_string_lossy().into_owned()));
    let pulse = Arc::clone(&outbox);
    thread::Builder::new().name("heartbeat".into()).spawn(move || {
        loop {
            pulse(&ToHost::Heartbeat(vitals()));
            thread::sleep(HEARTBEAT_EVERY);
        }
    })?;

    let mut decoder = Decoder::default();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let length = match port.read(&mut bytes) {
            // The host has not connected yet, or went away for a moment.
            Ok(0) => {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("reading the port"),
        };
        decoder.push(bytes.get(..length).unwrap_or_default());
        while let Some(message) = decoder.take::<ToGuest>()? {
            handle(message, place, &jobs, &outbox);
        }
    }
}

fn handle(message: ToGuest, place: Place, jobs: &Jobs, outbox: &Outbox) {
    match message {
        ToGuest::Run(number, command) => jobs.run(number, &command),
        ToGuest::Stdin(number, input) => jobs.feed(number, &input),
        ToGuest::StdinEnd(number) => jobs.end_input(number),
        ToGuest::Resize(number, size) => jobs.resize(number, size),
        ToGuest::Kill(number) => jobs.kill(number),
        ToGuest::Checkpoint(number) => match checkpoint(number) {
            Ok(()) => outbox(&ToHost::Checkpointed(number)),
            Err(error) => outbox(&ToHost::Trouble(format!("{error:#}"))),
        },
        ToGuest::PowerOff => match place {
            // Everything of value is on the host's side by now or was synced by who wrote it; a sync that hangs on a
            // broken device must not keep the machine from going down.
            Place::Init => {
                let Err(error) = reboot(RebootMode::RB_POWER_OFF);
                outbox(&ToHost::Trouble(format!("cannot power off: {error}")));
            }
            // In the order that the system's services want.
            Place::Service => jobs.run(0, &protocol::Command::new(["systemctl", "poweroff"])),
        },
    }
}

/// The virtio port by its name: without udev there is no /dev/virtio-ports.
fn open_port() -> Result<File> {
    let start = Instant::now();
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim_end() == PORT_NAME {
                let node = PathBuf::from("/dev").join(entry.file_name());
                return File::options()
                    .read(true)
                    .write(true)
                    .open(&node)
                    .with_context(|| format!("opening {}", node.display()));
            }
        }
        if start.elapsed() > Duration::from_secs(20) {
            bail!("no virtio port is called {PORT_NAME:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn vitals() -> Vitals {
    let meminfo = sys::read("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .unwrap_or_default()
            * 1024
    };
    let first = |path: &str| {
        let text = sys::read(path).unwrap_or_default();
        text.split_ascii_whitespace()
            .next()
            .map(str::to_owned)
            .unwrap_or_default()
    };
    Vitals {
        uptime_ms: first("/proc/uptime")
            .replace('.', "")
            .parse::<u64>()
            .unwrap_or_default()
            * 10,
        available: kib("MemAvailable"),
        slab: kib("SUnreclaim"),
        open_files: first("/proc/sys/fs/file-nr").parse().unwrap_or_default(),
    }
}

/// Writes the record and returns once it is durable. Two slots, used in turn: a torn write spoils at most the one
/// whose number was never acknowledged.
fn checkpoint(number: u64) -> Result<()> {
    let path = sys::disk(CHECKPOINT_DISK)?;
    let disk = File::options()
        .write(true)
        .custom_flags(libc::O_DSYNC)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let record = protocol::encode_checkpoint(number);
    disk.write_all_at(&record, (number % 2) * 4096)
        .with_context(|| format!("writing {}", path.display()))
}
