// SPDX-License-Identifier: MIT OR Apache-2.0

//! fsx: random operations on one file, each read compared with what was written.
//!
//! Read, write, mmap, truncate, fallocate, punch, copy, sendfile, sync, invalidation. Mixtures of operations are in
//! `tests/suites/fsx`, one file each.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::session::ROOMY;
use super::{Case, Session, tools};

/// The suite.
pub const CASES: &[Case] = &[
    Case {
        suite: "fsx",
        name: "any_byte_range_reads_back",
        quick: 120,
        full: 3600,
        body: |session| {
            run(
                session,
                "bytes",
                include_str!("../../suites/fsx/bytes.toml"),
                (20_000, 100_000),
            )
        },
    },
    Case {
        suite: "fsx",
        name: "whole_blocks_read_back",
        quick: 120,
        full: 3600,
        body: |session| {
            run(
                session,
                "blocks",
                include_str!("../../suites/fsx/blocks.toml"),
                (3_000, 20_000),
            )
        },
    },
    Case {
        suite: "fsx",
        name: "small_files_read_back",
        quick: 120,
        full: 3600,
        body: |session| {
            run(
                session,
                "small",
                include_str!("../../suites/fsx/small.toml"),
                (5_000, 100_000),
            )
        },
    },
];

/// Sequences of one case. A process of fsx does one: mappings that it leaves behind are too many after some hundred thousand
/// calls.
const SEEDS: (u64, u64) = (2, 10);

fn run(session: &Session, name: &str, mixture: &str, (quick, full): (u32, u32)) -> Result<()> {
    let program = tools::FSX.path()?;
    let configuration = session.scratch().join(format!("{name}.toml"));
    fs::write(&configuration, mixture)?;
    let operations = session.operations(quick, full).to_string();
    let mut random = session.random();
    session.with_target(ROOMY, |target| {
        for _ in 0..session.pick(SEEDS.0, SEEDS.1) {
            let seed = random.u64(..).to_string();
            let file = target.directory().join(format!("fsx-{seed}"));
            let output = Command::new(&program)
                .arg("-f")
                .arg(&configuration)
                .args(["-N", &operations, "-S", &seed, "-P"])
                .arg(session.scratch())
                .arg(&file)
                .stdin(Stdio::null())
                .output()
                .context("starting fsx")?;
            println!(
                "{operations} operations of the mixture {name}, seed {seed}: {}",
                output.status
            );
            if !output.status.success() {
                let said =
                    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
                let lines: Vec<&str> = said.lines().collect();
                let last = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
                bail!(
                    "fsx -f tests/suites/fsx/{name}.toml -N {operations} -S {seed}: {}\n{}",
                    output.status,
                    last.join("\n")
                );
            }
            fs::remove_file(&file)?;
        }
        Ok(())
    })
}
