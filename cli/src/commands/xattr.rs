// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extended attributes.

use std::ffi::OsString;
use std::io::{Read, Write, stdin, stdout};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::json;
use vexfs::fs::MAX_XATTR_VALUE;

use crate::place::{self, Place};
use crate::show;

/// List, print, set and remove extended attributes.
#[derive(Args)]
#[command(
    after_help = "Changes: nothing with list and get; the file's attributes with set and rm.

Examples:
  vexfs-ublk xattr list pool.img:/notes.txt
  vexfs-ublk xattr set pool.img:/notes.txt user.author Ada
  vexfs-ublk xattr get pool.img:/notes.txt user.comment
  vexfs-ublk xattr rm pool.img:/notes.txt user.comment
  printf 'a\\\\0b' | vexfs-ublk xattr set pool.img:/notes.txt user.bytes"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the names
    List {
        /// POOL:/path
        place: OsString,
    },
    /// Print a value
    Get {
        /// POOL:/path
        place: OsString,
        /// As user.author; also trusted., security. and access lists
        name: OsString,
    },
    /// Set a value
    Set {
        /// POOL:/path
        place: OsString,
        /// As user.author; also trusted., security. and access lists
        name: OsString,
        /// By default what the standard input gives
        value: Option<OsString>,
    },
    /// Remove an attribute
    Rm {
        /// POOL:/path
        place: OsString,
        /// As user.author
        name: OsString,
    },
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    match &arguments.action {
        Action::List { place } => list(&Place::required(place)?, json),
        Action::Get { place, name } => get(&Place::required(place)?, name.as_bytes(), json),
        Action::Set { place, name, value } => {
            let value = match value {
                Some(value) => value.clone().into_vec(),
                None => input()?,
            };
            change(&Place::required(place)?, name.as_bytes(), Some(&value), json)
        }
        Action::Rm { place, name } => change(&Place::required(place)?, name.as_bytes(), None, json),
    }
}

fn list(place: &Place, json: bool) -> Result<()> {
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let names = fs.list_xattrs(found.ino).with_context(|| place.shown())?;
    let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
    if json {
        show::document(json!({"names": names}));
    } else {
        for name in names {
            println!("{name}");
        }
    }
    Ok(())
}

fn get(place: &Place, name: &[u8], json: bool) -> Result<()> {
    let fs = place::open_to_read(&place.pool)?;
    let found = place.find(&fs)?;
    let value = fs.get_xattr(found.ino, name).with_context(|| shown(place, name))?;
    if json {
        let (text, encoding) = show::bytes(&value);
        show::document(json!({"name": String::from_utf8_lossy(name), "value": text, "encoding": encoding}));
        return Ok(());
    }
    stdout().write_all(&value).context("standard output")
}

fn change(place: &Place, name: &[u8], value: Option<&[u8]>, json: bool) -> Result<()> {
    place::change(&place.pool, |fs| {
        let found = place.find(fs)?;
        match value {
            Some(value) => fs.set_xattr(found.ino, name, value, 0, place::now()),
            None => fs.remove_xattr(found.ino, name, place::now()),
        }
        .with_context(|| shown(place, name))
    })?;
    if json {
        show::document(json!({"path": place.shown(), "name": String::from_utf8_lossy(name)}));
    }
    Ok(())
}

/// The standard input, as far as a value can be long; the engine refuses one byte more.
fn input() -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let most = MAX_XATTR_VALUE as u64 + 1;
    stdin().take(most).read_to_end(&mut value).context("standard input")?;
    Ok(value)
}

fn shown(place: &Place, name: &[u8]) -> String {
    format!("{} of {}", String::from_utf8_lossy(name), place.shown())
}
