// SPDX-License-Identifier: MIT OR Apache-2.0

//! The module and servers that do not answer: stopped, killed, or no server of ours at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::suites::aligned::aligned;
use lab_guest::{kmod, measure, sys};
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use crate::served::{Mount, Server, at, drop_caches};

/// Milliseconds; the module waits for this and three times half of it.
const TIMEOUT: &str = "timeout=1000";
/// What that comes to, and what an emulated machine needs besides.
const BOUND: Duration = Duration::from_secs(10);

fn errno(error: &std::io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[lab_guest::test(modules = ["vexfs"])]
fn a_device_that_is_not_ours_or_does_not_answer_is_refused_in_time() -> Result<()> {
    let server = Server::start(&["--target", "mem", "--size", "64MiB"])?;
    let Err(refused) = server.mount("") else {
        anyhow::bail!("a RAM disk was mounted");
    };
    ensure!(refused.downcast_ref() == Some(&Errno::EINVAL), "{refused:#}");

    server.signal("-STOP")?;
    let start = Instant::now();
    let refused = server.mount(TIMEOUT);
    let took = start.elapsed();
    // Its read of the super window is still under way.
    let in_use = kmod::unload("vexfs");
    server.signal("-CONT")?;
    let Err(refused) = refused else {
        anyhow::bail!("a stopped server was mounted");
    };
    ensure!(refused.downcast_ref() == Some(&Errno::ETIMEDOUT), "{refused:#}");
    ensure!(took < BOUND, "it took {took:?}");
    ensure!(in_use.is_err(), "the module was unloaded under a read");
    sys::wait_for("the late read to end", BOUND, || {
        sys::read("/sys/module/vexfs/refcnt").is_ok_and(|count| count == "0")
    })?;
    server.stop()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_stopped_server_leaves_what_is_cached_and_fails_what_is_not_in_time() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount(TIMEOUT)?;
    fs::write(at("known"), "cached bytes")?;
    fs::write(at("unknown"), "bytes to be read again")?;
    sys::output("sync", &[])?;
    drop_caches()?;
    ensure!(fs::read_to_string(at("known"))? == "cached bytes");

    server.signal("-STOP")?;
    let start = Instant::now();
    let created = fs::File::create(at("new"));
    let took = start.elapsed();
    let health = mount.attribute("health")?;
    let known = fs::read_to_string(at("known"));
    let found = fs::metadata(at("known"));
    let room = statvfs(&at("known"));
    let start = Instant::now();
    let unknown = fs::metadata(at("unknown"));
    let at_once = start.elapsed();
    let written = fs::OpenOptions::new()
        .append(true)
        .open(at("known"))
        .and_then(|mut file| file.write_all(b"more"));
    server.signal("-CONT")?;

    let created = created.err().context("a file was made without a server")?;
    ensure!(errno(&created) == Some(Errno::EIO), "{created}");
    ensure!(took < BOUND, "the errno took {took:?}");
    ensure!(health == "DEGRADED", "{health}");
    ensure!(known.context("reading what is cached")? == "cached bytes");
    ensure!(found.context("stat of what is cached")?.len() == 12);
    ensure!(room.context("statfs without a server")?.blocks_free() > 0);
    ensure!(unknown.is_err() && at_once < Duration::from_secs(1), "{at_once:?}");
    ensure!(written.is_err(), "a write was taken that nobody can keep");

    let start = Instant::now();
    sys::wait_for("the mount to heal", BOUND, || {
        mount.attribute("health").is_ok_and(|health| health == "HEALTHY")
    })?;
    measure::recovered("the mount", start)?;
    ensure!(fs::read_to_string(at("unknown"))? == "bytes to be read again");
    fs::write(at("new"), "after")?;
    ensure!(mount.counter("degraded")? == 1 && mount.counter("healed")? == 1);
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_server_that_never_comes_back_does_not_keep_an_unmount() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount(TIMEOUT)?;
    fs::write(at("file"), "bytes")?;
    sys::output("sync", &[])?;
    server.signal("-STOP")?;
    ensure!(
        fs::create_dir(at("directory")).is_err(),
        "a directory was made without a server"
    );
    let start = Instant::now();
    mount.unmount()?;
    let took = start.elapsed();
    server.signal("-CONT")?;
    ensure!(took < BOUND, "the unmount took {took:?}");
    sys::wait_for("late replies to end", BOUND, || {
        sys::read("/sys/module/vexfs/refcnt").is_ok_and(|count| count == "0")
    })?;
    server.stop_and_check()
}

/// Bytes that take a while to be written back.
fn many(first: u8) -> Vec<u8> {
    (0..24_u32 << 20)
        .map(|at| first.wrapping_add((at / 997 % 251) as u8))
        .collect()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 240)]
