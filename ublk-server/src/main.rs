// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublkd`: the daemon that serves block devices. `vexfs-ublk add` starts it in the background; a service manager
//! runs `vexfs-ublkd serve` in the foreground.
//!
//! # Contract
//!
//! - stdout carries the path of each device, a line each, written when it is open for I/O. With `--detach` it carries one
//!   line of JSON instead, [`Report`], and nobody is written to afterwards.
//! - SIGTERM, SIGINT and SIGHUP end it with exit code 0: devices in use stay, for the next server; others are deleted.
//! - An error is one line on stderr, and the status of the unit, and exit code 1; a wrong command line is exit code 2. Exit code
//!   3: there was nothing to serve, which another try does not change.
//! - Logs go to stderr, or to the journal where stderr is that; with `--detach` to the journal, if there is one.

#![expect(clippy::doc_markdown, reason = "help texts are for terminals")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use ublk_server::args::{ArgsError, DeviceArgs};
use ublk_server::daemon::protocol::{Backing, Wanted};
use ublk_server::daemon::report::Report;
use ublk_server::daemon::unit::{self, Order};
use ublk_server::daemon::{self, End, HANDOVER_VARIABLE, Ready, Settings};
use vexfs_control::logging::{self, LogControl, Output};
use vexfs_control::place;

/// Serve block devices from user space.
#[derive(Debug, Parser)]
#[command(name = "vexfs-ublkd", version, about)]
struct Args {
    /// What to log: error, warn, info, debug, trace, off, or directives as warn,vexfs=debug [default: $VEXFS_LOG or info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Serve the devices of a pool, a file or device, or memory, until SIGTERM
    ///
    /// Devices of it that wait for a server are taken over. A device that is named here, by --volume or --target, is added if
    /// it is not there.
    Serve(ServeArgs),
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches")]
struct ServeArgs {
    /// A pool, a file or block device, or one of the words null and mem
    from: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// End when the last device is gone
    #[arg(long)]
    until_idle: bool,
    /// Keep all memory of the daemon in memory
    #[arg(long)]
    mlock: bool,
    /// Leave the session of the caller, and report to it in one line of JSON
    #[arg(long)]
    detach: bool,
    /// With --detach: log to the standard error also where there is a journal
    #[arg(long, requires = "detach")]
    log_errors: bool,
    /// What to serve, as JSON of the control protocol, instead of everything above
    #[arg(long, hide = true, value_name = "JSON", conflicts_with = "from")]
    wanted: Option<String>,
    /// The instance of vexfs-ublk@.service that this is: it serves what was asked of it, else the pool it is named after
    #[arg(long, hide = true, value_name = "NAME", conflicts_with_all = ["from", "detach"])]
    instance: Option<OsString>,
}

/// Exit code where there is nothing to serve.
const NOTHING: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    let Task::Serve(mut serve) = args.command;
    // Of the program that is run in a handover the one before it says what is wanted.
    let order = match serve
        .instance
        .as_deref()
        .filter(|_| serve.wanted.is_none())
        .map(ordered)
    {
        None => None,
        Some(Ok((pool, order))) => {
            serve.from = Some(pool);
            order
        }
        Some(Err(error)) => return failed(&error, false),
    };
    if let Some(order) = &order {
        serve.until_idle = order.until_idle;
        serve.mlock = order.lock_memory;
    }
    let level = args
        .log
        .as_deref()
        .or(order.as_ref().and_then(|order| order.log.as_deref()));
    let output = if serve.detach && !serve.log_errors {
        Output::Journal
    } else {
        Output::Errors
    };
    let log = match logging::start(level, "info", output) {
        Ok(log) => log,
        Err(error) => return failed(&error, false),
    };
    let wanted = match order.map_or_else(|| wanted(&serve), |order| Ok(order.wanted)) {
        Ok(wanted) => wanted,
        Err(ArgsError::Usage(text)) => Args::command().error(ErrorKind::ValueValidation, text).exit(),
        Err(error) => return failed(&error, serve.detach),
    };
    // As it was called: after a change of the working directory, and of the program on disk.
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(&error, serve.detach),
    };
    daemon::abort_on_panic();
    if serve.detach {
        daemon::process::leave_session();
    }
    run(&serve, wanted, &log, &program)
}

fn wanted(serve: &ServeArgs) -> Result<Wanted, ArgsError> {
    if let Some(json) = &serve.wanted {
        return serde_json::from_str(json).map_err(|error| ArgsError::Usage(format!("--wanted: {error}")));
    }
    let mut wanted = daemon::patiently_wanted(|| serve.device.wanted(serve.from.as_deref()))?;
    if matches!(wanted.backing, Backing::Pool { .. }) && !serve.device.names_a_device() {
        wanted.devices.clear();
    }
    Ok(wanted)
}

