// SPDX-License-Identifier: MIT OR Apache-2.0

//! More and more devices of one server: volumes of a pool. What adding and deleting one more takes, as a whole command, and the
//! memory of the server.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::vm::Machine;
use lab_guest::work::percentile;

use super::super::super::demo::{serve, stop};
use super::super::mounted::{self, DISK, Programs};
use super::super::rounds::{Figure, Figures};

const AXIS: &str = "devices";
const COUNTS: [usize; 4] = [1, 4, 16, 64];
/// The volume of the one more, which is added and deleted so often at each count.
const PROBE: &str = "probe";
const PROBES: usize = 5;
const VOLUME: &str = "4MiB";
const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn measure(machine: &mut Machine, programs: &Programs) -> Result<Figures> {
    let (cli, most) = (&programs.cli, COUNTS.into_iter().max().unwrap_or_default());
    let script = format!(
        "{cli} mkfs --force {DISK}; for name in {PROBE} $(seq {most}); do {cli} volume create {DISK} $name --size {VOLUME}; done"
    );
    machine.succeed(&script, LIMIT).context("making volumes")?;
    let serving = serve(machine, &programs.server, &programs.modules, &["--volume", "1", DISK])?;
    let mut figures = Figures::new();
    let mut there = 1;
    for count in COUNTS {
        for name in there + 1..=count {
            machine.succeed(&format!("{cli} add {DISK} --volume {name}"), LIMIT)?;
        }
        there = count;
        figures.extend(at(machine, programs, count)?);
    }
    stop(machine, serving)?;
    Ok(figures)
}

/// Everything at one count.
fn at(machine: &mut Machine, programs: &Programs, count: usize) -> Result<Figures> {
    let (cli, service) = (&programs.cli, &programs.service);
    let memory = machine.succeed("grep VmRSS /proc/$(pgrep -o -x vexfs-ublkd)/status", LIMIT)?;
    let (mut adding, mut deleting) = (Vec::new(), Vec::new());
    for _ in 0..PROBES {
        // The first number that is free is what it gets.
        let script =
            format!("{service} command {cli} add {DISK} --volume {PROBE}; {service} command {cli} del {count}");
        let (add, del) = seconds(&machine.succeed(&script, LIMIT)?)?;
        adding.push(add);
        deleting.push(del);
    }
    let figure = |measure: &str, unit, value| Figure::less(measure, unit, value).at(AXIS, mounted::count(count));
    Ok(vec![
        figure("add one more device", "ms", median(adding) * 1e3),
        figure("delete one of the devices", "ms", median(deleting) * 1e3),
        figure("memory of the server", "MiB", mebibytes(&memory)?),
    ])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 50)
}

/// Of two commands.
fn seconds(printed: &str) -> Result<(f64, f64)> {
    let mut lines = printed.lines().map(str::parse::<f64>);
    match (lines.next(), lines.next(), lines.next()) {
        (Some(Ok(first)), Some(Ok(second)), None) => Ok((first, second)),
        _ => anyhow::bail!("{printed:?} are not two times"),
    }
}

/// Of a line of a process's status.
fn mebibytes(line: &str) -> Result<f64> {
    let kibibytes = line
        .trim()
        .strip_prefix("VmRSS:")
        .and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kibibytes = kibibytes.with_context(|| format!("{line:?} is no amount of memory"))?;
    Ok(kibibytes.trim().parse::<f64>()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        assert_eq!(seconds("0.5\n0.25\n").unwrap(), (0.5, 0.25));
        assert!(seconds("0.5\n").is_err() && seconds("x\n1\n").is_err());
        assert!((mebibytes("VmRSS:\t   20480 kB\n").unwrap() - 20.0).abs() < 1e-9);
        assert!(mebibytes("").is_err());
    }
}
