// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copying inside a pool without copying blocks.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use vexfs_control::handler::{Call, Copy};

use crate::failure::failed;
use crate::place::{self, Place};
use crate::{served, show};

/// Copy a file or a whole tree inside a pool without copying its blocks.
///
/// The copy shares its blocks with the original until one of them is changed, and appears complete or not at all. Copies
/// are ordinary directories: ls lists them, rm -r removes one.
#[derive(Args)]
#[command(
    after_help = "Changes: the pool, by the copy. To list copies, ls the directory they are in; to remove one, rm -r it.

Examples:
  vexfs-ublk snapshot pool.img:/photos pool.img:/photos-before
  vexfs-ublk snapshot /mnt/photos /mnt/photos-before
  vexfs-ublk clone pool.img:/notes.txt pool.img:/notes-draft.txt
  vexfs-ublk rm -r pool.img:/photos"
)]
pub(crate) struct Arguments {
    /// POOL:/path of what to copy, or a path below the mount point of a pool
    source: OsString,
    /// The copy, in the same pool; must not exist
    copy: OsString,
}

fn place_of(text: &OsStr) -> Result<Place> {
    Place::split(text).map_or_else(|| served::place(Path::new(text)), Ok)
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let (source, copy) = (place_of(&arguments.source)?, place_of(&arguments.copy)?);
    if !place::same_file(&source.pool, &copy.pool) {
        return Err(failed(
            format!("{} and {} are in two pools", source.shown(), copy.shown()),
            "use cp",
        ));
    }
    let shown = copy.shown();
    let tell = |inode: Option<u64>| {
        if json {
            show::document(json!({"path": shown, "inode": inode}));
        }
    };
    if let Some(served) = served::of_pool(&source.pool)? {
        let path = |place: &Place| {
            let path = String::from_utf8(place.path.clone());
            path.with_context(|| format!("{}: the server takes only names that are UTF-8", place.shown()))
        };
        let (source, copy) = (path(&source)?, path(&copy)?);
        let made = served.call(&Call::Clone(Copy { source, copy }))?;
        tell(made.get("inode").and_then(Value::as_u64));
        return Ok(());
    }
    let made = place::change(&source.pool, |fs| {
        let found = source.find(fs)?;
        let (parent, name) = copy.parent(fs)?;
        fs.clone_tree(found.ino, parent, &name, place::now())
            .with_context(|| format!("copying {} to {}", source.shown(), copy.shown()))
    })?;
    tell(Some(made.ino.0));
    Ok(())
}
