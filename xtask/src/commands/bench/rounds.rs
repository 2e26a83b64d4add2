// SPDX-License-Identifier: MIT OR Apache-2.0

//! Benchmarks in which every contender does the same works, round by round: ours against each other one.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::row::{Better, Curves, Line, Peer, Point, Row, Run, Side};
use vexfs_measure::Spread;

/// Everything that a contender did in one round, in the order of the rows.
pub(super) type Figures = Vec<Figure>;
/// The rounds of each contender.
pub(super) type Measured = BTreeMap<&'static str, Vec<Figures>>;

/// What was measured once.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    measure: String,
    unit: &'static str,
    better: Better,
    value: f64,
    /// Figures of one measure at different places of an axis are a curve.
    at: Option<(&'static str, f64)>,
    costs: Vec<(&'static str, f64)>,
}

impl Figure {
    /// More is better.
    pub(super) fn more(measure: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            measure: measure.into(),
            unit,
            better: Better::More,
            value,
            at: None,
            costs: Vec::new(),
        }
    }

    /// Less is better.
    pub(super) fn less(measure: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            better: Better::Less,
            ..Self::more(measure, unit, value)
        }
    }

    /// A point of the measure's curve. Points are told in the order of the axis.
    pub(super) fn at(mut self, axis: &'static str, x: f64) -> Self {
        self.at = Some((axis, x));
        self
    }

    /// What it took, and what else was seen; the unit belongs to the name.
    pub(super) fn cost(mut self, what: &'static str, value: f64) -> Self {
        self.costs.push((what, value));
        self
    }

    fn is_same(&self, other: &Self) -> bool {
        let at = |figure: &Self| figure.at.map(|(_, x)| x.to_bits());
        self.measure == other.measure && at(self) == at(other)
    }
}

/// A row for each measure: the spread of each contender, and the ratio of ours to it, taken round by round. Of a curve that
/// is its last point.
///
/// `bar` says what that ratio should be, by measure and peer.
pub(super) fn rows(
    place: &str,
    ours: &str,
    measured: &Measured,
    bar: impl Fn(&str, &str) -> Option<f64>,
) -> Result<Vec<Row>> {
    let mine = measured.get(ours).context("ours was not measured")?;
    let first = mine.first().context("no round was made")?;
    let others = measured.iter().filter(|(name, _)| **name != ours);
    let row = |last: &Figure| -> Result<Row> {
        let values = of(mine, last);
        let peers = others.clone().map(|(name, rounds)| {
            let other = of(rounds, last);
            let ratios = values.iter().zip(&other).map(|(one, other)| match last.better {
                Better::More => one / other,
                Better::Less => other / one,
            });
            Ok(Peer {
                ratio: Spread::of(ratios.collect())?,
                side: side(name, rounds, last)?,
                bar: bar(&last.measure, name),
            })
        });
        Ok(Row {
            place: place.to_owned(),
            measure: last.measure.clone(),
            unit: last.unit.to_owned(),
            better: last.better,
            peers: peers.collect::<Result<_>>()?,
            ours: side(ours, mine, last)?,
            curves: curves(ours, measured, first, last)?,
            run: Run::default(),
        })
    };
    lasts(first).into_iter().map(row).collect()
}

/// The last figure of each measure, in the order in which measures begin.
fn lasts(figures: &Figures) -> Vec<&Figure> {
    let mut lasts: Vec<&Figure> = Vec::new();
    for figure in figures {
        match lasts.iter_mut().find(|last| last.measure == figure.measure) {
            Some(last) => *last = figure,
            None => lasts.push(figure),
        }
    }
    lasts
}

fn side(name: &str, rounds: &[Figures], figure: &Figure) -> Result<Side> {
    let cost = |&(what, _): &(&'static str, f64)| -> Result<(String, Spread)> {
        let seen = found(rounds, figure).filter_map(|found| {
            let cost = found?.costs.iter().find(|(name, _)| *name == what);
            cost.map(|(_, value)| *value)
        });
        Ok((what.to_owned(), Spread::of(seen.collect())?))
    };
    Ok(Side {
        costs: figure.costs.iter().map(cost).collect::<Result<_>>()?,
        ..Side::plain(name, Spread::of(of(rounds, figure))?)
    })
}

