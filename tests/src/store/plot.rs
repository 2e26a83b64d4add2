// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pictures of numbers, as SVG that stands inside an HTML page.
//!
//! Colours are classes, which the page's style defines. Numbers that are not finite are left out.

use std::fmt::Write as _;

use crate::markup::escape;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 180.0;
/// Room for labels: left of the picture, below it.
const LEFT: f64 = 70.0;
const BELOW: f64 = 24.0;
/// Marks on the axis of values.
const MARKS: u32 = 4;

/// A column of a bar chart: its label, and the heights of its parts with their classes, from the bottom up.
pub(super) struct Column {
    pub(super) label: String,
    pub(super) parts: Vec<(&'static str, f64)>,
}

/// A course over time.
pub(super) struct Curve<'a> {
    pub(super) points: &'a [(u64, f64)],
    /// A line that must not be reached.
    pub(super) limit: Option<f64>,
}

/// Stacked columns side by side. `bar` is a line across, such as a limit.
pub(super) fn columns(columns: &[Column], bar: Option<f64>, unit: &str) -> String {
    let height = |column: &Column| column.parts.iter().map(|(_, part)| finite(*part)).sum::<f64>();
    let highest = columns.iter().map(height).chain(bar).fold(0.0, f64::max);
    let axis = Axis::up_to(highest);
    let mut svg = begin(&axis, unit);
    let count = f64::from(u32::try_from(columns.len().max(1)).unwrap_or(u32::MAX));
    let step = (WIDTH - LEFT) / count;
    let mut left = LEFT;
    for column in columns {
        let mut floor = 0.0;
        for &(class, part) in &column.parts {
            let part = finite(part);
            let (top, bottom) = (axis.y(floor + part), axis.y(floor));
            floor += part;
            // Writing to a String cannot fail.
            let _ = write!(
                svg,
                r#"<rect class="{class}" x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"><title>{}: {} {unit}</title></rect>"#,
                left + step * 0.1,
                step * 0.8,
                bottom - top,
                escape(&column.label),
                short(part),
            );
        }
        left += step;
    }
    if let Some(bar) = bar {
        line_across(&mut svg, axis.y(bar));
    }
    let ends = [columns.first(), columns.last()].map(|column| column.map_or("", |column| column.label.as_str()));
    end(svg, ends)
}

/// A curve, with its limit if that is near enough to be shown without flattening the curve.
pub(super) fn curve(curve: &Curve<'_>, unit: &str) -> String {
    let points: Vec<(u64, f64)> = curve
        .points
        .iter()
        .copied()
        .filter(|(_, value)| value.is_finite())
        .collect();
    let highest = points.iter().map(|&(_, value)| value).fold(0.0, f64::max);
    let limit = curve.limit.filter(|&limit| limit <= highest * 4.0);
    let axis = Axis::up_to(highest.max(limit.unwrap_or_default()));
    let (first, last) = match (points.first(), points.last()) {
        (Some(&(first, _)), Some(&(last, _))) => (first, last),
        _ => (0, 0),
    };
    let span = seconds(last.saturating_sub(first)).max(0.001);
    let mut svg = begin(&axis, unit);
    svg.push_str(r#"<polyline class="curve" points=""#);
    for (at, value) in points {
        let x = LEFT + (WIDTH - LEFT) * seconds(at.saturating_sub(first)) / span;
        let _ = write!(svg, "{x:.1},{:.1} ", axis.y(value));
    }
    svg.push_str(r#""/>"#);
    if let Some(limit) = limit {
        line_across(&mut svg, axis.y(limit));
    }
    let ends = [format!("{:.1} s", seconds(first)), format!("{:.1} s", seconds(last))];
    end(svg, ends.each_ref().map(String::as_str))
}

/// From 0 to a round number.
struct Axis {
    top: f64,
}

impl Axis {
    fn up_to(highest: f64) -> Self {
        let magnitude = 10_f64.powf(finite(highest).max(1e-9).log10().floor());
        let top = [1.0, 2.0, 4.0, 5.0, 10.0]
            .map(|factor| factor * magnitude)
            .into_iter()
            .find(|&top| top >= highest);
        Self {
            top: top.unwrap_or(1.0).max(1e-9),
        }
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - HEIGHT * (finite(value) / self.top).clamp(0.0, 1.0)
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// A number in a few characters.
pub(super) fn short(value: f64) -> String {
    let scaled = [(1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|&(unit, _)| value.abs() >= unit);
    let (value, letter) = scaled.map_or((value, ""), |(unit, letter)| (value / unit, letter));
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{letter}")
}

fn begin(axis: &Axis, unit: &str) -> String {
    let mut svg = format!(
        r#"<svg viewBox="0 -10 {} {}" role="img">"#,
        WIDTH + 10.0,
        HEIGHT + BELOW + 10.0
    );
    for mark in 0..=MARKS {
        let value = axis.top * f64::from(mark) / f64::from(MARKS);
        let y = axis.y(value);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{WIDTH}" y2="{y:.1}"/><text class="left" x="{:.1}" y="{:.1}">{} {}</text>"#,
            LEFT - 6.0,
            y + 4.0,
            short(value),
            escape(unit)
        );
    }
    svg
}

fn line_across(svg: &mut String, y: f64) {
    let _ = write!(
        svg,
        r#"<line class="limit" x1="{LEFT}" y1="{y:.1}" x2="{WIDTH}" y2="{y:.1}"/>"#
    );
}

fn end(mut svg: String, [first, last]: [&str; 2]) -> String {
    let y = HEIGHT + 16.0;
    let _ = write!(
        svg,
        r#"<text x="{LEFT}" y="{y}">{}</text><text class="left" x="{WIDTH}" y="{y}">{}</text></svg>"#,
        escape(first),
        escape(last)
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_every_part_and_its_bar() {
        let column = |label: &str, passed, failed| Column {
            label: label.into(),
            parts: vec![("good", passed), ("bad", failed)],
        };
        let svg = columns(
            &[column("<first>", 8.0, 2.0), column("last", 4.0, 0.0)],
            Some(9.0),
            "tests",
        );
        assert_eq!(svg.matches("<rect").count(), 4);
        assert_eq!(svg.matches(r#"class="limit""#).count(), 1);
        assert!(
            svg.contains("&lt;first&gt;: 8 tests") && !svg.contains("<first>"),
            "{svg}"
        );
        // The highest column reaches the top of its axis.
        assert!(svg.contains(r#"class="bad" x="98.5" y="0.0""#), "{svg}");
    }

    #[test]
    fn values_that_are_no_numbers_do_not_spoil_a_picture() {
        let points = [(0, 1.0), (10, f64::NAN), (20, f64::INFINITY), (30, 3.0)];
        let svg = curve(
            &Curve {
                points: &points,
                limit: Some(1e9),
            },
            "MiB",
        );
        assert!(
            !svg.contains("NaN") && !svg.contains("inf") && !svg.contains("limit"),
            "{svg}"
        );
        assert!(
            curve(
                &Curve {
                    points: &[],
                    limit: None
                },
                "s"
            )
            .starts_with("<svg")
        );
        assert!(columns(&[], None, "").ends_with("</svg>"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, 0.25, 12.0, 1500.0, 33_554_432.0].map(short),
            ["0", "0.25", "12", "1.5k", "33.55M"]
        );
    }
}
