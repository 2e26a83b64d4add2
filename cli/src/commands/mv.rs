// SPDX-License-Identifier: MIT OR Apache-2.0

//! Renaming.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vexfs::fs::op::rename;

use crate::copy::host;
use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// Rename or move a file or directory inside a pool.
#[derive(Args)]
#[command(
    after_help = "Changes: the names. What has the new name already stays, unless --force is given.

Examples:
  vexfs-ublk mv pool.img:/notes.txt pool.img:/done.txt
  vexfs-ublk mv pool.img:/notes.txt pool.img:/photos"
)]
pub(crate) struct Arguments {
    /// POOL:/path
    source: OsString,
    /// POOL:/path; into it, if it is a directory
    target: OsString,
    /// Replace what has the new name
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let (source, target) = (Place::required(&arguments.source)?, Place::required(&arguments.target)?);
    if !place::same_file(&source.pool, &target.pool) {
        return Err(failed(
            format!("{} and {} are in two pools", source.shown(), target.shown()),
            "copy with cp -a, then rm -r the source",
        ));
    }
    let flags = if arguments.force { 0 } else { rename::NO_REPLACE };
    place::change(&source.pool, |fs| {
        let (from, name) = source.parent(fs)?;
        let own = || host::last_name(&source.path).map(OsString::into_encoded_bytes);
        let (to, new_name) = target.parent_or_inside(fs, own)?;
        fs.rename(from, &name, to, &new_name, flags, place::now())
            .with_context(|| format!("moving {} to {}", source.shown(), target.shown()))
    })?;
    if json {
        show::document(json!({"from": source.shown(), "path": target.shown()}));
    }
    Ok(())
}
