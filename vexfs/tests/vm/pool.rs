// SPDX-License-Identifier: MIT OR Apache-2.0

//! Pools on real block devices: made, refused, used, and cut off from their power.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::host::workspace;
use lab::kernel;
use lab::vm::{Ended, Machine, Spec, VolatileDisk};
use lab_guest::protocol::Command;
use lab_guest::sys;
use vexfs::check::assert_sound;
use vexfs::disk::{Access, FileDisk};
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile};
use vexfs::pool::format::{FormatError, FormatOptions, format_path};
use vexfs::units::Ino;

/// Name of the scratch disk.
const DISK: &str = "pool";
const NOW: Timestamp = Timestamp(1);
/// Tells a fixture how many flushes were seen to succeed.
const FLUSHED: &str = "FLUSHED";

#[lab_guest::test(disks = ["pool:256"], kernels = "stock")]
fn a_block_device_is_formatted_only_when_nobody_uses_it_and_holds_what_was_written() -> Result<()> {
    let device = sys::disk(DISK)?;
    let device = device.as_path();
    let name = device.to_str().context("a device's name is text")?;
    sys::output("mkfs.ext4", &["-q", name])?;
    let plain = FormatOptions::default();
    let refused = format_path(device, &plain);
    ensure!(matches!(refused, Err(FormatError::Occupied(_))), "ext4: {refused:?}");
    let force = FormatOptions { force: true, ..plain };
    sys::output("mount", &[name, "/mnt"])?;
    let refused = format_path(device, &force);
    sys::output("umount", &["/mnt"])?;
    ensure!(refused.is_err(), "a mounted device was formatted");

    let superblock = format_path(device, &force)?;
    ensure!(superblock.total_blocks == (256 << 20) / 4096, "{superblock:?}");
    let fs = open(device)?;
    let second = Fs::open(device, &MountOptions::default()).map(|_| ());
    let text = second.map_err(|error| error.to_string());
    ensure!(matches!(&text, Err(text) if text.contains("in use")), "{text:?}");
    let refused = format_path(device, &force);
    ensure!(refused.is_err(), "a pool in use was formatted");

    let file = fs.create(Ino::ROOT, b"file", &new_file())?;
    let content: Vec<u8> = (0..16_u32 << 20).map(|byte| (byte % 251) as u8).collect();
    fs.write(file.ino, 0, &content, NOW)?;
    // Freed and discarded space must not take anything with it.
    let victim = fs.create(Ino::ROOT, b"victim", &new_file())?;
    fs.write(victim.ino, 0, &content, NOW)?;
    fs.unlink(Ino::ROOT, b"victim", NOW)?;
    fs.checkpoint()?;
    fs.checkpoint()?;
    fs.close()?;

    sys::write("/proc/sys/vm/drop_caches", "3")?;
    sound(device)?;
    let fs = open(device)?;
    let mut found = vec![0; content.len()];
    fs.read(file.ino, 0, &mut found)?;
    ensure!(found == content, "the file changed");
    ensure!(fs.lookup(Ino::ROOT, b"victim").is_err(), "a removed file is back");
    Ok(())
}

#[lab_guest::test(kernels = "stock", timeout = 120)]
fn what_was_flushed_survives_power_cuts(kernel: &str) -> Result<()> {
    let kernel = kernel::ensure(kernel.parse()?, false)?;
    let directory = workspace::machine_directory("pool-power");
    std::fs::create_dir_all(&directory)?;
    let mut spec = Spec::new(&kernel, &directory);
    let disk = VolatileDisk::create(&directory, DISK, 256)?;
    spec.disks.push(disk.disk());
    let mut random = fastrand::Rng::with_seed(1);
    let mut flushed = 0;
    // Not at equal distances: a cut meets a checkpoint, a flush, or neither.
    for rounds in [37, 5, 81, 1] {
        let mut machine = Machine::boot(&spec)?;
        let job = machine.start(&fixture("pool::checks_and_goes_on_writing", flushed)?)?;
        let until = flushed + rounds;
        let mut output = Vec::new();
        while flushed < until {
            match machine.wait(job, Duration::from_millis(20), |_, bytes| {
                output.extend_from_slice(bytes);
            }) {
                Ended::TimedOut => {}
                ended => bail!(
                    "{ended:?} after {flushed} flushes: {}",
                    String::from_utf8_lossy(&output)
                ),
            }
            // A line that is not complete yet does not count.
            let lines = output.split(|&byte| byte == b'\n').rev().skip(1);
            let numbers =
                lines.filter_map(|line| std::str::from_utf8(line).ok()?.strip_prefix("flushed ")?.parse().ok());
            flushed = numbers.max().unwrap_or(flushed).max(flushed);
        }
        spec = machine.power_cut()?;
        println!("{flushed} flushes, {:?}", disk.lose_power(&mut random)?);
    }
    let mut machine = Machine::boot(&spec)?;
    let job = machine.start(&fixture("pool::holds_what_was_flushed", flushed)?)?;
    let mut output = Vec::new();
    let ended = machine.wait(job, Duration::from_secs(60), |_, bytes| output.extend_from_slice(bytes));
    let output = String::from_utf8_lossy(&output);
    ensure!(
        matches!(ended, Ended::Exit(_)) && output.contains("passed"),
        "{ended:?}: {output}"
    );
    Ok(())
}

