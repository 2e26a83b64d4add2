// SPDX-License-Identifier: MIT OR Apache-2.0

//! Printing a file.

use std::ffi::OsString;
use std::io::{Write, stdout};

use anyhow::{Context, Result};
use clap::Args;

use super::cp::each_piece;
use crate::place::{self, Place};

/// Print a file of a pool.
#[derive(Args)]
pub(crate) struct Arguments {
    /// POOL:/path
    place: OsString,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let place = Place::required(&arguments.place)?;
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let mut out = stdout().lock();
    each_piece(&fs, found.ino, |_, bytes| {
        out.write_all(bytes).context("standard output")
    })
    .with_context(|| place.shown())?;
    out.flush().context("standard output")
}
