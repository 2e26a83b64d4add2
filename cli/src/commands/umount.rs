// SPDX-License-Identifier: MIT OR Apache-2.0

//! Unmounting a pool: `vexfs-ublk umount`, and `umount.vexfs` as umount(8) calls it.

use std::path::PathBuf;
use std::process::ExitCode;

use super::mount::FAILED;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use vexfs_fuse::unmount::{Left, unmount};

use crate::{failure, kernel_mount, show};

/// Unmount a pool, and wait until its server has closed it.
#[derive(Args)]
#[command(
    after_help = "Changes: everything is written to the pool, and the pool is marked as closed in order.

Examples:
  vexfs-ublk umount /mnt
  vexfs-ublk umount --lazy pool.img"
)]
pub(crate) struct Arguments {
    /// The directory it is mounted on, or the pool
    place: PathBuf,
    /// Take it away at once; who has files open keeps them, and the pool is closed after the last of them
    #[arg(short, long)]
    lazy: bool,
    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
}

/// `umount.vexfs DIR [-flnrv]`, see umount(8).
#[derive(Args)]
#[command(
    after_help = "Changes: everything is written to the pool, and the pool is marked as closed in order.

Examples:
  umount.vexfs /mnt
  umount.vexfs /mnt -l -v"
)]
#[expect(clippy::struct_excessive_bools, reason = "the switches that umount passes")]
pub(crate) struct HelperArguments {
    /// The directory it is mounted on, or the pool
    place: PathBuf,
    /// Take it away at once, also if it is in use
    #[arg(short)]
    lazy: bool,
    /// Accepted for umount(8): there is no server to wait for whose end could be forced
    #[arg(short)]
    force: bool,
    /// Accepted for umount(8): there is no file of mounts to write
    #[arg(short)]
    no_mtab: bool,
    /// Accepted for umount(8)
    #[arg(short)]
    read_only: bool,
    /// Say what is done
    #[arg(short)]
    verbose: bool,
    /// Accepted for umount(8)
    #[arg(short = 't', value_name = "TYPE", hide = true)]
    kind: Option<String>,
}

fn take_away(place: &std::path::Path, lazy: bool, verbose: bool, json: bool) -> Result<()> {
    let left = match kernel_mount::mount_of(place)? {
        Some(mount) => {
            let Some(left) = kernel_mount::unmount(&mount, lazy)? else {
                if json {
                    show::document(json!({"place": place.display().to_string(), "pool": in_a_word(Left::InUse)}));
                } else if verbose {
                    let (place, source) = (place.display(), mount.source.display());
                    println!("{place} is unmounted; {source} presents the pool still");
                }
                return Ok(());
            };
            left
        }
        None => unmount(place, lazy)?,
    };
    if json {
        show::document(json!({"place": place.display().to_string(), "pool": in_a_word(left)}));
        return Ok(());
    }
    match left {
        Left::Clean if verbose => println!("{} is unmounted, the pool is closed", place.display()),
        Left::Clean => {}
        Left::Unclean => eprintln!("the pool was not closed in order; the next mount recovers it from its journal"),
        Left::InUse => eprintln!("the pool is still served; it is closed when nobody uses it any more"),
        Left::Unknown => eprintln!("the pool cannot be looked at from here; whether it is closed is not known"),
    }
    Ok(())
}

/// What became of the pool, for programs.
fn in_a_word(left: Left) -> &'static str {
    match left {
        Left::Clean => "closed",
        Left::Unclean => "not closed in order",
        Left::InUse => "in use",
        Left::Unknown => "unknown",
    }
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    take_away(&arguments.place, arguments.lazy, arguments.verbose, json)
}

/// Under the name `umount.vexfs`.
pub(crate) fn run_helper(arguments: &HelperArguments) -> ExitCode {
    match take_away(&arguments.place, arguments.lazy, arguments.verbose, false) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::tell_with(&error, false, FAILED),
    }
}
