// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench`: figures, in pairs, from one machine.
//!
//! What is compared runs interleaved in the same machine, so that whatever else the host does hits both sides alike.
//! Shown are medians with the range; ratios are medians of the pairs' own ratios.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use lab::fio;
use lab::host::{apt, cache, workspace};
use lab::kernel::{self, Kernel, KernelId, modules};
use lab::runner::discover::cargo;
use lab::vm::{Job, Machine, Spec};
use lab_guest::protocol::Command;
use serde_json::json;

use super::demo::{build_server, serve, stop};
use super::{bench_dsmil, bench_engine, bench_fuse};

/// The peer: the ublk server by the author of the driver.
const RUBLK: &str = "0.2.15";
const LIMIT: Duration = Duration::from_secs(120);

/// Examples:
///   cargo xtask bench boot                power-on to the first command, on each kernel
///   cargo xtask bench ublk --pairs 9      our null target against rublk's, interleaved
///   cargo xtask bench dsmil --kernel 6.12 the DSMIL driver, here and in a machine
///   cargo xtask bench engine              a pool's files against those of ext4 and btrfs
///   cargo xtask bench fuse --pairs 5      our mount against those of bindfs, mergerfs, fuse2fs, ntfs-3g
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
    /// This process is alone in its namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// Power-on to the first command inside
    Boot,
    /// The null target: what the transport costs
    Ublk,
    /// The DSMIL driver: latencies, the emergency stop, hang detection, memory; 100 operations a pair
    Dsmil,
    /// The engine against ext4 and btrfs, on this host, without a machine
    Engine,
    /// Our mount against other filesystems over FUSE, on this host, without a machine
    Fuse,
}

/// Measures on one kernel; the number is that of repetitions.
type Measure = fn(&Kernel, u32) -> Result<Vec<serde_json::Value>>;

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (name, measure): (_, Measure) = match arguments.suite {
        Suite::Boot => ("boot", boot),
        Suite::Ublk => ("ublk", ublk),
        Suite::Dsmil => ("dsmil", bench_dsmil::run),
        Suite::Engine => return bench_engine::run().map(|()| ExitCode::SUCCESS),
        Suite::Fuse if arguments.inside => return bench_fuse::run_inside(arguments.pairs),
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
        rows.extend(measure(&kernel, arguments.pairs)?);
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

fn ublk(kernel: &Kernel, pairs: u32) -> Result<Vec<serde_json::Value>> {
    apt::ensure(apt::UBLK_BUILD)?;
    let built = modules::ensure(kernel)?;
    let ours = build_server()?;
    let peer = rublk()?;
    let mut machine = Machine::boot(&Spec {
        memory: 2048,
        ..spec(kernel, "ublk")
    })?;
    machine.succeed("modprobe ublk_drv", LIMIT)?;
    let mut rows = Vec::new();
    for depth in [1, 32] {
        let (mut our_iops, mut peer_iops, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..pairs {
            let job = serve(
                &mut machine,
                &ours,
                &built,
                &["--target", "null", "--size", "250GiB", "--queues", "1"],
            )?;
            let mine = iops(&mut machine, depth)?;
            stop(&mut machine, job)?;
            let job = serve_peer(&mut machine, &peer)?;
            let other = iops(&mut machine, depth)?;
            machine.succeed(&format!("{peer} del --number 0"), LIMIT)?;
            machine.wait(job, LIMIT, |_, _| {});
            ratios.push(mine / other);
            our_iops.push(mine);
            peer_iops.push(other);
        }
        let (ours, peer, ratio) = (Spread::of(our_iops)?, Spread::of(peer_iops)?, Spread::of(ratios)?);
        println!(
            "{:6} null, 4 KiB random reads, QD {depth:2}: ratio {ratio}, ours {ours} IOPS, rublk {peer} IOPS",
            kernel.id
        );
        rows.push(json!({
            "kernel": kernel.release, "work": "randread 4k", "depth": depth,
            "ratio": ratio.json(), "ours": ours.json(), "rublk": peer.json(),
        }));
    }
    machine.shut_down()?;
    Ok(rows)
}

fn iops(machine: &mut Machine, depth: u32) -> Result<f64> {
    let job = workspace::root().join("tests/fio/randread.fio");
    let script = format!(
        "cd /tmp; fio --output-format=json --filename=/dev/ublkb0 --iodepth={depth} {}",
        job.display()
    );
    let (read, _) = fio::parse(&machine.succeed(&script, LIMIT)?)?;
    Ok(read.iops)
}

/// Starts the peer's null target, in the foreground: a daemon would end with the command that started it.
fn serve_peer(machine: &mut Machine, peer: &str) -> Result<Job> {
    let argv = [peer, "add", "null", "--number", "0", "--queue", "1", "--foreground"];
    let job = machine.start(&Command::new(argv))?;
    let ready = "for i in $(seq 200); do if [ -b /dev/ublkb0 ]; then exit 0; fi; sleep 0.05; done; exit 1";
    machine.succeed(ready, LIMIT).context("waiting for the peer's device")?;
    Ok(job)
}

/// Builds the peer once, into the cache.
fn rublk() -> Result<String> {
    let tool = cache::entry(&format!("tools/rublk-{RUBLK}"), |directory| {
        cargo()
            .args(["install", "--locked", "--version", RUBLK, "rublk", "--root"])
            .arg(directory)
            .run_shown()
    })?;
    Ok(tool.join("bin/rublk").to_string_lossy().into_owned())
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
