// SPDX-License-Identifier: MIT OR Apache-2.0

//! `fsck.vexfs`, as fsck(8) calls it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use vexfs::pool::{Access, OpenOptions, Pool};

use super::check::{Wanted, examine, tell};
use crate::failure;

/// Check a pool, and mend it unless told not to.
///
/// Ends with 0: nothing is wrong; 1: errors were mended; 4: errors stay; 8: the check could not be done.
#[derive(Args)]
#[command(
    after_help = "Changes: the pool's metadata, if something is wrong with it; nothing with -n.

Examples:
  fsck.vexfs -n -f pool.img
  fsck.vexfs -a /dev/sdX"
)]
#[expect(clippy::struct_excessive_bools, reason = "the switches that fsck passes")]
pub(crate) struct Arguments {
    /// File or block device; must not be mounted
    pool: PathBuf,
    /// Mend without asking, as fsck does at boot: a pool that was closed in order is not looked at
    #[arg(short = 'a', short_alias = 'p')]
    automatic: bool,
    /// Change nothing
    #[arg(short = 'n', conflicts_with_all = ["automatic", "yes"])]
    no: bool,
    /// Mend without asking
    #[arg(short = 'y')]
    yes: bool,
    /// Look also if the pool was closed in order
    #[arg(short = 'f')]
    force: bool,
}

/// As fsck(8) has them.
pub(crate) const EXIT_CODES: &str = "0   nothing is wrong\n1   errors were mended\n4   errors stay\n8   the check could not be done\n16  the call is wrong";

/// Exit code of a call that cannot be understood.
pub(crate) const USAGE: u8 = 16;

const MENDED: u8 = 1;
const ERRORS_STAY: u8 = 4;
const NOT_DONE: u8 = 8;

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let result = examine_if_needed(arguments);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => failure::tell_with(&error, false, NOT_DONE),
    }
}

fn examine_if_needed(arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.automatic && !arguments.force {
        let pool = Pool::open_path(&arguments.pool, &OpenOptions::new(Access::ReadOnly));
        let pool = pool.with_context(|| arguments.pool.display().to_string())?;
        if pool.was_clean() && !pool.superblock().needs_check && pool.survey().damaged().next().is_none() {
            println!("{}: clean", arguments.pool.display());
            return Ok(0);
        }
    }
    let wanted = Wanted {
        repair: !arguments.no,
        verify_data: false,
        rebuild_vectors: false,
        max_issues: 1000,
    };
    let report = examine(&arguments.pool, wanted)?;
    tell(&report, false);
    Ok(match (report.is_sound(), report.clean_after) {
        (true, _) => 0,
        (false, true) => MENDED,
        (false, false) => ERRORS_STAY,
    })
}
