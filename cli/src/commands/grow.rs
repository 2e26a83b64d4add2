// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a pool larger.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;
use vexfs::fs::Fs;
use vexfs::size::Size;
use vexfs::units::BLOCK_SIZE;

use crate::{place, show};

/// Make a pool larger. A file grows with it; a device must have grown before. A pool cannot become smaller.
#[derive(Args)]
pub(crate) struct Arguments {
    /// File or block device
    pool: PathBuf,
    /// New size, as 20GiB
    size: Size,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let size = |fs: &Fs| Size(fs.statistics().total_blocks * BLOCK_SIZE as u64);
    let (before, after) = place::change(&arguments.pool, |fs| {
        let before = size(fs);
        if arguments.size < before {
            bail!(
                "{} has {before}; a pool cannot become smaller ({}): copy its files to a smaller one",
                arguments.pool.display(),
                arguments.size
            );
        }
        fs.grow(arguments.size.0)
            .with_context(|| format!("growing {} to {}", arguments.pool.display(), arguments.size))?;
        Ok((before, size(fs)))
    })?;
    show::table(
        &[
            ("before", json!(before.to_string())),
            ("size", json!(after.to_string())),
        ],
        json,
    );
    Ok(())
}
