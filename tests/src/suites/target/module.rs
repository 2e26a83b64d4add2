// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool, served as a device by `vexfs-ublkd` and mounted by the kernel module. Needs both drivers loaded, so it is for
//! machines of the lab.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::Settings;
use super::image::{self, Image};
use super::{Room, Target};

/// A pool in a file, and its server while it is mounted.
#[derive(Debug)]
pub(super) struct Pool {
    image: Image,
    server_program: PathBuf,
    directory: PathBuf,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    process: Child,
    device: String,
}

impl Pool {
    pub(super) fn make(settings: &Settings, directory: &Path, room: Room) -> Result<Self> {
        Ok(Self {
            image: Image::make(settings, room)?,
            server_program: settings.program.with_file_name("vexfs-ublkd"),
            directory: directory.to_owned(),
            server: None,
        })
    }

    /// Starts a server: for the device whose server was killed, or a new one.
    fn serve(&self) -> Result<Server> {
        let mut process = Command::new(&self.server_program)
            .args(["serve", "--target", "fs"])
            .arg(&self.image.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.image.open_log()?)
            .spawn()
            .with_context(|| format!("starting {}", self.server_program.display()))?;
        let stdout = process.stdout.take().context("the server has no standard output")?;
        let mut device = String::new();
        BufReader::new(stdout).read_line(&mut device)?;
        let device = device.trim_end().to_owned();
        ensure!(Path::new(&device).exists(), "ready, but {device:?} is not there");
        Ok(Server { process, device })
    }

    fn attach(&self, device: &str) -> Result<()> {
        mount(
            Some(device),
            &self.directory,
            Some("vexfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("mounting {device}"))
    }
}

impl Target for Pool {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn mount(&mut self) -> Result<()> {
        let mut server = self.serve()?;
        if let Err(error) = self.attach(&server.device) {
            image::kill(&mut server.process)?;
            return Err(error);
        }
        self.server = Some(server);
        Ok(())
    }

    fn kill_server(&mut self) -> Result<()> {
        let server = self.server.as_mut().context("there is no server to kill")?;
        image::kill(&mut server.process)
    }

    /// A server that was killed is replaced first: the mount goes on, and ends in good order.
    fn remount(&mut self) -> Result<()> {
        let server = self.server.as_mut().context("it was never mounted")?;
        if server.process.try_wait()?.is_some() {
            let device = server.device.clone();
            let next = self.serve()?;
            ensure!(next.device == device, "{device} was taken over as {}", next.device);
            self.server = Some(next);
        }
        self.unmount()?;
        self.mount()
    }

    fn unmount(&mut self) -> Result<()> {
        let mut server = self.server.take().context("it is not mounted")?;
        image::still_runs(&mut server.process)?;
        umount2(&self.directory, MntFlags::empty()).context("unmounting")?;
        let pid = Pid::from_raw(i32::try_from(server.process.id()).context("a process id is small")?);
        kill(pid, Signal::SIGTERM).context("stopping the server")?;
        image::wait_for_end(&mut server.process)
    }

    fn check(&self) -> Result<()> {
        self.image.check()
    }

    fn log(&self) -> Option<String> {
        self.image.log()
    }

    fn server(&self) -> Option<u32> {
        self.server.as_ref().map(|server| server.process.id())
    }
}
