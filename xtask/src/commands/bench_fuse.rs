// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench fuse`: our mounted filesystem against other filesystems over FUSE, on this host.
//!
//! All of them keep their data on the same filesystem of the host, ours and fuse2fs in an image, the others in a directory.
//! All do the same work through the same calls, one after the other in every round, and a round's order is that of the
//! last one turned by one. Each peer runs as it comes, and once more with the caching options that suit it best. Cold means
//! mounted anew, with the host's caches dropped.
//!
//! Everything runs in namespaces of its own, like a suite: nothing stays mounted.

mod peers;
mod work;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lab::host::{apt, workspace};
use lab::runner::suite;
use lab::suites::target::On;
use serde_json::json;

use self::peers::Subject;
use self::work::Figures;
use super::bench::Spread;
use super::suite::build_command_line;

/// The name of ours, in the table.
const OURS: &str = "vexfs";

/// Prepares what needs this user's tools, and measures in namespaces of its own.
pub(crate) fn run(rounds: u32) -> Result<ExitCode> {
    if let Some(reason) = suite::lacks(On::Fuse) {
        bail!("{reason}");
    }
    apt::ensure(apt::FUSE_PEERS)?;
    build_command_line(true)?;
    let exe = std::env::current_exe().context("finding this executable")?;
    let arguments = ["bench", "fuse", "--inside", "--pairs", &rounds.to_string()].map(Into::into);
    let mut inner = vec![exe.into_os_string()];
    inner.extend(arguments);
    let status = suite::isolated(&inner).status().context("starting the measurement")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Measures; everything it mounts goes with this process.
pub(crate) fn run_inside(rounds: u32) -> Result<ExitCode> {
    let storage = workspace::target().join("bench-fuse");
    let program = workspace::target().join("release/vexfs-ublk");
    let mut subjects = peers::all(&program, &storage)?;
    let mut measured: BTreeMap<&'static str, Vec<Figures>> = BTreeMap::new();
    for round in 1..=rounds {
        for subject in &subjects {
            eprintln!("round {round} of {rounds}: {}", subject.name);
            let figures = one(subject).with_context(|| format!("measuring {}", subject.name))?;
            measured.entry(subject.name).or_default().push(figures);
        }
        subjects.rotate_left(1);
    }
    let table = Table::of(&measured)?;
    println!("{}", table.markdown()?);
    let path = workspace::results().join("bench-fuse.json");
    std::fs::create_dir_all(workspace::results())?;
    let document = json!({ "suite": "fuse", "rounds": rounds, "rows": table.json() });
    std::fs::write(&path, format!("{document:#}")).with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    std::fs::remove_dir_all(&storage).with_context(|| format!("removing {}", storage.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// All figures of one subject, on storage that is made anew.
fn one(subject: &Subject) -> Result<Figures> {
    let mut mounted = subject.make()?;
    let mut figures = Figures::new();
    for threads in [1, 4] {
        work::measure(&mut mounted, threads, &mut figures)?;
    }
    mounted.end()?;
    Ok(figures)
}

/// Each measure, with the spread of each subject and the ratio of ours to it, taken round by round.
struct Table {
    rows: Vec<Row>,
}

struct Row {
    measure: String,
    unit: &'static str,
    ours: Spread,
    peers: Vec<(&'static str, Spread, Spread)>,
}

impl Table {
    fn of(measured: &BTreeMap<&'static str, Vec<Figures>>) -> Result<Self> {
        let ours = measured.get(OURS).context("ours was not measured")?;
        let first = ours.first().context("no round was made")?;
        let mut rows = Vec::new();
        for (measure, unit, _) in first {
            let of = |rounds: &[Figures]| -> Vec<f64> {
                let found = rounds
                    .iter()
                    .map(|round| round.iter().find(|(name, _, _)| name == measure));
                found
                    .map(|figure| figure.map_or(f64::NAN, |(_, _, value)| *value))
                    .collect()
            };
            let mine = of(ours);
            let mut peers = Vec::new();
            for (name, rounds) in measured.iter().filter(|(name, _)| **name != OURS) {
                let other = of(rounds);
                let ratios = mine.iter().zip(&other).map(|(one, other)| one / other).collect();
                peers.push((*name, Spread::of(other)?, Spread::of(ratios)?));
            }
            rows.push(Row {
                measure: measure.clone(),
                unit,
                ours: Spread::of(mine)?,
                peers,
            });
        }
        Ok(Self { rows })
    }

    /// Larger is better everywhere; a ratio above 1 is in our favour.
    fn markdown(&self) -> Result<String> {
        let mut text = format!("| measure | {OURS}: median (range) |");
        let names: Vec<_> = self
            .rows
            .first()
            .map(|row| row.peers.iter().map(|(name, _, _)| *name))
            .into_iter()
            .flatten()
            .collect();
        for name in &names {
            write!(text, " {name}: median, ratio |")?;
        }
        write!(text, "\n|---|---|{}", "---|".repeat(names.len()))?;
        for row in &self.rows {
            write!(text, "\n| {}, {} | {} |", row.measure, row.unit, row.ours)?;
            for (_, spread, ratio) in &row.peers {
                write!(text, " {}, ×{ratio} |", spread.short())?;
            }
        }
        text.push('\n');
        Ok(text)
    }

    fn json(&self) -> Vec<serde_json::Value> {
        let row = |row: &Row| {
            let peers: Vec<_> = row
                .peers
                .iter()
                .map(|(name, spread, ratio)| json!({ "name": name, "value": spread.json(), "ratio": ratio.json() }))
                .collect();
            json!({ "measure": row.measure, "unit": row.unit, "ours": row.ours.json(), "peers": peers })
        };
        self.rows.iter().map(row).collect()
    }
}