/// The curves of the measure that ends with a figure, ours first; none if it is no curve.
fn curves(ours: &str, measured: &Measured, first: &Figures, last: &Figure) -> Result<Option<Curves>> {
    let Some((axis, _)) = last.at else { return Ok(None) };
    let points = first.iter().filter(|figure| figure.measure == last.measure);
    let line = |(name, rounds): (&&'static str, &Vec<Figures>)| -> Result<Line> {
        let point = |figure: &Figure| -> Result<Point> {
            Ok(Point {
                at: figure.at.map_or(0.0, |(_, x)| x),
                value: Spread::of(of(rounds, figure))?,
            })
        };
        Ok(Line {
            name: (*name).to_owned(),
            points: points.clone().map(point).collect::<Result<_>>()?,
        })
    };
    let mut lines: Vec<Line> = measured.iter().map(line).collect::<Result<_>>()?;
    lines.sort_by_key(|line| line.name != ours);
    Ok(Some(Curves {
        axis: axis.to_owned(),
        lines,
    }))
}

/// What each round gave at the same measure and place; not a number where it gave nothing.
fn of(rounds: &[Figures], like: &Figure) -> Vec<f64> {
    found(rounds, like)
        .map(|found| found.map_or(f64::NAN, |figure| figure.value))
        .collect()
}

fn found<'a>(rounds: &'a [Figures], like: &'a Figure) -> impl Iterator<Item = Option<&'a Figure>> {
    rounds
        .iter()
        .map(|round| round.iter().find(|figure| figure.is_same(like)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let round = |value| vec![Figure::more("create", "1/s", value).cost("p99, µs", value * 2.0)];
        let measured = BTreeMap::from([
            ("ours", vec![round(10.0), round(30.0)]),
            ("theirs", vec![round(10.0), round(10.0)]),
        ]);
        let bar = |measure: &str, peer: &str| (measure == "create" && peer == "theirs").then_some(2.5);
        let rows = rows("6.12", "ours", &measured, bar).unwrap();
        let peer = &rows[0].peers[0];
        assert_eq!((peer.ratio.low, peer.ratio.median, peer.ratio.high), (1.0, 2.0, 3.0));
        assert_eq!(peer.is_met(), Some(false));
        assert_eq!(
            rows[0].ours.costs,
            [("p99, µs".to_owned(), Spread::of(vec![20.0, 60.0]).unwrap())]
        );
        assert!(rows[0].curves.is_none());
    }

    #[test]
    fn where_less_is_better_a_ratio_above_one_is_still_in_our_favour() {
        let round = |value| vec![vec![Figure::less("mount", "s", value)]];
        let measured = BTreeMap::from([("ours", round(2.0)), ("theirs", round(8.0))]);
        let rows = rows("6.12", "ours", &measured, |_, _| None).unwrap();
        assert_eq!(rows[0].peers[0].ratio, Spread::once(4.0));
    }

    #[test]
    fn points_of_an_axis_are_one_row_with_the_last_as_its_value() {
        let round = |factor: f64| {
            let point = |x: f64| Figure::less("create", "µs", x * factor).at("files", x);
            vec![point(1.0), Figure::more("other", "1/s", 1.0), point(100.0)]
        };
        let measured = BTreeMap::from([
            ("a peer", vec![round(3.0), round(5.0)]),
            ("ours", vec![round(1.0), round(2.0)]),
        ]);
        let rows = rows("6.12", "ours", &measured, |_, _| None).unwrap();
        assert_eq!((rows.len(), rows[0].measure.as_str()), (2, "create"));
        assert_eq!(rows[0].ours.value, Spread::of(vec![100.0, 200.0]).unwrap());
        let curves = rows[0].curves.as_ref().unwrap();
        assert_eq!(curves.axis, "files");
        let medians: Vec<_> = curves.lines.iter().map(|line| line.points[0].value.median).collect();
        assert_eq!((curves.lines[0].name.as_str(), medians), ("ours", vec![1.5, 4.0]));
    }

    #[test]
    fn a_contender_that_did_not_do_a_work_is_an_error() {
        let measured = BTreeMap::from([
            ("ours", vec![vec![Figure::more("create", "1/s", 1.0)]]),
            ("theirs", vec![Figures::new()]),
        ]);
        assert!(rows("6.12", "ours", &measured, |_, _| None).is_err());
    }
}