fn bytes_on_their_way_to_a_stopped_server_keep_neither_sync_nor_unmount() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount(TIMEOUT)?;
    fs::write(at("file"), many(1))?;
    server.signal("-STOP")?;
    let start = Instant::now();
    sys::output("sync", &[])?;
    let synced = start.elapsed();
    let (health, detached) = (mount.attribute("health")?, mount.counter("detached")?);
    let start = Instant::now();
    mount.unmount()?;
    let unmounted = start.elapsed();
    // The bytes are still under way, and would replace what another mount writes.
    let early = server
        .mount(TIMEOUT)
        .map(drop)
        .map_err(|error| error.downcast_ref().copied());
    server.signal("-CONT")?;
    ensure!(
        synced < BOUND && unmounted < BOUND,
        "sync took {synced:?}, umount {unmounted:?}"
    );
    ensure!(health == "DEGRADED" && detached > 0, "{health}, {detached} writes");
    ensure!(early == Err(Some(Errno::ETIMEDOUT)), "{early:?}");
    sys::wait_for("late writes to end", BOUND, || {
        sys::read("/sys/module/vexfs/refcnt").is_ok_and(|count| count == "0")
    })?;
    // What was not written back is gone; nothing else is there in its place.
    let mount = server.mount(TIMEOUT)?;
    let (found, expected) = (fs::read(at("file"))?, many(1));
    ensure!(
        expected.starts_with(&found),
        "{} bytes, and not those that were written",
        found.len()
    );
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 240)]
fn bytes_on_their_way_to_a_stopped_server_arrive_when_it_goes_on() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount(TIMEOUT)?;
    fs::write(at("file"), many(1))?;
    let file = fs::OpenOptions::new().write(true).open(at("file"))?;
    file.sync_all()?;
    // Over what is there, and beyond.
    let bytes = [many(2), many(3)].concat();
    file.write_all_at(&bytes, 0)?;
    server.signal("-STOP")?;
    let start = Instant::now();
    let synced = file.sync_all();
    let took = start.elapsed();
    let detached = mount.counter("detached")?;
    let cached = fs::read(at("file"));
    server.signal("-CONT")?;
    let failed = synced.err().context("bytes were called durable that are not")?;
    ensure!(errno(&failed) == Some(Errno::EIO), "{failed}");
    ensure!(
        took < BOUND && detached > 0,
        "the errno took {took:?}, {detached} writes"
    );
    ensure!(
        cached.is_ok_and(|cached| cached == bytes),
        "what is cached reads otherwise"
    );

    sys::wait_for("the mount to heal", BOUND, || {
        mount.attribute("health").is_ok_and(|health| health == "HEALTHY")
    })?;
    file.sync_all()?;
    drop(file);
    ensure!(mount.counter("writing")? == 0);
    drop_caches()?;
    ensure!(fs::read(at("file"))? == bytes, "the file changed");
    mount.unmount()?;
    let mount = server.mount("")?;
    ensure!(fs::read(at("file"))? == bytes, "the file changed with its mount");
    mount.unmount()?;
    server.stop_and_check()
}

/// Reads a block past the cache.
fn read_directly(path: &std::path::Path) -> std::io::Result<()> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECT)
        .open(path)?;
    let mut memory = vec![0; 8192];
    let aligned = memory.as_ptr().align_offset(4096);
    file.read_exact_at(&mut memory[aligned..aligned + 4096], 9 << 20)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 240)]
