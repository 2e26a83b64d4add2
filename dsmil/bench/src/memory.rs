// SPDX-License-Identifier: MIT OR Apache-2.0

//! Figures of memory.

use anyhow::{Context, Result};
use dsmil::layout::{CHUNK_SIZE, CHUNKS};
use dsmil::memory::Region;
use serde_json::{Value, json};

use crate::Place;

const PAGE: usize = 4096;
/// The cap that is compared with all chunks.
const CAP: usize = 8;

/// Resident memory after every page of the region was read.
pub(crate) fn resident(place: &Place) -> Result<Value> {
    let transport = place.device.open()?;
    let before = rss()?;
    let mut rows = Vec::new();
    for cap in [CHUNKS, CAP] {
        let region = Region::new(transport.source()?, cap);
        for index in 0..CHUNKS {
            let chunk = region.chunk(index)?;
            for offset in (0..CHUNK_SIZE).step_by(PAGE) {
                std::hint::black_box(chunk.read::<u32>(offset)?);
            }
        }
        let (resident, tables) = rss()?;
        rows.push(json!({
            "cap": cap, "mapped": region.figures().mapped,
            "resident_kib": resident.saturating_sub(before.0), "page_tables_kib": tables.saturating_sub(before.1),
        }));
    }
    Ok(json!({ "process_kib": before.0, "after_reading_every_page": rows }))
}

/// Resident memory and page tables of this process, in KiB.
fn rss() -> Result<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
        number.with_context(|| format!("/proc/self/status has no {name}"))
    };
    Ok((field("VmRSS:")?, field("VmPTE:")?))
}
