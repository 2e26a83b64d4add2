// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the ublk driver of this machine can do.

use anyhow::Result;
use clap::Args;
use serde_json::json;
use ublk_server::features;

use crate::show;

/// Say what the ublk driver of this machine can do, a word a line.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk features")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, json: bool) -> Result<()> {
    let names = features::names()?;
    if json {
        show::document(json!({ "features": names }));
    } else {
        for name in names {
            println!("{name}");
        }
    }
    Ok(())
}
