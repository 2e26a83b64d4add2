// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool, served over FUSE by `vexfs-ublk mount` in the foreground.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

use super::super::Settings;
use super::image::{self, Image, LOOK, PATIENCE};
use super::{Room, Target};
use crate::host::command::command;

/// A pool in a file, and its server while it is mounted.
#[derive(Debug)]
pub(super) struct Pool {
    image: Image,
    directory: PathBuf,
    server: Option<Child>,
}

impl Pool {
    pub(super) fn make(settings: &Settings, directory: &Path, room: Room) -> Result<Self> {
        Ok(Self {
            image: Image::make(settings, room)?,
            directory: directory.to_owned(),
            server: None,
        })
    }

    fn serves(&self) -> bool {
        statfs(&self.directory).is_ok_and(|stat| stat.filesystem_type() == FUSE_SUPER_MAGIC)
    }
}

impl Target for Pool {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn mount(&mut self) -> Result<()> {
        let log = self.image.open_log()?;
        let errors = log.try_clone().context("copying a descriptor")?;
        let mut server = Command::new(&self.image.program)
            .env("VEXFS_RUNTIME_DIR", self.directory.with_file_name("run"))
            .args(["mount", "-f"])
            .arg(&self.image.path)
            .arg(&self.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {}", self.image.program.display()))?;
        let start = Instant::now();
        while !self.serves() {
            if let Some(status) = server.try_wait().context("waiting for the server")? {
                bail!("the server ended before it served: {status}");
            }
            if start.elapsed() > PATIENCE {
                server.kill()?;
                bail!("the server did not serve within {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        self.server = Some(server);
        Ok(())
    }

    fn kill_server(&mut self) -> Result<()> {
        let mut server = self.server.take().context("there is no server to kill")?;
        image::kill(&mut server)
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
        image::still_runs(&mut server)?;
        let program = &self.image.program;
        command(program).arg("umount").arg(&self.directory).run()?;
        image::wait_for_end(&mut server).context("after the unmount")
    }

    fn check(&self) -> Result<()> {
        self.image.check()
    }

    fn log(&self) -> Option<String> {
        self.image.log()
    }

    fn server(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }
}
