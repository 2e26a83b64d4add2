// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a pool.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use uuid::Uuid;
use vexfs::fs::SetAttributes;
use vexfs::pool::format::{FormatOptions, format_path};
use vexfs::size::Size;
use vexfs::units::{BLOCK_SIZE, Ino};

use crate::{place, show};

/// Make a pool in a file or on a block device.
///
/// A file that does not exist is made, sparse; it needs a size. What holds something already is refused without --force. The
/// pool's root directory belongs to the owner of the file.
#[derive(Args)]
#[command(after_help = "Changes: POOL, which holds nothing but the new pool afterwards.

Examples:
  vexfs-ublk mkfs pool.img --size 10GiB --label data
  vexfs-ublk mkfs /dev/sdX --label backup
  mkfs.vexfs --force pool.img")]
pub(crate) struct Arguments {
    /// File or block device
    pool: PathBuf,
    /// Size, as 10GiB; by default that of the device or file
    #[arg(short, long)]
    size: Option<Size>,
    /// Name for people, at most 63 bytes
    #[arg(short = 'L', long, default_value = "")]
    label: String,
    /// Name for programs; by default a random one
    #[arg(short = 'U', long)]
    uuid: Option<Uuid>,
    /// Size of the journal; by default a 64th of the pool, 1 to 64 MiB
    #[arg(long)]
    journal: Option<Size>,
    /// Destroy what is there
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let options = FormatOptions {
        size_bytes: arguments.size.map(|Size(bytes)| bytes),
        label: arguments.label.clone(),
        uuid: arguments.uuid,
        journal_bytes: arguments.journal.map(|Size(bytes)| bytes),
        force: arguments.force,
        ..FormatOptions::default()
    };
    let made = format_path(&arguments.pool, &options).with_context(|| arguments.pool.display().to_string())?;
    give_root_directory(&arguments.pool)?;
    let bytes = |blocks: u64| show::size(blocks * BLOCK_SIZE as u64, json);
    show::table(
        &[
            ("pool", json!(arguments.pool.display().to_string())),
            ("uuid", json!(made.uuid.to_string())),
            ("label", json!(made.label)),
            ("size", bytes(made.total_blocks)),
            ("journal", bytes(u64::from(made.journal.count))),
        ],
        json,
    );
    Ok(())
}

/// Gives the root directory to who owns the file: else a user who makes a pool and mounts it could not write to it.
fn give_root_directory(pool: &Path) -> Result<()> {
    let owner = std::fs::metadata(pool)?;
    if !owner.is_file() || (owner.uid(), owner.gid()) == (0, 0) {
        return Ok(());
    }
    place::change(pool, |fs| {
        let set = SetAttributes {
            uid: Some(owner.uid()),
            gid: Some(owner.gid()),
            now: place::now(),
            ..SetAttributes::default()
        };
        fs.set_attributes(Ino::ROOT, &set)?;
        Ok(())
    })
}
