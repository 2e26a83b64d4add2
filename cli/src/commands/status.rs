// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the servers of pools say about themselves.

use std::collections::HashMap;
use std::ffi::OsString;

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::json;
use vexfs::metrics::Distribution;
use vexfs_control::status::{Number, Status};

use super::list;
use crate::figures::{bytes, latency, number, percent, plain, span};
use crate::served::{self, Served};
use crate::{show, ublk};

/// Say how served pools and block devices are.
///
/// Without an argument: all of them, one line each.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk status
  vexfs-ublk status /mnt
  vexfs-ublk status --metrics /mnt")]
pub(crate) struct Arguments {
    /// One pool: its file or device, mount point, UUID, label, or the socket of its server
    #[arg(value_name = "POOL|DIR|SOCKET")]
    which: Option<OsString>,
    /// Print all metrics in the text format of Prometheus
    #[arg(long)]
    metrics: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> Result<()> {
    if let Some(which) = &arguments.which {
        let served = served::find(which)?;
        if arguments.metrics {
            print!("{}", served.client.metrics()?);
        } else if json {
            println!("{:#}", serde_json::to_value(&served.status)?);
        } else {
            print!("{}", details(&served));
        }
        return Ok(());
    }
    let (all, silent) = served::all()?;
    // Without the driver there are no devices.
    let devices = ublk::all().unwrap_or_default();
    for error in &silent {
        eprintln!("vexfs-ublk: {error}");
    }
    if arguments.metrics {
        print!("{}", merged(&all)?);
    } else if json {
        let documents: Vec<&Status> = all.iter().map(|served| &served.status).collect();
        let devices: Vec<_> = devices.iter().map(list::document).collect();
        show::document(json!({ "pools": documents, "devices": devices }));
    } else {
        if all.is_empty() && silent.is_empty() {
            println!("no pool is served");
        } else {
            print!("{}", table(&all));
        }
        if !devices.is_empty() {
            print!("\n{}", list::table(&devices));
        }
    }
    // Each has been told.
    if silent.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("{} of the servers did not answer", silent.len()))
    }
}

