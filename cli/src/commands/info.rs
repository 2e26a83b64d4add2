// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a pool is and how full; how much of it a tree has.

use std::collections::HashSet;
use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use vexfs::fs::Fs;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::pool::State;
use vexfs::units::{BLOCK_SIZE, Ino};

use crate::place::{self, Place};
use crate::{image, show};

/// Say what a pool is and how full, or how large a tree is.
///
/// Blocks that several files share count once for the pool, and for each file in a tree.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk info pool.img
  vexfs-ublk info pool.img:/photos
  vexfs-ublk --json info pool.img")]
pub(crate) struct Arguments {
    /// POOL, or POOL:/path for a part of it, or a sealed image
    place: OsString,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    if let Some(place) = Place::split(&arguments.place) {
        let fs = place::open_to_read(&place.pool)?;
        let found = place.find(&fs)?;
        let rows = tree(&fs, found.ino, json).with_context(|| place.shown())?;
        show::table(&rows, json);
        return Ok(());
    }
    let place = Place::or_root(&arguments.place);
    if image::is_image(&place.pool) {
        show::table(&image::about(&place.pool, json)?, json);
        return Ok(());
    }
    let fs = place::open_to_read(&place.pool)?;
    show::table(&whole(&fs, json), json);
    Ok(())
}

fn whole(fs: &Fs, json: bool) -> Vec<(&'static str, Value)> {
    let (superblock, numbers) = (fs.superblock(), fs.statistics());
    let bytes = |blocks: u64| show::size(blocks * BLOCK_SIZE as u64, json);
    let time = |time: vexfs::pool::Timestamp| {
        let never = time == vexfs::pool::Timestamp::default();
        let time = Timestamp::new(time.seconds, time.nanos);
        json!(match json {
            true => show::exact_time(time),
            false if never => "never".to_owned(),
            false => show::time(time),
        })
    };
    let state = if superblock.state == State::Clean {
        "clean"
    } else {
        "not closed"
    };
    let used = numbers.total_blocks.saturating_sub(numbers.free_blocks);
    let percent = used.saturating_mul(100).div_ceil(numbers.total_blocks.max(1));
    vec![
        ("uuid", json!(superblock.uuid.to_string())),
        ("label", json!(superblock.label)),
        ("state", json!(state)),
        ("size", bytes(numbers.total_blocks)),
        ("used", bytes(used)),
        ("used percent", json!(percent)),
        ("free", bytes(numbers.free_blocks)),
        ("available", bytes(numbers.available_blocks)),
        ("file blocks", bytes(numbers.file_blocks)),
        ("promised", bytes(numbers.promised_blocks)),
        ("files", json!(numbers.inodes)),
        ("journal", bytes(u64::from(superblock.journal.count))),
        ("journal bytes in use", json!(numbers.journal_bytes)),
        ("newest transaction", json!(numbers.newest)),
        ("made", time(superblock.created)),
        ("last opened for writing", time(superblock.last_mounted)),
        ("last checked", time(superblock.last_checked)),
        ("wants a check", json!(superblock.needs_check)),
        ("errors seen", json!(superblock.error_count)),
    ]
}

/// Numbers of everything below a file, each file once however many names it has.
fn tree(fs: &Fs, top: Ino, json: bool) -> Result<Vec<(&'static str, Value)>> {
    let (mut files, mut directories, mut others) = (0_u64, 0_u64, 0_u64);
    let (mut length, mut blocks) = (0_u64, 0_u64);
    let mut several_names = HashSet::new();
    let mut pending = vec![top];
    while let Some(ino) = pending.pop() {
        let inode = fs.attributes(ino)?.inode;
        if inode.kind() == Kind::Directory {
            directories += 1;
            pending.extend(fs.list_all(ino)?.iter().map(|entry| entry.ino));
            continue;
        }
        if inode.links > 1 && !several_names.insert(ino) {
            continue;
        }
        if inode.kind() == Kind::File {
            files += 1;
            length = length.saturating_add(inode.size);
            blocks = blocks.saturating_add(inode.blocks);
        } else {
            others += 1;
        }
    }
    Ok(vec![
        ("files", json!(files)),
        ("directories", json!(directories)),
        ("others", json!(others)),
        ("length", show::size(length, json)),
        ("stored", show::size(blocks.saturating_mul(BLOCK_SIZE as u64), json)),
    ])
}
