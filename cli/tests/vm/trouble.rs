// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is below a device fails: who asks for what cannot be had gets an error, and nobody else.

use std::fs;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab_guest::mapper::Mapped;
use lab_guest::sys;

use crate::scene::{LOG, Scene, daemons, shell};

const BELOW: &str = "/dev/mapper/below";

/// A device on the scratch disk whose behaviour changes; taken away when no daemon has it any more.
struct Below(Mapped);

impl Below {
    fn new(disk: &str) -> Result<Self> {
        Mapped::over(disk, "below").map(Self)
    }
}

impl Deref for Below {
    type Target = Mapped;

    fn deref(&self) -> &Mapped {
        &self.0
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let gone = sys::wait_for("the end of daemons", Duration::from_secs(20), || daemons().is_empty());
        if let Err(error) = gone {
            println!("{error:#}");
        }
    }
}

fn fails(script: &str) -> Result<()> {
    let result = shell(script).map_err(|error| format!("{error:#}"));
    ensure!(
        matches!(&result, Err(text) if text.contains("Input/output error")),
        "{script}: {result:?}"
    );
    Ok(())
}

#[lab_guest::test(disks = ["disk:64"], timeout = 120)]
fn sectors_that_cannot_be_reached_are_errors_and_others_are_not() -> Result<()> {
    let below = Below::new("disk")?;
    let scene = Scene::new()?;
    let device = scene.add(&[BELOW, "--target", "loop"])?;
    let write = |mib: u32| {
        format!("dd if=/dev/zero of={device} bs=1M seek={mib} count=1 oflag=direct conv=notrunc status=none")
    };
    let read = |mib: u32| format!("dd if={device} of=/dev/null bs=1M skip={mib} count=1 iflag=direct status=none");
    shell(&write(9))?;
    // The megabytes 8 to 16 are gone.
    let (bad, after) = (16384, 32768);
    let disk = below.disk();
    let rest = below.sectors() - after;
    below.becomes(&format!(
        "0 {bad} linear {disk} 0\n{bad} {bad} error\n{after} {rest} linear {disk} {after}"
    ))?;
    for mib in [0, 7, 16, 40] {
        shell(&write(mib))?;
        shell(&read(mib))?;
    }
    fails(&write(9))?;
    fails(&read(9))?;
    below.becomes(&below.linear())?;
    shell(&read(9))?;
    shell(&write(9))?;
    scene.ok(&["del", &device])?;
    scene.nothing_left()
}

#[lab_guest::test(disks = ["disk:256"], timeout = 240)]
fn a_pool_whose_disk_fails_says_so_and_keeps_what_was_flushed() -> Result<()> {
    let below = Below::new("disk")?;
    let scene = Scene::new()?;
    scene.pool(BELOW, "", "a", "32MiB")?;
    let device = scene.add(&[BELOW, "--volume", "a"])?;
    shell(&format!(
        "yes kept | dd of={device} bs=1M count=8 iflag=fullblock conv=fsync status=none"
    ))?;
    below.becomes(&below.failing())?;
    fails(&format!(
        "yes lost | dd of={device} bs=1M count=1 seek=4 iflag=fullblock oflag=direct conv=fsync,notrunc status=none"
    ))?;
    let log = fs::read_to_string(LOG)?;
    ensure!(log.contains("/volumes/a"), "the log does not name the file: {log}");
    // The disk is back; the pool stays as it is until it is opened anew.
    below.becomes(&below.linear())?;
    scene.ok(&["del", &device, "--force"])?;
    scene.nothing_left()?;
    let device = scene.add(&[BELOW, "--volume", "a"])?;
    let kept = shell(&format!(
        "dd if={device} bs=1M count=4 iflag=direct status=none | sort -u"
    ))?;
    ensure!(kept.trim() == "kept", "what was flushed before: {kept:.40}");
    scene.ok(&["del", &device])?;
    scene.nothing_left()?;
    scene.check(BELOW)
}

#[lab_guest::test(disks = ["disk:256"], timeout = 240)]
fn writes_that_a_disk_refuses_for_a_while_are_errors_and_never_old_data() -> Result<()> {
    let below = Below::new("disk")?;
    let scene = Scene::new()?;
    let device = scene.add(&[BELOW, "--target", "loop"])?;
    let write = |word: &str| {
        let script = format!(
            "yes {word} | dd of={device} bs=64k count=1 iflag=fullblock oflag=direct conv=fsync,notrunc status=none"
        );
        shell(&script)
    };
    write("before")?;
    below.becomes(&below.failing_writes())?;
    let refused = write("during").map_err(|error| format!("{error:#}"));
    ensure!(refused.is_err_and(|text| text.contains("Input/output error")));
    let found = shell(&format!(
        "dd if={device} bs=64k count=1 iflag=direct status=none | sed '$d' | sort -u"
    ))?;
    ensure!(found.trim() == "before", "a refused write left {found:?}");
    below.becomes(&below.linear())?;
    // After a sync failed, flushes fail until the device is made anew.
    scene.ok(&["del", &device])?;
    let device = scene.add(&[BELOW, "--target", "loop"])?;
    shell(&format!(
        "yes after | dd of={device} bs=64k count=1 iflag=fullblock oflag=direct conv=fsync,notrunc status=none"
    ))?;
    scene.ok(&["del", &device])?;
    scene.nothing_left()
}
