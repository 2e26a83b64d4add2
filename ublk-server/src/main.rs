// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublkd`: serves one block device, in the foreground, until told to stop. `recover` goes on with one whose server
//! died, `delete` removes it. `features` tells what the driver can do, a word a line.
//!
//! # Contract
//!
//! - stdout of a server carries one line, the path of the block device, written when the device is open for I/O.
//! - SIGTERM, SIGINT and SIGHUP stop and delete the device; the exit code is 0. So it is when somebody else deletes it.
//! - An error is one line on stderr and exit code 1; a wrong command line is exit code 2.
//! - Logs go to stderr, by default only warnings; `RUST_LOG` chooses.

mod args;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Args, Task, Wanted};
use clap::Parser;
use nix::errno::Errno;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use ublk_server::device::{self, Device, Orphan, Wake};
use ublk_server::features;
use ublk_server::options::Options;
use ublk_server::signals::StopSignals;
use ublk_server::target::{Loop, LoopError, Mem, MemError, Null, Target, Volume, VolumeError};

/// Anything that ends the server early.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Device(#[from] ublk_server::error::Error),
    #[error(transparent)]
    Mem(#[from] MemError),
    #[error(transparent)]
    Loop(#[from] LoopError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("cannot leave the pool clean: {0}; nothing written is lost, the next opening replays its journal")]
    Close(vexfs::error::Error),
    #[error("cannot block and receive signals: {0}")]
    Signals(Errno),
    #[error("cannot wait for signals: {0}")]
    Wait(Errno),
    #[error("cannot write to stdout: {0}")]
    Report(io::Error),
}

fn main() -> ExitCode {
    let task = Args::parse().task().unwrap_or_else(|error| error.exit());
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If stderr is gone, there is nobody left to tell; the exit code still does.
            let _ = writeln!(io::stderr(), "vexfs-ublkd: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), Failure> {
    // Before the first thread, and before the first command to the driver.
    let signals = StopSignals::block().map_err(Failure::Signals)?;
    match task {
        Task::Serve(wanted, options) => serve(wanted, Start::New(options), &signals),
        Task::Recover(id, wanted) => serve(wanted, Start::Orphan(Box::new(Orphan::find(id)?)), &signals),
        Task::Delete(id) => Ok(device::delete(id)?),
        Task::Features => {
            let mut stdout = io::stdout();
            let mut names = features::names()?.into_iter();
            names
                .try_for_each(|name| writeln!(stdout, "{name}"))
                .map_err(Failure::Report)
        }
    }
}

/// Where the device comes from.
enum Start {
    /// It is made.
    New(Options),
    /// Its server died.
    Orphan(Box<Orphan>),
}

impl Start {
    /// Opens what stands behind the device, which may still belong to its dead server.
    fn open<T, E>(&self, open: impl Fn() -> Result<T, E>, is_in_use: impl Fn(&E) -> bool) -> Result<T, E> {
        match self {
            Self::New(_) => open(),
            Self::Orphan(_) => device::patiently(open, is_in_use),
        }
    }

    fn device(self, target: impl Target) -> Result<Device, ublk_server::error::Error> {
        match self {
            Self::New(options) => Device::start(target, &options),
            Self::Orphan(orphan) => Device::take_over(*orphan, target),
        }
    }
}

fn serve(wanted: Wanted, start: Start, signals: &StopSignals) -> Result<(), Failure> {
    match wanted {
        Wanted::Null(plain) => {
            let target = Null::new(plain.size, plain.block_size, plain.write_cache);
            serve_until_stopped(target, start, signals)
        }
        Wanted::Mem(plain) => {
            let target = Mem::new(plain.size, plain.block_size, plain.write_cache)?;
            serve_until_stopped(target, start, signals)
        }
        Wanted::Loop {
            file,
            buffered,
            block_size,
        } => {
            let target = start.open(|| Loop::open(&file, block_size, buffered), LoopError::is_in_use)?;
            serve_until_stopped(target, start, signals)
        }
        Wanted::Volume { pool, path } => {
            let volume = start.open(|| Volume::open(&pool, &path), VolumeError::is_in_use)?;
            let fs = volume.pool();
            let served = serve_until_stopped(volume, start, signals);
            let closed = fs.close().map_err(Failure::Close);
            served.and(closed)
        }
    }
}

fn serve_until_stopped(target: impl Target, start: Start, signals: &StopSignals) -> Result<(), Failure> {
    let device = start.device(target)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", device.path())
        .and_then(|()| stdout.flush())
        .map_err(Failure::Report)?;
    match device.wait(signals).map_err(Failure::Wait)? {
        Wake::Signal(signal) => tracing::info!("stopping on {signal}"),
        Wake::QueueEnded => tracing::info!("stopping because a queue ended"),
    }
    Ok(device.stop()?)
}
