// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench dsmil`: figures of the DSMIL driver, on this host over shared memory, and in a machine over UIO.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command as Process};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::host::workspace;
use lab::kernel::{Kernel, modules};
use lab::runner::discover::cargo;
use lab::vm::{Ivshmem, Machine, Spec};
use serde_json::Value;

use super::row::{Better, Row};
use vexfs_measure::Spread;

const LIMIT: Duration = Duration::from_secs(600);
const PACKAGES: [&str; 4] = ["--package", "dsmil-bench", "--package", "dsmil-sim"];

/// Measures here and on the kernel; `pairs` hundred operations for each figure.
pub(super) fn run(kernel: &Kernel, pairs: u32) -> Result<Vec<Row>> {
    cargo()
        .args(["build", "--quiet", "--release"])
        .args(PACKAGES)
        .run_shown()?;
    let programs = workspace::target().join("release");
    let bench = programs.join("dsmil-bench").display().to_string();
    let count = (u64::from(pairs) * 100).to_string();
    let here = lab::host::command::command(&bench).args(["--count", &count]).read()?;
    let mut rows = rows("host", &here)?;

    let built = modules::ensure(kernel)?;
    let directory = workspace::machine_directory("bench-dsmil");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let simulator = Simulator::start(&programs)?;
    let mut machine = Machine::boot(&Spec {
        ivshmem: Some(Ivshmem::Server(simulator.socket.clone())),
        ..Spec::new(kernel, directory)
    })?;
    let load = format!("modprobe uio && insmod {}/uio_dsmil.ko", built.display());
    machine.succeed(&load, LIMIT)?;
    let command = format!("{bench} --device /dev/uio0 --count {count}");
    rows.extend(self::rows(&kernel.release, &machine.succeed(&command, LIMIT)?)?);
    machine.shut_down()?;
    Ok(rows)
}

/// The numbers in the documents that the program printed, with where they come from.
fn rows(place: &str, printed: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for line in printed.lines() {
        let document: Value = serde_json::from_str(line).with_context(|| format!("{line:?} is no figure"))?;
        let figure = document["figure"]
            .as_str()
            .with_context(|| format!("{line:?} names no figure"))?;
        numbers(place, figure, &document["value"], &mut rows);
    }
    Ok(rows)
}

/// A row for each number in it, which is called by the way to it; `_us` and the like are its unit.
fn numbers(place: &str, name: &str, value: &Value, rows: &mut Vec<Row>) {
    if let Some(number) = value.as_f64() {
        let (name, unit) = [("_us", "µs"), ("_kib", "KiB"), ("_bytes", "bytes")]
            .into_iter()
            .find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)))
            .unwrap_or((name, ""));
        let name = name.replace('_', " ");
        rows.push(Row::alone(place, &name, (unit, Better::Less), Spread::once(number)));
    }
    // How many were measured is no finding.
    let parts = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "count");
    for (key, value) in parts {
        numbers(place, &format!("{name}: {key}"), value, rows);
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        numbers(place, &format!("{name}: {index}"), value, rows);
    }
}

/// A simulator whose firmware answers at once, for the machine's device.
struct Simulator {
    process: Child,
    socket: PathBuf,
}

impl Simulator {
    fn start(programs: &std::path::Path) -> Result<Self> {
        // Paths of sockets must be short.
        let socket = std::env::temp_dir().join(format!("dsmil-bench-{}", std::process::id()));
        let mut command = Process::new(programs.join("dsmil-sim"));
        command.args(["serve", "--latency", "0", "--socket"]).arg(&socket);
        let process = command.spawn().context("starting dsmil-sim")?;
        let simulator = Self { process, socket };
        for _ in 0..200 {
            if simulator.socket.exists() {
                return Ok(simulator);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("dsmil-sim does not serve at {}", simulator.socket.display())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // Failures mean that it is dead, and its sockets gone, already.
        let _dead_already = self.process.kill();
        let _status = self.process.wait();
        for path in [self.socket.clone(), self.socket.with_extension("control")] {
            let _gone_already = fs::remove_file(path);
        }
    }
}