/// A function of this file, run in the guest.
fn fixture(name: &str, flushed: u64) -> Result<Command> {
    let this = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut command = Command::new([this.as_str(), "--lab-run", name]);
    command.env.push((FLUSHED.into(), flushed.to_string()));
    Ok(command)
}

/// Goes on until the power goes. Each round adds a file, changes the one before it and removes the one before that.
#[lab_guest::test(kernels = "none")]
fn checks_and_goes_on_writing() -> Result<()> {
    let device = sys::disk(DISK)?;
    let flushed = flushed()?;
    if flushed == 0 {
        format_path(&device, &FormatOptions::default())?;
    }
    let fs = open(&device)?;
    let mut round = find(&fs, flushed)?;
    loop {
        round += 1;
        let content = content_of(round);
        let name = round.to_string();
        let new = match fs.lookup(Ino::ROOT, name.as_bytes()) {
            // Written before the power went, and not flushed.
            Ok(found) => found,
            Err(_) => fs.create(Ino::ROOT, name.as_bytes(), &new_file())?,
        };
        fs.write(new.ino, 0, &content, NOW)?;
        if let Ok(before) = fs.lookup(Ino::ROOT, (round - 1).to_string().as_bytes()) {
            fs.write(before.ino, 5000, &content_of(round)[..300], NOW)?;
        }
        if let Some(old) = round.checked_sub(KEPT)
            && fs.lookup(Ino::ROOT, old.to_string().as_bytes()).is_ok()
        {
            fs.unlink(Ino::ROOT, old.to_string().as_bytes(), NOW)?;
        }
        fs.flush()?;
        println!("flushed {round}");
        std::io::stdout().flush()?;
    }
}

#[lab_guest::test(kernels = "none")]
fn holds_what_was_flushed() -> Result<()> {
    let device = sys::disk(DISK)?;
    sound(&device)?;
    let fs = open(&device)?;
    find(&fs, flushed()?)?;
    fs.close()?;
    sound(&device)
}

/// Files that exist at a time.
const KEPT: u64 = 30;

/// Checks that everything up to a flush is there; returns the last round that is there whole.
fn find(fs: &Fs, flushed: u64) -> Result<u64> {
    let oldest = (flushed + 1).saturating_sub(KEPT).max(1);
    for round in oldest..=flushed {
        let name = round.to_string();
        let found = fs.lookup(Ino::ROOT, name.as_bytes());
        // Rounds that were begun, or whose flush was not heard of, may have removed the oldest.
        if found.is_err() && fs.lookup(Ino::ROOT, (round + KEPT).to_string().as_bytes()).is_ok() {
            continue;
        }
        let found = found.with_context(|| format!("file {round} of {flushed} is gone"))?;
        let mut expected = content_of(round);
        let mut content = vec![0; expected.len()];
        let length = fs.read(found.ino, 0, &mut content)?;
        // The last file may already hold what the next round began to write into it.
        let changed = round < flushed || content.get(5000..5300) != expected.get(5000..5300);
        if changed {
            expected[5000..5300].copy_from_slice(&content_of(round + 1)[..300]);
        }
        ensure!(
            length == content.len() && content == expected,
            "file {round} of {flushed} changed"
        );
    }
    Ok(flushed)
}

fn content_of(round: u64) -> Vec<u8> {
    let length = 6000 + usize::try_from(round * 977 % 60_000).unwrap_or(0);
    (0..length as u64)
        .flat_map(|at| (at * 31 + round * 101).to_le_bytes())
        .take(length)
        .collect()
}

fn flushed() -> Result<u64> {
    Ok(std::env::var(FLUSHED)
        .context("how many flushes succeeded is not said")?
        .parse()?)
}

fn open(device: &Path) -> Result<Fs> {
    Ok(Fs::open(device, &MountOptions::default())?)
}

fn sound(device: &Path) -> Result<()> {
    Ok(assert_sound(Arc::new(FileDisk::open(device, Access::ReadOnly)?))?)
}

fn new_file() -> NewFile<'static> {
    NewFile {
        kind: Kind::File,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        device: 0,
        target: b"",
        now: NOW,
    }
}
