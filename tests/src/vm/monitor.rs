// SPDX-License-Identifier: MIT OR Apache-2.0

//! QEMU's machine protocol: enough of it to freeze, continue and inspect a machine and to plug devices.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection to one QEMU's monitor.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    /// Negotiates on a fresh connection.
    pub(super) fn negotiate(stream: UnixStream) -> Result<Self> {
        // QEMU answers at once; one that does not is stuck, and must not take its caller along.
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let writer = stream.try_clone()?;
        let mut monitor = Self {
            reader: BufReader::new(stream),
            writer,
        };
        monitor.message().context("reading QEMU's greeting")?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Executes a QMP command.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").with_context(|| format!("sending {command} to QEMU"))?;
        loop {
            let mut answer = self
                .message()
                .with_context(|| format!("waiting for QEMU to answer {command}"))?;
            if let Some(error) = answer.get("error") {
                bail!(
                    "QEMU refuses {command}: {}",
                    error["desc"].as_str().unwrap_or("no reason given")
                );
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            // Anything else is an event; what they tell is seen through the agent, the console and the process.
        }
    }

    /// Executes a command of the human monitor and returns what it prints.
    pub fn human(&mut self, command: &str) -> Result<String> {
        let value = self.execute("human-monitor-command", &json!({ "command-line": command }))?;
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).context("QEMU's monitor does not speak JSON")
    }
}
