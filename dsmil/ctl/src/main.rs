// SPDX-License-Identifier: MIT OR Apache-2.0

//! `dsmilctl`: talks to `dsmild`, and checks what was built.
//!
//! - [`talk`]: one question to the server, one answer. [`watch`]: the live view.
//! - [`selftest`]: does the device behind the server do what it should?
//! - [`validate`]: are kernel module and C library what they should be? [`module`]: does the module load and unload?
//!
//! Exit codes: 0 done; 1 refused or failed; 2 wrong command line; 3 no server.

mod module;
mod report;
mod selftest;
mod talk;
mod validate;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dsmil_client::Failure;

/// Talk to dsmild, the DSMIL driver process.
///
/// Examples:
///   dsmilctl list
///   dsmilctl read-token 3 power
///   dsmilctl estop "smoke in rack 4"
///   dsmilctl validate --module uio_dsmil.ko --library libdsmil.so.1
#[derive(Parser)]
#[expect(clippy::doc_markdown, reason = "shown on the command line as it is")]
#[command(name = "dsmilctl", version, verbatim_doc_comment, max_term_width = 100)]
struct Cli {
    /// The server's socket [default: $DSMIL_SOCKET, then /run/dsmil/dsmild.sock]
    #[arg(long, global = true)]
    socket: Option<PathBuf>,
    /// Answers as JSON, one document a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Talk(talk::Question),
    /// Show figures, temperatures and events as they come, until interrupted
    Watch {
        /// End after so many updates
        #[arg(long)]
        updates: Option<u64>,
    },
    /// Check that the device behind the server answers as it should; changes nothing that it does not change back
    Selftest,
    /// Check what was built: the kernel module's metadata, the C library's symbols
    Validate(validate::Arguments),
    /// Load a kernel module, check what it says of itself, and unload it; needs root
    TestModule(module::Arguments),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let socket = cli.socket.unwrap_or_else(dsmil_client::default_socket);
    let result = match &cli.command {
        Command::Talk(question) => talk::run(question, &socket, cli.json),
        Command::Watch { updates } => watch::run(&socket, *updates, cli.json),
        Command::Selftest => selftest::run(&socket, cli.json),
        Command::Validate(arguments) => validate::run(arguments, cli.json),
        Command::TestModule(arguments) => module::run(arguments, cli.json),
    };
    result.unwrap_or_else(|error| {
        let failure = error.downcast_ref::<Failure>();
        if cli.json {
            let errno = failure.map_or(nix::libc::EIO, Failure::errno);
            println!(
                "{}",
                serde_json::json!({ "error": { "errno": errno, "message": format!("{error:#}") } })
            );
        } else {
            eprintln!("dsmilctl: {error:#}");
        }
        match failure {
            Some(Failure::Connection { .. }) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    })
}
