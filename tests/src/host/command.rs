// SPDX-License-Identifier: MIT OR Apache-2.0

//! Commands on the host: run, checked, and quoted in full when they fail.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// How many of the last output lines an error shows.
const TAIL: usize = 40;

/// A command to be run. Its standard input is empty.
#[derive(Debug)]
pub struct Cmd(Command);

/// A command run as this user.
pub fn command(program: impl AsRef<OsStr>) -> Cmd {
    Cmd(Command::new(program))
}

/// A command run as root: through `sudo` where the user is not.
pub fn privileged(program: &str) -> Cmd {
    if nix::unistd::geteuid().is_root() {
        return command(program);
    }
    let mut sudo = command("sudo");
    sudo.0.arg("--").arg(program);
    sudo
}

impl Cmd {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.0.current_dir(directory);
        self
    }

    fn shown(&self) -> String {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }

    /// Runs it quietly; an error shows the end of what it printed.
    pub fn run(self) -> Result<()> {
        self.lines(|_| {})
    }

    /// Runs it with the caller's own output, for commands whose output is for a person.
    pub fn run_shown(mut self) -> Result<()> {
        let shown = self.shown();
        let status = self
            .0
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {shown}"))?;
        if !status.success() {
            bail!("{shown}: {status}");
        }
        Ok(())
    }

    /// Runs it and returns its standard output as text.
    pub fn read(self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read_bytes()?).into_owned())
    }

    /// Runs it and returns its standard output.
    pub fn read_bytes(mut self) -> Result<Vec<u8>> {
        let shown = self.shown();
        let Output { status, stdout, stderr } = self
            .0
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {shown}"))?;
        if !status.success() {
            bail!("{shown}: {status}\n{}", String::from_utf8_lossy(&stderr).trim_end());
        }
        Ok(stdout)
    }

    /// Runs it and hands every line it prints, on either stream, to `line` at once.
    pub fn lines(mut self, mut line: impl FnMut(&str)) -> Result<()> {
        let shown = self.shown();
        let (reader, writer) = std::io::pipe().context("making a pipe")?;
        let errors = writer.try_clone().context("copying a pipe")?;
        let mut child = self
            .0
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {shown}"))?;
        // The builder keeps the pipe's writing ends; while it lives the reader never sees the end.
        drop(self);
        let mut tail = std::collections::VecDeque::new();
        for bytes in BufReader::new(reader).split(b'\n') {
            let bytes = bytes.with_context(|| format!("reading the output of {shown}"))?;
            let text = String::from_utf8_lossy(&bytes);
            line(text.trim_end());
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text.trim_end().to_owned());
        }
        let status = child.wait().with_context(|| format!("waiting for {shown}"))?;
        if !status.success() {
            bail!("{shown}: {status}\n{}", Vec::from(tail).join("\n"));
        }
        Ok(())
    }
}
