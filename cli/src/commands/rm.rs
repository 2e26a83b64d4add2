// SPDX-License-Identifier: MIT OR Apache-2.0

//! Removing files.

use std::ffi::OsString;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::place::{self, Place};

/// Remove a file of a pool.
#[derive(Args)]
pub(crate) struct Arguments {
    /// POOL:/path
    place: OsString,
    /// A directory with everything in it
    #[arg(short)]
    recursive: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let place = Place::required(&arguments.place)?;
    place::change(&place.pool, |fs| {
        let (parent, name) = place.parent(fs)?;
        let found = place.find(fs)?;
        if found.inode.is_directory() && !arguments.recursive {
            bail!(
                "{}: a directory; use -r to remove it with everything in it",
                place.shown()
            );
        }
        fs.remove_tree(parent, &name, place::now())
            .with_context(|| place.shown())
    })
}
