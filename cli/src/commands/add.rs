// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a block device.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use ublk_server::args::DeviceArgs;
use ublk_server::daemon::protocol::{Backing, DeviceFacts, Request, Spec, Wanted};
use ublk_server::daemon::report::Background;
use vexfs_control::client::ClientError;

use crate::failure::failed;
use crate::ublk::{self, Daemon};
use crate::{service, show};

/// How long to try again while a daemon comes or goes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Make a block device of a pool, a volume of it, a file, another device, or memory.
///
/// The device of a pool is for 'mount -t vexfs'; that of a volume, file or memory is a disk like any other.
///
/// Prints the path of the device once it can be used. A daemon serves it in the background; one daemon serves all devices
/// of a pool. If the device cannot be used, nothing is left behind.
#[derive(Args)]
#[command(
    after_help = "Changes: a new /dev/ublkbN. The pool or file belongs to the daemon while the device is there.

Examples:
  vexfs-ublk add pool.img
  vexfs-ublk add pool.img --volume disk
  vexfs-ublk add disk.img
  vexfs-ublk add mem --size 512MiB --queues 1"
)]
pub(crate) struct Arguments {
    /// A pool, a file or block device, or one of the words null and mem
    #[arg(value_name = "POOL|FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Keep all memory of a new daemon in memory
    #[arg(long)]
    mlock: bool,
    /// Append what a new daemon has to say to a file, not to the journal of systemd
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, log: Option<&str>, json: bool) -> Result<()> {
    let from = arguments.from.as_deref();
    let wanted = match arguments.device.wanted(from) {
        // What is in use cannot be looked into, but its server knows what it is.
        Err(error) if error.is_in_use() => {
            let path = from.unwrap_or_else(|| Path::new("")).to_owned();
            if Daemon::of(&Backing::Pool { path: path.clone() })?.is_none() {
                return Err(error.into());
            }
            arguments.device.wanted_of_pool(&path)?
        }
        wanted => wanted?,
    };
    let spec = wanted.devices.first().context("a command names a device")?;
    let program = ublk::program();
    let background = Background {
        program: &program,
        log,
        log_file: arguments.log_file.as_deref(),
        lock_memory: arguments.mlock,
    };
    let facts = add(&wanted, spec, &background)?;
    if json {
        show::document(json!({ "device": facts.path, "id": facts.id, "size": facts.size, "spec": facts.spec }));
    } else {
        println!("{}", facts.path);
    }
    Ok(())
}

/// Makes a device, by the daemon that serves the pool or file, or a new one.
pub(crate) fn add(wanted: &Wanted, spec: &Spec, background: &Background<'_>) -> Result<DeviceFacts> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Devices in memory have daemons of their own, which do not meet.
        let lock = match wanted.backing {
            Backing::Memory {} => None,
            _ => Some(ublk::lock_starting()?),
        };
        let Some(daemon) = Daemon::of(&wanted.backing)? else {
            let ready = service::start(wanted, background)?;
            let of_this = |facts: &DeviceFacts| facts.spec.target == spec.target;
            return ready.devices.into_iter().find(of_this).ok_or_else(|| {
                failed(
                    "the daemon serves, but not this device",
                    "vexfs-ublk list shows what there is",
                )
            });
        };
        drop(lock);
        match daemon.call(Request::Add(spec.clone())) {
            // It was about to end.
            Err(
                ClientError::NotServed(_) | ClientError::Nonsense { .. } | ClientError::Refused { status: 503, .. },
            ) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => return Ok(serde_json::from_value(answer?)?),
        }
    }
}
