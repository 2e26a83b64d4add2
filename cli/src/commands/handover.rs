// SPDX-License-Identifier: MIT OR Apache-2.0

//! Replacing the daemon of a pool by the program that is installed now.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use ublk_server::daemon::protocol::{Backing, Request};

use crate::failure::failed;
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
  vexfs-ublk handover /dev/ublkb0")]
pub(crate) struct Arguments {
    /// A pool, a file, or one of its devices
    #[arg(value_name = "POOL|FILE|DEVICE")]
    what: OsString,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let daemon = find(&arguments.what)?;
    let before = daemon.overview.server.incarnation.clone();
    daemon.call(Request::Handover {})?;
    let deadline = Instant::now() + PATIENCE;
    let overview = loop {
        // Nobody answers for a moment.
        if let Ok(Some(daemon)) = Daemon::at(daemon.client.socket())
            && daemon.overview.server.incarnation != before
        {
            break daemon.overview;
        }
        if Instant::now() >= deadline {
            return Err(failed(
                format!("the new program did not answer within {} s", PATIENCE.as_secs()),
                "its log says why; vexfs-ublk recover starts another",
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let waited = overview.server.handover_seconds;
    let devices: Vec<&str> = overview.devices.iter().map(|facts| facts.path.as_str()).collect();
    if json {
        let server = overview.server.software_version;
        show::document(json!({ "devices": devices, "waited_seconds": waited, "software_version": server }));
    } else {
        let waited = waited.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.3} s"));
        println!(
            "{}: handed over, applications waited at most {waited}",
            devices.join(" ")
        );
    }
    Ok(())
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
