// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool, served over FUSE by `vexfs-ublk mount` in the foreground.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

use super::super::Settings;
use super::Target;
use crate::host::command::command;

/// For how long a server may take to begin or to end. Opening replays the journal; ending writes a checkpoint.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of the server's log that an error shows.
const SHOWN: usize = 30;

/// A pool in a file, and its server while it is mounted.
#[derive(Debug)]
pub(super) struct Pool {
    program: PathBuf,
    image: PathBuf,
    directory: PathBuf,
    log: PathBuf,
    server: Option<Child>,
}

impl Pool {
    pub(super) fn make(settings: &Settings, directory: &Path, size: u64) -> Result<Self> {
        let image = settings.scratch.join("pool.img");
        command(&settings.program)
            .arg("mkfs")
            .arg("--size")
            .arg(size.to_string())
            .arg(&image)
            .run()?;
        Ok(Self {
            program: settings.program.clone(),
            image,
            directory: directory.to_owned(),
            log: settings.scratch.join("server.log"),
            server: None,
        })
    }

    fn serves(&self) -> bool {
        statfs(&self.directory).is_ok_and(|stat| stat.filesystem_type() == FUSE_SUPER_MAGIC)
    }

    fn wait_for_end(server: &mut Child) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = server.try_wait().context("waiting for the server")? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "the server did not end within {} s after the unmount",
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Target for Pool {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn mount(&mut self) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("opening {}", self.log.display()))?;
        let errors = log.try_clone().context("copying a descriptor")?;
        let mut server = Command::new(&self.program)
            .env("VEXFS_RUNTIME_DIR", self.directory.with_file_name("run"))
            .args(["mount", "-f"])
            .arg(&self.image)
            .arg(&self.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let start = Instant::now();
        while !self.serves() {
            if let Some(status) = server.try_wait().context("waiting for the server")? {
                bail!("the server ended before it served: {status}");
            }
            if start.elapsed() > PATIENCE {
                server.kill()?;
                bail!("the server did not serve within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.server = Some(server);
        Ok(())
    }

    fn kill_server(&mut self) -> Result<()> {
        let mut server = self.server.take().context("there is no server to kill")?;
        if let Some(status) = server.try_wait()? {
            bail!("the server had ended by itself: {status}");
        }
        server.kill().context("killing the server")?;
        server.wait().context("waiting for the killed server")?;
        Ok(())
    }

    fn remount(&mut self) -> Result<()> {
        if self.server.is_some() {
            self.unmount()?;
        } else {
            match umount2(&self.directory, MntFlags::MNT_DETACH) {
                // Whoever mounted it may have taken the dead mount away already.
                Ok(()) | Err(Errno::EINVAL) => {}
                Err(error) => return Err(error).context("taking the dead mount away"),
            }
        }
        self.mount()
    }

    fn unmount(&mut self) -> Result<()> {
        let mut server = self.server.take().context("it is not mounted")?;
        if let Some(status) = server.try_wait()? {
            bail!("the server had ended by itself: {status}");
        }
        command(&self.program).arg("umount").arg(&self.directory).run()?;
        let status = Self::wait_for_end(&mut server)?;
        ensure!(status.success(), "the server ended with {status} after the unmount");
        Ok(())
    }

    fn check(&self) -> Result<()> {
        command(&self.program)
            .args(["check", "--scrub"])
            .arg(&self.image)
            .run()
            .context("checking the pool")
    }

    fn log(&self) -> Option<String> {
        let text = fs::read_to_string(&self.log).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        Some(lines.get(lines.len().saturating_sub(SHOWN)..)?.join("\n"))
    }
}
