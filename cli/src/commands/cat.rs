// SPDX-License-Identifier: MIT OR Apache-2.0

//! Printing a file.

use std::ffi::OsString;
use std::io::{Write, stdout};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vexfs::fs::record::Kind;

use crate::copy::pool;
use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// A longer file is no member of a document.
const MOST_AS_JSON: u64 = 16 << 20;

/// Print a file of a pool.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk cat pool.img:/notes.txt
  vexfs-ublk cat pool.img:/notes.txt | wc -l")]
pub(crate) struct Arguments {
    /// POOL:/path
    place: OsString,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::required(&arguments.place)?;
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let shown = || place.shown();
    match found.inode.kind() {
        Kind::File => {}
        Kind::Directory => return Err(failed(format!("{}: is a directory", shown()), "ls lists it")),
        _ => {
            return Err(failed(
                format!("{}: is no regular file", shown()),
                "stat tells what it is",
            ));
        }
    }
    let all = 0..found.size();
    if json {
        if all.end > MOST_AS_JSON {
            return Err(failed(format!("{}: too long for JSON", shown()), "leave --json out"));
        }
        let mut content = Vec::new();
        pool::read(&fs, found.ino, &all, |_, bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })
        .with_context(shown)?;
        let (text, encoding) = show::bytes(&content);
        show::document(json!({"content": text, "encoding": encoding, "bytes": content.len()}));
        return Ok(());
    }
    let mut out = stdout().lock();
    pool::read(&fs, found.ino, &all, |_, bytes| {
        out.write_all(bytes).context("standard output")
    })
    .with_context(shown)?;
    out.flush().context("standard output")
}
