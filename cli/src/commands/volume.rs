// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files of a pool that serve as disks.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::Value;
use vexfs::size::Size;
use vexfs_control::handler::Call;
use vexfs_control::volumes::{self, Create, Request, Resize};

use crate::failure::failed;
use crate::{place, served, show, ublk};

/// Make, resize, remove and list volumes: files of a pool that serve as disks.
///
/// A plain name is a file below /volumes, a name with a leading slash any file of the pool. Works on pools that are served,
/// mounted, or neither.
#[derive(Args)]
#[command(after_help = "Changes: the pool.

Examples:
  vexfs-ublk volume create pool.img disk --size 20GiB
  vexfs-ublk volume resize pool.img disk 40GiB
  vexfs-ublk volume list pool.img
  vexfs-ublk volume rm pool.img disk")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a volume; it takes space when it is written to
    Create {
        /// File or block device with the pool
        pool: PathBuf,
        /// Its name
        name: String,
        /// Its size, as 20GiB
        #[arg(short, long)]
        size: Size,
        /// Promise it all its space now: writes then never fail for lack of it
        #[arg(long)]
        preallocate: bool,
        /// Keep no checksums of its data: large requests cost less, and damage of the disk is not noticed
        #[arg(long)]
        no_checksums: bool,
    },
    /// Give a volume another size; its device follows where the driver can
    Resize {
        /// File or block device with the pool
        pool: PathBuf,
        /// Its name
        name: String,
        /// Its new size, as 40GiB
        size: Size,
        /// Let it become smaller, and lose what is behind its new end; never while it is a device
        #[arg(short, long)]
        force: bool,
    },
    /// Remove a volume that is no device
    #[command(visible_alias = "remove")]
    Rm {
        /// File or block device with the pool
        pool: PathBuf,
        /// Its name
        name: String,
    },
    /// List the volumes below /volumes
    List {
        /// File or block device with the pool
        pool: PathBuf,
    },
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let (pool, request) = match &arguments.action {
        Action::Create {
            pool,
            name,
            size,
            preallocate,
            no_checksums,
        } => {
            let path = volumes::path_of(name);
            let create = Create {
                path,
                bytes: size.0,
                preallocate: *preallocate,
                unchecked: *no_checksums,
            };
            (pool, Request::Create(create))
        }
        Action::Resize {
            pool,
            name,
            size,
            force,
        } => {
            let path = volumes::path_of(name);
            let resize = Resize {
                path,
                bytes: size.0,
                force: *force,
            };
            (pool, Request::Resize(resize))
        }
        Action::Rm { pool, name } => (
            pool,
            Request::Remove {
                path: volumes::path_of(name),
            },
        ),
        Action::List { pool } => (pool, Request::List {}),
    };
    let answer = carry_out(pool, &request)?;
    if json {
        show::document(answer);
        return Ok(());
    }
    match request {
        Request::List {} => print!("{}", table(&answer)),
        Request::Create(_) | Request::Resize(_) | Request::Remove { .. } => {}
    }
    if let Some(note) = answer.get("note").and_then(Value::as_str) {
        eprintln!("{note}");
    }
    Ok(())
}

/// By the server of the pool, or here if there is none.
fn carry_out(pool: &Path, request: &Request) -> Result<Value> {
    if let Some(served) = served::of_pool(pool)? {
        return served.call(&Call::Volumes(request.clone()));
    }
    // A device without a server relies on its volume, too.
    let at_risk = match request {
        Request::Remove { path } => Some(path),
        Request::Resize(resize) => Some(&resize.path),
        Request::Create(_) | Request::List {} => None,
    };
    if let Some(path) = at_risk
        && let Some(known) = ublk::of_volume(pool, path)?
    {
        return Err(failed(
            format!("{path} is {}, which has no server", known.path()),
            format!(
                "vexfs-ublk recover gives it one, vexfs-ublk del {} removes it",
                known.survey.id
            ),
        ));
    }
    let work = |fs: &vexfs::fs::Fs| {
        let done = volumes::carry_out(fs, request);
        done.map(|done| done.answer).map_err(|refusal| anyhow!(refusal.message))
    };
    match request {
        Request::List {} => work(&place::open_to_read(pool)?),
        _ => place::change(pool, work),
    }
}

fn table(answer: &Value) -> String {
    let header = ["VOLUME", "SIZE", "STORED", "DEVICE"];
    let mut rows = vec![header.map(str::to_owned)];
    let text = |volume: &Value, name: &str| volume.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let size = |volume: &Value, name: &str| {
        let bytes = volume.get(name).and_then(Value::as_u64);
        bytes.map(crate::figures::bytes).unwrap_or_default()
    };
    for volume in answer.get("volumes").and_then(Value::as_array).into_iter().flatten() {
        let path = text(volume, "path");
        let name = path.strip_prefix("/volumes/").unwrap_or(&path).to_owned();
        rows.push([
            crate::figures::plain(&name),
            size(volume, "bytes"),
            size(volume, "stored"),
            text(volume, "device"),
        ]);
    }
    show::aligned(&rows)
}
