// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a directory.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use vexfs::fs::NewFile;
use vexfs::fs::record::Kind;

use crate::place::{self, Place};

/// Make a directory in a pool, owned by root.
#[derive(Args)]
pub(crate) struct Arguments {
    /// POOL:/path
    place: OsString,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
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
    place::change(&place.pool, |fs| {
        let (parent, name) = place.parent(fs)?;
        fs.create(parent, &name, &new).with_context(|| place.shown())?;
        Ok(())
    })
}
