// SPDX-License-Identifier: MIT OR Apache-2.0

//! Findings as Markdown: ratios first.

use std::fmt::Write as _;

use super::row::{Better, Findings, Peer, Row, Side};

// Writing to a String cannot fail; results of `write!` are let go of below.

/// A table for each place that has rows.
pub(super) fn tables(rows: &[Row]) -> String {
    let mut places: Vec<&str> = Vec::new();
    for row in rows {
        if !places.contains(&row.place.as_str()) {
            places.push(&row.place);
        }
    }
    let mut text = String::new();
    for place in places {
        let here: Vec<&Row> = rows.iter().filter(|row| row.place == place).collect();
        let _ = writeln!(text, "\n**{place}**\n");
        text.push_str(&table(&here));
        for row in here {
            text.push_str(&curves(row));
        }
    }
    text
}

/// All of a suite.
pub(super) fn suite(findings: &Findings) -> String {
    let versions: Vec<_> = findings
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    format!(
        "## {}\n\n{}\n{}\n{}",
        findings.suite,
        findings.host,
        versions.join(", "),
        tables(&findings.rows)
    )
}

/// What is below its bar, the worst first.
pub(super) fn missed<'a>(rows: &[&'a Row]) -> Vec<(&'a Row, &'a Peer, f64)> {
    let mut missed: Vec<_> = rows
        .iter()
        .flat_map(|row| row.peers.iter().map(move |peer| (*row, peer)))
        .filter_map(|(row, peer)| Some((row, peer, peer.bar.filter(|_| peer.is_met() == Some(false))?)))
        .collect();
    missed.sort_by(|(_, one, bar), (_, other, other_bar)| {
        (one.ratio.median / bar).total_cmp(&(other.ratio.median / other_bar))
    });
    missed
}

fn table(rows: &[&Row]) -> String {
    let mut text = String::from("| measure | ours | peer | ratio (bar) | peer's |\n|---|---|---|---|---|\n");
    for row in rows {
        let at = end(row).map_or_else(String::new, |(axis, at)| format!(" at {at} {axis}"));
        let measure = format!("{}{at}, {}{}", row.measure, row.unit, direction(row.better));
        if row.peers.is_empty() {
            let _ = writeln!(text, "| {measure} | {} | | | |", side(&row.ours));
        }
        for (number, peer) in row.peers.iter().enumerate() {
            let (what, ours) = if number == 0 {
                (measure.as_str(), side(&row.ours))
            } else {
                ("", String::new())
            };
            let _ = writeln!(
                text,
                "| {what} | {ours} | {} | {} | {} |",
                peer.side.name,
                ratio(peer),
                side(&peer.side)
            );
        }
    }
    text
}

/// A table of the points of a row's curves; nothing if it has none.
fn curves(row: &Row) -> String {
    let Some(curves) = &row.curves else {
        return String::new();
    };
    let names: Vec<_> = curves.lines.iter().map(|line| line.name.as_str()).collect();
    let mut text = format!(
        "\n{}, {}{}:\n\n| {} | {} |\n|---|{}\n",
        row.measure,
        row.unit,
        direction(row.better),
        curves.axis,
        names.join(" | "),
        "---|".repeat(names.len())
    );
    let places = curves.lines.first().map_or(&[][..], |line| &line.points);
    for (number, place) in places.iter().enumerate() {
        let points = curves.lines.iter().filter_map(|line| line.points.get(number));
        let values: Vec<_> = points.map(|point| point.value.to_string()).collect();
        let _ = writeln!(text, "| {} | {} |", place.at, values.join(" | "));
    }
    text
}

/// Where on which axis a row's sides are.
pub(super) fn end(row: &Row) -> Option<(&str, f64)> {
    let curves = row.curves.as_ref()?;
    Some((&curves.axis, curves.lines.first()?.points.last()?.at))
}

fn direction(better: Better) -> &'static str {
    match better {
        Better::More => "",
        Better::Less => " (less is better)",
    }
}

fn side(side: &Side) -> String {
    let mut text = side.value.to_string();
    for (what, value) in &side.costs {
        let _ = write!(text, "; {what} {}", value.short());
    }
    text
}

/// Bold where it is below its bar.
fn ratio(peer: &Peer) -> String {
    let bar = peer.bar.map(|bar| format!(" ({bar:.2})")).unwrap_or_default();
    if peer.is_met() == Some(false) {
        format!("**{}**{bar}", peer.ratio)
    } else {
        format!("{}{bar}", peer.ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{Curves, Line, Point, Run};
    use super::*;
    use vexfs_measure::Spread;

    fn row(measure: &str, ratio: f64, bar: Option<f64>) -> Row {
        Row {
            place: "6.12".into(),
            measure: measure.into(),
            unit: "1/s".into(),
            better: Better::More,
            ours: Side::plain("ours", Spread::once(2.0)),
            peers: vec![Peer {
                side: Side::plain("ext4", Spread::once(1.0)),
                ratio: Spread::once(ratio),
                bar,
            }],
            curves: None,
            run: Run::default(),
        }
    }

    #[test]
    fn what_is_below_its_bar_is_bold_and_listed_worst_first() {
        let rows = [
            row("a", 0.9, Some(1.0)),
            row("b", 0.4, Some(0.5)),
            row("c", 2.0, Some(1.0)),
            row("d", 0.1, None),
        ];
        let text = tables(&rows);
        assert!(
            text.contains("| a, 1/s | 2.00 | ext4 | **0.90** (1.00) | 1.00 |"),
            "{text}"
        );
        assert!(text.contains("| d, 1/s | 2.00 | ext4 | 0.10 | 1.00 |"), "{text}");
        let listed: Vec<&str> = missed(&rows.iter().collect::<Vec<_>>())
            .iter()
            .map(|(row, _, _)| row.measure.as_str())
            .collect();
        assert_eq!(listed, ["b", "a"]);
    }
    #[test]
    fn a_curve_is_a_table_and_its_end_stands_among_the_ratios() {
        let line = |name: &str, values: [f64; 2]| Line {
            name: name.to_owned(),
            points: [1000.0, 10_000.0]
                .into_iter()
                .zip(values)
                .map(|(at, value)| Point {
                    at,
                    value: Spread::once(value),
                })
                .collect(),
        };
        let grown = Row {
            curves: Some(Curves {
                axis: "files".to_owned(),
                lines: vec![line("ours", [1.0, 2.0]), line("ext4", [4.0, 1.0])],
            }),
            ..row("create", 2.0, None)
        };
        let text = tables(&[grown]);
        assert!(text.contains("| create at 10000 files, 1/s | 2.00 |"), "{text}");
        assert!(
            text.contains("| files | ours | ext4 |\n|---|---|---|\n| 1000 | 1.00 | 4.00 |"),
            "{text}"
        );
    }
}
