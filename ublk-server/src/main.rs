// SPDX-License-Identifier: MIT OR Apache-2.0

//! `vexfs-ublkd`: serves one block device, in the foreground, until told to stop.
//!
//! # Contract
//!
//! - stdout carries one line, the path of the block device, written when the device is open for I/O.
//! - SIGTERM, SIGINT and SIGHUP stop and delete the device; the exit code is 0. So it is when somebody else deletes it.
//! - An error is one line on stderr and exit code 1; a wrong command line is exit code 2.
//! - Logs go to stderr, by default only warnings; `RUST_LOG` chooses.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nix::errno::Errno;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use ublk_server::device::{Device, Wake};
use ublk_server::options::Options;
use ublk_server::signals::StopSignals;
use ublk_server::target::{Mem, MemError, Null, Target, WriteCache};
use ublk_server::units::{BlockSize, Bytes};

/// Serve a block device from user space until SIGTERM.
#[derive(Debug, Parser)]
#[command(name = "vexfs-ublkd", version, about)]
struct Args {
    /// What stands behind the device
    #[arg(long, value_enum)]
    target: TargetKind,
    /// Size of the device: bytes, or a number with a unit, as in 512M or 1GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    size: Bytes,
    /// Hardware queues, each with a thread [default: one per processor, at most 4]
    #[arg(long, value_name = "N")]
    queues: Option<u16>,
    /// Requests in flight per queue [default: 128]
    #[arg(long, value_name = "N")]
    depth: Option<u16>,
    /// Largest request [default: 512KiB]
    #[arg(long, value_name = "SIZE")]
    io_size: Option<Bytes>,
    /// Logical block size: 512 or 4096
    #[arg(long, value_name = "BYTES", default_value_t = BlockSize::B512)]
    block_size: BlockSize,
    /// The N of /dev/ublkbN [default: the first one free]
    #[arg(long, value_name = "N")]
    id: Option<u32>,
    /// Whether the device claims to need flushes; it does what flushes cost, nothing is written anywhere
    #[arg(long, value_enum, default_value_t = WriteCacheKind::None)]
    write_cache: WriteCacheKind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TargetKind {
    /// Completes everything and stores nothing: measures the transport
    Null,
    /// A RAM disk
    Mem,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WriteCacheKind {
    /// No flushes are sent
    None,
    /// Flushes are sent
    Flush,
    /// Flushes are sent, and FUA writes as such
    Fua,
}

impl From<WriteCacheKind> for WriteCache {
    fn from(kind: WriteCacheKind) -> Self {
        match kind {
            WriteCacheKind::None => Self::WriteThrough,
            WriteCacheKind::Flush => Self::Flush,
            WriteCacheKind::Fua => Self::FlushAndFua,
        }
    }
}

/// Anything that ends the server early.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Device(#[from] ublk_server::error::Error),
    #[error(transparent)]
    Mem(#[from] MemError),
    #[error("cannot block and receive signals: {0}")]
    Signals(Errno),
    #[error("cannot wait for signals: {0}")]
    Wait(Errno),
    #[error("cannot report the device on stdout: {0}")]
    Report(io::Error),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If stderr is gone, there is nobody left to tell; the exit code still does.
            let _ = writeln!(io::stderr(), "vexfs-ublkd: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    // Before the first thread, and before the first command to the driver.
    let signals = StopSignals::block().map_err(Failure::Signals)?;
    let defaults = Options::default();
    let options = Options {
        id: args.id,
        queues: args.queues.unwrap_or(defaults.queues),
        depth: args.depth.unwrap_or(defaults.depth),
        io_size: args.io_size.unwrap_or(defaults.io_size),
    };
    let write_cache = args.write_cache.into();
    match args.target {
        TargetKind::Null => serve(Null::new(args.size, args.block_size, write_cache), &options, &signals),
        TargetKind::Mem => serve(Mem::new(args.size, args.block_size, write_cache)?, &options, &signals),
    }
}

fn serve(target: impl Target, options: &Options, signals: &StopSignals) -> Result<(), Failure> {
    let device = Device::start(target, options)?;
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_option_reaches_its_place() {
        let args = Args::try_parse_from([
            "vexfs-ublkd",
            "--target",
            "mem",
            "--size",
            "64M",
            "--queues",
            "2",
            "--depth",
            "16",
            "--io-size",
            "1MiB",
            "--block-size",
            "4096",
            "--id",
            "7",
            "--write-cache",
            "fua",
        ])
        .unwrap();
        assert!(matches!(args.target, TargetKind::Mem));
        assert_eq!(
            (args.size, args.io_size),
            (Bytes::new(64 << 20), Some(Bytes::new(1 << 20)))
        );
        assert_eq!((args.queues, args.depth, args.id), (Some(2), Some(16), Some(7)));
        assert_eq!(args.block_size, BlockSize::B4096);
        assert_eq!(WriteCache::from(args.write_cache), WriteCache::FlushAndFua);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for wrong in [
            &["--target", "disk"][..],
            &["--target", "null", "--size", "1.5G"],
            &["--target", "null", "--block-size", "1024"],
            &["--target", "null", "--queues", "-1"],
            &["--target", "null", "--id", "-1"],
            &[],
        ] {
            let error = Args::try_parse_from(["vexfs-ublkd"].iter().chain(wrong)).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
    }
}
