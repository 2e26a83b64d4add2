// SPDX-License-Identifier: MIT OR Apache-2.0

//! Benchmarks in which every contender does the same works, round by round: ours against each other one.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::row::{Better, Peer, Row, Run, Side};
use super::spread::Spread;

/// Measure, unit and value of everything that was measured once. More is better.
pub(super) type Figures = Vec<(String, &'static str, f64)>;

/// A row for each measure: the spread of each contender, and the ratio of ours to it, taken round by round.
///
/// `bar` says what that ratio should be, by measure and peer.
pub(super) fn rows(
    place: &str,
    ours: &str,
    measured: &BTreeMap<&'static str, Vec<Figures>>,
    bar: impl Fn(&str, &str) -> Option<f64>,
) -> Result<Vec<Row>> {
    let mine = measured.get(ours).context("ours was not measured")?;
    let first = mine.first().context("no round was made")?;
    let others = measured.iter().filter(|(name, _)| **name != ours);
    let row = |(measure, unit, _): &(String, &'static str, f64)| -> Result<Row> {
        let values = of(mine, measure);
        let peers = others.clone().map(|(name, rounds)| {
            let other = of(rounds, measure);
            let ratios = values.iter().zip(&other).map(|(one, other)| one / other).collect();
            Ok(Peer {
                side: Side::plain(name, Spread::of(other)?),
                ratio: Spread::of(ratios)?,
                bar: bar(measure, name),
            })
        });
        Ok(Row {
            place: place.to_owned(),
            measure: measure.clone(),
            unit: (*unit).to_owned(),
            better: Better::More,
            peers: peers.collect::<Result<_>>()?,
            ours: Side::plain(ours, Spread::of(values)?),
            run: Run::default(),
        })
    };
    first.iter().map(row).collect()
}

/// What each round gave at a measure; not a number where it gave nothing.
fn of(rounds: &[Figures], measure: &str) -> Vec<f64> {
    let figure = |round: &Figures| {
        let found = round.iter().find(|(name, _, _)| name == measure);
        found.map_or(f64::NAN, |(_, _, value)| *value)
    };
    rounds.iter().map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let round = |value| vec![("create".to_owned(), "1/s", value)];
        let measured = BTreeMap::from([
            ("ours", vec![round(10.0), round(30.0)]),
            ("theirs", vec![round(10.0), round(10.0)]),
        ]);
        let bar = |measure: &str, peer: &str| (measure == "create" && peer == "theirs").then_some(2.5);
        let rows = rows("6.12", "ours", &measured, bar).unwrap();
        let peer = &rows[0].peers[0];
        assert_eq!((peer.ratio.low, peer.ratio.median, peer.ratio.high), (1.0, 2.0, 3.0));
        assert_eq!(peer.is_met(), Some(false));
    }

    #[test]
    fn a_contender_that_did_not_do_a_work_is_an_error() {
        let measured = BTreeMap::from([
            ("ours", vec![vec![("create".to_owned(), "1/s", 1.0)]]),
            ("theirs", vec![Figures::new()]),
        ]);
        assert!(rows("6.12", "ours", &measured, |_, _| None).is_err());
    }
}
