// SPDX-License-Identifier: MIT OR Apache-2.0

//! Giving devices without a server a new one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::json;
use ublk_server::daemon::protocol::{Backing, DeviceFacts, Request, Takeover, Wanted};
use ublk_server::daemon::report::Background;
use ublk_server::device::State;

use crate::failure::{failed, first_of};
use crate::ublk::{self, Daemon, Known};
use crate::{service, show};

/// How long a process may take to end.
const ENDING: Duration = Duration::from_secs(3);

/// Give devices whose server died a new one.
///
/// Applications that wait for the devices go on. A new daemon takes over all devices of a pool at once. Devices that are
/// served are left as they are.
#[derive(Args)]
#[command(after_help = "Changes: the devices are served again.

Examples:
  vexfs-ublk recover
  vexfs-ublk recover /dev/ublkb0")]
pub(crate) struct Arguments {
    /// Only the devices of this one's pool or file: its number, or /dev/ublkbN
    #[arg(value_name = "ID|DEVICE", value_parser = ublk::id)]
    device: Option<u32>,
    /// Every device, as without an argument
    #[arg(long, conflicts_with = "device")]
    all: bool,
    /// Append what a new daemon has to say to a file, not to the journal of systemd
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, log: Option<&str>, json: bool) -> Result<()> {
    let candidates = match arguments.device {
        Some(id) => vec![ublk::must_find(id)?],
        None => ublk::all()?,
    };
    let mut recovered = Vec::new();
    let mut failures = Vec::new();
    let mut done: Vec<Backing> = Vec::new();
    for known in candidates {
        match wants(&known, arguments.device.is_some()) {
            Ok(Some(backing)) if !done.iter().any(|other| other.is_same_as(&backing)) => {
                match group(&backing, log, arguments.log_file.as_deref()) {
                    Ok(takeover) => {
                        recovered.extend(takeover.taken_over);
                        failures.extend(takeover.left.into_iter().map(|text| anyhow!(text)));
                    }
                    Err(error) => failures.push(error),
                }
                done.push(backing);
            }
            Ok(_) => {}
            Err(error) => failures.push(error),
        }
    }
    announce(&recovered, failures.is_empty(), json);
    first_of(failures)
}

fn announce(recovered: &[DeviceFacts], complete: bool, json: bool) {
    if !json {
        for facts in recovered {
            println!("{}", facts.path);
        }
    } else if complete {
        let recovered: Vec<_> = recovered
            .iter()
            .map(|facts| json!({ "device": facts.path, "id": facts.id }))
            .collect();
        show::document(json!({ "recovered": recovered }));
    }
}

/// What a device is served from that needs a server; none if it has one. `named`: somebody asked for this one.
fn wants(known: &Known, named: bool) -> Result<Option<Backing>> {
    let id = known.survey.id;
    match known.state() {
        State::Live if is_served(known)? => return Ok(None),
        State::Dead if named => return Err(ublk_server::error::Error::NotRecoverable(id).into()),
        State::Dead => return Ok(None),
        State::Live | State::Orphaned => {}
    }
    if known.survey.identity.is_none() {
        return if named {
            Err(ublk_server::error::Error::NotRecoverable(id).into())
        } else {
            Ok(None)
        };
    }
    match &known.record {
        Some(record) => Ok(Some(record.backing.clone())),
        None => Err(failed(
            format!("nothing tells what {} was made of: its record is gone", known.path()),
            format!("vexfs-ublk del {id} removes it; what was written to its volume or file stays"),
        )),
    }
}

/// Whether the server of a device that seems live answers. One that was killed takes a moment to end, in which the driver
/// does not see it yet, and its socket may hang up.
fn is_served(known: &Known) -> Result<bool> {
    let deadline = Instant::now() + ENDING;
    loop {
        match known.daemon() {
            Ok(found) => return Ok(found.is_some()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("the server of {}", known.path()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Has all devices of a pool or file taken over: by the daemon that serves others of it, or a new one.
pub(crate) fn group(backing: &Backing, log: Option<&str>, log_file: Option<&Path>) -> Result<Takeover> {
    let lock = ublk::lock_starting()?;
    if let Some(daemon) = Daemon::of(backing)? {
        drop(lock);
        let answer = daemon.call(Request::Recover {})?;
        return Ok(serde_json::from_value(answer)?);
    }
    let program = ublk::program();
    let background = Background {
        program: &program,
        log,
        log_file,
        lock_memory: false,
    };
    let wanted = Wanted {
        backing: backing.clone(),
        devices: Vec::new(),
    };
    let ready = service::start(&wanted, &background)?;
    Ok(Takeover {
        taken_over: ready.devices,
        left: ready.left,
    })
}
