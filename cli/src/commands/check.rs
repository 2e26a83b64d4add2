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

use crate::failure::failed;
use crate::{failure, image, show};

/// Look for damage, and mend it.
///
/// Of a sealed image everything is looked at, its contents too.
///
/// Ends with 0 if nothing is wrong (warnings do not count) or everything was mended, with 1 if something stays wrong.
#[derive(Args)]
#[command(
    after_help = "Changes: nothing; with --repair or --rebuild-vectors the pool's metadata.

Examples:
  vexfs-ublk check pool.img
  vexfs-ublk check --scrub pool.img
  vexfs-ublk check --repair pool.img
  vexfs-ublk check --rebuild-vectors pool.img"
)]
pub(crate) struct Arguments {
    /// File or block device; must not be mounted. Or a sealed image
    pool: PathBuf,
    /// Mend what can be mended without inventing data
    #[arg(long)]
    repair: bool,
    /// Read all file contents and compare them with their checksums
    #[arg(long, visible_alias = "data")]
    scrub: bool,
    /// Drop the indexes of all spaces: they are built again, from the vectors, when the pool is next used
    #[arg(long)]
    rebuild_vectors: bool,
    /// How many issues to tell one by one
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    most: usize,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> ExitCode {
    if image::is_image(&arguments.pool) {
        return sealed(arguments, json);
    }
    let wanted = Wanted {
        repair: arguments.repair || arguments.rebuild_vectors,
        verify_data: arguments.scrub,
        rebuild_vectors: arguments.rebuild_vectors,
        max_issues: arguments.most,
    };
    match examine(&arguments.pool, wanted) {
        Ok(report) => {
            tell(&report, json);
            ExitCode::from(u8::from(!report.clean_after))
        }
        Err(error) => failure::tell(&error, json),
    }
}

/// Of a sealed image all is looked at, and nothing can be mended.
fn sealed(arguments: &Arguments, json: bool) -> ExitCode {
    let result = if arguments.repair || arguments.rebuild_vectors {
        Err(failed(
            format!("{} is a sealed image, which is not mended", arguments.pool.display()),
            "check it without --repair, and export it again if it is damaged",
        ))
    } else {
        image::examine(&arguments.pool)
    };
    match result {
        Ok(report) => {
            image::tell(&report, json);
            ExitCode::from(u8::from(!report.is_sound()))
        }
        Err(error) => failure::tell(&error, json),
    }
}

/// See [`CheckOptions`].
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) repair: bool,
    pub(super) verify_data: bool,
    pub(super) rebuild_vectors: bool,
    pub(super) max_issues: usize,
}

/// Checks a pool, with a line of progress on a terminal.
pub(super) fn examine(path: &Path, wanted: Wanted) -> Result<Report> {
    let access = if wanted.repair {
        Access::ReadWrite
    } else {
        Access::ReadOnly
    };
    let place = || path.display().to_string();
    let mut pool = Pool::open_path(path, &OpenOptions::new(access)).with_context(place)?;
    let bar = show::bar("looking at records", None);
    let report = check(
        &mut pool,
        &mut CheckOptions {
            verify_data: wanted.verify_data,
            rebuild_vectors: wanted.rebuild_vectors,
            repair: wanted.repair,
            memory_bytes: DEFAULT_MEMORY,
            max_issues: wanted.max_issues,
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
