// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench`: figures, in pairs, from one machine.
//!
//! What is compared runs interleaved in the same machine, so that whatever else the host does hits both sides alike.
//! Shown are medians with the range; ratios are medians of the pairs' own ratios.
//!
//! | module | what |
//! |---|---|
//! | `ublk`, `fs`, `fsync`, `recovery`, `scale`, `fuse`, `vector`, `dsmil`, `boot`, `engine` | suites: what is compared, and how it is measured |
//! | `mounted` | filesystems in a machine, for the suites that compare them |
//! | `rounds` | contenders that do the same works in turn |
//! | `row` | findings in one form, and the files that keep them |
//! | `markdown`, `page`, `curve` | findings to be read |
//! | `setting` | on what they were made |

mod boot;
mod curve;
mod dsmil;
mod engine;
mod fs;
mod fsync;
mod fuse;
mod markdown;
mod mounted;
mod page;
mod recovery;
mod rounds;
mod row;
mod scale;
mod setting;
mod ublk;
mod vector;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use lab::host::{apt, workspace};
use lab::kernel::{self, KernelId};

use self::row::{Findings, Row, Run};

/// Examples:
///   cargo xtask bench boot                power-on to the first command, on each kernel
///   cargo xtask bench ublk --pairs 9      our block devices against those of rublk and qemu-nbd, interleaved
///   cargo xtask bench ublk --kernel 7.x --only 'loop-disk' --only 'volume against loop' --seconds 3
///   cargo xtask bench dsmil --kernel 6.12 the DSMIL driver, here and in a machine
///   cargo xtask bench engine              a pool's files against those of ext4 and btrfs
///   cargo xtask bench fs --only ext4      our kernel mount against ext4 on a loop device over ublk
///   cargo xtask bench fsync --kernel 7.x  what fsync costs, ours against ext4, btrfs and xfs
///   cargo xtask bench recovery --pairs 3  seconds until service is back, and of a check of 100,000 files
///   cargo xtask bench scale --only full   curves: files, extents, depth, fullness, devices; ours and ext4
///   cargo xtask bench fuse --pairs 5      our mount against those of bindfs, mergerfs, fuse2fs, ntfs-3g
///   cargo xtask bench vector --pairs 5    recall and speed of the vector index and of other libraries
///   cargo xtask bench report              one page of everything that was measured, newest of each row
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// What to measure
    suite: Suite,
    /// 6.12, 7.x or debug; may be repeated. Default: both stock kernels
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<KernelId>,
    /// Repetitions, or interleaved pairs
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Of the block devices: rows whose name contains this; of `fs`, `fsync` and `recovery`: filesystems; of `scale`: what there
    /// is more and more of; may be repeated. Default: all
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Of the block devices, and of direct I/O in `fs` and `scale`: how long each run is
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Of `fs`: how many files are made, found, renamed and removed; of `fsync`: 200 times the operations of each thread; of
    /// `recovery`: how many files there are; of `scale`: the most files of a directory and extents of a file
    #[arg(long, default_value_t = 100_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(100..=10_000_000))]
    files: usize,
    /// This process is alone in its namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// Power-on to the first command inside
    Boot,
    /// Our block devices against others that do the same
    Ublk,
    /// The DSMIL driver: latencies, the emergency stop, hang detection, memory; 100 operations a pair
    Dsmil,
    /// The engine against ext4 and btrfs, on this host, without a machine
    Engine,
    /// Our filesystem, mounted by the kernel, against ext4, btrfs, xfs and its own FUSE front end
    Fs,
    /// What durability costs: our filesystem against ext4, btrfs and xfs, with flushes and bytes of the disk
    Fsync,
    /// Seconds until service is back after a kill or a power cut, and of an offline check
    Recovery,
    /// What an operation costs with more and more files, extents, reads, fullness or devices: ours and ext4
    Scale,
    /// Our mount against other filesystems over FUSE, on this host, without a machine
    Fuse,
    /// The vector index against other libraries, on real embeddings, on this host
    Vector,
    /// Measures nothing: one page, and one Markdown file, of what was measured
    Report,
}

