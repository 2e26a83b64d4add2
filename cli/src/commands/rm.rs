// SPDX-License-Identifier: MIT OR Apache-2.0

//! Removing files.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// Remove a file of a pool.
#[derive(Args)]
#[command(after_help = "Changes: the pool. What is removed cannot be brought back.

Examples:
  vexfs-ublk rm pool.img:/notes.txt
  vexfs-ublk rm -r pool.img:/photos")]
pub(crate) struct Arguments {
    /// POOL:/path
    place: OsString,
    /// A directory with everything in it
    #[arg(short, long)]
    recursive: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::required(&arguments.place)?;
    place::change(&place.pool, |fs| {
        let (parent, name) = place.parent(fs)?;
        let found = place.find(fs)?;
        if found.inode.is_directory() && !arguments.recursive {
            return Err(failed(
                format!("{}: a directory", place.shown()),
                "use -r to remove it with everything in it",
            ));
        }
        fs.remove_tree(parent, &name, place::now())
            .with_context(|| place.shown())
    })?;
    if json {
        show::document(json!({"path": place.shown()}));
    }
    Ok(())
}
