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

use anyhow::{Context, Result, ensure};
use lab::host::workspace;

use self::subject::{Figures, Subject};
use super::row::{Better, Peer, Row, Run, Side};
use vexfs_measure::Spread;

/// Recalls that are reported.
const WANTED: [f64; 2] = [0.95, 0.99];
/// How far above the wanted recall tuning aims, so that the other half reaches it too.
const MARGIN: f64 = 0.002;

/// Measures both data sets; takes an hour with a processor for itself, most of it the peers' builds.
pub(super) fn run(rounds: u32) -> Result<Vec<Row>> {
    let python = data::python()?;
    let peers = data::peers()?;
    let results = workspace::results();
    std::fs::create_dir_all(&results)?;
    let mut rows = Vec::new();
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
        for wanted in WANTED {
            rows.push(compare(name, wanted, &mut subjects, &curves, rounds)?);
        }
        let named: Vec<_> = subjects.iter().map(|subject| subject.name).zip(&curves).collect();
        let picture = results.join(format!("bench-vector-{name}.svg"));
        std::fs::write(&picture, plot::svg(name, &named))?;
        println!("{}", picture.display());
        rows.extend(built(name, &subjects)?);
    }
    Ok(rows)
}

/// What building the indexes took.
fn built(data: &str, subjects: &[Subject]) -> Result<Vec<Row>> {
    let measures = [
        ("build_cpu", "build, CPU time", "s"),
        ("index_bytes", "memory of the index", "bytes"),
    ];
    let row = |(key, measure, unit): (&str, &str, &str)| {
        let value = |subject: &Subject| {
            let value = subject.built[key].as_f64();
            let value = value.with_context(|| format!("{} gave no {key}: {}", subject.name, subject.built))?;
            Spread::of(vec![value])
        };
        let (ours, peers) = subjects.split_first().context("nobody was measured")?;
        let mine = value(ours)?;
        let peer = |subject: &Subject| {
            let theirs = value(subject)?;
            Ok(Peer {
                ratio: Spread::of(vec![theirs.median / mine.median])?,
                // A quarter of the memory is the aim.
                bar: (key == "index_bytes" && subject.name == "hnswlib").then_some(4.0),
                side: Side::plain(subject.name, theirs),
            })
        };
        Ok(Row {
            place: data.to_owned(),
            measure: measure.to_owned(),
            unit: unit.to_owned(),
            better: Better::Less,
            peers: peers.iter().map(peer).collect::<Result<_>>()?,
            ours: Side::plain(ours.name, mine),
            curves: None,
            run: Run::default(),
        })
    };
    measures.into_iter().map(row).collect()
}

/// All subjects at one recall, interleaved.
fn compare(
    data: &str,
    wanted: f64,
    subjects: &mut [Subject],
    curves: &[Vec<(String, Figures)>],
    rounds: u32,
) -> Result<Row> {
    let mut chosen: Vec<(usize, String)> = Vec::new();
    for (index, curve) in curves.iter().enumerate() {
        let able = curve.iter().filter(|(_, figures)| figures.recall >= wanted + MARGIN);
        match able.max_by(|one, other| one.1.qps_cpu.total_cmp(&other.1.qps_cpu)) {
            Some((numbers, _)) => chosen.push((index, numbers.clone())),
            None => println!("{data}, recall {wanted}: {} does not reach it", subjects[index].name),
        }
    }
    ensure!(
        chosen.first().is_some_and(|(index, _)| *index == 0),
        "ours does not reach recall {wanted} on {data}"
    );
    let mut measured: Vec<Vec<Figures>> = chosen.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((index, numbers), measured) in chosen.iter().zip(&mut measured) {
            measured.push(subjects[*index].ask("report", numbers)?);
        }
    }
    let mut sides = Vec::new();
    for ((index, numbers), measured) in chosen.iter().zip(&measured) {
        let speed: Vec<f64> = measured.iter().map(|figures| figures.qps_cpu).collect();
        let wall = Spread::of(measured.iter().map(|figures| figures.qps).collect())?;
        let recall = measured.first().map_or(f64::NAN, |figures| figures.recall);
        let name = subjects[*index].name;
        println!("{data}, recall {wanted}: {name:12} reaches {recall:.4} with {numbers}");
        let side = Side {
            name: name.to_owned(),
            value: Spread::of(speed.clone())?,
            costs: vec![
                ("recall".to_owned(), Spread::of(vec![recall])?),
                ("QPS of wall time".to_owned(), wall),
            ],
        };
        sides.push((side, speed));
    }
    let mut sides = sides.into_iter();
    let (ours, mine) = sides.next().context("nobody was measured")?;
    let peer = |(side, speed): (Side, Vec<f64>)| {
        Ok(Peer {
            ratio: Spread::of(mine.iter().zip(&speed).map(|(ours, peer)| ours / peer).collect())?,
            bar: Some(bar(wanted, &side.name)),
            side,
        })
    };
    Ok(Row {
        place: data.to_owned(),
        measure: format!("search, recall@10 of {wanted}"),
        unit: "QPS of CPU time".to_owned(),
        better: Better::More,
        peers: sides.map(peer).collect::<Result<_>>()?,
        ours,
        curves: None,
        run: Run::default(),
    })
}

/// What the ratio to a peer should be.
fn bar(wanted: f64, peer: &str) -> f64 {
    match (wanted < 0.97, peer) {
        (true, "hnswlib") => 2.0,
        (true, _) | (false, "hnswlib") => 1.25,
        (false, _) => 1.0,
    }
}
