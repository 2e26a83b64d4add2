// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table of a benchmark in which every contender does the same works, round by round: ours against each other one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::json;

use super::bench::Spread;

/// Measure, unit and value of everything that was measured once.
pub(super) type Figures = Vec<(String, &'static str, f64)>;

/// Each measure, with the spread of each subject and the ratio of ours to it, taken round by round.
pub(super) struct Table {
    ours: &'static str,
    rows: Vec<Row>,
}

struct Row {
    measure: String,
    unit: &'static str,
    ours: Spread,
    peers: Vec<(&'static str, Spread, Spread)>,
}

impl Table {
    pub(super) fn of(ours_name: &'static str, measured: &BTreeMap<&'static str, Vec<Figures>>) -> Result<Self> {
        let ours = measured.get(ours_name).context("ours was not measured")?;
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
            for (name, rounds) in measured.iter().filter(|(name, _)| **name != ours_name) {
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
        Ok(Self { ours: ours_name, rows })
    }

    /// Larger is better everywhere; a ratio above 1 is in our favour.
    pub(super) fn markdown(&self) -> Result<String> {
        let mut text = format!("| measure | {}: median (range) |", self.ours);
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

    pub(super) fn json(&self) -> Vec<serde_json::Value> {
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
