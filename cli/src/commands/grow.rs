// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a pool larger.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;
use vexfs::fs::Fs;
use vexfs::size::Size;
use vexfs::units::BLOCK_SIZE;
use vexfs_control::handler::{Call, Grow};

use crate::failure::failed;
use crate::{place, served, show};

/// Make a pool larger.
///
/// A file grows with it; a device must have grown before. A pool cannot become smaller.
#[derive(Args)]
#[command(after_help = "Changes: the size of the pool, and of its file. What is in it stays.

Examples:
  vexfs-ublk grow pool.img 20GiB")]
pub(crate) struct Arguments {
    /// File or block device
    pool: PathBuf,
    /// New size, as 20GiB
    size: Size,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let size = |fs: &Fs| Size(fs.statistics().total_blocks * BLOCK_SIZE as u64);
    if let Some(served) = served::of_pool(&arguments.pool)? {
        let bytes = arguments.size.0;
        let grown = served.call(&Call::Grow(Grow { bytes }))?;
        let size = |name: &str| show::size(grown.get(name).and_then(Value::as_u64).unwrap_or(bytes), json);
        show::table(&[("before", size("before")), ("size", size("size"))], json);
        return Ok(());
    }
    let (before, after) = place::change(&arguments.pool, |fs| {
        let before = size(fs);
        if arguments.size < before {
            return Err(failed(
                format!(
                    "{} has {before} and cannot become smaller ({})",
                    arguments.pool.display(),
                    arguments.size
                ),
                "make a smaller pool, and copy the files there with cp -a",
            ));
        }
        fs.grow(arguments.size.0)
            .with_context(|| format!("growing {} to {}", arguments.pool.display(), arguments.size))?;
        Ok((before, size(fs)))
    })?;
    show::table(
        &[
            ("before", show::size(before.0, json)),
            ("size", show::size(after.0, json)),
        ],
        json,
    );
    Ok(())
}