fn reads_on_their_way_to_a_stopped_server_keep_neither_their_callers_nor_the_unmount() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount(TIMEOUT)?;
    let bytes = many(5);
    fs::write(at("read"), &bytes)?;
    fs::write(at("changed"), &bytes)?;
    sys::output("sync", &[])?;
    drop_caches()?;
    // Names and attributes are known.
    let reading = fs::File::open(at("read"))?;
    let writing = fs::OpenOptions::new().write(true).open(at("changed"))?;

    server.signal("-STOP")?;
    let timed = |work: &dyn Fn() -> std::io::Result<()>| {
        let start = Instant::now();
        let failed = work().err().map(|error| errno(&error));
        (failed, start.elapsed())
    };
    let (direct, read, changed) = std::thread::scope(|scope| {
        let direct = scope.spawn(|| timed(&|| read_directly(&at("read"))));
        let read = scope.spawn(|| timed(&|| reading.read_exact_at(&mut [0; 4096], 5 << 20)));
        // Part of a block, of which the rest must be read.
        let changed = scope.spawn(|| timed(&|| writing.write_all_at(b"part", 100)));
        (direct.join(), read.join(), changed.join())
    });
    drop((reading, writing));
    let start = Instant::now();
    mount.unmount()?;
    let unmounted = start.elapsed();
    server.signal("-CONT")?;
    for (what, result) in [("direct", direct), ("read", read), ("changed", changed)] {
        let Ok((failed, took)) = result else {
            anyhow::bail!("{what}: a thread panicked");
        };
        ensure!(failed == Some(Some(Errno::EIO)), "{what}: {failed:?}");
        ensure!(took < BOUND, "{what} took {took:?}");
    }
    ensure!(unmounted < BOUND, "the unmount took {unmounted:?}");
    sys::wait_for("late reads to end", BOUND, || {
        sys::read("/sys/module/vexfs/refcnt").is_ok_and(|count| count == "0")
    })?;
    let mount = server.mount("")?;
    ensure!(fs::read(at("read"))? == bytes && fs::read(at("changed"))? == bytes);
    mount.unmount()?;
    server.stop_and_check()
}

/// Waits until the server answers the mount again.
fn healed(mount: &Mount) -> Result<()> {
    sys::wait_for("the mount to heal", BOUND, || {
        mount.attribute("health").is_ok_and(|health| health == "HEALTHY")
    })
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn part_of_a_block_that_only_the_cache_knows_is_changed_without_a_server() -> Result<()> {
    let server = Server::of_new_pool()?;
    let mount = server.mount(TIMEOUT)?;
    let file = fs::File::create_new(at("file"))?;
    file.sync_all()?;
    // Nobody was told yet how long it is, nor that nothing is in the middle.
    file.write_all_at(b"end", 1 << 20)?;
    server.signal("-STOP")?;
    let start = Instant::now();
    let changed = file.write_all_at(b"middle", 300_000);
    let took = start.elapsed();
    server.signal("-CONT")?;
    ensure!(took < BOUND, "the write took {took:?}: {changed:?}");
    healed(&mount)?;
    let mut expected = vec![0; (1 << 20) + 3];
    expected[1 << 20..].copy_from_slice(b"end");
    if changed.is_ok() {
        expected[300_000..300_006].copy_from_slice(b"middle");
    }
    ensure!(fs::read(at("file"))? == expected, "the cache has something else");
    file.sync_all()?;
    drop_caches()?;
    ensure!(fs::read(at("file"))? == expected, "the server has something else");
    drop(file);
    mount.unmount()?;
    server.stop_and_check()
}

#[lab_guest::test(modules = ["vexfs"], timeout = 180)]
fn a_direct_write_that_failed_is_not_seen_when_the_file_grows_past_it() -> Result<()> {
    const BLOCK: usize = 4096;
    let server = Server::of_new_pool()?;
    let mount = server.mount(TIMEOUT)?;
    fs::write(at("file"), [1; 2 * BLOCK])?;
    let file = fs::OpenOptions::new().write(true).open(at("file"))?;
    file.sync_all()?;
    let direct = fs::OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_DIRECT)
        .open(at("file"))?;
    server.signal("-STOP")?;
    let failed = aligned(&[2; 4 * BLOCK], |bytes| direct.write_all_at(bytes, 2 * BLOCK as u64));
    server.signal("-CONT")?;
    let failed = failed.err().context("a stopped server has written")?;
    ensure!(errno(&failed) == Some(Errno::EIO), "{failed}");
    ensure!(mount.counter("detached")? > 0, "the write was not under way");
    healed(&mount)?;
    ensure!(fs::metadata(at("file"))?.len() == 2 * BLOCK as u64);
    file.write_all_at(b"end", 10 * BLOCK as u64)?;
    let mut expected = vec![1; 2 * BLOCK];
    expected.resize(10 * BLOCK, 0);
    expected.extend(b"end");
    ensure!(fs::read(at("file"))? == expected, "the cache has something else");
    file.sync_all()?;
    drop_caches()?;
    ensure!(fs::read(at("file"))? == expected, "the server has something else");
    drop((file, direct));
    mount.unmount()?;
    server.stop_and_check()
}
