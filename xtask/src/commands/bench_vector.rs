// SPDX-License-Identifier: MIT OR Apache-2.0

//! `cargo xtask bench vector`: the vector index and other libraries, on the same real embeddings, one thread each.
//!
//! Every subject builds its index, then tries its parameters on one half of the held-out queries. For each recall wanted, the
//! fastest that reached it is reported on the other half, in rounds that measure all subjects one after the other. Times
//! are CPU time of the process: on a busy machine wall time counts what others do. A subject that does not reach the recall
//! on the half it did not see is reported with what it reached.
//!
//! | module | what |
//! |---|---|
//! | `data` | data sets and peers, in the cache |
//! | `subject` | a process that answers one line with one measurement |
//! | `plot` | recall–QPS curves as SVG |

mod data;
mod plot;
mod subject;

use anyhow::{Context, Result};
use lab::host::workspace;
use serde_json::json;

use self::subject::{Figures, Subject};
use super::bench::Spread;

/// Recalls that are reported.
const WANTED: [f64; 2] = [0.95, 0.99];
/// How far above the wanted recall tuning aims, so that the other half reaches it too.
const MARGIN: f64 = 0.002;

/// Measures both data sets; takes an hour with a processor for itself, most of it the peers' builds.
pub(crate) fn run(rounds: u32) -> Result<()> {
    let python = data::python()?;
    let peers = data::peers()?;
    let results = workspace::results();
    std::fs::create_dir_all(&results)?;
    let mut documents = Vec::new();
    for (name, directory) in [
        ("glove-100", data::glove(&python)?),
        ("minilm-384", data::minilm(&python)?),
    ] {
        let mut subjects = subject::all(&python, &peers, &directory)?;
        let mut curves = Vec::new();
        for subject in &mut subjects {
            let curve = subject.curve()?;
            eprintln!("{name}: {} tuned, {} settings", subject.name, curve.len());
            curves.push(curve);
        }
        let mut rows = Vec::new();
        for wanted in WANTED {
            rows.push(compare(name, wanted, &mut subjects, &curves, rounds)?);
        }
        let named: Vec<_> = subjects.iter().map(|subject| subject.name).zip(&curves).collect();
        let picture = results.join(format!("bench-vector-{name}.svg"));
        std::fs::write(&picture, plot::svg(name, &named))?;
        println!("{}", picture.display());
        let built: Vec<_> = subjects
            .iter()
            .map(|subject| json!({ "name": subject.name, "built": subject.built }))
            .collect();
        documents.push(json!({ "data": name, "subjects": built, "rows": rows }));
    }
    let path = results.join("bench-vector.json");
    let document = json!({ "suite": "vector", "rounds": rounds, "data": documents });
    std::fs::write(&path, format!("{document:#}")).with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// All subjects at one recall, interleaved.
fn compare(
    data: &str,
    wanted: f64,
    subjects: &mut [Subject],
    curves: &[Vec<(String, Figures)>],
    rounds: u32,
) -> Result<serde_json::Value> {
    let mut chosen: Vec<(usize, String)> = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let able = curve.iter().filter(|(_, figures)| figures.recall >= wanted + MARGIN);
        match able.max_by(|one, other| one.1.qps_cpu.total_cmp(&other.1.qps_cpu)) {
            Some((numbers, _)) => chosen.push((index, numbers.clone())),
            None => println!("{data}, recall {wanted}: {} does not reach it", subjects[index].name),
        }
    }
    let mut measured: Vec<Vec<Figures>> = chosen.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((index, numbers), measured) in chosen.iter().zip(&mut measured) {
            measured.push(subjects[*index].ask("report", numbers)?);
        }
    }
    let ours: Vec<f64> = measured
        .first()
        .context("ours reaches no recall")?
        .iter()
        .map(|figures| figures.qps_cpu)
        .collect();
    let mut rows = Vec::new();
    for ((index, numbers), measured) in chosen.iter().zip(&measured) {
        let speed: Vec<f64> = measured.iter().map(|figures| figures.qps_cpu).collect();
        let ratio = Spread::of(ours.iter().zip(&speed).map(|(ours, peer)| ours / peer).collect())?;
        let wall = Spread::of(measured.iter().map(|figures| figures.qps).collect())?;
        let speed = Spread::of(speed)?;
        let recall = measured.first().map_or(f64::NAN, |figures| figures.recall);
        let name = subjects[*index].name;
        println!(
            "{data}, recall {wanted}: {name:12} {recall:.4} {speed} QPS of CPU, {wall} of wall, ours ×{ratio} ({numbers})"
        );
        rows.push(json!({
            "name": name, "numbers": numbers, "recall": recall, "qps_cpu": speed.json(), "qps": wall.json(),
            "ours_to_it": ratio.json(),
        }));
    }
    Ok(json!({ "recall": wanted, "subjects": rows }))
}
