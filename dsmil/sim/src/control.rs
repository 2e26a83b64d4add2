// SPDX-License-Identifier: MIT OR Apache-2.0

//! Tells a simulator what to do wrong.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::fault::Fault;

/// Injects a fault; returns once the firmware has been told.
pub fn inject(control: &Path, fault: Fault) -> Result<()> {
    let mut socket = UnixStream::connect(control).with_context(|| format!("connecting to {}", control.display()))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = serde_json::to_string(&fault)?;
    line.push('\n');
    socket.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(socket)
        .read_line(&mut answer)
        .context("waiting for the simulator's answer")?;
    ensure!(answer == "ok\n", "the simulator says: {}", answer.trim_end());
    Ok(())
}
