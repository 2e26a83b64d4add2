// SPDX-License-Identifier: MIT OR Apache-2.0

//! The disk below a pool is slow, fails, or is full.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::suites::target::On;
use lab_guest::mapper::Mapped;
use lab_guest::measure::{Promise, check, recovered};
use lab_guest::sys;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use crate::work::{Book, Crowd, bytes};
use crate::world::{AT, BOUND, DISK, World};

/// What the slow disk takes for each request.
const DELAY_MS: u32 = 40;
/// What is left below a pool that believes to have more.
const LEFT: u64 = 24 << 20;

fn book() -> Result<Book> {
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    book.fill(5, 200_000)?;
    Ok(book)
}

/// Writes files and makes them durable until that fails. How many, and what the error was.
fn until_it_fails(most: usize) -> Result<(usize, Option<Errno>)> {
    for number in 0..most {
        let path = Path::new(AT).join(format!("more-{number}"));
        let written = File::create(path).and_then(|mut file| {
            file.write_all(&bytes(number as u64, 1 << 20))?;
            file.sync_all()
        });
        if let Err(error) = written {
            let errno = error.raw_os_error().map(Errno::from_raw);
            return Ok((number, Some(errno.context("an error without a number")?)));
        }
    }
    Ok((most, None))
}

fn below_is_slow(on: On) -> Result<()> {
    let below = Mapped::over("disk", "below")?;
    let mut world = World::on_device(on, &below.path())?;
    let book = book()?;
    below.becomes(&below.slow(DELAY_MS))?;
    let crowd = Crowd::new(2, 30_000);
    let done = crowd.work(Path::new(AT), || {
        thread::sleep(Duration::from_secs(8));
        Ok(())
    })?;
    check(
        Promise::GracefulError,
        // A round syncs, so it must have felt the delay: else nothing was slow.
        done.longest < BOUND && done.longest > Duration::from_millis(DELAY_MS.into()),
        format!(
            "{} rounds without an error, the longest {:.1?}",
            done.rounds, done.longest
        ),
    )?;
    world.health()?;
    let begin = Instant::now();
    below.becomes(&below.linear())?;
    fs::write(Path::new(AT).join("after"), "after")?;
    File::open(Path::new(AT).join("after"))?.sync_all()?;
    recovered("writes", begin)?;
    world.target()?.remount()?;
    book.verify("after the disk was slow")?;
    world.finish()?;
    below.remove()
}

fn below_fails(on: On) -> Result<()> {
    let below = Mapped::over("disk", "below")?;
    let mut world = World::on_device(on, &below.path())?;
    let book = book()?;
    below.becomes(&below.failing())?;
    let start = Instant::now();
    let (written, error) = until_it_fails(20)?;
    let took = start.elapsed();
    check(
        Promise::GracefulError,
        error.is_some() && took < BOUND,
        format!("{written} files are said to be durable on a disk that fails, then {error:?} after {took:.1?}"),
    )?;
    ensure!(written == 0, "{written} files are durable on a disk that takes nothing");
    check(
        Promise::RightErrno,
        matches!(error, Some(Errno::EIO | Errno::EROFS)),
        format!("{error:?}"),
    )?;
    below.becomes(&below.linear())?;
    let begin = Instant::now();
    world.target()?.kill_server()?;
    world.target()?.remount()?;
    recovered("the mount, by another server", begin)?;
    book.verify("after the disk failed")?;
    let (_, error) = until_it_fails(3)?;
    check(
        Promise::Integrity,
        error.is_none(),
        format!("writes after that: {error:?}"),
    )?;
    world.finish()?;
    below.remove()
}

/// The pool is a sparse file on a file system that others have filled.
fn below_is_full(on: On) -> Result<()> {
    let mut world = World::with_file(on, 1 << 30)?;
    let book = book()?;
    let room = statvfs(DISK)?;
    let free = room.blocks_free() * room.fragment_size();
    let filler = Path::new(DISK).join("filler");
    let size = free.checked_sub(LEFT).context("the disk is small")?;
    sys::output(
        "fallocate",
        &[
            "--length",
            &size.to_string(),
            filler.to_str().context("a name is text")?,
        ],
    )?;
    let start = Instant::now();
    let (written, error) = until_it_fails(200)?;
    let took = start.elapsed();
    check(
        Promise::GracefulError,
        error.is_some() && took < BOUND * 3,
        format!("{written} MiB fit, then {error:?} after {took:.1?}"),
    )?;
    check(
        Promise::RightErrno,
        matches!(error, Some(Errno::ENOSPC | Errno::EIO | Errno::EROFS)),
        format!("{error:?}"),
    )?;
    let bad = (0..written)
        .filter(|&number| {
            let path = Path::new(AT).join(format!("more-{number}"));
            fs::read(path).ok() != Some(bytes(number as u64, 1 << 20))
        })
        .count();
    check(
        Promise::Integrity,
        bad == 0,
        format!("{bad} of {written} files that were made durable read otherwise"),
    )?;
    fs::remove_file(&filler)?;
    let begin = Instant::now();
    world.target()?.kill_server()?;
    world.target()?.remount()?;
    recovered("the mount, by another server", begin)?;
    book.verify("after the disk was full")?;
    let (_, error) = until_it_fails(3)?;
    check(
        Promise::Integrity,
        error.is_none(),
        format!("writes after that: {error:?}"),
    )?;
    world.finish()
}

#[lab_guest::test(disks = ["disk:768"], timeout = 240, stress = true)]
fn a_fuse_mount_on_a_slow_disk_is_slow_and_nothing_else() -> Result<()> {
    below_is_slow(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 240, stress = true)]
fn a_kernel_mount_on_a_slow_disk_is_slow_and_nothing_else() -> Result<()> {
    below_is_slow(On::Module)
}

#[lab_guest::test(disks = ["disk:768"], timeout = 240, stress = true)]
fn a_fuse_mount_on_a_disk_that_fails_says_so_and_keeps_what_was_durable() -> Result<()> {
    below_fails(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 240, stress = true)]
fn a_kernel_mount_on_a_disk_that_fails_says_so_and_keeps_what_was_durable() -> Result<()> {
    below_fails(On::Module)
}

#[lab_guest::test(disks = ["disk:768"], timeout = 300, stress = true)]
fn a_fuse_mount_of_a_sparse_pool_on_a_full_disk_says_so_and_goes_on_when_there_is_space() -> Result<()> {
    below_is_full(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 300, stress = true)]
fn a_kernel_mount_of_a_sparse_pool_on_a_full_disk_says_so_and_goes_on_when_there_is_space() -> Result<()> {
    below_is_full(On::Module)
}
