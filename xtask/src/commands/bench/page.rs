// SPDX-License-Identifier: MIT OR Apache-2.0

//! Findings of all suites as one HTML file: no script, no picture and no font from anywhere else.
//!
//! Ratios are drawn on a logarithmic axis, each as its median with its range; the bar is a red mark. A row that has curves has
//! them below it.

use std::fmt::Write as _;

use lab::markup::escape;
use lab::store::when::shown;

use super::curve;
use super::markdown::{end, missed};
use super::row::{Better, Findings, Peer, Row, Side};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.15rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
td.number{text-align:right;white-space:nowrap}small{color:#777}
svg{width:22rem;height:1.3rem;display:block}.axis{stroke:#aaa}.range{stroke:#2468a8;stroke-width:3}.median{fill:#2468a8}
.below .range{stroke:#c23b3b}.below .median{fill:#c23b3b}.bar{stroke:#c22;stroke-dasharray:2 2}
svg.curve{width:44rem;height:auto}.curve text{font-size:12px;fill:currentColor}.curve polyline{fill:none;stroke-width:2}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}td,th{border-color:#3a3a3a}}";

/// The axis of ratios: from a tenth to ten times; what is beyond stands at its end.
const DECADES: f64 = 1.0;
const WIDTH: f64 = 300.0;
const MIDDLE: f64 = 10.0;

// Writing to a String cannot fail; results of `write!` into the page are let go of below.

pub(super) fn html(all: &[Findings], now_ms: u64) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Benchmarks</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>Benchmarks</h1><p>Medians, with the range of all rounds. A ratio above 1 is in our favour and is taken between runs \
         that followed each other in the same machine. Made {} UTC.</p>\n",
        shown(now_ms)
    );
    below(&mut page, all);
    for findings in all {
        suite(&mut page, findings);
    }
    page.push_str("</body></html>\n");
    page
}

/// Everything that is below its bar, before all else.
fn below(page: &mut String, all: &[Findings]) {
    let rows: Vec<&Row> = all.iter().flat_map(|findings| &findings.rows).collect();
    let bars = rows.iter().flat_map(|row| &row.peers).filter(|peer| peer.bar.is_some());
    let bars = bars.count();
    let missed = missed(&rows);
    let _ = writeln!(page, "<h2>{} of {bars} bars met</h2>", bars - missed.len());
    if missed.is_empty() {
        return;
    }
    page.push_str("<p>Those that are not, the worst first:</p><table><tr><th>where<th>measure<th>against<th>ratio<th>bar<th></tr>");
    for (row, peer, bar) in missed {
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=number>{}<td class=number>{bar:.2}<td>{}</tr>",
            escape(&row.place),
            escape(&row.measure),
            escape(&peer.side.name),
            peer.ratio,
            picture(peer),
        );
    }
    page.push_str("</table>");
}

fn suite(page: &mut String, findings: &Findings) {
    let _ = writeln!(
        page,
        "<h2>{}</h2><p>{}</p><p><small>{}</small></p>",
        escape(&findings.suite),
        escape(&findings.host),
        findings
            .versions
            .iter()
            .map(|(name, version)| escape(&format!("{name} {version}")))
            .collect::<Vec<_>>()
            .join(", ")
    );
    page.push_str(
        "<table><tr><th>where<th>measure<th>ours<th>against<th>ratio<th>tenth – same – ten times<th>theirs<th>measured</tr>",
    );
    for row in &findings.rows {
        measured(page, row);
    }
    page.push_str("</table>");
}

