// SPDX-License-Identifier: MIT OR Apache-2.0

//! The loop target: a file or a disk as a device.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use lab_guest::sys;

use crate::server::{FIO_JOBS, Server, fill, fio, refusal};

/// A file system on the scratch disk, and on it a file; unmounted on drop.
struct Backing {
    file: PathBuf,
}

impl Backing {
    fn new(file_system: &str, size: u64) -> Result<Self> {
        let disk = disk()?;
        sys::output(&format!("mkfs.{file_system}"), &["-q", &disk])?;
        sys::output("mount", &[&disk, "/mnt"])?;
        let backing = Self {
            file: PathBuf::from("/mnt/file"),
        };
        File::create(&backing.file)?.set_len(size)?;
        Ok(backing)
    }

    fn path(&self) -> Result<&str> {
        self.file.to_str().context("a path is text")
    }

    fn serve(&self, more: &[&str]) -> Result<Server> {
        let mut arguments = vec!["--target", "loop", self.path()?];
        arguments.extend(more);
        Server::start(&arguments)
    }

    /// KiB of the disk that the file takes.
    fn taken(&self) -> Result<u64> {
        sys::output("sync", &["-f", self.path()?])?;
        Ok(fs::metadata(&self.file)?.blocks() / 2)
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        if let Err(error) = sys::output("umount", &["/mnt"]) {
            println!("{error:#}");
        }
    }
}

fn disk() -> Result<String> {
    let path = sys::disk("backing")?;
    Ok(path.to_str().context("a device's name is text")?.to_owned())
}

fn queue(server: &Server, attribute: &str) -> Result<String> {
    let name = server.device.trim_start_matches("/dev/");
    sys::read(format!("/sys/block/{name}/queue/{attribute}"))
}

#[lab_guest::test(disks = ["backing:128"], timeout = 240)]
fn every_block_of_a_file_is_kept_however_it_is_reached() -> Result<()> {
    let backing = Backing::new("ext4", 32 << 20)?;
    for more in [
        &[][..],
        &["--buffered"],
        &["--block-size", "4096"],
        &["--queues", "1", "--depth", "1"],
    ] {
        let server = backing.serve(more)?;
        fio(&server.device, &[&format!("{FIO_JOBS}/verify.fio")])?;
        server.stop()?;
    }
    Ok(())
}

#[lab_guest::test(disks = ["backing:32"], timeout = 120)]
fn every_block_of_a_disk_is_kept_and_the_disk_belongs_to_one_device() -> Result<()> {
    let disk = disk()?;
    let arguments = ["--target", "loop", &disk];
    let server = Server::start(&arguments)?;
    fio(&server.device, &[&format!("{FIO_JOBS}/verify.fio")])?;
    let text = refusal(&arguments)?;
    ensure!(text.contains("in use"), "a second server of the disk says {text:?}");
    server.stop()?;

    sys::output("mkfs.ext4", &["-q", &disk])?;
    sys::output("mount", &[&disk, "/mnt"])?;
    let text = refusal(&arguments);
    sys::output("umount", &["/mnt"])?;
    ensure!(text?.contains("in use"), "a mounted disk was served");
    Ok(())
}

#[lab_guest::test(disks = ["backing:128"], timeout = 120)]
fn a_discard_gives_space_back_and_zeros_keep_it() -> Result<()> {
    let backing = Backing::new("ext4", 16 << 20)?;
    let server = backing.serve(&[])?;
    fill(&server.device, 'x', 0, 16)?;
    let full = backing.taken()?;
    ensure!(full >= 16 << 10, "{full} KiB hold 16 MiB");
    // The kernel asks for these zeros without leave to unmap.
    sys::output(
        "fallocate",
        &["--zero-range", "--offset", "2MiB", "--length", "2MiB", &server.device],
    )?;
    ensure!(
        backing.taken()? >= full,
        "zeros gave space up: {} of {full} KiB are left",
        backing.taken()?
    );
    sys::output("blkdiscard", &["--offset", "4MiB", "--length", "8MiB", &server.device])?;
    let kept = backing.taken()?;
    ensure!(kept <= full - (8 << 10) + 64, "a discard left {kept} of {full} KiB");

    let bytes = fs::read(&server.device)?;
    let is = |byte: u8, mib: std::ops::Range<usize>| bytes[mib.start << 20..mib.end << 20].iter().all(|&b| b == byte);
    ensure!(
        is(b'x', 0..2) && is(0, 2..12) && is(b'x', 12..16),
        "zeros are in the wrong place"
    );
    server.stop()
}

#[lab_guest::test(disks = ["backing:128"])]
fn only_what_the_file_can_do_is_offered() -> Result<()> {
    let backing = Backing::new("ext4", 16 << 20)?;
    let server = backing.serve(&[])?;
    ensure!(queue(&server, "discard_max_bytes")? != "0", "ext4 can punch holes");
    ensure!(queue(&server, "write_zeroes_max_bytes")? != "0", "ext4 can zero ranges");
    ensure!(queue(&server, "write_cache")? == "write back" && queue(&server, "fua")? == "1");
    server.stop()?;
    drop(backing);

    // A tmpfs punches holes and does not zero ranges.
    fs::create_dir_all("/run/loop-test")?;
    sys::output("mount", &["-t", "tmpfs", "tmpfs", "/run/loop-test"])?;
    File::create("/run/loop-test/file")?.set_len(16 << 20)?;
    let server = Server::start(&["--target", "loop", "/run/loop-test/file"])?;
    ensure!(queue(&server, "discard_max_bytes")? != "0", "a tmpfs can punch holes");
    ensure!(
        queue(&server, "write_zeroes_max_bytes")? == "0",
        "a tmpfs cannot zero ranges"
    );
    fio(&server.device, &[&format!("{FIO_JOBS}/verify.fio")])?;
    server.stop()?;
    sys::output("umount", &["/run/loop-test"]).map(drop)
}

#[lab_guest::test(disks = ["backing:32"], timeout = 120)]
fn trouble_of_the_file_reaches_the_application_as_it_is() -> Result<()> {
    // Larger than the disk below it.
    let backing = Backing::new("ext4", 64 << 20)?;
    let server = backing.serve(&[])?;
    let full = fill(&server.device, 'x', 0, 64).map_err(|error| format!("{error:#}"));
    ensure!(
        matches!(&full, Err(text) if text.contains("No space left")),
        "writing more than there is: {full:?}"
    );
    // Cut short behind the server's back: what is missing is an error, not zeros or a hang.
    File::options().write(true).open(&backing.file)?.set_len(1 << 20)?;
    let read = |skip: &str| {
        let input = format!("if={}", server.device);
        sys::output(
            "dd",
            &[&input, "of=/dev/null", "bs=1M", "count=1", "iflag=direct", skip],
        )
    };
    read("skip=0")?;
    let missing = read("skip=2").map_err(|error| format!("{error:#}"));
    ensure!(
        matches!(&missing, Err(text) if text.contains("Input/output error")),
        "reading what is gone: {missing:?}"
    );
    server.stop()
}
