// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors of files in a pool: putting them, searching them, opening the pool. One thread asks; the pool's own work beside.
//!
//! `vectors <directory>` takes the data that `cargo xtask bench vector` makes, and prints a line per figure. `cargo bench -p
//! vexfs --bench vector` is the index alone, in memory.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::data::{Data, TRUTH, arguments, cpu};
use support::{FILE, NOW, pool_file};
use vexfs::fs::vectors::space::{Element, Metric, Shape};
use vexfs::fs::vectors::{NewSpace, Put, Sought};
use vexfs::fs::{Fs, MountOptions};
use vexfs::units::Ino;

const COUNT: usize = 10;
/// Vectors of one file.
const PER_FILE: usize = 1000;

fn space(fs: &Fs, name: &[u8], shape: Shape) -> Result<Ino> {
    Ok(fs.create_space(&NewSpace {
        name,
        shape,
        effort: 0,
        fields: &[],
        now: NOW,
    })?)
}

fn put(ino: Ino, space: Ino, ordinal: usize, bytes: &[u8]) -> Result<Put<'_>> {
    Ok(Put {
        ino,
        space,
        ordinal: u32::try_from(ordinal)?,
        whole: false,
        of: None,
        bytes,
        now: NOW,
    })
}

fn main() -> Result<()> {
    let Some(directory) = arguments().into_iter().next() else {
        println!("give a directory with data: cargo xtask bench vector makes some");
        return Ok(());
    };
    let data = Data::open(Path::new(&directory))?;
    let shape = Shape::new(u32::try_from(data.dimensions())?, Element::F32, Metric::Cosine)?;
    let path = pool_file("vectors.vexfs", 8 << 30);
    let fs = Fs::open(&path, &MountOptions::default())?;
    let id = space(&fs, b"s", shape)?;
    let files = fill(&fs, id, &data)?;
    settle(&fs, id)?;
    search(&fs, id, &data, &files)?;
    durable(&fs, shape, &data)?;
    fs.close()?;
    opening(&path, id, &data)
}

/// Puts all vectors, one a call, while the pool moves them into slabs and leaves. Gives the files.
fn fill(fs: &Fs, id: Ino, data: &Data) -> Result<Vec<Ino>> {
    let count = data.base.len() / data.row;
    let files: Vec<Ino> = (0..count.div_ceil(PER_FILE))
        .map(|number| Ok(fs.create(Ino::ROOT, format!("{number}").as_bytes(), &FILE)?.ino))
        .collect::<Result<_>>()?;
    let mut took = Vec::with_capacity(count);
    let started = (Instant::now(), cpu()?);
    for (number, row) in data.base.chunks_exact(data.row).enumerate() {
        let begun = Instant::now();
        let file = *files.get(number / PER_FILE).context("a file")?;
        fs.put_vectors(&put(file, id, number % PER_FILE, row)?)?;
        took.push(begun.elapsed());
    }
    let (wall, cpu) = (started.0.elapsed(), cpu()?.saturating_sub(started.1));
    took.sort_unstable();
    let at = |share: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let index = (took.len() as f64 * share) as usize;
        took.get(index).copied().unwrap_or_default()
    };
    println!(
        "put {count} vectors, one a call: {:.0}/s of wall, {:.0}/s of CPU; p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}",
        count as f64 / wall.as_secs_f64(),
        count as f64 / cpu.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        took.last().copied().unwrap_or_default()
    );
    Ok(files)
}

/// Waits until what was put is in leaves.
fn settle(fs: &Fs, id: Ino) -> Result<()> {
    let started = Instant::now();
    fs.seal_vectors()?;
    fs.index_vectors()?;
    fs.checkpoint()?;
    let size = fs.index_size(id)?.context("an index")?;
    let info = fs.space(b"s")?;
    println!(
        "all in slabs and leaves after {:.1} s: {size:?}; the pool has {:.0} bytes a vector of them",
        started.elapsed().as_secs_f64(),
        (info.blocks * 4096) as f64 / info.space.vectors as f64
    );
    Ok(())
}

