// SPDX-License-Identifier: MIT OR Apache-2.0

//! The vector index on real embeddings, in memory, one thread.
//!
//! `vector <directory> [leaf_max] [bare|nibble|byte]` builds the index of `base.f32` and says what that took. Then each line
//! on standard input is a run: `<tune|report> <leaves> <reach> <doubt> <compared>`, the numbers of an `Effort`, over one half
//! of the queries. The answer is a line of JSON: recall@10, seconds of wall and of thread CPU time, and counts a query.
//! `cargo xtask bench vector` drives it; see there for the data.

mod support;

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use support::data::{Data, TRUTH, arguments, cpu};
use vexfs::vector::codec::{Codec, CodecConfig, Tier};
use vexfs::vector::filter::Hints;
use vexfs::vector::index::build::{Item, Sampler, leaves};
use vexfs::vector::index::effort::Effort;
use vexfs::vector::index::memory::MemoryStore;
use vexfs::vector::index::search::Request;
use vexfs::vector::index::{Index, Settings};
use vexfs::vector::space::{Element, Metric, Space};

const COUNT: usize = 10;

fn main() -> Result<()> {
    let arguments = arguments();
    let Some(directory) = arguments.first() else {
        println!("give a directory with data: cargo xtask bench vector makes some");
        return Ok(());
    };
    let data = Data::open(Path::new(directory))?;
    let leaf_max = arguments.get(1).map_or(Ok(256), |number| number.parse())?;
    let tier = match arguments.get(2).map(String::as_str) {
        None => None,
        Some("bare") => Some(Tier::Bare),
        Some("nibble") => Some(Tier::Nibble),
        Some("byte") => Some(Tier::Byte),
        Some(other) => bail!("{other} is no tier"),
    };
    let (index, store) = build(&data, leaf_max, tier)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [half, leaves, reach, doubt, compared] = words[..] else {
            bail!("{line} is not: half leaves reach doubt compared");
        };
        let effort = Effort {
            leaves: leaves.parse()?,
            reach: reach.parse()?,
            doubt: doubt.parse()?,
            compared: compared.parse()?,
        };
        run(&data, &index, &store, half == "report", effort)?;
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn build(data: &Data, leaf_max: usize, tier: Option<Tier>) -> Result<(Index, MemoryStore)> {
    let space = Space::new(u32::try_from(data.dimensions())?, Element::F32, Metric::Cosine)?;
    let mut config = CodecConfig::new(space, 1);
    config.tier = tier.unwrap_or(config.tier);
    let started = (Instant::now(), cpu()?);
    let mut sampler = Sampler::new(10_000, 1);
    for row in data.base.chunks_exact(data.row) {
        sampler.offer(row);
    }
    config.origin = sampler.origin(&Codec::new(config.clone()));
    let codec = Codec::new(config);
    let mut store = MemoryStore::new(codec.leaf_layout(), data.row);
    for row in data.base.chunks_exact(data.row) {
        store.put(row);
    }
    let items: Vec<Item<'_>> = (0..)
        .zip(data.base.chunks_exact(data.row))
        .map(|(vid, bytes)| Item {
            vid,
            hints: Hints::UNKNOWN,
            bytes,
        })
        .collect();
    let settings = Settings {
        leaf_max,
        ..Settings::new(1, space.dimensions())
    };
    let mut index = Index::open(codec.clone(), settings, []);
    let change = leaves(&codec, &settings, 1, &items);
    store.keep(&change)?;
    index.apply(&change);
    println!(
        "{{\"build_seconds\": {:.2}, \"build_cpu\": {:.2}, \"vectors\": {}, \"leaves\": {}, \"leaf_bytes\": {}, \"index_bytes\": {}}}",
        started.0.elapsed().as_secs_f64(),
        cpu()?.saturating_sub(started.1).as_secs_f64(),
        items.len(),
        index.records().len(),
        store.leaf_bytes(),
        index.bytes(),
    );
    std::io::stdout().flush()?;
    Ok((index, store))
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn run(data: &Data, index: &Index, store: &MemoryStore, report: bool, effort: Effort) -> Result<()> {
    let queries = data.queries.len() / data.row;
    let half = if report { queries / 2..queries } else { 0..queries / 2 };
    let mut best: Option<(Duration, Duration)> = None;
    let (mut found, mut work) = (0_usize, [0_usize; 4]);
    for pass in 0..3 {
        let started = (Instant::now(), cpu()?);
        let mut answers = Vec::with_capacity(half.len());
        for number in half.clone() {
            let query = &data.queries[number * data.row..][..data.row];
            answers.push(index.search(store, store, &Request::new(query, COUNT, effort))?);
        }
        let took = (started.0.elapsed(), cpu()?.saturating_sub(started.1));
        best = Some(best.map_or(took, |best| (best.0.min(took.0), best.1.min(took.1))));
        if pass == 0 {
            for (number, answer) in half.clone().zip(&answers) {
                let truth = &data.truth[number * TRUTH..][..COUNT];
                found += answer.hits.iter().filter(|(_, vid)| truth.contains(vid)).count();
                let counts = [
                    answer.work.leaves,
                    answer.work.scanned,
                    answer.work.sharpened,
                    answer.work.compared,
                ];
                for (sum, count) in work.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
        }
    }
    let (wall, cpu) = best.context("no pass was made")?;
    let per = half.len() as f64;
    let [leaves, scanned, sharpened, compared] = work.map(|sum| sum as f64 / per);
    println!(
        "{{\"recall\": {:.4}, \"qps\": {:.0}, \"qps_cpu\": {:.0}, \"leaves\": {leaves:.1}, \"scanned\": {scanned:.0}, \
         \"sharpened\": {sharpened:.0}, \"compared\": {compared:.0}}}",
        found as f64 / (per * COUNT as f64),
        per / wall.as_secs_f64(),
        per / cpu.as_secs_f64(),
    );
    Ok(())
}
