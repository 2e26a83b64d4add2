// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where the threads of queues run.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use lab_guest::sys;

use crate::server::Server;

/// The threads of a process that belong to queues: queue number to processors, as `0-1`.
fn queue_threads(pid: u32) -> Result<BTreeMap<String, String>> {
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = entry?.path();
        let name = sys::read(task.join("comm"))?;
        let Some((_, place)) = name.strip_prefix("ublk").and_then(|name| name.split_once('q')) else {
            continue;
        };
        let status = sys::read(task.join("status"))?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        threads.insert(place.to_owned(), allowed.context("no affinity")?.trim().to_owned());
    }
    Ok(threads)
}

#[lab_guest::test]
fn the_thread_of_a_queue_stays_with_the_processors_whose_requests_it_gets() -> Result<()> {
    for queues in ["1", "2"] {
        let server = Server::start(&["--target", "null", "--queues", queues])?;
        let name = server.device.trim_start_matches("/dev/").to_owned();
        let threads = queue_threads(server.id())?;
        ensure!(threads.len().to_string() == queues, "{threads:?}");
        for (place, allowed) in &threads {
            let queue = place.trim_end_matches("t0");
            let mapped = sys::read(format!("/sys/block/{name}/mq/{queue}/cpu_list"))?;
            // The kernel lists processors one by one, and here as ranges.
            let listed: Vec<_> = mapped.split(", ").map(str::to_owned).collect();
            let ranges: Vec<_> = allowed
                .split(',')
                .flat_map(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let (first, last): (u32, u32) = (first.parse().unwrap_or(0), last.parse().unwrap_or(0));
                    (first..=last).map(|processor| processor.to_string())
                })
                .collect();
            ensure!(listed == ranges, "queue {queue}: {mapped:?} and {allowed:?}");
        }
        server.stop()?;
    }
    Ok(())
}
