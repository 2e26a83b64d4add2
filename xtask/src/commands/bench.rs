// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench`: figures, in pairs, from one machine.
//!
//! What is compared runs interleaved in the same machine, so that whatever else the host does hits both sides alike.
//! Shown are medians with the range; ratios are medians of the pairs' own ratios.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use lab::host::{apt, workspace};
use lab::kernel::{self, Kernel, KernelId};
use lab::vm::{Machine, Spec};
use serde_json::json;

use super::{bench_dsmil, bench_engine, bench_fs, bench_fuse, bench_ublk, bench_vector};

const LIMIT: Duration = Duration::from_secs(120);

/// Examples:
///   cargo xtask bench boot                power-on to the first command, on each kernel
///   cargo xtask bench ublk --pairs 9      our block devices against those of rublk and qemu-nbd, interleaved
///   cargo xtask bench ublk --kernel 7.x --only 'loop-disk' --only 'volume against loop' --seconds 3
///   cargo xtask bench dsmil --kernel 6.12 the DSMIL driver, here and in a machine
///   cargo xtask bench engine              a pool's files against those of ext4 and btrfs
///   cargo xtask bench fs --only ext4      our kernel mount against ext4 on a loop device over ublk
///   cargo xtask bench fuse --pairs 5      our mount against those of bindfs, mergerfs, fuse2fs, ntfs-3g
///   cargo xtask bench vector --pairs 5    recall and speed of the vector index and of other libraries
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
    /// Of the block devices: rows whose name contains this; of `fs`: filesystems; may be repeated. Default: all
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Of the block devices, and of direct I/O in `fs`: how long each run is
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Of `fs`: how many files are made, found, renamed and removed
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
    /// Our mount against other filesystems over FUSE, on this host, without a machine
    Fuse,
    /// The vector index against other libraries, on real embeddings, on this host
    Vector,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let name = match arguments.suite {
        Suite::Boot => "boot",
        Suite::Ublk => "ublk",
        Suite::Dsmil => "dsmil",
        Suite::Fs => "fs",
        Suite::Engine => return bench_engine::run().map(|()| ExitCode::SUCCESS),
        Suite::Fuse if arguments.inside => return bench_fuse::run_inside(arguments.pairs),
        Suite::Vector => return bench_vector::run(arguments.pairs).map(|()| ExitCode::SUCCESS),
        Suite::Fuse => return bench_fuse::run(arguments.pairs),
    };
    apt::ensure(apt::LAB)?;
    let kernels = if arguments.kernels.is_empty() {
        KernelId::STOCK.to_vec()
    } else {
        arguments.kernels.clone()
    };
    let mut rows = Vec::new();
    for id in kernels {
        let kernel = kernel::ensure(id, false)?;
        rows.extend(match arguments.suite {
            Suite::Ublk => bench_ublk::run(
                &kernel,
                &bench_ublk::Plan {
                    pairs: arguments.pairs,
                    only: &arguments.only,
                    seconds: arguments.seconds,
                },
            )?,
            Suite::Fs => bench_fs::run(
                &kernel,
                &bench_fs::Plan {
                    rounds: arguments.pairs,
                    files: arguments.files,
                    seconds: arguments.seconds,
                    only: &arguments.only,
                },
            )?,
            Suite::Dsmil => bench_dsmil::run(&kernel, arguments.pairs)?,
            _ => boot(&kernel, arguments.pairs)?,
        });
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let path = workspace::results().join(format!("bench-{name}.json"));
    std::fs::create_dir_all(workspace::results())?;
    let document = json!({ "suite": name, "time": now, "pairs": arguments.pairs, "rows": rows });
    std::fs::write(&path, format!("{document:#}")).with_context(|| format!("writing {}", path.display()))?;
    println!("\n{}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn boot(kernel: &Kernel, repetitions: u32) -> Result<Vec<serde_json::Value>> {
    let mut seconds = Vec::new();
    for _ in 0..repetitions {
        let mut machine = Machine::boot(&spec(kernel, "boot"))?;
        machine.succeed("true", LIMIT)?;
        seconds.push(machine.boot_time().as_secs_f64());
        machine.power_cut()?;
    }
    let spread = Spread::of(seconds)?;
    println!("{:6} {:28} {spread} s to the first command", kernel.id, kernel.release);
    Ok(vec![json!({ "kernel": kernel.release, "seconds": spread.json() })])
}

fn spec(kernel: &Kernel, name: &str) -> Spec {
    Spec::new(kernel, workspace::machine_directory(&format!("bench-{name}")))
}

/// Median and range of repeated measurements.
pub(super) struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Result<Self> {
        ensure!(
            !values.is_empty() && values.iter().all(|value| value.is_finite()),
            "a measurement gave no number: {values:?}"
        );
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len() - 1;
        let median = f64::midpoint(at(last / 2), at(last.div_ceil(2)));
        Ok(Self {
            median,
            low: at(0),
            high: at(last),
        })
    }

    /// The median alone.
    pub(super) fn short(&self) -> String {
        let digits = if self.median < 100.0 { 2 } else { 0 };
        format!("{:.digits$}", self.median)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({ "median": self.median, "low": self.low, "high": self.high })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.high < 100.0 { 2 } else { 0 };
        write!(
            f,
            "{:.digits$} ({:.digits$}–{:.digits$})",
            self.median, self.low, self.high
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_median_and_the_range() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.low, spread.high), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(vec![4.0, 1.0]).unwrap().to_string(), "2.50 (1.00–4.00)");
        assert!(Spread::of(Vec::new()).is_err() && Spread::of(vec![f64::NAN]).is_err());
    }
}
