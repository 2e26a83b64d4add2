// SPDX-License-Identifier: MIT OR Apache-2.0

//! Searches for files that pass a filter, as requests are answered: one vector a file, one thread.
//!
//! `filters <directory>` takes the data that `cargo xtask bench vector` makes. Filters let one file in a hundred or in a
//! thousand pass, which ones by chance or by directory. The first request with a filter looks at all files.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod support;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::data::{Data, arguments, cpu};
use support::{FILE, NOW, pool_file};
use vexfs::fs::record::Kind;
use vexfs::fs::vectors::space::{Element, Metric, Shape};
use vexfs::fs::vectors::{NewSpace, Put};
use vexfs::fs::{Fs, MountOptions, NewFile};
use vexfs::query::{Caller, answer};
use vexfs::units::Ino;

const COUNT: usize = 10;
const QUERIES: usize = 200;
/// Directories, in so many others.
const DIRECTORIES: usize = 1000;
const PARENTS: usize = 100;

/// The data with rows of length one, so that a product says how near two are.
struct Units {
    dimensions: usize,
    base: Vec<f32>,
    queries: Vec<f32>,
}

impl Units {
    fn of(data: &Data) -> Self {
        let dimensions = data.dimensions();
        let unit = |bytes: &[u8]| -> Vec<f32> {
            let numbers = bytes.as_chunks().0.iter();
            let mut rows: Vec<f32> = numbers.map(|four| f32::from_le_bytes(*four)).collect();
            for row in rows.chunks_exact_mut(dimensions) {
                let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                for value in row {
                    *value /= length;
                }
            }
            rows
        };
        Self {
            dimensions,
            base: unit(&data.base),
            queries: unit(&data.queries),
        }
    }

    /// The nearest of those that pass.
    fn nearest(&self, query: &[f32], passes: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let rows = self.base.chunks_exact(self.dimensions).enumerate();
        let product = |row: &[f32]| row.iter().zip(query).map(|(one, other)| one * other).sum::<f32>();
        let passing = rows.filter(|(number, _)| passes(*number));
        let mut scored: Vec<(f32, usize)> = passing.map(|(number, row)| (-product(row), number)).collect();
        scored.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        scored.iter().take(COUNT).map(|(_, number)| *number).collect()
    }
}

/// The same number for a file each time, from 0 to 999.
const fn chance(file: usize) -> usize {
    (file.wrapping_mul(2_654_435_761) >> 7) % 1000
}

/// Files of a directory have neighbouring numbers.
const fn directory_of(file: usize, files: usize) -> usize {
    file * DIRECTORIES / files
}

fn main() -> Result<()> {
    let Some(directory) = arguments().into_iter().next() else {
        println!("give a directory with data: cargo xtask bench vector makes some");
        return Ok(());
    };
    let data = Units::of(&Data::open(Path::new(&directory))?);
    let fs = Fs::open(&pool_file("filters.vexfs", 8 << 30), &MountOptions::default())?;
    let files = fill(&fs, &data)?;
    let of_parent = |parent| move |file: usize| directory_of(file, files) * PARENTS / DIRECTORIES == parent;
    measure(&fs, &data, "1 % by chance", &json!({"owner": 7}), &|file| {
        chance(file) % 100 == 7
    })?;
    measure(&fs, &data, "0.1 % by chance", &json!({"group": 77}), &|file| {
        chance(file) == 77
    })?;
    measure(
        &fs,
        &data,
        "1 % in a directory",
        &json!({"under": "/p42"}),
        &of_parent(42),
    )?;
    measure(
        &fs,
        &data,
        "0.1 % in a directory",
        &json!({"under": "/p42/d424"}),
        &|file| directory_of(file, files) == 424,
    )?;
    fs.close()?;
    Ok(())
}

/// Makes the files and their vectors, and waits until they are in leaves. Gives how many.
fn fill(fs: &Fs, data: &Units) -> Result<usize> {
    let shape = Shape::new(u32::try_from(data.dimensions)?, Element::F32, Metric::Cosine)?;
    let space = fs.create_space(&NewSpace {
        name: b"s",
        shape,
        effort: 0,
        fields: &[],
        now: NOW,
    })?;
    let new = NewFile {
        kind: Kind::Directory,
        permissions: 0o755,
        ..FILE
    };
    let mut parents: Vec<Ino> = Vec::new();
    let mut directories: Vec<Ino> = Vec::new();
    for number in 0..DIRECTORIES {
        if number % (DIRECTORIES / PARENTS) == 0 {
            let name = format!("p{}", parents.len());
            parents.push(fs.create(Ino::ROOT, name.as_bytes(), &new)?.ino);
        }
        let parent = *parents.last().context("a parent")?;
        directories.push(fs.create(parent, format!("d{number}").as_bytes(), &new)?.ino);
    }
    let files = data.base.len() / data.dimensions;
    for (number, row) in data.base.chunks_exact(data.dimensions).enumerate() {
        let directory = *directories.get(directory_of(number, files)).context("a directory")?;
        let new = NewFile {
            uid: u32::try_from(chance(number) % 100)?,
            gid: u32::try_from(chance(number))?,
            ..FILE
        };
        let ino = fs.create(directory, format!("{number}").as_bytes(), &new)?.ino;
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs.put_vectors(&Put {
            ino,
            space,
            ordinal: 0,
            whole: false,
            of: None,
            bytes: &bytes,
            now: NOW,
        })?;
    }
    fs.seal_vectors()?;
    fs.index_vectors()?;
    fs.checkpoint()?;
    Ok(files)
}

fn measure(fs: &Fs, data: &Units, what: &str, filter: &Value, passes: &dyn Fn(usize) -> bool) -> Result<()> {
    let mut took = Vec::new();
    let mut hits = 0;
    let mut wanted = 0;
    for query in data.queries.chunks_exact(data.dimensions).take(QUERIES) {
        let request = json!({"op": "search", "space": "s", "query": {"vector": query}, "k": COUNT, "filter": filter});
        let request = request.to_string();
        let started = (Instant::now(), cpu()?);
        let answered = answer(fs, &Caller::ADMINISTRATOR, request.as_bytes(), NOW);
        took.push((cpu()?.saturating_sub(started.1), started.0.elapsed()));
        let answered: Value = serde_json::from_slice(&answered.answer)?;
        let results = answered["results"][0]
            .as_array()
            .with_context(|| answered.to_string())?;
        let name = |hit: &Value| hit["path"].as_str()?.rsplit('/').next()?.parse::<usize>().ok();
        let found: Vec<usize> = results.iter().filter_map(name).collect();
        let truth = data.nearest(query, passes);
        wanted += truth.len();
        hits += truth.iter().filter(|number| found.contains(number)).count();
    }
    let (first, rest) = took.split_first().context("queries")?;
    let mut rest = rest.to_vec();
    rest.sort_unstable();
    let median = rest.get(rest.len() / 2).context("queries")?;
    println!(
        "{what}: recall@{COUNT} {:.4}; first request {:?}, then {:?} of CPU, {:?} of wall in the middle",
        hits as f64 / wanted as f64,
        first.1,
        median.0,
        median.1
    );
    Ok(())
}
