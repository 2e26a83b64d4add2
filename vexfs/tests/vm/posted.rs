// SPDX-License-Identifier: MIT OR Apache-2.0

//! Posted operations: the server is hardly asked, and carries everything out all the same, whatever becomes of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use lab_guest::mapper::Mapped;
use lab_guest::sys;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use vexfs::check::assert_sound;
use vexfs::disk::{Access, FileDisk};
use vexfs::pool::format::{FormatOptions, format_path};

use crate::served::{Mount, Server, at, drop_caches};

/// Another test may have left a pool on the disk.
fn anew() -> FormatOptions {
    FormatOptions {
        force: true,
        ..FormatOptions::default()
    }
}

const FILES: usize = 3000;
/// Calls for all of them: grants, and what the mount asks besides.
const FEW: u64 = 40;

fn file(number: usize) -> String {
    format!("work/{}/file-{number}", number % 7)
}

/// Makes files of all kinds in new directories, and renames, links, changes and removes some. What is there in the end.
fn work() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    fs::create_dir(at("work"))?;
    for directory in 0..7 {
        fs::create_dir(at(&format!("work/{directory}")))?;
    }
    for number in 0..FILES {
        let name = file(number);
        match number % 10 {
            8 => symlink("target", at(&name))?,
            9 => fs::hard_link(at(&file(number - 9)), at(&name))?,
            _ => File::create_new(at(&name)).map(drop)?,
        }
        names.insert(name);
    }
    for number in (0..FILES).filter(|number| number % 10 == 3) {
        let (old, new) = (file(number), format!("work/{}/renamed-{number}", number % 5));
        fs::rename(at(&old), at(&new))?;
        fs::set_permissions(at(&new), PermissionsExt::from_mode(0o640))?;
        names.remove(&old);
        names.insert(new);
    }
    for number in (0..FILES).filter(|number| number % 10 == 4) {
        fs::remove_file(at(&file(number)))?;
        names.remove(&file(number));
    }
    Ok(names)
}

