// SPDX-License-Identifier: MIT OR Apache-2.0

//! The text format of Prometheus, version 0.0.4.
//!
//! Of a histogram, one bucket per power of two between 1 µs and 17 s is told, which are edges of its own buckets, so the
//! counts are exact.

use std::fmt::Write;
use std::time::Duration;

use super::histogram::Distribution;
use super::list::{Metric, Value};

/// The `Content-Type` of this format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Powers of two, in nanoseconds.
const FIRST_BIT: u32 = 10;
const LAST_BIT: u32 = 34;

/// The metrics as text; `common` are labels that every series gets.
pub fn render(metrics: &[Metric], common: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for metric in metrics {
        let name = &metric.name;
        line(&mut out, format_args!("# HELP {name} {}", Escaped(&metric.help, false)));
        line(&mut out, format_args!("# TYPE {name} {}", metric.kind.name()));
        for series in &metric.series {
            let own = series.labels.iter().map(|(name, value)| (*name, value.as_str()));
            let labels: Vec<(&str, &str)> = common.iter().copied().chain(own).collect();
            match &series.value {
                Value::Count(count) => line(&mut out, format_args!("{name}{} {count}", Labels(&labels, None))),
                Value::Time(time) => line(
                    &mut out,
                    format_args!("{name}{} {}", Labels(&labels, None), seconds(*time)),
                ),
                Value::Times(times) => histogram(&mut out, name, &labels, times),
            }
        }
    }
    out
}

fn histogram(out: &mut String, name: &str, labels: &[(&str, &str)], times: &Distribution) {
    for bit in FIRST_BIT..=LAST_BIT {
        let edge = 1_u64 << bit;
        let le = seconds(Duration::from_nanos(edge)).to_string();
        let count = times.count_up_to(edge);
        line(out, format_args!("{name}_bucket{} {count}", Labels(labels, Some(&le))));
    }
    let count = times.count();
    line(
        out,
        format_args!("{name}_bucket{} {count}", Labels(labels, Some("+Inf"))),
    );
    line(
        out,
        format_args!("{name}_sum{} {}", Labels(labels, None), seconds(times.sum())),
    );
    line(out, format_args!("{name}_count{} {count}", Labels(labels, None)));
}

fn line(out: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{what}");
}

/// The shortest decimal that is the time to the nanosecond for 104 days.
fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// `{name="value",…}`, or nothing.
struct Labels<'a>(&'a [(&'a str, &'a str)], Option<&'a str>);

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let le = self.1.map(|le| ("le", le));
        let mut separator = '{';
        for (name, value) in self.0.iter().copied().chain(le) {
            write!(f, "{separator}{name}=\"{}\"", Escaped(value, true))?;
            separator = ',';
        }
        if separator == '{' { Ok(()) } else { f.write_char('}') }
    }
}

/// Backslash and line feed, in values of labels also quotes, are written with a backslash.
struct Escaped<'a>(&'a str, bool);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.1 => f.write_str("\\\"")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Histogram, Kind};

    #[test]
    fn a_counter_looks_as_the_format_says() {
        let metrics = [
            Metric::new("vexfs_things_total", Kind::Counter, "Things\nand \\ \"more\"")
                .labelled(vec![("kind", "a \"b\"\\\n".into())], Value::Count(7)),
        ];
        assert_eq!(
            render(&metrics, &[("pool", "p")]),
            "# HELP vexfs_things_total Things\\nand \\\\ \"more\"\n\
             # TYPE vexfs_things_total counter\n\
             vexfs_things_total{pool=\"p\",kind=\"a \\\"b\\\"\\\\\\n\"} 7\n"
        );
    }

    #[test]
    fn a_time_that_is_an_edge_is_counted_up_to_that_edge() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_nanos(1 << 20));
        let times = Value::Times(Box::new(histogram.snapshot()));
        let text = render(&[Metric::new("t_seconds", Kind::Histogram, "T").with(times)], &[]);
        assert!(text.contains("t_seconds_bucket{le=\"0.000524288\"} 0\n"), "{text}");
        assert!(text.contains("t_seconds_bucket{le=\"0.001048576\"} 1\n"), "{text}");
        assert!(
            text.ends_with("t_seconds_sum 0.001048576\nt_seconds_count 1\n"),
            "{text}"
        );
    }
}
