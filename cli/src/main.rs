// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublk`: make, mount, look into, fill, check and grow pools, and serve block devices.
//!
//! One executable under several names: `vexfs-ublk` with subcommands, and `mkfs.vexfs`, `fsck.vexfs`, `mount.vexfs` and
//! `umount.vexfs` (or `umount.fuse.vexfs`), which `mkfs -t`, `fsck`, `mount -t` and `umount` call. Every command ends with
//! 0, or with a sentence on the standard error and a code: 1 for what could not be done, 2 for a wrong call; the other names
//! have the codes of fsck(8) and mount(8).
//!
//! | module | job |
//! |---|---|
//! | [`commands`] | one module per command |
//! | [`copy`] | files on their way between pools, the machine and archives |
//! | [`archive`] | tar |
//! | [`place`] | `POOL:/path` |
//! | [`served`] | pools that somebody serves |
//! | [`ublk`] | block devices, and the daemons that serve them |
//! | [`kernel_mount`] | mounts by the kernel module |
//! | [`vectors`], [`npy`] | asking about vectors; arrays of them |
//! | [`service`] | daemons as units of systemd |
//! | [`show`], [`figures`] | text for people, JSON for programs |
//! | [`failure`] | how failures are told |

#![allow(clippy::doc_markdown, reason = "help texts are for terminals")]

mod archive;
mod commands;
mod copy;
mod failure;
mod figures;
mod image;
mod kernel_mount;
mod npy;
mod place;
mod served;
mod service;
mod show;
#[cfg(test)]
mod tests;
mod ublk;
mod vectors;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use commands::generate::{EXIT_CODES, Program};
use vexfs_control::logging::{self, Output};

/// Make, mount, look into, fill, check and grow VexFS pools, and serve block devices.
///
/// A pool is a file or a block device. Commands on files of a pool work on one that is not mounted, and name it as
/// POOL:/path.
#[derive(Parser)]
#[command(name = "vexfs-ublk", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Print one JSON document instead of text; an error is one too
    #[arg(long, global = true)]
    json: bool,
    /// What to log: error, warn, info, debug, trace, off, or directives as warn,vexfs=debug [default: $VEXFS_LOG or error]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Changes: what the command says; `vexfs-ublk COMMAND --help` tells.

Examples:
  vexfs-ublk mkfs pool.img --size 10GiB --label data
  vexfs-ublk cp -r ./photos pool.img:/photos
  vexfs-ublk ls -l pool.img:/photos
  vexfs-ublk snapshot pool.img:/photos pool.img:/photos-before
  vexfs-ublk check pool.img
  vexfs-ublk mount pool.img /mnt; vexfs-ublk umount /mnt
  vexfs-ublk volume create pool.img disk --size 20GiB; vexfs-ublk add pool.img --volume disk";

// What a command is for is said where its arguments are.
#[derive(Subcommand)]
enum Command {
    Mkfs(commands::mkfs::Arguments),
    Info(commands::info::Arguments),
    Mount(commands::mount::Arguments),
    #[command(visible_alias = "unmount")]
    Umount(commands::umount::Arguments),
    Check(commands::check::Arguments),
    Label(commands::label::Arguments),
    Grow(commands::grow::Arguments),
    Ls(commands::ls::Arguments),
    Stat(commands::stat::Arguments),
    Cat(commands::cat::Arguments),
    Cp(commands::cp::Arguments),
    Mv(commands::mv::Arguments),
    Ln(commands::ln::Arguments),
    Mkdir(commands::mkdir::Arguments),
    Rm(commands::rm::Arguments),
    Xattr(commands::xattr::Arguments),
    #[command(visible_alias = "clone")]
    Snapshot(commands::snapshot::Arguments),
    Space(commands::space::Arguments),
    Embed(commands::embed::Arguments),
    Search(commands::search::Arguments),
    Add(commands::add::Arguments),
    Del(commands::del::Arguments),
    List(commands::list::Arguments),
    Recover(commands::recover::Arguments),
    Handover(commands::handover::Arguments),
    Volume(commands::volume::Arguments),
    Features(commands::features::Arguments),
    Status(commands::status::Arguments),
    Top(commands::top::Arguments),
    Export(commands::export::Arguments),
    Import(commands::import::Arguments),
    Bench(commands::bench::Arguments),
    Doctor(commands::doctor::Arguments),
    #[command(hide = true)]
    Generate(commands::generate::Arguments),
    #[command(hide = true)]
    Identify(commands::identify::Arguments),
    #[command(hide = true)]
    BeforeStop(commands::before_stop::Arguments),
}

/// What is logged unless somebody says otherwise: commands say what went wrong themselves.
const LOG: &str = "error";

