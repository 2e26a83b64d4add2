// SPDX-License-Identifier: MIT OR Apache-2.0

//! The record of everything that changes the device: one JSON object a line, appended.
//!
//! Two lines for each request: before it is carried out, so that nothing happens unrecorded even if the process is
//! killed in the middle, and after it, with how it ended. A request that cannot be recorded is refused.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use dsmil_client::protocol::{Reply, Request};
use serde_json::json;

use crate::peer::Peer;

/// See the module.
#[derive(Debug)]
pub(crate) struct Audit {
    file: File,
    next: Cell<u64>,
}

/// Names the lines that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry(u64);

impl Audit {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().append(true).create(true).mode(0o640).open(path);
        Ok(Self {
            file: file.with_context(|| format!("opening the audit log {}", path.display()))?,
            next: Cell::new(1),
        })
    }

    /// Records that a request is about to be carried out.
    pub(crate) fn begin(&self, peer: &Peer, request: &Request) -> io::Result<Entry> {
        let entry = Entry(self.next.get());
        self.next.set(entry.0 + 1);
        self.append(&json!({
            "time": now(), "entry": entry.0, "process": std::process::id(), "peer": peer, "request": request,
        }))?;
        Ok(entry)
    }

    /// Records how it ended. What cannot be recorded any more is in the log at least.
    pub(crate) fn end(&self, entry: Entry, reply: &Reply) {
        let line = json!({ "time": now(), "entry": entry.0, "process": std::process::id(), "reply": reply });
        if let Err(error) = self.append(&line) {
            tracing::error!(%error, %line, "the audit log cannot be written");
        }
    }

    /// One write, so lines of several processes do not mix.
    fn append(&self, line: &serde_json::Value) -> io::Result<()> {
        (&self.file).write_all(format!("{line}\n").as_bytes())
    }
}

/// Seconds since 1970, with microseconds.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
