// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublk`: make, look into, check and grow pools.
//!
//! One executable under three names: `vexfs-ublk` with subcommands, and `mkfs.vexfs` and `fsck.vexfs`, which `mkfs -t` and
//! `fsck` call. Every command ends with 0, or with a sentence on the standard error and a code: 1 for what could not be
//! done, 2 for a wrong call; `fsck.vexfs` has the codes of fsck(8).
//!
//! | module | job |
//! |---|---|
//! | [`commands`] | one module per command |
//! | [`place`] | `POOL:/path` |
//! | [`served`] | pools that somebody serves |
//! | [`show`], [`figures`] | text for people, JSON for programs |

#![allow(clippy::doc_markdown, reason = "help texts are for terminals")]

mod commands;
mod figures;
mod place;
mod served;
mod show;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vexfs_control::logging;

/// Make, look into, check and grow VexFS pools.
///
/// A pool is a file or a block device. Commands on files of a pool work on one that is not mounted, and name it as
/// POOL:/path.
#[derive(Parser)]
#[command(name = "vexfs-ublk", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// What to log: error, warn, info, debug, trace, off, or directives as warn,vexfs=debug [default: $VEXFS_LOG or error]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  vexfs-ublk mkfs pool.img --size 10GiB --label data
  vexfs-ublk cp -r ./photos pool.img:/photos
  vexfs-ublk ls -l pool.img:/photos
  vexfs-ublk snapshot pool.img:/photos pool.img:/photos-before
  vexfs-ublk check pool.img";

#[derive(Subcommand)]
enum Command {
    /// Make a pool
    Mkfs(commands::mkfs::Arguments),
    /// Say what a pool is and how full
    Info(commands::info::Arguments),
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
    /// Say how served pools are
    Status(commands::status::Arguments),
    /// Watch served pools live
    Top(commands::top::Arguments),
}

/// What is logged unless somebody says otherwise: commands say what went wrong themselves.
const LOG: &str = "error";

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(|name| name.to_str()) {
        Some("mkfs.vexfs") => run(&Cli {
            json: false,
            log: None,
            command: Command::Mkfs(parse("mkfs.vexfs", words)),
        }),
        Some("fsck.vexfs") => {
            let arguments = parse("fsck.vexfs", words);
            match logging::start(None, LOG) {
                Ok(_) => commands::fsck::run(&arguments),
                Err(error) => show::failure(&error.into()),
            }
        }
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
    if let Err(error) = logging::start(cli.log.as_deref(), LOG) {
        return show::failure(&error.into());
    }
    let result = match &cli.command {
        Command::Mkfs(arguments) => commands::mkfs::run(arguments, json),
        Command::Info(arguments) => commands::info::run(arguments, json),
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
        Command::Status(arguments) => commands::status::run(arguments, json),
        Command::Top(arguments) => commands::top::run(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => show::failure(&error),
    }
}
