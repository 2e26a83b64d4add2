// SPDX-License-Identifier: MIT OR Apache-2.0

//! Listing.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vexfs::fs::record::Kind;
use vexfs::fs::{Attributes, Fs};

use crate::place::{self, Place};
use crate::show;

/// List a directory of a pool, or one file.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk ls pool.img
  vexfs-ublk ls -l pool.img:/photos")]
pub(crate) struct Arguments {
    /// POOL or POOL:/path
    place: OsString,
    /// Type, permissions, links, owner, size, time
    #[arg(short, long)]
    long: bool,
}

struct Row {
    name: Vec<u8>,
    found: Attributes,
    target: Option<Vec<u8>>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::or_root(&arguments.place);
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let mut rows = Vec::new();
    if found.inode.is_directory() {
        for entry in fs.list_all(found.ino).with_context(|| place.shown())? {
            let found = fs.attributes(entry.ino).with_context(|| place.shown())?;
            rows.push(row(&fs, entry.name.into_vec(), found)?);
        }
        rows.sort_by(|one, other| one.name.cmp(&other.name));
    } else {
        rows.push(row(&fs, place.path.clone(), found)?);
    }
    if json {
        let rows: Vec<_> = rows.iter().map(as_json).collect();
        show::document(json!({"entries": rows}));
        return Ok(());
    }
    for row in &rows {
        let name = String::from_utf8_lossy(&row.name);
        if arguments.long {
            let inode = &row.found.inode;
            let target = row
                .target
                .as_ref()
                .map(|target| format!(" -> {}", String::from_utf8_lossy(target)));
            println!(
                "{} {:>3} {:>5} {:>5} {:>12} {} {name}{}",
                show::mode(inode.kind(), inode.mode),
                inode.links,
                inode.uid,
                inode.gid,
                inode.size,
                show::time(inode.modified),
                target.unwrap_or_default()
            );
        } else {
            println!("{name}");
        }
    }
    Ok(())
}

fn row(fs: &Fs, name: Vec<u8>, found: Attributes) -> Result<Row> {
    let is_link = found.inode.kind() == Kind::Symlink;
    let target = is_link.then(|| fs.read_link(found.ino)).transpose()?;
    Ok(Row { name, found, target })
}

fn as_json(row: &Row) -> serde_json::Value {
    let inode = &row.found.inode;
    json!({
        "name": String::from_utf8_lossy(&row.name),
        "inode": row.found.ino.0,
        "mode": show::mode(inode.kind(), inode.mode),
        "links": inode.links,
        "uid": inode.uid,
        "gid": inode.gid,
        "size": inode.size,
        "modified": show::exact_time(inode.modified),
        "kind": show::kind(inode.kind()),
        "target": row.target.as_ref().map(|target| String::from_utf8_lossy(target)),
    })
}
