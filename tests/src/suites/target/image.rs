// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool, whoever serves it: making and checking it, and what holds of every server of one.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::super::Settings;
use super::Room;
use crate::host::command::command;

/// For how long a server may take to begin or to end. Opening replays the journal; ending writes a checkpoint.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often one looks whether it has.
pub(super) const LOOK: Duration = Duration::from_millis(5);
/// Lines of the server's log that an error shows.
const SHOWN: usize = 30;

/// The pool, with what its servers say.
#[derive(Debug)]
pub(super) struct Image {
    /// `vexfs-ublk`.
    pub(super) program: PathBuf,
    pub(super) path: PathBuf,
    log: PathBuf,
}

impl Image {
    pub(super) fn make(settings: &Settings, room: Room) -> Result<Self> {
        let mkfs = command(&settings.program).arg("mkfs");
        let path = match room {
            Room::File(size) => {
                let path = settings.scratch.join("pool.img");
                mkfs.arg("--size").arg(size.to_string()).arg(&path).run()?;
                path
            }
            Room::Device(path) => {
                mkfs.arg("--force").arg(&path).run()?;
                path
            }
            Room::Made(path) => path,
        };
        Ok(Self {
            program: settings.program.clone(),
            path,
            log: settings.scratch.join("server.log"),
        })
    }

    /// For a server to write to, behind what others wrote.
    pub(super) fn open_log(&self) -> Result<File> {
        let log = File::options().create(true).append(true).open(&self.log);
        log.with_context(|| format!("opening {}", self.log.display()))
    }

    /// The end of it.
    pub(super) fn log(&self) -> Option<String> {
        let text = fs::read_to_string(&self.log).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        Some(lines.get(lines.len().saturating_sub(SHOWN)..)?.join("\n"))
    }

    pub(super) fn check(&self) -> Result<()> {
        command(&self.program)
            .args(["check", "--scrub"])
            .arg(&self.path)
            .run()
            .context("checking the pool")
    }
}

/// A server ends when it is told to, not before.
pub(super) fn still_runs(server: &mut Child) -> Result<()> {
    match server.try_wait().context("looking for the server")? {
        None => Ok(()),
        Some(status) => bail!("the server had ended by itself: {status}"),
    }
}

pub(super) fn kill(server: &mut Child) -> Result<()> {
    still_runs(server)?;
    server.kill().context("killing the server")?;
    server.wait().context("waiting for the killed server")?;
    Ok(())
}

/// Of a server that was told to end.
pub(super) fn wait_for_end(server: &mut Child) -> Result<()> {
    let start = Instant::now();
    loop {
        if let Some(status) = server.try_wait().context("waiting for the server")? {
            ensure!(status.success(), "the server ended with {status}");
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "the server did not end within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}