fn search(fs: &Fs, id: Ino, data: &Data, files: &[Ino]) -> Result<()> {
    for effort in [0, 20, 35, 50, 65, 80, 100] {
        let mut best: Option<(Duration, Duration)> = None;
        let mut hits = 0;
        let queries = data.queries.len() / data.row;
        for pass in 0..3 {
            let started = (Instant::now(), cpu()?);
            for (number, query) in data.queries.chunks_exact(data.row).enumerate() {
                let sought = Sought {
                    query,
                    count: COUNT,
                    effort,
                    below: f32::INFINITY,
                    accept: None,
                };
                let found = fs.nearest_vectors(id, &sought)?.context("an index")?;
                if pass == 0 {
                    let truth = data
                        .truth
                        .get(number * TRUTH..number * TRUTH + COUNT)
                        .context("truth")?;
                    let row = |ino: Ino, ordinal: u32| {
                        files
                            .iter()
                            .position(|file| *file == ino)
                            .map(|file| file * PER_FILE + ordinal as usize)
                    };
                    let is_hit =
                        |vid: Option<usize>| vid.is_some_and(|vid| truth.iter().any(|near| *near as usize == vid));
                    hits += found
                        .found
                        .iter()
                        .filter(|near| is_hit(row(near.ino, near.ordinal)))
                        .count();
                }
            }
            let took = (started.0.elapsed(), cpu()?.saturating_sub(started.1));
            best = Some(best.map_or(took, |best| (best.0.min(took.0), best.1.min(took.1))));
        }
        let (wall, cpu) = best.context("no pass was made")?;
        println!(
            "effort {effort}: recall@10 {:.4}, {:.0} queries/s of wall, {:.0} of CPU",
            hits as f64 / (queries * COUNT) as f64,
            queries as f64 / wall.as_secs_f64(),
            queries as f64 / cpu.as_secs_f64()
        );
    }
    Ok(())
}

/// Batches that are durable, and searched, when the call returns.
fn durable(fs: &Fs, shape: Shape, data: &Data) -> Result<()> {
    let id = space(fs, b"durable", shape)?;
    let mut rows = data.base.chunks_exact(data.row);
    for (batch, batches) in [(1, 300), (100, 50), (1000, 10)] {
        let file = fs
            .create(Ino::ROOT, format!("batches of {batch}").as_bytes(), &FILE)?
            .ino;
        let started = (Instant::now(), cpu()?);
        for number in 0..batches {
            let some: Vec<&[u8]> = rows.by_ref().take(batch).collect();
            let puts = (0..)
                .zip(&some)
                .map(|(at, row)| put(file, id, number * batch + at, row));
            let puts = puts.collect::<Result<Vec<_>>>()?;
            for result in fs.put_many_vectors(&puts)? {
                result?;
            }
            fs.flush()?;
        }
        let (wall, cpu) = (started.0.elapsed(), cpu()?.saturating_sub(started.1));
        let count = (batch * batches) as f64;
        println!(
            "durable batches of {batch}: {:.0} vectors/s of wall, {:.0} of CPU",
            count / wall.as_secs_f64(),
            count / cpu.as_secs_f64()
        );
    }
    Ok(())
}

/// From opening the pool to the answer of the first search.
fn opening(path: &Path, id: Ino, data: &Data) -> Result<()> {
    let query = data.queries.get(..data.row).context("a query")?;
    for _ in 0..3 {
        let started = Instant::now();
        let fs = Fs::open(path, &MountOptions::default())?;
        let opened = started.elapsed();
        let sought = Sought {
            query,
            count: COUNT,
            effort: 0,
            below: f32::INFINITY,
            accept: None,
        };
        let found = fs.nearest_vectors(id, &sought)?.context("an index")?;
        ensure!(
            found.found.len() == COUNT,
            "the first search finds {}",
            found.found.len()
        );
        println!("opened after {opened:?}, first answer after {:?}", started.elapsed());
        fs.close()?;
    }
    Ok(())
}
