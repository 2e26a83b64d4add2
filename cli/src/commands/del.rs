// SPDX-License-Identifier: MIT OR Apache-2.0

//! Deleting block devices.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use ublk_server::daemon::holders;
use ublk_server::daemon::protocol::{Backing, Request};
use ublk_server::device::{self, Removal, State, Surveyor};

use super::recover;
use crate::failure::{failed, first_of};
use crate::ublk::{self, Daemon, Known};
use crate::{service, show};

/// How long a process may take to end.
const ENDING: Duration = Duration::from_secs(3);
/// How long a daemon may take to delete a device.
const PATIENCE: Duration = Duration::from_secs(30);

/// Delete block devices.
///
/// What was written to a volume or file stays there. A device that is mounted or open is refused, and who uses it is said.
#[derive(Args)]
#[command(
    after_help = "Changes: the devices are gone. With --force, whoever uses them gets errors.

Examples:
  vexfs-ublk del /dev/ublkb0
  vexfs-ublk del 0 1
  vexfs-ublk del --all --force"
)]
pub(crate) struct Arguments {
    /// Devices: their numbers, or /dev/ublkbN
    #[arg(value_name = "ID|DEVICE", required_unless_present = "all", conflicts_with = "all", value_parser = ublk::id)]
    devices: Vec<u32>,
    /// Every device
    #[arg(long)]
    all: bool,
    /// Also those that are in use, and those whose daemon does not answer: it is killed, and others of its devices go on
    /// with a new one
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let devices = if arguments.all {
        ublk::all()?
    } else {
        let found: Result<Vec<Known>> = arguments.devices.iter().map(|id| ublk::must_find(*id)).collect();
        found?
    };
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for known in devices {
        match delete(&known, arguments.force) {
            Ok(pending) => {
                if pending && !json {
                    eprintln!("{} goes when its last user closes it", known.path());
                }
                deleted.push(json!({ "device": known.path(), "id": known.survey.id, "pending": pending }));
            }
            Err(error) => failures.push(error),
        }
    }
    if json && failures.is_empty() {
        show::document(json!({ "deleted": deleted }));
    }
    first_of(failures)
}

/// True: it goes when its last user closes it.
pub(crate) fn delete(known: &Known, force: bool) -> Result<bool> {
    let id = known.survey.id;
    match known.daemon() {
        Ok(Some(daemon)) => {
            let answer = daemon.call_within(Request::Delete { id, force }, PATIENCE);
            match answer {
                Ok(answer) => return Ok(answer.get("pending").and_then(Value::as_bool).unwrap_or(false)),
                // It hangs over it: below.
                Err(vexfs_control::client::ClientError::Io { .. }) if force => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None) => {}
        // It does not matter why it does not answer.
        Err(_) if force || known.state() != State::Live => {}
        Err(error) => {
            return Err(failed(
                format!("the server of {} (process {}): {error}", known.path(), known.survey.pid),
                "add --force to kill it and delete the device",
            ));
        }
    }
    let mut orphaned = None;
    if is_served(id)? {
        if !force {
            return Err(failed(
                format!(
                    "{} is served by process {}, which does not answer here",
                    known.path(),
                    known.survey.pid
                ),
                "add --force to kill it and delete the device",
            ));
        }
        end_server(known)?;
        orphaned = known.record.as_ref().map(|record| record.backing.clone());
    } else if !force {
        let users = holders::of(id);
        if !users.is_empty() {
            return Err(failed(
                format!("{} is in use: {}", known.path(), users.join(", ")),
                "end that first, or add --force; 'vexfs-ublk recover' gives it a new server",
            ));
        }
    }
    let what = format!("deleting {}", known.path());
    let removed = ublk::bounded(&what, move || device::remove(id))?.context(what)?;
    ublk::records()?.remove(id);
    ublk::remove_dead_sockets(known.record.as_ref().map(|record| record.socket.as_path()))?;
    if let Some(backing) = orphaned {
        save_others(&backing)?;
    }
    Ok(removed == Removal::Pending)
}

/// Whether somebody serves it still: a daemon that has just been killed does for a moment.
fn is_served(id: u32) -> Result<bool> {
    let deadline = Instant::now() + ENDING;
    let mut surveyor = Surveyor::open()?;
    while matches!(surveyor.survey(id)?, Some(survey) if survey.state == State::Live) {
        if Instant::now() >= deadline {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn end_server(known: &Known) -> Result<()> {
    let pid = known.survey.pid;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim() != "vexfs-ublkd" {
        bail!(
            "{} is served by process {pid} ({}), which is none of ours",
            known.path(),
            name.trim()
        );
    }
    service::let_go(u32::try_from(pid).unwrap_or_default())?;
    kill(Pid::from_raw(pid), Signal::SIGKILL).with_context(|| format!("killing process {pid}"))
}

/// Other devices of the daemon that was killed go on with a new one.
fn save_others(backing: &Backing) -> Result<()> {
    let others: Vec<Known> = ublk::all()?
        .into_iter()
        .filter(|known| {
            known
                .record
                .as_ref()
                .is_some_and(|record| record.backing.is_same_as(backing))
        })
        .collect();
    if others.is_empty() || Daemon::of(backing)?.is_some() {
        return Ok(());
    }
    recover::group(backing, None, None)
        .context("the other devices of the killed daemon")
        .map(drop)
}