/// The metrics of several pools as one text: a name may have its `HELP` and `TYPE` only once, and all its values follow.
fn merged(all: &[Served]) -> Result<String> {
    let mut order: Vec<String> = Vec::new();
    let mut blocks: HashMap<String, String> = HashMap::new();
    for served in all {
        let text = served.client.metrics()?;
        let mut current = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                help.split(' ').next().unwrap_or_default().clone_into(&mut current);
                if !blocks.contains_key(&current) {
                    order.push(current.clone());
                }
            }
            let block = blocks.entry(current.clone()).or_default();
            let told = line.starts_with("# ") && block.contains(line);
            if !told {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    Ok(order
        .iter()
        .filter_map(|name| blocks.get(name))
        .map(String::as_str)
        .collect())
}

/// One line per pool.
fn table(all: &[Served]) -> String {
    let header = ["POOL", "LABEL", "STATE", "SIZE", "USED", "UP", "SERVED BY", "AT"];
    let mut rows = vec![header.map(str::to_owned)];
    for served in all {
        let status = &served.status;
        let facts = &status.server.facts;
        let total = status.count("vexfs_space_total_bytes");
        rows.push([
            plain(&facts.pool),
            plain(&status.pool.label),
            plain(&status.pool.mode),
            bytes(total),
            percent(total.saturating_sub(status.count("vexfs_space_free_bytes")), total),
            status.time("vexfs_pool_uptime_seconds").map(span).unwrap_or_default(),
            format!("{} {}", plain(&facts.front_end), status.server.pid),
            plain(facts.mount_point.as_deref().unwrap_or("-")),
        ]);
    }
    show::aligned(&rows)
}

/// Everything about one pool that people want to know.
fn details(served: &Served) -> String {
    let status = &served.status;
    let mut rows = about(status);
    rows.extend(
        durability(status)
            .into_iter()
            .chain(memory(status))
            .map(|(name, value)| [name.to_owned(), value]),
    );
    let mut text = show::aligned(&rows);
    let operations = status.operations();
    if !operations.is_empty() {
        let header = ["OPERATION", "COUNT", "FAILED", "MEAN", "P50", "P99", "P999", "MAX"];
        let mut rows = vec![header.map(str::to_owned)];
        for (name, times, failures) in operations {
            let quantile = |part| times.quantile(part).map(latency).unwrap_or_default();
            rows.push([
                plain(&name),
                times.count().to_string(),
                failures.to_string(),
                times.mean().map(latency).unwrap_or_default(),
                quantile(0.5),
                quantile(0.99),
                quantile(0.999),
                latency(times.max()),
            ]);
        }
        text.push('\n');
        text.push_str(&show::aligned(&rows));
    }
    text
}

fn about(status: &Status) -> Vec<[String; 2]> {
    let (facts, count) = (&status.server.facts, |name: &str| status.count(name));
    let total = count("vexfs_space_total_bytes");
    let free = count("vexfs_space_free_bytes");
    let up = status.time("vexfs_pool_uptime_seconds").map(span).unwrap_or_default();
    let options = if facts.options.is_empty() {
        String::new()
    } else {
        format!(", options {}", plain(&facts.options.join(",")))
    };
    let rows = [
        ("pool", plain(&facts.pool)),
        ("label", plain(&status.pool.label)),
        ("uuid", plain(&status.pool.uuid)),
        ("state", format!("{}, up {up}", plain(&status.pool.mode))),
        (
            "served by",
            format!(
                "{} process {}, version {}{options}",
                plain(&facts.front_end),
                status.server.pid,
                plain(&status.server.software_version)
            ),
        ),
        ("mounted at", plain(facts.mount_point.as_deref().unwrap_or("-"))),
        ("files", count("vexfs_pool_files").to_string()),
        (
            "space",
            format!(
                "{} of {} used ({}), {} available",
                bytes(total.saturating_sub(free)),
                bytes(total),
                percent(total.saturating_sub(free), total),
                bytes(count("vexfs_space_available_bytes"))
            ),
        ),
        (
            "",
            format!(
                "{} promised, {} reserved, {} free after the next flushes",
                bytes(count("vexfs_space_promised_bytes")),
                bytes(count("vexfs_space_reserved_bytes")),
                bytes(count("vexfs_space_deferred_bytes"))
            ),
        ),
    ];
    rows.map(|(name, value)| [name.to_owned(), value]).into()
}

fn durability(status: &Status) -> Vec<(&'static str, String)> {
    let count = |name: &str| status.count(name);
    let times = |name: &str| times(&status.times(name));
    let (used, capacity) = (count("vexfs_journal_used_bytes"), count("vexfs_journal_capacity_bytes"));
    let stalls: Vec<String> = status
        .labelled("vexfs_stall_seconds")
        .filter_map(|(cause, number)| match number {
            Number::Times(found) if found.count > 0 => {
                Some(format!("for {}: {}", plain(cause), self::times(&found.distribution()?)))
            }
            _ => None,
        })
        .collect();
    let failures = count("vexfs_sync_failures_total") + count("vexfs_checkpoint_failures_total");
    let damaged = count("vexfs_data_checksum_failures_total");
    let mut rows = vec![
        (
            "journal",
            format!(
                "{} of {} used ({}), {} transactions not durable",
                bytes(used),
                bytes(capacity),
                percent(used, capacity),
                count("vexfs_journal_undurable_transactions")
            ),
        ),
        ("flushes", times("vexfs_flush_seconds")),
        ("syncs", times("vexfs_sync_seconds")),
        ("checkpoints", times("vexfs_checkpoint_seconds")),
        (
            "stalls",
            if stalls.is_empty() {
                "none".into()
            } else {
                stalls.join("; ")
            },
        ),
        (
            "recovery",
            format!(
                "{} transactions replayed in {}, opened in {}",
                count("vexfs_recovery_transactions"),
                status
                    .time("vexfs_recovery_replay_seconds")
                    .map(latency)
                    .unwrap_or_default(),
                status.time("vexfs_recovery_seconds").map(latency).unwrap_or_default()
            ),
        ),
    ];
    if failures > 0 {
        rows.push((
            "FAILED",
            format!("{failures} syncs or checkpoints: open the pool again"),
        ));
    }
    if damaged > 0 {
        rows.push(("DAMAGE", format!("{damaged} reads met damaged bytes: check the pool")));
    }
    if count("vexfs_pool_needs_check") > 0 {
        rows.push(("DAMAGE", "damage was seen: check the pool".into()));
    }
    rows
}

fn memory(status: &Status) -> Vec<(&'static str, String)> {
    let counts = |name: &str| -> Vec<(String, u64)> {
        let counts = status.labelled(name).filter_map(|(label, number)| match number {
            Number::Count(count) => Some((label.to_owned(), *count)),
            _ => None,
        });
        counts.collect()
    };
    let misses = counts("vexfs_cache_misses_total");
    let caches: Vec<String> = counts("vexfs_cache_hits_total")
        .into_iter()
        .map(|(cache, hits)| {
            let others = misses
                .iter()
                .find(|(other, _)| *other == cache)
                .map_or(0, |(_, count)| *count);
            format!("{} {}", plain(&cache), percent(hits, hits + others))
        })
        .collect();
    vec![
        ("cache hits", caches.join(", ")),
        (
            "file bytes",
            format!(
                "{} read, {} written",
                bytes(status.count("vexfs_data_read_bytes_total")),
                bytes(status.count("vexfs_data_written_bytes_total"))
            ),
        ),
    ]
}

fn times(times: &Distribution) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let count = number(times.count() as f64);
    match (times.quantile(0.5), times.quantile(0.99)) {
        (Some(half), Some(most)) => format!(
            "{count}, p50 {}, p99 {}, max {}",
            latency(half),
            latency(most),
            latency(times.max())
        ),
        _ => "none".into(),
    }
}
