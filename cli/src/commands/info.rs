// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a pool is and how full.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use vexfs::fs::record::Timestamp;
use vexfs::pool::State;
use vexfs::size::Size;
use vexfs::units::BLOCK_SIZE;

use crate::{place, show};

/// Say what a pool is and how full. Changes nothing.
#[derive(Args)]
pub(crate) struct Arguments {
    /// File or block device
    pool: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let fs = place::open_to_read(&arguments.pool)?;
    let (superblock, numbers) = (fs.superblock(), fs.statistics());
    let bytes = |blocks: u64| {
        let bytes = blocks * BLOCK_SIZE as u64;
        if json {
            json!(bytes)
        } else {
            json!(Size(bytes).to_string())
        }
    };
    let time = |time: vexfs::pool::Timestamp| json!(show::time(Timestamp::new(time.seconds, time.nanos)));
    show::table(
        &[
            ("uuid", json!(superblock.uuid.to_string())),
            ("label", json!(superblock.label)),
            (
                "state",
                json!(if superblock.state == State::Clean {
                    "clean"
                } else {
                    "not closed"
                }),
            ),
            ("size", bytes(numbers.total_blocks)),
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
        ],
        json,
    );
    Ok(())
}