impl Suite {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (pairs, seconds) = (arguments.pairs, arguments.seconds);
    match arguments.suite {
        Suite::Report => report()?,
        // Prints what it finds, in a table of its own.
        Suite::Engine => engine::run()?,
        Suite::Fuse if arguments.inside => keep(arguments, fuse::run_inside(pairs)?, fuse::PACKAGES, String::new())?,
        Suite::Fuse => return fuse::run(pairs),
        Suite::Vector => keep(arguments, vector::run(pairs)?, &[], "one thread".to_owned())?,
        Suite::Boot => {
            let rows = on_kernels(arguments, |kernel| boot::run(kernel, pairs))?;
            keep(arguments, rows, &["qemu-system-x86"], String::new())?;
        }
        Suite::Dsmil => {
            let rows = on_kernels(arguments, |kernel| dsmil::run(kernel, pairs))?;
            keep(arguments, rows, &["qemu-system-x86"], format!("{pairs}00 operations"))?;
        }
        Suite::Ublk => {
            let plan = ublk::Plan {
                pairs,
                only: &arguments.only,
                seconds,
            };
            let rows = on_kernels(arguments, |kernel| ublk::run(kernel, &plan))?;
            keep(arguments, rows, ublk::PACKAGES, format!("{seconds} s a run"))?;
        }
        Suite::Fs => {
            let plan = fs::Plan {
                rounds: pairs,
                files: arguments.files,
                seconds,
                only: &arguments.only,
            };
            let rows = on_kernels(arguments, |kernel| fs::run(kernel, &plan))?;
            let how = format!("{} files, {seconds} s a direct run", arguments.files);
            keep(arguments, rows, mounted::PACKAGES, how)?;
        }
        Suite::Fsync => {
            let plan = fsync::Plan {
                rounds: pairs,
                files: arguments.files,
                only: &arguments.only,
            };
            let rows = on_kernels(arguments, |kernel| fsync::run(kernel, &plan))?;
            let how = format!("{} operations a thread", fsync::amount(arguments.files));
            keep(arguments, rows, mounted::PACKAGES, how)?;
        }
        Suite::Recovery => {
            let plan = recovery::Plan {
                rounds: pairs,
                files: arguments.files,
                only: &arguments.only,
            };
            let rows = on_kernels(arguments, |kernel| recovery::run(kernel, &plan))?;
            keep(arguments, rows, mounted::PACKAGES, String::new())?;
        }
        Suite::Scale => {
            let plan = scale::Plan {
                rounds: pairs,
                files: arguments.files,
                seconds,
                only: &arguments.only,
            };
            let rows = on_kernels(arguments, |kernel| scale::run(kernel, &plan))?;
            let how = format!("up to {} files and extents, {seconds} s a direct run", arguments.files);
            keep(arguments, rows, mounted::PACKAGES, how)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows of each kernel that was asked for.
fn on_kernels(arguments: &Arguments, mut suite: impl FnMut(&kernel::Kernel) -> Result<Vec<Row>>) -> Result<Vec<Row>> {
    apt::ensure(apt::LAB)?;
    let kernels = if arguments.kernels.is_empty() {
        KernelId::STOCK.to_vec()
    } else {
        arguments.kernels.clone()
    };
    let mut rows = Vec::new();
    for id in kernels {
        rows.extend(suite(&kernel::ensure(id, false)?)?);
    }
    Ok(rows)
}

/// Shows rows, and keeps them with those of earlier runs.
fn keep(arguments: &Arguments, mut rows: Vec<Row>, packages: &[&str], how: String) -> Result<()> {
    let run = Run {
        made: now().as_secs(),
        revision: workspace::revision(),
        rounds: arguments.pairs,
        how,
    };
    for row in &mut rows {
        row.run = run.clone();
    }
    println!("{}", markdown::tables(&rows));
    let findings = Findings {
        suite: arguments.suite.name(),
        host: setting::host(),
        versions: setting::versions(packages)?,
        rows,
    };
    println!("{}", findings.keep()?.display());
    Ok(())
}

/// One page and one Markdown file of the newest of every row.
fn report() -> Result<()> {
    let mut all = Vec::new();
    for suite in Suite::value_variants() {
        all.extend(Findings::read(&Findings::path(&suite.name()))?);
    }
    ensure!(
        !all.is_empty(),
        "nothing was measured yet: cargo xtask bench --help names the suites"
    );
    let text: Vec<String> = all.iter().map(markdown::suite).collect();
    let milliseconds = u64::try_from(now().as_millis()).unwrap_or(u64::MAX);
    for (name, content) in [
        ("bench.md", text.join("\n")),
        ("bench.html", page::html(&all, milliseconds)),
    ] {
        let path = workspace::results().join(name);
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    let rows: Vec<&Row> = all.iter().flat_map(|findings| &findings.rows).collect();
    for (row, peer, bar) in markdown::missed(&rows) {
        println!(
            "below its bar: {}, {} against {}: {} of {bar:.2}",
            row.place, row.measure, peer.side.name, peer.ratio
        );
    }
    Ok(())
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