fn measured(page: &mut String, row: &Row) {
    let less = if row.better == Better::Less {
        ", less is better"
    } else {
        ""
    };
    let at = end(row).map_or_else(String::new, |(axis, at)| format!(", at {at} {}", escape(axis)));
    let what = format!(
        "<td>{}<td>{}<br><small>{}{less}{at}</small><td class=number>{}",
        escape(&row.place),
        escape(&row.measure),
        escape(&row.unit),
        side(&row.ours)
    );
    let run = format!(
        "<small>{} rounds at {}, {} UTC; {}</small>",
        row.run.rounds,
        escape(&row.run.revision),
        shown(row.run.made * 1000),
        escape(&row.run.how)
    );
    if row.peers.is_empty() {
        let _ = writeln!(page, "<tr>{what}<td><td><td><td><td>{run}</tr>");
    }
    for (number, peer) in row.peers.iter().enumerate() {
        let (what, run) = if number == 0 {
            (what.as_str(), run.as_str())
        } else {
            ("<td><td><td>", "")
        };
        let _ = writeln!(
            page,
            "<tr>{what}<td>{}<td class=number>{}<td>{}<td class=number>{}<td>{run}</tr>",
            escape(&peer.side.name),
            peer.ratio,
            picture(peer),
            side(&peer.side)
        );
    }
    if let Some(curves) = &row.curves {
        let _ = writeln!(page, "<tr><td><td colspan=7>{}</tr>", curve::svg(curves, &row.unit));
    }
}

fn side(side: &Side) -> String {
    let mut text = side.value.to_string();
    for (what, value) in &side.costs {
        let _ = write!(text, "<br><small>{} {}</small>", escape(what), value.short());
    }
    text
}

/// A ratio on its axis.
fn picture(peer: &Peer) -> String {
    let class = if peer.is_met() == Some(false) { "below" } else { "met" };
    let (low, median, high) = (x(peer.ratio.low), x(peer.ratio.median), x(peer.ratio.high));
    let bar = peer.bar.map_or_else(String::new, |bar| {
        let at = x(bar);
        format!("<line class=bar x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"20\"/>")
    });
    let same = x(1.0);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} 20\" class={class}><title>{}</title><line class=axis x1=\"0\" x2=\"{WIDTH}\" y1=\"{MIDDLE}\" \
         y2=\"{MIDDLE}\"/><line class=axis x1=\"{same:.1}\" x2=\"{same:.1}\" y1=\"3\" y2=\"17\"/>{bar}<line class=range \
         x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{MIDDLE}\" y2=\"{MIDDLE}\"/><circle class=median cx=\"{median:.1}\" cy=\"{MIDDLE}\" r=\"4\"/></svg>",
        peer.ratio
    )
}

fn x(ratio: f64) -> f64 {
    let decades = ratio.max(f64::MIN_POSITIVE).log10().clamp(-DECADES, DECADES);
    WIDTH / 2.0 * (1.0 + decades / DECADES)
}

#[cfg(test)]
mod tests {
    use super::super::row::{Curves, Line, Point, Run};
    use super::*;
    use vexfs_measure::Spread;

    #[test]
    fn the_page_shows_what_is_missed_first_and_stands_alone() {
        let row = Row {
            place: "6.12".into(),
            measure: "create <many>".into(),
            unit: "1/s".into(),
            better: Better::More,
            ours: Side::plain("ours", Spread::once(5.0)),
            peers: vec![Peer {
                side: Side::plain("ext4", Spread::once(10.0)),
                ratio: Spread::once(0.5),
                bar: Some(1.0),
            }],
            curves: Some(Curves {
                axis: "files <all>".into(),
                lines: vec![Line {
                    name: "ours".into(),
                    points: vec![Point {
                        at: 1000.0,
                        value: Spread::once(5.0),
                    }],
                }],
            }),
            run: Run::default(),
        };
        let findings = Findings {
            suite: "fs".into(),
            host: "two processors".into(),
            versions: vec![("e2fsprogs".into(), "1.47".into())],
            rows: vec![row],
        };
        let page = html(&[findings], 0);
        assert!(
            page.contains("0 of 1 bars met") && page.contains("create &lt;many&gt;"),
            "{page}"
        );
        assert!(
            page.contains("class=curve") && page.contains("at 1000 files &lt;all&gt;"),
            "{page}"
        );
        assert!(!page.contains("http") && !page.contains("<script"), "{page}");
    }

    #[test]
    fn the_axis_has_the_same_in_its_middle_and_ends() {
        assert!((x(1.0) - WIDTH / 2.0).abs() < 1e-9);
        assert!(x(0.0).abs() < 1e-9 && (x(1e9) - WIDTH).abs() < 1e-9);
    }
}
