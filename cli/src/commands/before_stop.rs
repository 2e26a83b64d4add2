// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a unit's `ExecStop` does: while the system goes down, the file systems on the devices of a pool are unmounted first.
//!
//! Mount units are not ordered behind the unit that serves their device, which systemd cannot know. Both are stopped at the
//! same time, and an unmount has bytes to write. So the daemon stays until nobody uses its devices any more, for a limited
//! time. What is still mounted then is synced: later it could not be, and systemd-shutdown takes it away.
//!
//! Otherwise nothing is waited for: whoever stops the service of devices in use means to start it again.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::json;
use ublk_server::daemon::holders;
use ublk_server::daemon::protocol::Backing;
use ublk_server::daemon::record::Record;
use ublk_server::device::State;
use vexfs_fuse::mount_table;

use crate::ublk::Known;
use crate::{service, show, ublk};

/// How long unmounting may take. Units that are stopped have a minute and a half by default.
const UNMOUNTING: Duration = Duration::from_secs(60);
/// How long syncing may take.
const SYNCING: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Wait, while the system goes down, until nobody uses the devices of a pool.
#[derive(Args)]
#[command(after_help = "Changes: nothing; what stays mounted is synced.

Examples:
  vexfs-ublk before-stop /srv/pool.img")]
pub(crate) struct Arguments {
    /// File or block device with the pool
    pool: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let left = if service::system_stops()? {
        waited(&Backing::Pool {
            path: arguments.pool.clone(),
        })?
    } else {
        Vec::new()
    };
    if json {
        show::document(json!({ "in_use": left }));
    } else {
        for user in left {
            eprintln!("vexfs-ublk: {user}");
        }
    }
    Ok(())
}

/// Who uses devices of it still.
fn waited(backing: &Backing) -> Result<Vec<String>> {
    let deadline = Instant::now() + UNMOUNTING;
    loop {
        // A device without a server is nothing to wait for: nobody can write to it any more.
        let waits = |known: &Known| {
            let own = |record: &Record| record.backing.is_same_as(backing);
            known.state() == State::Live && known.record.as_ref().is_some_and(own)
        };
        let devices: Vec<Known> = ublk::all()?.into_iter().filter(waits).collect();
        let users: Vec<String> = devices.iter().flat_map(|known| holders::of(known.survey.id)).collect();
        if users.is_empty() {
            return Ok(users);
        }
        if Instant::now() >= deadline {
            let paths: Vec<PathBuf> = devices.iter().map(|known| known.path().into()).collect();
            sync(&paths)?;
            return Ok(users);
        }
        thread::sleep(PAUSE);
    }
}

/// Syncs what is mounted from devices, all at once, for a limited time.
fn sync(devices: &[PathBuf]) -> Result<()> {
    let (done, answers) = mpsc::channel();
    let mut waiting = 0;
    for mount in mount_table::all()? {
        if !devices.contains(&mount.source) {
            continue;
        }
        waiting += 1;
        let done = done.clone();
        thread::spawn(move || {
            let synced = File::open(&mount.directory).and_then(|directory| Ok(nix::unistd::syncfs(directory)?));
            if let Err(error) = synced {
                eprintln!("vexfs-ublk: syncing {}: {error}", mount.directory.display());
            }
            // Nobody waits any more, if that fails.
            let _ = done.send(());
        });
    }
    let deadline = Instant::now() + SYNCING;
    for _ in 0..waiting {
        if answers
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .is_err()
        {
            eprintln!(
                "vexfs-ublk: what is mounted is not synced after {} s",
                SYNCING.as_secs()
            );
            break;
        }
    }
    Ok(())
}