/// Compares names, kinds, links and modes.
fn compare(names: &BTreeSet<String>) -> Result<()> {
    let mut found = BTreeSet::new();
    for directory in 0..7 {
        for entry in fs::read_dir(at(&format!("work/{directory}")))? {
            found.insert(format!("work/{directory}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    ensure!(found == *names, "names: {:?}", found.symmetric_difference(names));
    for name in names {
        let seen = fs::symlink_metadata(at(name))?;
        let number: usize = name.rsplit('-').next().unwrap_or_default().parse()?;
        let links = if [0, 9].contains(&(number % 10)) { 2 } else { 1 };
        ensure!(seen.nlink() == links, "{name} has {} links", seen.nlink());
        ensure!(seen.is_symlink() == (number % 10 == 8), "{name}: {seen:?}");
        if seen.is_symlink() {
            ensure!(
                fs::read_link(at(name))? == Path::new("target"),
                "{name} points elsewhere"
            );
        }
        if name.contains("renamed") {
            ensure!(seen.mode() & 0o7777 == 0o640, "{name}: {:o}", seen.mode());
        }
    }
    Ok(())
}

fn calls(mount: &Mount) -> Result<(u64, u64)> {
    Ok((mount.counter("calls")?, mount.counter("posted")?))
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn what_cannot_fail_is_posted_and_lives_through_the_death_of_the_server() -> Result<()> {
    let mut server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    let before = calls(&mount)?;
    let names = work()?;
    let after = calls(&mount)?;
    let (asked, posted) = (after.0 - before.0, after.1 - before.1);
    ensure!(posted >= FILES as u64, "{posted} operations were posted");
    ensure!(asked <= FEW, "{FILES} files took {asked} calls");
    // What was posted last is on its way.
    server.replace()?;
    compare(&names)?;
    drop_caches()?;
    compare(&names)?;
    let mount = mount.again(&server)?;
    compare(&names)?;
    for name in &names {
        fs::remove_file(at(name))?;
    }
    server.replace()?;
    for directory in 0..7 {
        fs::remove_dir(at(&format!("work/{directory}")))?;
    }
    fs::remove_dir(at("work"))?;
    ensure!(mount.counter("degraded")? == 0, "the mount was degraded");
    mount.unmount()?;
    server.stop_and_check()
}

/// What a directory has that was made or listed here is known: whether it is empty too.
#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn directories_come_and_go_and_the_server_is_hardly_asked() -> Result<()> {
    const DIRECTORIES: usize = 400;
    let mut server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::create_dir(at("work"))?;
    let before = calls(&mount)?;
    let name = |number: usize| at(&format!("work/{number}"));
    for number in 0..DIRECTORIES {
        fs::create_dir(name(number))?;
        File::create_new(name(number).join("file"))?;
        ensure!(errno(fs::remove_dir(name(number))) == Some(Errno::ENOTEMPTY));
        fs::remove_file(name(number).join("file"))?;
    }
    // A third goes over others, a third is removed.
    for number in (0..DIRECTORIES - 2).step_by(3) {
        fs::create_dir(name(number + 2).join("inside"))?;
        ensure!(errno(fs::rename(name(number + 1), name(number + 2))) == Some(Errno::ENOTEMPTY));
        fs::remove_dir(name(number + 2).join("inside"))?;
        fs::rename(name(number + 1), name(number + 2))?;
        fs::remove_dir(name(number))?;
    }
    let after = calls(&mount)?;
    let refused = (DIRECTORIES + DIRECTORIES / 3) as u64;
    let (asked, posted) = (after.0 - before.0, after.1 - before.1);
    ensure!(posted >= 5 * DIRECTORIES as u64, "{posted} operations were posted");
    // Of directories that are not empty the server is asked.
    ensure!(asked <= refused + FEW, "{DIRECTORIES} directories took {asked} calls");
    let left: BTreeSet<String> = (0..DIRECTORIES)
        .filter(|number| number % 3 == 2 || *number >= DIRECTORIES / 3 * 3)
        .map(|number| number.to_string())
        .collect();
    let compare = || -> Result<()> {
        let names = fs::read_dir(at("work"))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let found = names.collect::<Result<BTreeSet<String>>>()?;
        ensure!(found == left, "names: {:?}", found.symmetric_difference(&left));
        let links = fs::metadata(at("work"))?.nlink();
        ensure!(links == 2 + left.len() as u64, "the parent has {links} links");
        Ok(())
    };
    compare()?;
    server.replace()?;
    compare()?;
    drop_caches()?;
    compare()?;
    let mount = mount.again(&server)?;
    compare()?;
    fs::remove_dir_all(at("work"))?;
    ensure!(mount.counter("degraded")? == 0, "the mount was degraded");
    mount.unmount()?;
    server.stop_and_check()
}

fn errno(result: std::io::Result<()>) -> Option<Errno> {
    result.err()?.raw_os_error().map(Errno::from_raw)
}

/// What is posted and synced goes to the server and to its disk in one request: an `fsync` that has operations to send needs
/// no flush of its own.
#[lab_guest::test(modules = ["vexfs"], disks = ["pool:256"], kernels = "stock", timeout = 180)]
fn what_is_synced_is_sent_and_made_durable_in_one_request() -> Result<()> {
    const FILES: u64 = 100;
    let disk = sys::disk("pool")?;
    format_path(&disk, &anew())?;
    let disk = disk.to_str().context("a device's name is text")?;
    let server = Server::start(&["--target", "fs", disk])?;
    let mount = server.mount("")?;
    fs::create_dir(at("work"))?;
    File::open(at("work"))?.sync_all()?;
    let before = (flushes(&server.device)?, flushes(disk)?);
    for number in 0..FILES {
        let mut file = File::create_new(at(&format!("work/{number}")))?;
        file.write_all(&[7; 5000])?;
        file.sync_all()?;
    }
    let after = (flushes(&server.device)?, flushes(disk)?);
    // But where the disk takes long.
    let own = after.0 - before.0;
    ensure!(own <= FILES / 2, "{FILES} times fsync took {own} flushes of the device");
    ensure!(
        after.1 - before.1 >= FILES,
        "{} flushes of the disk",
        after.1 - before.1
    );
    // With nothing to send it is a flush.
    File::open(at("work/0"))?.sync_all()?;
    ensure!(flushes(&server.device)? > after.0, "an fsync reached nobody");
    ensure!(mount.counter("degraded")? == 0, "the mount was degraded");
    mount.unmount()?;
    server.stop()?;
    Ok(assert_sound(Arc::new(FileDisk::open(
        Path::new(disk),
        Access::ReadOnly,
    )?))?)
}

/// Who syncs waits for the disk, and nobody else.
#[lab_guest::test(modules = ["vexfs"], disks = ["pool:256"], kernels = "stock", timeout = 240)]
fn a_flush_that_takes_long_holds_up_nobody_who_did_not_ask_for_it() -> Result<()> {
    const FLUSH: Duration = Duration::from_secs(8);
    let disk = Mapped::over("pool", "slow")?;
    format_path(&disk.path(), &anew())?;
    let path = disk.path();
    let server = Server::start(&["--target", "fs", path.to_str().context("a device's name is text")?])?;
    // Calls that had to wait for the flush would degrade the mount: they have 4.5 s.
    let mount = server.mount("timeout=3000,retries=1")?;
    fs::create_dir(at("work"))?;
    File::open(at("work"))?.sync_all()?;
    disk.becomes(&disk.slow_flushes(u32::try_from(FLUSH.as_millis())?))?;
    thread::scope(|scope| -> Result<()> {
        let synced = scope.spawn(|| -> Result<Duration> {
            let mut file = File::create_new(at("work/synced"))?;
            file.write_all(&[7; 5000])?;
            let begin = Instant::now();
            file.sync_all()?;
            Ok(begin.elapsed())
        });
        thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        for number in 0..50 {
            let file = File::create_new(at(&format!("work/{number}")))?;
            // A call, behind what was posted.
            fallocate(&file, FallocateFlags::empty(), 0, 8192)?;
        }
        let took = begin.elapsed();
        let waited = synced.join().map_err(|_| anyhow!("the writer panicked"))??;
        ensure!(took < FLUSH / 2, "others waited {took:?}");
        ensure!(
            waited > FLUSH / 2,
            "an fsync took {waited:?} where a flush takes {FLUSH:?}"
        );
        Ok(())
    })?;
    disk.becomes(&disk.linear())?;
    ensure!(mount.counter("degraded")? == 0, "the mount was degraded");
    mount.unmount()?;
    server.stop()?;
    assert_sound(Arc::new(FileDisk::open(&path, Access::ReadOnly)?))?;
    disk.remove()
}

/// Flushes that a device was sent, as the kernel counts them.
fn flushes(device: &str) -> Result<u64> {
    let stat = fs::read_to_string(device.replace("/dev/", "/sys/block/") + "/stat")?;
    let flushes = stat
        .split_whitespace()
        .nth(15)
        .context("a kernel that counts flushes")?;
    Ok(flushes.parse()?)
}

/// The kernel's cache does not learn of the file that stays under the old name.
#[lab_guest::test(modules = ["vexfs"])]
fn a_whiteout_is_found_in_a_directory_that_was_made_in_this_mount() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("")?;
    fs::create_dir(at("work"))?;
    File::create_new(at("work/old"))?;
    let (old, new) = (at("work/old"), at("work/new"));
    renameat2(AT_FDCWD, &old, AT_FDCWD, &new, RenameFlags::RENAME_WHITEOUT)?;
    let seen = fs::symlink_metadata(&old)?;
    ensure!(
        seen.file_type().is_char_device() && seen.rdev() == 0,
        "the old name is {seen:?}"
    );
    ensure!(fs::symlink_metadata(&new)?.is_file(), "the new name is no file");
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_server_that_stands_still_gets_what_was_posted_when_it_goes_on() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount("timeout=500,retries=1")?;
    fs::create_dir(at("work"))?;
    // The server grants room for bytes with the first that are written.
    let mut before = File::create_new(at("work/before"))?;
    before.write_all(b"bytes")?;
    before.sync_all()?;
    drop(before);
    server.signal("-STOP")?;
    let mut made = Vec::new();
    // Until the log is full, or somebody finds out that nobody answers.
    for number in 0..100_000 {
        let name = format!("work/{number}");
        match File::create_new(at(&name)) {
            Ok(mut file) => {
                // To the page cache.
                if file.write_all(b"bytes").is_err() {
                    break;
                }
                made.push(name);
            }
            Err(error) => {
                ensure!(error.raw_os_error() == Some(nix::libc::EIO), "{name}: {error}");
                break;
            }
        }
        if number % 100 == 99 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    ensure!(
        !made.is_empty() && made.len() < 100_000,
        "{} files were made",
        made.len()
    );
    server.signal("-CONT")?;
    lab_guest::sys::wait_for("the mount to heal", Duration::from_secs(30), || {
        mount.attribute("health").is_ok_and(|health| health == "HEALTHY")
    })?;
    nix::unistd::sync();
    drop_caches()?;
    for name in &made {
        let bytes = fs::read(at(name))?;
        ensure!(bytes == b"bytes", "{name} has {bytes:?}");
    }
    let mount = mount.again(&server)?;
    let listed = fs::read_dir(at("work"))?.count();
    ensure!(listed > made.len(), "{listed} names of {}", made.len() + 1);
    mount.unmount()?;
    server.stop_and_check()
}
