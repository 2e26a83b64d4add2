// SPDX-License-Identifier: MIT OR Apache-2.0

//! A process with an index: builds it, then answers each line on its input with a line of JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use lab::host::workspace;
use serde_json::Value;

/// What a run measured.
#[derive(Clone, Copy)]
pub(super) struct Figures {
    pub(super) recall: f64,
    pub(super) qps: f64,
    pub(super) qps_cpu: f64,
}

/// A running index.
pub(super) struct Subject {
    pub(super) name: &'static str,
    /// What building it took.
    pub(super) built: Value,
    /// Settings to try.
    grid: Vec<String>,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Ours, then the peers; each is built before the next is started.
pub(super) fn all(python: &Path, script: &Path, data: &Path) -> Result<Vec<Subject>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace::root());
    cargo
        .args(["bench", "-q", "-p", "vexfs", "--bench", "vector", "--"])
        .arg(data);
    let mut subjects = vec![Subject::start("vexfs", cargo, ours())?];
    for name in ["hnswlib", "faiss-hnsw", "faiss-ivfpq", "svs", "usearch"] {
        let mut peer = Command::new(python);
        peer.arg(script).arg(name).arg(data);
        subjects.push(Subject::start(name, peer, grid(name))?);
    }
    Ok(subjects)
}

fn ours() -> Vec<String> {
    let mut grid = Vec::new();
    let visits = [
        (48, 9.0),
        (96, 9.0),
        (1024, 0.40),
        (1024, 0.44),
        (1024, 0.47),
        (1024, 0.50),
        (1024, 0.53),
        (1024, 0.56),
        (1024, 0.60),
    ];
    for (leaves, reach) in visits {
        for doubt in [0.5, 0.8] {
            for compared in [24, 40] {
                grid.push(format!("{leaves} {reach} {doubt} {compared}"));
            }
        }
    }
    grid
}

fn grid(name: &str) -> Vec<String> {
    match name {
        "faiss-ivfpq" => {
            let factors = [4, 8, 16, 32, 64];
            let probes = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384];
            probes
                .iter()
                .flat_map(|probes| factors.map(|factor| format!("{probes} {factor}")))
                .collect()
        }
        _ => [16, 24, 32, 48, 64, 96, 128, 160, 200, 256, 320, 400, 512, 768, 1024]
            .map(|width| width.to_string())
            .to_vec(),
    }
}

impl Subject {
    fn start(name: &'static str, mut command: Command, grid: Vec<String>) -> Result<Self> {
        eprintln!("building {name}");
        command.env("OMP_NUM_THREADS", "1");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let input = child.stdin.take().context("a child without input")?;
        let output = BufReader::new(child.stdout.take().context("a child without output")?);
        let mut subject = Self {
            name,
            built: Value::Null,
            grid,
            child,
            input,
            output,
        };
        subject.built = subject.answer()?;
        eprintln!("{name}: {}", subject.built);
        Ok(subject)
    }

    /// All settings, on the half for tuning.
    pub(super) fn curve(&mut self) -> Result<Vec<(String, Figures)>> {
        let mut curve = Vec::new();
        for numbers in self.grid.clone() {
            let figures = self.ask("tune", &numbers)?;
            curve.push((numbers, figures));
        }
        Ok(curve)
    }

    /// One run.
    pub(super) fn ask(&mut self, half: &str, numbers: &str) -> Result<Figures> {
        writeln!(self.input, "{half} {numbers}").with_context(|| format!("asking {}", self.name))?;
        self.input.flush().with_context(|| format!("asking {}", self.name))?;
        let answer = self.answer()?;
        let number = |key: &str| {
            answer[key]
                .as_f64()
                .with_context(|| format!("{} gave no {key}: {answer}", self.name))
        };
        Ok(Figures {
            recall: number("recall")?,
            qps: number("qps")?,
            qps_cpu: number("qps_cpu")?,
        })
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self
            .output
            .read_line(&mut line)
            .with_context(|| format!("reading from {}", self.name))?;
        if read == 0 {
            bail!("{} ended: {:?}", self.name, self.child.wait());
        }
        serde_json::from_str(&line).with_context(|| format!("{} said {line}", self.name))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // It waits for lines; nothing is lost with it.
        if let Err(error) = self.child.kill() {
            eprintln!("ending {}: {error}", self.name);
        }
        if let Err(error) = self.child.wait() {
            eprintln!("waiting for {}: {error}", self.name);
        }
    }
}
