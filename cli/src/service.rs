// SPDX-License-Identifier: MIT OR Apache-2.0

//! Starting daemons: of pools as units of systemd, where that runs and the package is installed, else as processes of our own.
//!
//! A unit is started again when its daemon dies, is not part of the session of whoever called us, and is stopped in order when
//! the system is. What it is to serve is handed to it in a file, see `ublk_server::daemon::unit`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use ublk_server::daemon::Ready;
use ublk_server::daemon::protocol::{Backing, Request, Takeover, Wanted};
use ublk_server::daemon::report::{Background, StartError};
use ublk_server::daemon::unit::{self, Order};
use vexfs_control::place;

use crate::failure::failed;
use crate::ublk::Daemon;

/// The program that units run. Somebody who calls another one wants that.
const INSTALLED: &str = "/usr/bin/vexfs-ublkd";
/// Where units are.
const UNITS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Starts a daemon that ends with its last device. Returns when it serves.
pub(crate) fn start(wanted: &Wanted, background: &Background<'_>) -> Result<Ready> {
    match instance(&wanted.backing, background) {
        Some(instance) => start_unit(&instance, wanted, background),
        None => Ok(background.start(wanted)?),
    }
}

/// The instance that is to serve this; none if no unit can.
fn instance(backing: &Backing, background: &Background<'_>) -> Option<String> {
    let Backing::Pool { path } = backing else { return None };
    let usable = nix::unistd::geteuid().is_root()
        && Path::new("/run/systemd/system").is_dir()
        && background.program == Path::new(INSTALLED)
        // A unit has directory and log of its own.
        && background.log_file.is_none()
        && std::env::var_os(place::DIRECTORY_VARIABLE).is_none()
        && UNITS.iter().any(|directory| Path::new(directory).join(unit::TEMPLATE).exists());
    if usable { unit::instance(path) } else { None }
}

fn start_unit(instance: &str, wanted: &Wanted, background: &Background<'_>) -> Result<Ready> {
    let unit = unit::unit(instance);
    let order = Order {
        wanted: wanted.clone(),
        until_idle: true,
        lock_memory: background.lock_memory,
        log: background.log.map(str::to_owned),
    };
    let place = unit::Place::of(&place::directory()?, OsStr::new(instance));
    // One that somebody enabled has options of its own; it serves more than is asked for here, for longer.
    let enabled = systemctl(&["is-enabled", "--quiet", &unit])?.status.success();
    if !enabled {
        place.write(&order)?;
    }
    // What failed often enough is not started otherwise.
    systemctl(&["reset-failed", &unit])?;
    let started = systemctl(&["start", "--no-ask-password", &unit])?;
    if !started.status.success() {
        let status = systemctl(&["show", "--property=StatusText", "--value", &unit])?;
        // It is tried again, for a while. That is right where devices wait, or somebody wants it all the time.
        if !enabled && !wanted.devices.is_empty() {
            systemctl(&["stop", &unit])?;
            systemctl(&["reset-failed", &unit])?;
            place.remove();
        }
        let told = text(&status.stdout);
        if told.is_empty() {
            return Err(failed(
                format!("{unit}: {}", text(&started.stderr).replace('\n', " ")),
                format!("journalctl --unit {unit} may say why"),
            ));
        }
        return Err(StartError::Told(told).into());
    }
    let daemon = Daemon::of(&wanted.backing)?.with_context(|| format!("{unit} runs, but does not answer"))?;
    let mut devices = daemon.overview.devices.clone();
    for spec in &wanted.devices {
        if enabled && !devices.iter().any(|facts| facts.spec.target == spec.target) {
            devices.push(serde_json::from_value(daemon.call(Request::Add(spec.clone()))?)?);
        }
    }
    // It has tried, and is asked what it could not.
    let again: Takeover = serde_json::from_value(daemon.call(Request::Recover {})?)?;
    devices.extend(again.taken_over);
    Ok(Ready {
        devices,
        left: again.left,
    })
}

/// The unit that a process belongs to, if it is one of ours.
fn unit_of(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let (begin, end) = unit::TEMPLATE.split_once('@')?;
    let ours = |name: &&str| name.starts_with(&format!("{begin}@")) && name.ends_with(end);
    groups.split(['/', '\n', ':']).find(ours).map(str::to_owned)
}

/// Tells systemd not to start a daemon again that is about to be killed.
pub(crate) fn let_go(pid: u32) -> Result<()> {
    match unit_of(pid) {
        Some(unit) => systemctl(&["stop", "--no-block", &unit]).map(drop),
        None => Ok(()),
    }
}

/// Whether the system is about to go down.
pub(crate) fn system_stops() -> Result<bool> {
    Ok(text(&systemctl(&["is-system-running"])?.stdout) == "stopping")
}

fn systemctl(words: &[&str]) -> Result<Output> {
    let mut command = Command::new("systemctl");
    let output = command.args(words).stdin(Stdio::null()).output();
    output.with_context(|| format!("running systemctl {}", words.join(" ")))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
