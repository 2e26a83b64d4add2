// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs that run in the machine, and where they are.

use std::path::PathBuf;

use anyhow::Result;
use lab::host::progress::Step;
use lab::host::workspace;
use lab::runner::discover::cargo;

use super::super::super::demo::build_server;
use super::super::super::suite::build_command_line;
use super::super::ublk::rublk;

pub(in super::super) struct Programs {
    /// Does works on files.
    pub(in super::super) work: String,
    /// Times servers and their mounts.
    pub(in super::super) service: String,
    pub(in super::super) server: String,
    pub(in super::super) cli: String,
    pub(super) rublk: String,
    pub(in super::super) modules: PathBuf,
}

impl Programs {
    pub(super) fn build(modules: PathBuf) -> Result<Self> {
        build_command_line(true)?;
        let step = Step::start("building lab-work and lab-service");
        cargo()
            .args(["build", "--release", "--package", "lab-guest"])
            .args(["--bin", "lab-work", "--bin", "lab-service"])
            .lines(|line| step.now(line.trim().to_owned()))?;
        step.done();
        let built = |name: &str| {
            workspace::target()
                .join("release")
                .join(name)
                .to_string_lossy()
                .into_owned()
        };
        Ok(Self {
            work: built("lab-work"),
            service: built("lab-service"),
            cli: built("vexfs-ublk"),
            server: build_server()?,
            rublk: rublk()?,
            modules,
        })
    }
}
