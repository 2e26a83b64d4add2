// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublk`: make, mount, look into, check and grow pools.
//!
//! One executable under several names: `vexfs-ublk` with subcommands, and `mkfs.vexfs`, `fsck.vexfs`, `mount.vexfs` and
//! `umount.vexfs` (or `umount.fuse.vexfs`), which `mkfs -t`, `fsck`, `mount -t` and `umount` call. Every command ends with
//! 0, or with a sentence on the standard error and a code: 1 for what could not be done, 2 for a wrong call; the other names
//! have the codes of fsck(8) and mount(8).
//!
//! | module | job |
//! |---|---|
//! | [`commands`] | one module per command |
//! | [`place`] | `POOL:/path` |
//! | [`show`] | text for people, JSON for programs |

#![allow(clippy::doc_markdown, reason = "help texts are for terminals")]

mod commands;
mod place;
mod show;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Make, mount, look into, check and grow VexFS pools.
///
/// A pool is a file or a block device. Commands on files of a pool work on one that is not mounted, and name it as
/// POOL:/path.
#[derive(Parser)]
#[command(name = "vexfs-ublk", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  vexfs-ublk mkfs pool.img --size 10GiB --label data
  vexfs-ublk cp -r ./photos pool.img:/photos
  vexfs-ublk ls -l pool.img:/photos
  vexfs-ublk snapshot pool.img:/photos pool.img:/photos-before
  vexfs-ublk check pool.img
  vexfs-ublk mount pool.img /mnt; vexfs-ublk umount /mnt";

#[derive(Subcommand)]
enum Command {
    /// Make a pool
    Mkfs(commands::mkfs::Arguments),
    /// Say what a pool is and how full
    Info(commands::info::Arguments),
    /// Mount a pool on a directory
    Mount(commands::mount::Arguments),
    /// Unmount a pool, and wait until it is closed
    #[command(visible_alias = "unmount")]
    Umount(commands::umount::Arguments),
    /// Look for damage, and mend it
    Check(commands::check::Arguments),
    /// Show or change the label
    Label(commands::label::Arguments),
    /// Make a pool larger
    Grow(commands::grow::Arguments),
    /// List a directory
    Ls(commands::ls::Arguments),
    /// Say everything about one file
    Stat(commands::stat::Arguments),
    /// Print a file
    Cat(commands::cat::Arguments),
    /// Copy files into, out of or inside a pool
    Cp(commands::cp::Arguments),
    /// Make a directory
    Mkdir(commands::mkdir::Arguments),
    /// Remove files
    Rm(commands::rm::Arguments),
    /// Copy a file or a whole tree inside a pool without copying its blocks
    #[command(visible_alias = "clone")]
    Snapshot(commands::snapshot::Arguments),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("VEXFS_LOG"))
        .init();
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(|name| name.to_str()) {
        Some("mkfs.vexfs") => run(&Cli {
            json: false,
            command: Command::Mkfs(parse("mkfs.vexfs", words)),
        }),
        Some("fsck.vexfs") => commands::fsck::run(&parse("fsck.vexfs", words)),
        Some("mount.vexfs") => commands::mount::run_helper(&parse("mount.vexfs", words)),
        Some("umount.vexfs" | "umount.fuse.vexfs") => commands::umount::run_helper(&parse("umount.vexfs", words)),
        _ => run(&Cli::parse()),
    }
}

/// Parses the arguments of one command under a name of its own.
fn parse<A: clap::Args>(name: &'static str, words: impl Iterator<Item = OsString>) -> A {
    let command = A::augment_args(clap::Command::new(name).version(env!("CARGO_PKG_VERSION")));
    let matches = command.get_matches_from(std::iter::once(OsString::from(name)).chain(words));
    A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn run(cli: &Cli) -> ExitCode {
    let json = cli.json;
    let result = match &cli.command {
        Command::Mkfs(arguments) => commands::mkfs::run(arguments, json),
        Command::Info(arguments) => commands::info::run(arguments, json),
        Command::Mount(arguments) => commands::mount::run(arguments),
        Command::Umount(arguments) => commands::umount::run(arguments),
        Command::Check(arguments) => return commands::check::run(arguments, json),
        Command::Label(arguments) => commands::label::run(arguments, json),
        Command::Grow(arguments) => commands::grow::run(arguments, json),
        Command::Ls(arguments) => commands::ls::run(arguments, json),
        Command::Stat(arguments) => commands::stat::run(arguments, json),
        Command::Cat(arguments) => commands::cat::run(arguments),
        Command::Cp(arguments) => commands::cp::run(arguments),
        Command::Mkdir(arguments) => commands::mkdir::run(arguments),
        Command::Rm(arguments) => commands::rm::run(arguments),
        Command::Snapshot(arguments) => commands::snapshot::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => show::failure(&error),
    }
}