/// The pool that an instance is named after, and what a command asked of it, if one did.
fn ordered(instance: &OsStr) -> io::Result<(PathBuf, Option<Order>)> {
    let pool = unit::path_of(instance).ok_or_else(|| {
        let text = format!("{} is no path as systemd-escape --path writes it", instance.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    Ok((pool, place_of(instance)?.read()?))
}

fn place_of(instance: &OsStr) -> io::Result<unit::Place> {
    let runtime = place::directory().map_err(io::Error::other)?;
    Ok(unit::Place::of(&runtime, instance))
}

fn run(serve: &ServeArgs, mut wanted: Wanted, log: &LogControl, program: &Path) -> ExitCode {
    let order = serve.instance.as_deref().map(place_of).transpose();
    let order = match order {
        Ok(order) => order,
        Err(error) => return failed(&error, false),
    };
    loop {
        let settings = Settings {
            wanted: wanted.clone(),
            program: program.to_owned(),
            until_idle: serve.until_idle,
            lock_memory: serve.mlock,
            log: log.clone(),
        };
        let served = daemon::serve(settings, |ready| {
            announce(ready, serve.detach);
            if let Some(order) = &order {
                order.carried_out();
            }
        });
        match served {
            Ok(End::Done { left }) => {
                if let Some(order) = order.filter(|_| left == 0) {
                    order.remove();
                }
                return ExitCode::SUCCESS;
            }
            Ok(End::Handover { since }) => {
                // What was asked for at the start may have been deleted since; what is left waits for a server.
                wanted.devices.clear();
                // Only returns if it failed; then this program goes on.
                let error = become_again(program, &wanted, serve, since);
                tracing::error!("cannot run {}: {error}; going on as before", program.display());
            }
            Err(error) => {
                let code = failed(&error, serve.detach);
                match error {
                    // Without a farewell to anybody: what is dropped would be deleted.
                    daemon::DaemonError::Broken(_) => std::process::exit(1),
                    daemon::DaemonError::Nothing(_) if serve.instance.is_some() => return ExitCode::from(NOTHING),
                    _ => return code,
                }
            }
        }
    }
}

/// Becomes the program that is at the path now. All descriptors but the standard ones close.
fn become_again(program: &Path, wanted: &Wanted, serve: &ServeArgs, since: u64) -> io::Error {
    let wanted = match serde_json::to_string(wanted) {
        Ok(wanted) => wanted,
        Err(error) => return error.into(),
    };
    let mut words: Vec<OsString> = vec!["serve".into(), "--wanted".into(), wanted.into()];
    if let Some(instance) = &serve.instance {
        words.extend(["--instance".into(), instance.clone()]);
    }
    for (given, word) in [
        (serve.until_idle, "--until-idle"),
        (serve.mlock, "--mlock"),
        (serve.detach, "--detach"),
        (serve.log_errors, "--log-errors"),
    ] {
        if given {
            words.push(word.into());
        }
    }
    Command::new(program)
        .args(words)
        .env(HANDOVER_VARIABLE, since.to_string())
        .exec()
}

fn announce(ready: &Ready, detach: bool) {
    if detach {
        tell(&Report::Ready(ready.clone()));
        return;
    }
    let mut stdout = io::stdout();
    for device in &ready.devices {
        // Who closed it does not want to know.
        let _ = writeln!(stdout, "{}", device.path);
    }
    let _ = stdout.flush();
}

/// The one line to whoever started this in the background; what is written later goes nowhere.
fn tell(report: &Report) {
    let mut stdout = io::stdout();
    let text = serde_json::to_string(report).unwrap_or_default();
    // It may be gone.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    if let Ok(nowhere) = File::options().write(true).open("/dev/null")
        && let Err(errno) = nix::unistd::dup2_stdout(&nowhere)
    {
        tracing::warn!("keeps the caller's standard output: {errno}");
    }
}

fn failed(error: &dyn std::error::Error, detach: bool) -> ExitCode {
    tracing::debug!("{error}");
    daemon::tell_failure(error);
    if detach {
        tell(&Report::Failed(error.to_string()));
    }
    // If stderr is gone, there is nobody left to tell; the exit code still does.
    let _ = writeln!(io::stderr(), "vexfs-ublkd: {error}");
    ExitCode::FAILURE
}