fn main() -> ExitCode {
    failure::end_with_the_reader();
    let words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().map(Path::new).and_then(Path::file_name);
    match name.and_then(|name| name.to_str()) {
        Some("mkfs.vexfs") => match parse("mkfs.vexfs", words) {
            Ok(arguments) => run(&Cli {
                json: false,
                log: None,
                command: Command::Mkfs(arguments),
            }),
            Err(error) => failure::misuse(&error, false),
        },
        Some("fsck.vexfs") => match parse("fsck.vexfs", words) {
            Ok(arguments) => logged(|| commands::fsck::run(&arguments)),
            Err(error) => failure::misuse_with(&error, commands::fsck::USAGE),
        },
        Some("mount.vexfs") => match parse("mount.vexfs", words) {
            Ok(arguments) => commands::mount::run_helper(&arguments),
            Err(error) => failure::misuse_with(&error, commands::mount::USAGE),
        },
        Some("umount.vexfs" | "umount.fuse.vexfs") => match parse("umount.vexfs", words) {
            Ok(arguments) => logged(|| commands::umount::run_helper(&arguments)),
            Err(error) => failure::misuse_with(&error, commands::mount::USAGE),
        },
        _ => match Cli::try_parse_from(&words) {
            Ok(cli) => run(&cli),
            Err(error) => failure::misuse(&error, words.iter().any(|word| word == "--json")),
        },
    }
}

/// The definition of a command that is a program of its own.
fn program<A: Args>(name: &'static str) -> clap::Command {
    A::augment_args(clap::Command::new(name).version(env!("CARGO_PKG_VERSION")))
}

/// Parses the arguments of such a program.
fn parse<A: Args>(name: &'static str, words: Vec<OsString>) -> Result<A, clap::Error> {
    let matches = program::<A>(name).try_get_matches_from(words)?;
    A::from_arg_matches(&matches)
}

/// Everything that has a help text, a page and completions.
fn programs() -> Vec<Program> {
    vec![
        Program {
            command: Cli::command(),
            exit_codes: EXIT_CODES,
        },
        Program {
            command: program::<commands::mkfs::Arguments>("mkfs.vexfs"),
            exit_codes: EXIT_CODES,
        },
        Program {
            command: program::<commands::fsck::Arguments>("fsck.vexfs"),
            exit_codes: commands::fsck::EXIT_CODES,
        },
        Program {
            command: program::<commands::mount::HelperArguments>("mount.vexfs"),
            exit_codes: commands::mount::EXIT_CODES,
        },
        Program {
            command: program::<commands::umount::HelperArguments>("umount.vexfs"),
            exit_codes: commands::mount::EXIT_CODES,
        },
    ]
}

/// Runs a program that has no option for what to log.
fn logged(program: impl FnOnce() -> ExitCode) -> ExitCode {
    match logging::start(None, LOG, Output::Errors) {
        Ok(_) => program(),
        Err(error) => failure::tell(&error.into(), false),
    }
}

fn run(cli: &Cli) -> ExitCode {
    let json = cli.json;
    let (default, output) = match &cli.command {
        Command::Mount(arguments) => (commands::mount::LOG, arguments.log_output()),
        _ => (LOG, Output::Errors),
    };
    let log = match logging::start(cli.log.as_deref(), default, output) {
        Ok(log) => log,
        Err(error) => return failure::tell(&error.into(), json),
    };
    let result = match &cli.command {
        Command::Mkfs(arguments) => commands::mkfs::run(arguments, json),
        Command::Info(arguments) => commands::info::run(arguments, json),
        Command::Mount(arguments) => commands::mount::run(arguments, log, json),
        Command::Umount(arguments) => commands::umount::run(arguments, json),
        Command::Check(arguments) => return commands::check::run(arguments, json),
        Command::Label(arguments) => commands::label::run(arguments, json),
        Command::Grow(arguments) => commands::grow::run(arguments, json),
        Command::Ls(arguments) => commands::ls::run(arguments, json),
        Command::Stat(arguments) => commands::stat::run(arguments, json),
        Command::Cat(arguments) => commands::cat::run(arguments, json),
        Command::Cp(arguments) => commands::cp::run(arguments, json),
        Command::Mv(arguments) => commands::mv::run(arguments, json),
        Command::Ln(arguments) => commands::ln::run(arguments, json),
        Command::Mkdir(arguments) => commands::mkdir::run(arguments, json),
        Command::Rm(arguments) => commands::rm::run(arguments, json),
        Command::Xattr(arguments) => commands::xattr::run(arguments, json),
        Command::Snapshot(arguments) => commands::snapshot::run(arguments, json),
        Command::Space(arguments) => commands::space::run(arguments, json),
        Command::Embed(arguments) => commands::embed::run(arguments, json),
        Command::Search(arguments) => commands::search::run(arguments, json),
        Command::Export(arguments) => commands::export::run(arguments, json),
        Command::Import(arguments) => commands::import::run(arguments, json),
        Command::Bench(arguments) => commands::bench::run(arguments, json),
        Command::Doctor(arguments) => return commands::doctor::run(arguments, json),
        Command::Generate(arguments) => commands::generate::run(arguments, programs(), json),
        Command::Identify(arguments) => commands::identify::run(arguments, json),
        Command::BeforeStop(arguments) => commands::before_stop::run(arguments, json),
        Command::Add(arguments) => commands::add::run(arguments, cli.log.as_deref(), json),
        Command::Del(arguments) => commands::del::run(arguments, json),
        Command::List(arguments) => commands::list::run(arguments, json),
        Command::Recover(arguments) => commands::recover::run(arguments, cli.log.as_deref(), json),
        Command::Handover(arguments) => commands::handover::run(arguments, json),
        Command::Volume(arguments) => commands::volume::run(arguments, json),
        Command::Features(arguments) => commands::features::run(arguments, json),
        Command::Status(arguments) => commands::status::run(arguments, json),
        Command::Top(arguments) => commands::top::run(arguments, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::tell(&error, json),
    }
}
