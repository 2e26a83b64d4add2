// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reading everything of a mounted pool, to find what went bad while nobody read it.
//!
//! First all pages of the tables, then the blocks of all files in the order of their numbers; free space is not read. The
//! lock is held to get a few rows at a time, never while bytes are read. So a file may change meanwhile: what does not match
//! its checksum is compared with the map again, and told only if the map still names it.
//!
//! A scrub can be stopped and gone on with: [`Scrubbed::next`] says where. Nothing is written.

use std::ops::ControlFlow;
use std::time::Duration;

use super::issue::Issue;
use super::verify::read_row;
use crate::data::row::Row;
use crate::error::Result;
use crate::fs::Fs;
use crate::fs::record::RowKey;
use crate::units::{BLOCK_SIZE, Ino};

/// Rows that one step gets.
const STEP_ROWS: usize = 32;
/// How often a row is read that others change meanwhile.
const ATTEMPTS: usize = 8;

/// Where a scrub is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Position {
    /// At the start: the tables.
    #[default]
    Tables,
    /// At a chunk of a file.
    File {
        /// The file.
        ino: Ino,
        /// The chunk.
        chunk: u64,
    },
}

/// How far a scrub is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubProgress {
    /// Where it goes on.
    pub position: Position,
    /// Blocks read by this scrub.
    pub blocks: u64,
    /// Issues found by this scrub.
    pub findings: usize,
}

/// What a scrub does.
pub struct ScrubOptions<'a> {
    /// Where to begin.
    pub from: Position,
    /// Read no faster than this.
    pub bytes_per_second: Option<u64>,
    /// Called after each step; may end the scrub.
    pub progress: &'a mut dyn FnMut(ScrubProgress) -> ControlFlow<()>,
}

/// Something that a scrub found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What.
    pub issue: Issue,
    /// A path of the file it is about.
    pub path: Option<String>,
}

/// What a scrub did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// What it found.
    pub findings: Vec<Finding>,
    /// Blocks it read.
    pub blocks: u64,
    /// Where to go on; nothing: everything was read.
    pub next: Option<Position>,
}

impl Fs {
    /// Reads and verifies everything. See the module.
    pub fn scrub(&self, options: &mut ScrubOptions<'_>) -> Result<Scrubbed> {
        let mut done = Scrubbed::default();
        let mut key = match options.from {
            Position::Tables => {
                if self.scrub_tables(options, &mut done)?.is_break() {
                    done.next = Some(Position::Tables);
                    return Ok(done);
                }
                RowKey { ino: Ino(0), chunk: 0 }
            }
            Position::File { ino, chunk } => RowKey { ino, chunk },
        };
        loop {
            let rows = self.rows_from(key, STEP_ROWS)?;
            let Some((last, _)) = rows.last() else {
                return Ok(done);
            };
            key = RowKey {
                chunk: last.chunk.saturating_add(1),
                ..*last
            };
            let before = done.blocks;
            for (key, row) in rows {
                self.scrub_row(key, row, &mut done)?;
            }
            let RowKey { ino, chunk } = key;
            let position = Position::File { ino, chunk };
            if step(options, &done, position, done.blocks - before).is_break() {
                done.next = Some(position);
                return Ok(done);
            }
        }
    }

    fn scrub_tables(&self, options: &mut ScrubOptions<'_>, done: &mut Scrubbed) -> Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        let issues = self.base().verify_all(|at| {
            let blocks = at.done - done.blocks;
            done.blocks = at.done;
            flow = step(options, done, Position::Tables, blocks);
            flow
        })?;
        done.findings.extend(issues.into_iter().map(|issue| Finding {
            issue: super::table_issue(issue),
            path: None,
        }));
        Ok(flow)
    }

    fn scrub_row(&self, key: RowKey, row: Row, done: &mut Scrubbed) -> Result<()> {
        let mut row = row;
        for _ in 0..ATTEMPTS {
            let Row::Map(map) = &row else { return Ok(()) };
            let (findings, blocks) = read_row(&**self.disk(), map)?;
            done.blocks += blocks;
            if findings.is_empty() {
                return Ok(());
            }
            match self.row_now(key)? {
                None => return Ok(()),
                Some(now) if now != row => row = now,
                Some(_) => {
                    // What is found is told, also if what it belongs to cannot be.
                    let path = self.path_of(key.ino).unwrap_or_else(|error| {
                        tracing::debug!(ino = %key.ino, %error, "no path");
                        None
                    });
                    let path = path.map(|path| String::from_utf8_lossy(&path).into_owned());
                    done.findings.extend(findings.into_iter().map(|finding| Finding {
                        issue: finding.issue(key.ino, key.chunk),
                        path: path.clone(),
                    }));
                    return Ok(());
                }
            }
        }
        // Written again and again: what is there now is not what went bad.
        Ok(())
    }
}

/// Tells the progress, and waits as long as the blocks read may take.
fn step(options: &mut ScrubOptions<'_>, done: &Scrubbed, position: Position, blocks: u64) -> ControlFlow<()> {
    let flow = (options.progress)(ScrubProgress {
        position,
        blocks: done.blocks,
        findings: done.findings.len(),
    });
    if let Some(rate) = options.bytes_per_second
        && flow.is_continue()
    {
        let micros = blocks.saturating_mul(BLOCK_SIZE as u64).saturating_mul(1_000_000) / rate.max(1);
        std::thread::sleep(Duration::from_micros(micros));
    }
    flow
}
