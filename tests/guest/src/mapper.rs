// SPDX-License-Identifier: MIT OR Apache-2.0

//! A device-mapper device over a scratch disk, whose behaviour a test changes while it is used: slow, failing, fine again.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::sys;

/// The device; removed by [`Mapped::remove`], or on drop, by force then.
#[derive(Debug)]
pub struct Mapped {
    name: String,
    disk: String,
    sectors: u64,
}

impl Mapped {
    /// A device called `name` that passes everything on to the scratch disk.
    pub fn over(disk: &str, name: &str) -> Result<Self> {
        // Debian builds them as modules, and this lab's own kernels in.
        let _loaded = sys::output("modprobe", &["-a", "dm-mod", "dm-flakey", "dm-delay"]);
        let disk = sys::disk(disk)?;
        let disk = disk.to_str().context("a device's name is text")?.to_owned();
        let sectors = sys::output("blockdev", &["--getsz", &disk])?.trim().parse()?;
        let mapped = Self {
            name: name.to_owned(),
            disk,
            sectors,
        };
        let table = mapped.linear();
        sys::output(
            "dmsetup",
            &["create", name, "--noudevrules", "--noudevsync", "--table", &table],
        )?;
        // Nobody else does that where there is no udev.
        sys::output("dmsetup", &["mknodes", name])?;
        Ok(mapped)
    }

    /// Its node.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/dev/mapper").join(&self.name)
    }

    /// The disk below.
    pub fn disk(&self) -> &str {
        &self.disk
    }

    /// How many sectors of 512 bytes it has.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// The table of a device that passes everything on.
    pub fn linear(&self) -> String {
        format!("0 {} linear {} 0", self.sectors, self.disk)
    }

    /// The table of a device on which everything fails.
    pub fn failing(&self) -> String {
        format!("0 {} error", self.sectors)
    }

    /// The table of a device that reads, and fails writes.
    pub fn failing_writes(&self) -> String {
        // Up for no second, down for a long time.
        format!("0 {} flakey {} 0 0 3600 1 error_writes", self.sectors, self.disk)
    }

    /// The table of a device that holds each request back for so many milliseconds.
    pub fn slow(&self, milliseconds: u32) -> String {
        format!("0 {} delay {} 0 {milliseconds}", self.sectors, self.disk)
    }

    /// The table of a device that holds only flushes back.
    pub fn slow_flushes(&self, milliseconds: u32) -> String {
        let disk = &self.disk;
        format!("0 {} delay {disk} 0 0 {disk} 0 0 {disk} 0 {milliseconds}", self.sectors)
    }

    /// From now on it is as the table says.
    pub fn becomes(&self, table: &str) -> Result<()> {
        let load = ["load", &self.name, "--table", table];
        sys::output("dmsetup", &load)?;
        sys::output(
            "dmsetup",
            &["suspend", "--noflush", "--nolockfs", "--noudevsync", &self.name],
        )?;
        sys::output("dmsetup", &["resume", "--noudevrules", "--noudevsync", &self.name]).map(drop)
    }

    /// Takes it away; nobody may have it open.
    pub fn remove(self) -> Result<()> {
        let removed = self.take_away(&[]);
        std::mem::forget(self);
        removed
    }

    fn take_away(&self, more: &[&str]) -> Result<()> {
        let fixed = ["remove", "--noudevsync", "--noudevrules"];
        sys::output("dmsetup", &[&fixed, more, &[&self.name]].concat()).map(drop)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Who still waits for it gets errors, and lets go.
        if let Err(error) = self.take_away(&["--force", "--retry"]) {
            println!("{error:#}");
        }
    }
}
