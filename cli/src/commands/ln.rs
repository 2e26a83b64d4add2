// SPDX-License-Identifier: MIT OR Apache-2.0

//! Links.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vexfs::fs::NewFile;
use vexfs::fs::record::Kind;

use crate::failure::failed;
use crate::place::{self, Place};
use crate::show;

/// Make a symbolic link in a pool, or give a file another name.
#[derive(Args)]
#[command(after_help = "Changes: the pool, by one name.

Examples:
  vexfs-ublk ln -s ../notes.txt pool.img:/photos/notes
  vexfs-ublk ln pool.img:/notes.txt pool.img:/same-file.txt")]
pub(crate) struct Arguments {
    /// POOL:/path of the file; with -s any text, which is not looked at
    target: OsString,
    /// POOL:/path of the new name
    place: OsString,
    /// A symbolic link
    #[arg(short, long)]
    symbolic: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::required(&arguments.place)?;
    let ino = if arguments.symbolic {
        symbolic(arguments.target.as_bytes(), &place)?
    } else {
        let original = Place::required(&arguments.target)?;
        if !place::same_file(&original.pool, &place.pool) {
            return Err(failed("a file has all its names in one pool", "copy it with cp"));
        }
        place::change(&place.pool, |fs| {
            let found = original.find(fs)?;
            let (parent, name) = place.parent(fs)?;
            let linked = fs.link(found.ino, parent, &name, place::now());
            Ok(linked.with_context(|| place.shown())?.ino)
        })?
    };
    if json {
        show::document(json!({"path": place.shown(), "inode": ino.0}));
    }
    Ok(())
}

fn symbolic(target: &[u8], place: &Place) -> Result<vexfs::units::Ino> {
    let new = NewFile {
        kind: Kind::Symlink,
        permissions: 0o777,
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        device: 0,
        target,
        now: place::now(),
    };
    place::change(&place.pool, |fs| {
        let (parent, name) = place.parent(fs)?;
        Ok(fs.create(parent, &name, &new).with_context(|| place.shown())?.ino)
    })
}
