// SPDX-License-Identifier: MIT OR Apache-2.0

//! The label of a pool.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vexfs_control::handler::{Call, Label};

use crate::{place, served, show};

/// Show the label of a pool, or give it another. A served pool keeps being served.
#[derive(Args)]
#[command(after_help = "Changes: the label, if a new one is given.

Examples:
  vexfs-ublk label pool.img
  vexfs-ublk label pool.img archive")]
pub(crate) struct Arguments {
    /// File or block device
    pool: PathBuf,
    /// The new label, at most 63 bytes without control characters; "" for none
    label: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let label = match &arguments.label {
        None => match served::of_pool(&arguments.pool)? {
            Some(served) => served.status.pool.label,
            None => place::open_to_read(&arguments.pool)?.superblock().label,
        },
        Some(label) => {
            if let Some(served) = served::of_pool(&arguments.pool)? {
                served.call(&Call::Label(Label { label: label.clone() }))?;
            } else {
                place::change(&arguments.pool, |fs| {
                    fs.set_label(label)
                        .with_context(|| format!("label {label:?} (at most 63 bytes, no control characters)"))
                })?;
            }
            label.clone()
        }
    };
    if json {
        show::table(&[("label", json!(label))], true);
    } else {
        println!("{label}");
    }
    Ok(())
}
