// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copying inside a pool without copying blocks.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// Copy a file or a whole tree inside a pool without copying its blocks.
///
/// The copy shares its blocks with the original until one of them is changed, and appears complete or not at all. Copies
/// are ordinary directories: ls lists them, rm -r removes one.
#[derive(Args)]
#[command(
    after_help = "Changes: the pool, by the copy. To list copies, ls the directory they are in; to remove one, rm -r it.

Examples:
  vexfs-ublk snapshot pool.img:/photos pool.img:/photos-before
  vexfs-ublk clone pool.img:/notes.txt pool.img:/notes-draft.txt
  vexfs-ublk rm -r pool.img:/photos"
)]
pub(crate) struct Arguments {
    /// POOL:/path of what to copy
    source: OsString,
    /// POOL:/path of the copy; must not exist
    copy: OsString,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let (source, copy) = (Place::required(&arguments.source)?, Place::required(&arguments.copy)?);
    if !place::same_file(&source.pool, &copy.pool) {
        return Err(failed(
            format!("{} and {} are in two pools", source.shown(), copy.shown()),
            "use cp",
        ));
    }
    let made = place::change(&source.pool, |fs| {
        let found = source.find(fs)?;
        let (parent, name) = copy.parent(fs)?;
        fs.clone_tree(found.ino, parent, &name, place::now())
            .with_context(|| format!("copying {} to {}", source.shown(), copy.shown()))
    })?;
    if json {
        show::document(json!({"path": copy.shown(), "inode": made.ino.0}));
    }
    Ok(())
}
