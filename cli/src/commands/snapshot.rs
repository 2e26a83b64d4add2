// SPDX-License-Identifier: MIT OR Apache-2.0

//! Copying inside a pool without copying blocks.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};
use clap::Args;
use vexfs_control::handler::{Call, Copy};

use crate::place::{self, Place};
use crate::served;

/// Copy a file or a whole tree inside a pool. The copy shares its blocks with the original until one of them is changed, and
/// appears complete or not at all.
#[derive(Args)]
pub(crate) struct Arguments {
    /// POOL:/path of what to copy
    source: OsString,
    /// POOL:/path of the copy; must not exist
    copy: OsString,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (source, copy) = (Place::required(&arguments.source)?, Place::required(&arguments.copy)?);
    if source.pool != copy.pool {
        bail!("{} and {} are in two pools; use cp", source.shown(), copy.shown());
    }
    if let Some(served) = served::of_pool(&source.pool)? {
        let path = |place: &Place| {
            let path = String::from_utf8(place.path.clone());
            path.with_context(|| format!("{}: the server takes only names that are UTF-8", place.shown()))
        };
        let (source, copy) = (path(&source)?, path(&copy)?);
        served.call(&Call::Clone(Copy { source, copy }))?;
        return Ok(());
    }
    place::change(&source.pool, |fs| {
        let found = source.find(fs)?;
        let (parent, name) = copy.parent(fs)?;
        fs.clone_tree(found.ino, parent, &name, place::now())
            .with_context(|| format!("copying {} to {}", source.shown(), copy.shown()))?;
        Ok(())
    })
}
