// SPDX-License-Identifier: MIT OR Apache-2.0

//! fio: data under load. Every block carries a checksum and its own number, and is read back.
//!
//! The jobs are in `tests/fio/files`. After each, the filesystem is mounted anew and every file read as a whole: the reads
//! of fio itself may come from the page cache.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::session::ROOMY;
use super::{Case, Session, tree};
use crate::host::workspace;

/// The suite.
pub const CASES: &[Case] = &[
    case("data_written_through_the_page_cache_is_right", |session| {
        run(session, "buffered")
    }),
    case("data_written_past_the_page_cache_is_right", |session| {
        run(session, "direct")
    }),
    case("data_written_past_the_page_cache_by_libaio_is_right", |session| {
        run(session, "direct-aio")
    }),
    case("data_stored_into_mapped_memory_is_right", |session| {
        run(session, "mmap")
    }),
];

const fn case(name: &'static str, body: fn(&Session) -> Result<()>) -> Case {
    Case {
        suite: "fio",
        name,
        quick: 120,
        full: 1200,
        body,
    }
}

fn run(session: &Session, job: &str) -> Result<()> {
    let file = workspace::root().join("tests/fio/files").join(format!("{job}.fio"));
    session.with_target(ROOMY, |target| {
        let data = target.directory().join("data");
        fs::create_dir(&data)?;
        fio(session, &file, &data)?;
        let before = tree::digest(&data)?;
        target.remount()?;
        let after = tree::digest(&data)?;
        ensure!(
            before == after,
            "{job}: files read otherwise after the filesystem was mounted anew"
        );
        Ok(())
    })
}

fn fio(session: &Session, job: &Path, data: &Path) -> Result<()> {
    let output = Command::new("fio")
        .arg(format!("--directory={}", data.display()))
        .arg(format!("--randseed={}", session.random().u32(..)))
        .arg(job)
        .env("SIZE", session.pick("16m", "256m"))
        // Where verification fails, fio leaves both versions of the block in its working directory.
        .current_dir(session.scratch())
        .stdin(Stdio::null())
        .output()
        .context("starting fio")?;
    ensure!(
        output.status.success(),
        "fio {}: {}\n{}\n{}",
        job.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    );
    Ok(())
}
