// SPDX-License-Identifier: MIT OR Apache-2.0

//! Findings as one HTML file: no script, no picture and no font from anywhere else.

use std::fmt::Write as _;

use lab_guest::measure::Measurement;

use super::history::{Findings, Summary};
use super::plot::{self, Column, Curve};
use super::record::{Outcome, Tested};
use super::when::shown;
use crate::crash::Bar;
use crate::markup::escape;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.15rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
td.number{text-align:right}pre{background:#f4f4f4;padding:.5rem;overflow-x:auto}details{margin:.2rem 0}
svg{width:100%;max-width:44rem;font-size:11px;display:block}svg text{fill:#555}svg text.left{text-anchor:end}
.grid{stroke:#e4e4e4}.limit{stroke:#c22;stroke-dasharray:5 4}.curve{fill:none;stroke:#2468a8;stroke-width:1.5}
.good{fill:#3a8f4d}.bad{fill:#c23b3b}.idle{fill:#b8b8b8}.time{fill:#2468a8}
.PASS{color:#27713a}.FAIL,.CRASH{color:#b02020;font-weight:600}.SKIP{color:#777}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#242424}td,th{border-color:#3a3a3a}.grid{stroke:#333}svg text{fill:#aaa}}";
/// Courses of resources that are drawn: the newest of each test, kernel and resource.
const MOST_CURVES: usize = 60;

/// The page. `asked` is the question in words.
pub fn html(findings: &Findings, asked: &str, now_ms: u64) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Runs of the lab</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>Runs of the lab</h1><p>{}; made {} UTC</p>\n",
        escape(asked),
        shown(now_ms)
    );
    runs(&mut page, &findings.runs);
    recovery(&mut page, findings);
    crashes(&mut page, findings);
    results(&mut page, findings);
    courses(&mut page, findings);
    page.push_str("</body></html>\n");
    page
}

// Writing to a String cannot fail; results of `write!` into the page are let go of below.

fn runs(page: &mut String, runs: &[Summary]) {
    let _ = writeln!(page, "<h2>{} runs</h2>", runs.len());
    if runs.is_empty() {
        return;
    }
    let outcome = |run: &Summary| Column {
        label: shown(run.begin.at),
        parts: [("good", run.passed), ("bad", run.failed), ("idle", run.skipped)]
            .map(|(class, count)| (class, number(count)))
            .to_vec(),
    };
    page.push_str("<h3>Tests that passed, failed, were skipped</h3>");
    page.push_str(&plot::columns(&runs.iter().map(outcome).collect::<Vec<_>>(), None, ""));
    let slowest = |run: &Summary| Column {
        label: shown(run.begin.at),
        parts: vec![("time", seconds(run.longest_recovery_ms.unwrap_or_default()))],
    };
    page.push_str("<h3>Longest recovery</h3>");
    let limit = Bar::LONGEST.as_secs_f64();
    page.push_str(&plot::columns(
        &runs.iter().map(slowest).collect::<Vec<_>>(),
        Some(limit),
        "s",
    ));
    page.push_str(
        "<table><tr><th>begun<th>command<th>revision<th>passed<th>failed<th>skipped<th>crashes<th>took<th>lost lines</tr>",
    );
    for run in runs.iter().rev() {
        let took = run
            .took_ms
            .map_or("interrupted".to_owned(), |ms| format!("{:.0} s", seconds(ms)));
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=number>{}<td class=number>{}<td class=number>{}<td class=number>{}<td>{took}<td>{}</tr>",
            shown(run.begin.at),
            escape(&run.begin.command),
            escape(&run.begin.revision),
            run.passed,
            run.failed,
            run.skipped,
            run.crashes,
            run.damaged.len(),
        );
    }
    page.push_str("</table>\n");
}

fn recovery(page: &mut String, findings: &Findings) {
    let _ = writeln!(
        page,
        "<h2>Recovery</h2><pre>{}</pre>",
        escape(&findings.recovery.to_string())
    );
}

fn crashes(page: &mut String, findings: &Findings) {
    let _ = writeln!(page, "<h2>{} crashes</h2>", findings.crashes.len());
    let counts = findings.by_type();
    if counts.is_empty() {
        return;
    }
    let columns: Vec<Column> = counts
        .iter()
        .map(|(kind, &count)| Column {
            label: kind.to_string(),
            parts: vec![("bad", number(count))],
        })
        .collect();
    page.push_str(&plot::columns(&columns, None, ""));
    for event in findings.crashes.iter().rev() {
        let line = event.additional_info.get("line").and_then(|line| line.as_str());
        let recovered = match (event.recovery_attempted, event.recovery_successful) {
            (Some(how), Some(true)) => format!("recovered by {how}"),
            (Some(how), _) => format!("{how} failed"),
            (None, _) => "no recovery was tried".to_owned(),
        };
        let json = serde_json::to_string_pretty(event).unwrap_or_default();
        let _ = writeln!(
            page,
            "<details><summary>{} {} ({}), {}: {}; {recovered}</summary><pre>{}</pre></details>",
            shown(event.timestamp),
            event.crash_type,
            event.severity,
            escape(&event.test_context),
            escape(line.unwrap_or_default()),
            escape(&json)
        );
    }
}

fn results(page: &mut String, findings: &Findings) {
    page.push_str("<h2>Results</h2><table><tr><th>when<th>result<th>kernel<th>test<th>took<th>measured</tr>");
    for tested in findings.tested.iter().rev() {
        let (word, reason) = match &tested.outcome {
            Outcome::Passed => ("PASS", ""),
            Outcome::Failed(reason) => ("FAIL", reason.as_str()),
            Outcome::Skipped(reason) => ("SKIP", reason.as_str()),
            Outcome::Crashed(reason) => ("CRASH", reason.as_str()),
        };
        let again = if tested.repetition { " (alone, again)" } else { "" };
        let _ = writeln!(
            page,
            "<tr><td>{}<td class={word}>{word}{again}<td>{}<td>{}<br>{}<td>{:.1} s<td>{}</tr>",
            shown(tested.at),
            escape(&tested.place),
            escape(&tested.test),
            escape(reason),
            seconds(tested.took_ms),
            measured(tested)
        );
    }
    page.push_str("</table>\n");
}

fn measured(tested: &Tested) -> String {
    let lines = tested.measurements.iter().map(|measurement| match measurement {
        Measurement::Check { promise, held, detail } => {
            let word = if *held { "" } else { "BROKEN " };
            format!("{word}{promise}: {}", escape(detail))
        }
        Measurement::Recovery {
            what,
            took_ms,
            successful,
        } => {
            let word = if *successful {
                "recovered in"
            } else {
                "not recovered after"
            };
            format!("{}: {word} {:.1} s", escape(what), seconds(*took_ms))
        }
        Measurement::Series { resource, points, .. } => format!("{}: {} samples", escape(resource), points.len()),
        Measurement::Warning { resource, at_ms, text } => {
            format!(
                "warning at {:.0} s, {}: {}",
                seconds(*at_ms),
                escape(resource),
                escape(text)
            )
        }
    });
    lines.collect::<Vec<_>>().join("<br>")
}

fn courses(page: &mut String, findings: &Findings) {
    let mut drawn = Vec::new();
    for tested in findings.tested.iter().rev() {
        for measurement in &tested.measurements {
            let Measurement::Series {
                resource,
                points,
                limit,
            } = measurement
            else {
                continue;
            };
            let name = (&tested.test, &tested.place, resource);
            if drawn.len() == MOST_CURVES || drawn.contains(&name) {
                continue;
            }
            if drawn.is_empty() {
                page.push_str("<h2>Resources over time</h2>");
            }
            drawn.push(name);
            let _ = writeln!(
                page,
                "<h3>{} of {} on {}</h3>{}",
                escape(resource),
                escape(&tested.test),
                escape(&tested.place),
                plot::curve(&Curve { points, limit: *limit }, "")
            );
        }
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lab_guest::measure::Promise;

    use super::*;
    use crate::crash::{Classifier, CrashEvent};
    use crate::store::history::{History, Question, Run};
    use crate::store::record::{Begin, Record};

    fn findings() -> Findings {
        let mut classifier = Classifier::new(&["vexfs"]);
        classifier.feed_line(
            "[    1.000000] Kernel panic - not syncing: sysrq triggered crash",
            Duration::ZERO,
        );
        let records = vec![
            Record::Begin(Begin {
                at: 1_795_305_600_000,
                command: "run <script>".into(),
                revision: "abc".into(),
            }),
            Record::Tested(Tested {
                at: 1_795_305_700_000,
                test: "p::a".into(),
                place: "6.12".into(),
                outcome: Outcome::Failed("1 < 2".into()),
                took_ms: 1500,
                repetition: false,
                measurements: vec![
                    Measurement::Check {
                        promise: Promise::CleanUp,
                        held: false,
                        detail: "a mount is left".into(),
                    },
                    Measurement::Series {
                        resource: "rss".into(),
                        points: vec![(0, 1e6), (1000, 2e6)],
                        limit: None,
                    },
                ],
            }),
            Record::Crash(CrashEvent::new(
                &classifier.report().unwrap(),
                1_795_305_700_000,
                "p::a",
            )),
        ];
        let run = Run {
            file: "1.jsonl".into(),
            records,
            damaged: Vec::new(),
        };
        Findings::of(&History { runs: vec![run] }, &Question::default())
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_trusts_no_text() {
        let page = html(&findings(), "since <b>ever", 1_795_305_800_000);
        for foreign in ["http:", "https:", "src=", "<script", "<link", "url(", "<b>"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("run &lt;script&gt;") && page.contains("1 &lt; 2"));
    }

    #[test]
    fn the_page_holds_runs_crashes_measurements_and_curves() {
        let page = html(&findings(), "all", 1_795_305_800_000);
        for piece in [
            "1 runs",
            "2026-11-22 00:00",
            "interrupted",
            "BROKEN clean-up: a mount is left",
            "1 crashes",
            "kernel-panic (critical), p::a",
            "rss of p::a on 6.12",
            "class=\"curve\"",
        ] {
            assert!(page.contains(piece), "{piece}");
        }
    }
}
