// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a directory.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vexfs::fs::NewFile;
use vexfs::fs::record::Kind;

use crate::place::{self, Place};
use crate::show;

/// Make a directory in a pool, owned by root.
#[derive(Args)]
#[command(after_help = "Changes: the pool, by one directory.

Examples:
  vexfs-ublk mkdir pool.img:/new")]
pub(crate) struct Arguments {
    /// POOL:/path
    place: OsString,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::required(&arguments.place)?;
    let new = NewFile {
        kind: Kind::Directory,
        permissions: 0o755,
        uid: 0,
        gid: 0,
        device: 0,
        target: b"",
        now: place::now(),
    };
    let made = place::change(&place.pool, |fs| {
        let (parent, name) = place.parent(fs)?;
        fs.create(parent, &name, &new).with_context(|| place.shown())
    })?;
    if json {
        show::document(json!({"path": place.shown(), "inode": made.ino.0}));
    }
    Ok(())
}
