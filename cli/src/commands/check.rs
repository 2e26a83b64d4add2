// SPDX-License-Identifier: MIT OR Apache-2.0

//! Looking for damage, and mending it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use vexfs::check::{CheckOptions, DEFAULT_MEMORY, Report, check};
use vexfs::pool::{Access, OpenOptions, Pool};

use crate::{failure, show};

/// Look for damage, and mend it.
///
/// Ends with 0 if nothing is wrong (warnings do not count) or everything was mended, with 1 if something stays wrong.
#[derive(Args)]
#[command(after_help = "Changes: nothing; with --repair the pool's metadata.

Examples:
  vexfs-ublk check pool.img
  vexfs-ublk check --scrub pool.img
  vexfs-ublk check --repair pool.img")]
pub(crate) struct Arguments {
    /// File or block device; must not be mounted
    pool: PathBuf,
    /// Mend what can be mended without inventing data
    #[arg(long)]
    repair: bool,
    /// Read all file contents and compare them with their checksums
    #[arg(long, visible_alias = "data")]
    scrub: bool,
    /// How many issues to tell one by one
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    most: usize,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> ExitCode {
    match examine(&arguments.pool, arguments.repair, arguments.scrub, arguments.most) {
        Ok(report) => {
            tell(&report, json);
            ExitCode::from(u8::from(!report.clean_after))
        }
        Err(error) => failure::tell(&error, json),
    }
}

/// Checks a pool, with a line of progress on a terminal.
pub(super) fn examine(path: &Path, repair: bool, verify_data: bool, max_issues: usize) -> Result<Report> {
    let access = if repair { Access::ReadWrite } else { Access::ReadOnly };
    let place = || path.display().to_string();
    let mut pool = Pool::open_path(path, &OpenOptions::new(access)).with_context(place)?;
    let bar = show::bar("looking at records", None);
    let report = check(
        &mut pool,
        &mut CheckOptions {
            verify_data,
            repair,
            memory_bytes: DEFAULT_MEMORY,
            max_issues,
            progress: &mut |progress| {
                bar.set_position(progress.done);
                ControlFlow::Continue(())
            },
        },
    );
    bar.finish_and_clear();
    report.with_context(place)
}

/// Prints what was found.
pub(super) fn tell(report: &Report, json: bool) {
    if json {
        let issues: Vec<_> = report
            .issues
            .iter()
            .map(|issue| {
                json!({
                    "severity": issue.severity().to_string(),
                    "text": issue.to_string(),
                    "repairable": issue.repairable(),
                    "path": issue.ino().and_then(|ino| report.paths.get(&ino)),
                })
            })
            .collect();
        let document = json!({
            "sound": report.is_sound(),
            "clean_after": report.clean_after,
            "repaired_records": report.repaired,
            "counts": report.counts,
            "issues": issues,
        });
        show::document(document);
        return;
    }
    for issue in &report.issues {
        println!("{}", report.describe(issue));
    }
    let found: u64 = report.counts.values().sum();
    match (found, report.repaired, report.clean_after) {
        (0, _, _) => println!("nothing is wrong"),
        (_, 0, true) => println!("{found} warnings, no errors"),
        (_, 0, false) => println!("{found} issues; run the check again with --repair to mend them"),
        (_, _, true) => println!("{found} issues, all mended ({} records)", report.repaired),
        (_, _, false) => println!("{found} issues, {} records mended; some errors stay", report.repaired),
    }
}
