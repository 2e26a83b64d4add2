// SPDX-License-Identifier: MIT OR Apache-2.0

//! Recall–QPS curves as SVG: recall to the right, queries a second upwards, logarithmic.

use std::fmt::Write as _;

use super::subject::Figures;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 500.0;
const EDGE: f64 = 60.0;
const LOWEST: f64 = 0.85;
const COLOURS: [&str; 6] = ["#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];

/// The curves of one data set: of each subject, what no other of its settings beats.
pub(super) fn svg(title: &str, curves: &[(&'static str, &Vec<(String, Figures)>)]) -> String {
    let speeds = curves
        .iter()
        .flat_map(|(_, curve)| curve.iter().map(|(_, figures)| figures.qps_cpu));
    let highest = speeds.fold(1.0, f64::max).log10().ceil();
    let floor = highest - 3.0;
    let x = |recall: f64| EDGE + (recall - LOWEST) / (1.0 - LOWEST) * (WIDTH - 2.0 * EDGE);
    let y = |speed: f64| HEIGHT - EDGE - (speed.log10() - floor) / (highest - floor) * (HEIGHT - 2.0 * EDGE);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{EDGE}\" y=\"25\">{title}: queries a second (CPU time) over recall@10, one thread</text>\n"
    );
    let mut line = |content: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(content);
        text.push('\n');
    };
    for step in 0..=3 {
        let recall = LOWEST + f64::from(step) * 0.05;
        line(format_args!(
            "<text x=\"{:.0}\" y=\"{:.0}\">{recall:.2}</text>",
            x(recall) - 12.0,
            HEIGHT - 35.0
        ));
        let speed = 10.0_f64.powf(floor + f64::from(step));
        line(format_args!("<text x=\"5\" y=\"{:.0}\">{speed:.0}</text>", y(speed)));
        line(format_args!(
            "<path d=\"M{EDGE} {0:.1}H{1}\" stroke=\"#ddd\"/>",
            y(speed),
            WIDTH - EDGE
        ));
    }
    for (index, (name, curve)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut best: Vec<Figures> = curve.iter().map(|(_, figures)| *figures).collect();
        best.sort_by(|one, other| other.qps_cpu.total_cmp(&one.qps_cpu));
        let mut reached = LOWEST;
        best.retain(|figures| {
            figures.recall > reached && {
                reached = figures.recall;
                true
            }
        });
        let points: Vec<String> = best
            .iter()
            .map(|figures| format!("{:.1},{:.1}", x(figures.recall), y(figures.qps_cpu)))
            .collect();
        line(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        ));
        let at = 45 + 18 * index;
        line(format_args!(
            "<text x=\"{:.0}\" y=\"{at}\" fill=\"{colour}\">{name}</text>",
            WIDTH - EDGE - 90.0
        ));
    }
    line(format_args!("</svg>"));
    text
}
