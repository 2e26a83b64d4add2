// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replacing the daemon of a pool by the program that is installed now.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use ublk_server::daemon::protocol::{Backing, Overview, Request};
use vexfs_control::place as sockets;

use crate::failure::{failed, first_of};
use crate::show;
use crate::ublk::{self, Daemon};

/// How long the new program may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replace a daemon by the program that is installed now, under its devices.
///
/// Applications wait meanwhile, and get no errors. Returns when the new program serves, and says how long they waited.
#[derive(Args)]
#[command(after_help = "Changes: the program that serves; its process stays the same.

Examples:
  vexfs-ublk handover pool.img
  vexfs-ublk handover /dev/ublkb0
  vexfs-ublk handover --all")]
pub(crate) struct Arguments {
    /// A pool, a file, or one of its devices
    #[arg(
        value_name = "POOL|FILE|DEVICE",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    what: Option<OsString>,
    /// Every daemon of pools and files, as after an upgrade; one that cannot be replaced goes on as before, and is named
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let Some(what) = &arguments.what else {
        return run_all(json);
    };
    let overview = replace(&find(what)?)?;
    if json {
        show::document(document(&overview));
    } else {
        announce(&overview);
    }
    Ok(())
}

fn run_all(json: bool) -> Result<()> {
    let records = ublk::records()?;
    let mut sockets = sockets::sockets(&sockets::directory()?)?;
    sockets.extend(sockets::sockets(records.directory())?);
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for socket in sockets {
        let daemon = match Daemon::at(&socket) {
            Ok(Some(daemon)) => daemon,
            // A mount through FUSE, or left by somebody who was killed.
            Ok(None) => continue,
            Err(error) => {
                failures.push(error.into());
                continue;
            }
        };
        let name = daemon.overview.server.backing.name();
        if matches!(daemon.overview.server.backing, Backing::Memory {}) {
            eprintln!(
                "devices in memory would not outlive their daemon (process {}), which goes on as before",
                daemon.overview.server.pid
            );
            continue;
        }
        match replace(&daemon) {
            Ok(overview) if json => done.push(document(&overview)),
            Ok(overview) => announce(&overview),
            Err(error) => failures.push(error.context(name)),
        }
    }
    if json && failures.is_empty() {
        show::document(json!({ "daemons": done }));
    }
    first_of(failures)
}

/// Returns when the new program serves, with what it says.
fn replace(daemon: &Daemon) -> Result<Overview> {
    let before = daemon.overview.server.incarnation.clone();
    daemon.call(Request::Handover {})?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Nobody answers for a moment.
        if let Ok(Some(daemon)) = Daemon::at(daemon.client.socket())
            && daemon.overview.server.incarnation != before
        {
            return Ok(daemon.overview);
        }
        if Instant::now() >= deadline {
            return Err(failed(
                format!("the new program did not answer within {} s", PATIENCE.as_secs()),
                "its log says why; vexfs-ublk recover starts another",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn devices(overview: &Overview) -> Vec<&str> {
    overview.devices.iter().map(|facts| facts.path.as_str()).collect()
}

fn document(overview: &Overview) -> Value {
    json!({
        "devices": devices(overview),
        "waited_seconds": overview.server.handover_seconds,
        "software_version": overview.server.software_version,
    })
}

fn announce(overview: &Overview) {
    let waited = overview.server.handover_seconds;
    let waited = waited.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.3} s"));
    let devices = devices(overview);
    let what = if devices.is_empty() {
        overview.server.backing.name()
    } else {
        devices.join(" ")
    };
    println!("{what}: handed over, applications waited at most {waited}");
}

fn find(what: &OsString) -> Result<Daemon> {
    if let Some(id) = what.to_str().and_then(|word| ublk::id(word).ok()) {
        let known = ublk::must_find(id)?;
        return known.daemon()?.ok_or_else(|| {
            failed(
                format!("{} has no server", known.path()),
                "vexfs-ublk recover gives it one",
            )
        });
    }
    let path = Path::new(what);
    for backing in [
        Backing::Pool { path: path.to_owned() },
        Backing::File { path: path.to_owned() },
    ] {
        if let Some(daemon) = Daemon::of(&backing)? {
            return Ok(daemon);
        }
    }
    Err(failed(
        format!("no daemon serves devices of {}", path.display()),
        "vexfs-ublk list shows what there is",
    ))
}
