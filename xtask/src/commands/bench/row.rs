// SPDX-License-Identifier: MIT OR Apache-2.0

//! What suites find, in one form: ours and its peers at one measure, and the file of each suite that keeps it.
//!
//! A suite's file holds the newest of each row, whenever that was measured: who repeats some rows replaces those.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::host::workspace;
use serde::{Deserialize, Serialize};

use vexfs_measure::Spread;

/// One measure at one place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The kernel's release, the name of a data set, or `host`.
    pub(super) place: String,
    pub(super) measure: String,
    pub(super) unit: String,
    pub(super) better: Better,
    pub(super) ours: Side,
    pub(super) peers: Vec<Peer>,
    /// How the measure grows; the sides above are at the end of the axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) curves: Option<Curves>,
    pub(super) run: Run,
}

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Better {
    More,
    Less,
}

/// What one of them did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Side {
    pub(super) name: String,
    pub(super) value: Spread,
    /// What it took, and what else was seen: each with its unit in its name.
    pub(super) costs: Vec<(String, Spread)>,
}

/// Somebody else, and how ours compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Peer {
    #[serde(flatten)]
    pub(super) side: Side,
    /// Above 1 is in our favour; taken pair by pair.
    pub(super) ratio: Spread,
    /// What the ratio should be at least.
    pub(super) bar: Option<f64>,
}

/// One measure at places of an axis, of ours and of its peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Curves {
    pub(super) axis: String,
    /// Ours first; all have their points at the same places.
    pub(super) lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    pub(super) at: f64,
    pub(super) value: Spread,
}

/// When and how a row was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// Seconds since 1970.
    pub(super) made: u64,
    pub(super) revision: String,
    pub(super) rounds: u32,
    /// What was chosen: lengths, amounts.
    pub(super) how: String,
}

impl Row {
    /// What is not compared with anything.
    pub(super) fn alone(place: &str, measure: &str, (unit, better): (&str, Better), value: Spread) -> Self {
        Self {
            place: place.to_owned(),
            measure: measure.to_owned(),
            unit: unit.to_owned(),
            better,
            ours: Side::plain("ours", value),
            peers: Vec::new(),
            curves: None,
            run: Run::default(),
        }
    }
}

impl Side {
    pub(super) fn plain(name: &str, value: Spread) -> Self {
        Self {
            name: name.to_owned(),
            value,
            costs: Vec::new(),
        }
    }
}

impl Peer {
    /// Whether the bar is met; `None` without one.
    pub(super) fn is_met(&self) -> Option<bool> {
        self.bar.map(|bar| self.ratio.median >= bar)
    }
}

/// A suite's file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Findings {
    pub(super) suite: String,
    /// Of the machine that measured last.
    pub(super) host: String,
    /// Of the last run.
    pub(super) versions: Vec<(String, String)>,
    pub(super) rows: Vec<Row>,
}

impl Findings {
    pub(super) fn path(suite: &str) -> PathBuf {
        workspace::results().join(format!("bench-{suite}.json"))
    }

    /// `None`: there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        let found = serde_json::from_str(&text);
        found.map(Some).with_context(|| {
            format!(
                "{} does not hold findings of this version: remove it, and measure again",
                path.display()
            )
        })
    }

    /// Keeps what was found, with what is known of other rows already.
    pub(super) fn keep(mut self) -> Result<PathBuf> {
        let path = Self::path(&self.suite);
        if let Some(known) = Self::read(&path)? {
            self.rows = merged(known.rows, self.rows);
        }
        fs::create_dir_all(workspace::results())?;
        let text = serde_json::to_string_pretty(&self)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// New rows in place of those that measured the same, others where they were.
fn merged(known: Vec<Row>, new: Vec<Row>) -> Vec<Row> {
    let same = |one: &Row, other: &Row| one.place == other.place && one.measure == other.measure;
    let mut rows: Vec<Row> = known
        .into_iter()
        .filter(|row| !new.iter().any(|newer| same(row, newer)))
        .collect();
    rows.extend(new);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(place: &str, measure: &str, value: f64) -> Row {
        Row::alone(place, measure, ("1/s", Better::More), Spread::once(value))
    }

    #[test]
    fn a_row_that_is_measured_again_is_replaced_and_others_stay() {
        let known = vec![row("6.12", "create", 1.0), row("7.x", "create", 2.0)];
        let rows = merged(known, vec![row("7.x", "create", 3.0), row("7.x", "stat", 4.0)]);
        let values: Vec<f64> = rows.iter().map(|row| row.ours.value.median).collect();
        assert_eq!(values, [1.0, 3.0, 4.0]);
    }

    #[test]
    fn findings_read_back_as_they_were_kept() {
        let mut found = row("6.12", "create", 1.5);
        found.peers.push(Peer {
            side: Side {
                costs: vec![("CPU, µs".to_owned(), Spread::once(7.0))],
                ..Side::plain("ext4", Spread::once(1.0))
            },
            ratio: Spread::once(1.5),
            bar: Some(1.2),
        });
        let text = serde_json::to_string(&found).unwrap();
        assert!(!text.contains("curves"), "files of earlier versions are the same");
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), found);
        found.curves = Some(Curves {
            axis: "files".to_owned(),
            lines: vec![Line {
                name: "ours".to_owned(),
                points: vec![Point {
                    at: 1000.0,
                    value: Spread::once(2.0),
                }],
            }],
        });
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), found);
        assert_eq!(found.peers[0].is_met(), Some(true));
    }

    #[test]
    fn a_file_of_something_else_is_refused_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bench-x.json");
        assert!(Findings::read(&path).unwrap().is_none());
        fs::write(&path, "{}").unwrap();
        let error = format!("{:#}", Findings::read(&path).unwrap_err());
        assert!(error.contains("remove it"), "{error}");
    }
}
