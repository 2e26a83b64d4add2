// SPDX-License-Identifier: MIT OR Apache-2.0

//! Making a pool larger.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use vexfs::fs::Fs;
use vexfs::size::Size;
use vexfs::units::BLOCK_SIZE;
use vexfs_control::handler::{Call, Grow};

use crate::{place, served, show};

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
    if let Some(served) = served::of_pool(&arguments.pool)? {
        let bytes = arguments.size.0;
        let grown = served.call(&Call::Grow(Grow { bytes }))?;
        let size = |name: &str| json!(Size(grown.get(name).and_then(Value::as_u64).unwrap_or(bytes)).to_string());
        show::table(&[("before", size("before")), ("size", size("size"))], json);
        return Ok(());
    }
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
