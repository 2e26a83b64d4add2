// SPDX-License-Identifier: MIT OR Apache-2.0

//! Everything about one file.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use vexfs::fs::Source;
use vexfs::fs::record::Kind;
use vexfs::units::{FileBlock, blocks_for};

use crate::place::{self, Place};
use crate::show;

/// Say everything about one file.
///
/// Attributes, names of extended attributes, and where its bytes are in the pool.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk stat pool.img:/photos/a.jpg
  vexfs-ublk --json stat pool.img:/photos")]
pub(crate) struct Arguments {
    /// POOL:/path
    place: OsString,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let place = Place::or_root(&arguments.place);
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let inode = &found.inode;
    let shown = || place.shown();
    let names = fs.list_xattrs(found.ino).with_context(shown)?;
    let names: Vec<String> = names
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let mut extents = Vec::new();
    if inode.kind() == Kind::File {
        for extent in fs
            .extents(found.ino, FileBlock(0), blocks_for(inode.size))
            .with_context(shown)?
        {
            let text = match &extent.source {
                Source::Hole => "hole".to_owned(),
                Source::Promised => "promised".to_owned(),
                Source::Lost => "lost".to_owned(),
                Source::Inline(bytes) => format!("{} bytes in the metadata", bytes.len()),
                Source::Blocks(run, Some(_)) => run.to_string(),
                Source::Blocks(run, None) => format!("{run}, no checksums"),
                Source::Packed(unit, _) => format!("{} bytes compressed with {:?}", unit.bytes, unit.algorithm),
            };
            extents.push(format!("{}+{}: {text}", extent.at.0, extent.count));
        }
    }
    let time = |time| json!(if json { show::exact_time(time) } else { show::time(time) });
    let mut rows: Vec<(&str, Value)> = vec![
        ("inode", json!(found.ino.0)),
        ("mode", json!(show::mode(inode.kind(), inode.mode))),
        ("links", json!(inode.links)),
        ("uid", json!(inode.uid)),
        ("gid", json!(inode.gid)),
        ("size", json!(inode.size)),
        ("blocks", json!(inode.blocks)),
        ("flags", json!(format!("{:#x}", inode.flags.0))),
        ("born", time(inode.born)),
        ("read", time(inode.accessed)),
        ("modified", time(inode.modified)),
        ("changed", time(inode.changed)),
    ];
    if json {
        rows.push(("attributes", json!(names)));
        rows.push(("extents", json!(extents)));
    } else {
        rows.extend(names.into_iter().map(|name| ("attribute", json!(name))));
        rows.extend(extents.into_iter().map(|extent| ("extent", json!(extent))));
    }
    show::table(&rows, json);
    Ok(())
}
