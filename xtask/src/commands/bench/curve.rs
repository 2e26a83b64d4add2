// SPDX-License-Identifier: MIT OR Apache-2.0

//! Curves of a row as an SVG to be put into the page: each side as a line of medians, ranges as bars through its points.
//!
//! An axis is logarithmic where its values are a decade or more apart; one that is not begins at zero if it is of values.

use std::fmt::Write as _;

use lab::markup::escape;

use super::row::{Curves, Point};

const WIDTH: f64 = 700.0;
const HEIGHT: f64 = 220.0;
/// Left of the lines are values, below are places, right are names.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 45.0;
const LINE: f64 = 16.0;
/// Seen on light and on dark ground. Ours is the first.
const COLOURS: [&str; 5] = ["#2468a8", "#d9822b", "#3a9a4b", "#9467bd", "#a0a0a0"];

// Writing to a String cannot fail; results of `write!` are let go of below.

pub(super) fn svg(curves: &Curves, unit: &str) -> String {
    let points = || curves.lines.iter().flat_map(|line| &line.points);
    let across = Axis::of(points().map(|point| point.at), (LEFT, WIDTH - RIGHT), false);
    let values = points().flat_map(|point| [point.value.low, point.value.high]);
    let up = Axis::of(values, (HEIGHT - BOTTOM, TOP), true);
    let mut text = format!("<svg class=curve viewBox=\"0 0 {WIDTH} {HEIGHT}\">");
    let (floor, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let _ = write!(
        text,
        "<path class=axis fill=none d=\"M{LEFT} {TOP}V{floor}H{end}\"/><text x=\"{LEFT}\" y=\"12\">{}</text>\
         <text x=\"{end}\" y=\"{:.0}\" text-anchor=end>{}</text>",
        escape(unit),
        HEIGHT - 6.0,
        escape(&curves.axis)
    );
    for value in [up.low, up.high] {
        let _ = write!(
            text,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=end>{}</text>",
            LEFT - 6.0,
            up.place(value) + 4.0,
            short(value)
        );
    }
    for point in curves.lines.first().map_or(&[][..], |line| &line.points) {
        let _ = write!(
            text,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=middle>{}</text>",
            across.place(point.at),
            floor + LINE,
            short(point.at)
        );
    }
    let mut label = TOP;
    for (line, colour) in curves.lines.iter().zip(COLOURS.iter().cycle()) {
        label += LINE;
        let place = |point: &Point| format!("{:.1},{:.1}", across.place(point.at), up.place(point.value.median));
        let places: Vec<_> = line.points.iter().map(place).collect();
        let _ = write!(
            text,
            "<polyline stroke=\"{colour}\" points=\"{}\"/><text x=\"{:.0}\" y=\"{label:.0}\" style=\"fill:{colour}\">{}</text>",
            places.join(" "),
            end + 12.0,
            escape(&line.name)
        );
        for point in &line.points {
            let (x, y) = (across.place(point.at), up.place(point.value.median));
            let _ = write!(
                text,
                "<path stroke=\"{colour}\" d=\"M{x:.1} {:.1}V{:.1}\"/><circle fill=\"{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\">\
                 <title>{}: {} at {}</title></circle>",
                up.place(point.value.low),
                up.place(point.value.high),
                escape(&line.name),
                point.value,
                point.at
            );
        }
    }
    text.push_str("</svg>");
    text
}

/// Values, and where on the picture the lowest and the highest are.
struct Axis {
    low: f64,
    high: f64,
    ends: (f64, f64),
    logarithmic: bool,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, ends: (f64, f64), from_zero: bool) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        // Of nothing.
        let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
        let logarithmic = low > 0.0 && high / low >= 10.0;
        Self {
            low: if from_zero && !logarithmic { low.min(0.0) } else { low },
            high,
            ends,
            logarithmic,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.log10() } else { value };
        let (low, high) = (scale(self.low), scale(self.high));
        let (from, to) = self.ends;
        // All values may be the same.
        let part = (scale(value) - low) / (high - low).max(f64::MIN_POSITIVE);
        from + part * (to - from)
    }
}

/// A number with as many digits as matter on an axis.
fn short(value: f64) -> String {
    for (size, unit) in [(1e6, "M"), (1e3, "k")] {
        if value >= size {
            let digits = usize::from(value < size * 10.0 && value % size > 0.0);
            return format!("{:.digits$}{unit}", value / size);
        }
    }
    let digits = if value < 10.0 && value.fract() > 0.0 { 2 } else { 0 };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::super::row::Line;
    use super::*;
    use vexfs_measure::Spread;

    fn curves(values: &[(f64, f64)]) -> Curves {
        let point = |&(at, value): &(f64, f64)| Point {
            at,
            value: Spread::once(value),
        };
        Curves {
            axis: "files".to_owned(),
            lines: vec![Line {
                name: "ours & others".to_owned(),
                points: values.iter().map(point).collect(),
            }],
        }
    }

    #[test]
    fn decades_are_drawn_logarithmically_and_percents_are_not() {
        let files = Axis::of([1e3, 1e4, 1e5].into_iter(), (0.0, 100.0), false);
        assert!((files.place(1e4) - 50.0).abs() < 1e-9);
        let percents = Axis::of([50.0, 80.0, 99.0].into_iter(), (0.0, 49.0), false);
        assert!((percents.place(80.0) - 30.0).abs() < 1e-9);
        let values = Axis::of([2.0, 4.0].into_iter(), (100.0, 0.0), true);
        assert!((values.place(2.0) - 50.0).abs() < 1e-9, "from zero, upwards");
    }

    #[test]
    fn a_picture_has_its_line_and_names_that_harm_nothing() {
        let text = svg(&curves(&[(1e3, 2.0), (1e5, 4.0)]), "µs");
        assert!(text.contains("points=\"70.0,97.5 540.0,20.0\""), "{text}");
        assert!(text.contains("ours &amp; others") && text.contains(">100k<"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn a_single_point_and_none_are_drawn_too() {
        for values in [&[(5.0, 5.0)][..], &[(5.0, 0.0)], &[]] {
            let text = svg(&curves(values), "µs");
            assert!(!text.contains("NaN"), "{text}");
        }
    }

    #[test]
    fn numbers_on_axes_are_short() {
        let texts = [0.0, 0.25, 3.0, 64.0, 1000.0, 2500.0, 100_000.0, 1e6].map(short);
        assert_eq!(texts, ["0", "0.25", "3", "64", "1k", "2.5k", "100k", "1M"]);
    }
}
