// SPDX-License-Identifier: MIT OR Apache-2.0

//! The fs target: a pool as the device that the kernel module mounts, without the module.

mod device;
mod hostile;
#[path = "../../../../vexfs/tests/client/peer.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "shared with the engine's tests, which use all of it"
)]
mod peer;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::sys;
use nix::libc;
use vexfs::check::assert_sound;
use vexfs::client::LATE;
use vexfs::client::wire::{self, Opcode};
use vexfs::disk::{Access, FileDisk};
use vexfs::fs::op::Op;
use vexfs::fs::record::Timestamp;
use vexfs::fs::{Fs, MountOptions};
use vexfs::pool::format::{FormatOptions, format_path};
use vexfs::units::Ino;

use crate::server::{SERVER, Server};
use device::Device;
use peer::Ask;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
const FILE: u16 = 0o100_644;
const BLOCK: usize = 4096;

struct Pool(String);

impl Pool {
    fn new() -> Result<Self> {
        let path = sys::disk("pool")?;
        let force = FormatOptions {
            force: true,
            ..FormatOptions::default()
        };
        format_path(&path, &force)?;
        Ok(Self(path.to_str().context("a path is text")?.to_owned()))
    }

    fn arguments(&self) -> [&str; 3] {
        ["--target", "fs", &self.0]
    }

    fn open(&self) -> Result<Fs> {
        Ok(Fs::open(Path::new(&self.0), &MountOptions::default())?)
    }

    fn check(&self) -> Result<()> {
        let disk = FileDisk::open(Path::new(&self.0), Access::ReadOnly)?;
        Ok(assert_sound(Arc::new(disk))?)
    }
}

fn create(parent: Ino, ino: u64, name: &[u8]) -> Op<'_> {
    Op::Create {
        parent,
        ino: Ino(ino),
        mode: FILE,
        uid: 0,
        gid: 0,
        device: 0,
        flags: 0,
        time: NOW,
        name,
        target: b"",
    }
}

fn extend(ino: u64, size: u64) -> Op<'static> {
    Op::Extend {
        ino: Ino(ino),
        size,
        modified: NOW,
        changed: NOW,
    }
}

fn pattern(number: u64, length: usize) -> Vec<u8> {
    let words = (0..length as u64 / 8).map(|index| (index ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
    words.flat_map(u64::to_le_bytes).collect()
}

#[lab_guest::test(disks = ["pool:256"], timeout = 240)]
fn a_client_makes_files_writes_them_and_finds_them_again() -> Result<()> {
    let pool = Pool::new()?;
    let server = Server::start(&pool.arguments())?;
    let name = server.device.trim_start_matches("/dev/").to_owned();
    ensure!(sys::read(format!("/sys/block/{name}/size"))? == (1_u64 << 53).to_string());
    let mut device = Device::open(&server.device)?;
    device.hello(1)?;
    let mut numbers = device.numbers(64)?;
    let (called, posted) = (numbers.next().context("a number")?, numbers.next().context("a number")?);
    device.apply(1, &[create(Ino::ROOT, called, b"called")])?;
    device.post(0, &[create(Ino::ROOT, posted, b"posted")])?;
    for (ino, blocks) in [(called, 3), (posted, 300)] {
        let content = pattern(ino, blocks * BLOCK);
        let base = device.attr(Ino(ino))?.data_base.get();
        // In pieces as large as the driver takes, and larger.
        for (index, piece) in content.chunks(100 * BLOCK).enumerate() {
            device.write(base + (index * 100 * BLOCK) as u64, piece)?;
        }
        ensure!(
            device.attr(Ino(ino))?.size.get() == 0,
            "the size is the client's to change"
        );
        ensure!(device.read(base, content.len())? == content);
        device.apply(2, &[extend(ino, content.len() as u64 - 100)])?;
    }
    device.flush()?;
    let missing = device.call(1, &Ask::named(Opcode::Lookup, 1, b"nobody"))?;
    ensure!(missing.status() == -libc::ENOENT);
    let reply = device.call(1, &Ask::readdir(1, 0, true))?;
    let (entries, _) = peer::entries(&reply, true);
    ensure!(entries.len() == 2, "{entries:?}");
    ensure!(device.agains == 0, "{} calls were not answered at once", device.agains);
    drop(device);
    server.stop()?;
    pool.check()?;
    let fs = pool.open()?;
    for (ino, name, blocks) in [(called, "called", 3), (posted, "posted", 300)] {
        let found = fs.resolve(name.as_bytes())?;
        let content = pattern(ino, blocks * BLOCK);
        let mut bytes = vec![0; content.len()];
        let length = fs.read(found.ino, 0, &mut bytes)?;
        ensure!(
            length == content.len() - 100 && bytes[..length] == content[..length],
            "{name}"
        );
    }
    Ok(fs.close()?)
}

#[lab_guest::test(disks = ["pool:256"], timeout = 240)]
fn whoever_is_no_client_sees_zeros_and_changes_nothing() -> Result<()> {
    let pool = Pool::new()?;
    let server = Server::start(&pool.arguments())?;
    let scan = |device: &Device| -> Result<()> {
        let shape = device.shape();
        let zeros = |at: u64, length: usize| -> Result<()> {
            let bytes = device.read(at, length)?;
            ensure!(bytes.iter().all(|&byte| byte == 0), "bytes at {at:#x}");
            Ok(())
        };
        zeros(BLOCK as u64, 1 << 20)?;
        // Across slots, beside them, in the log, at both ends of the data.
        zeros(shape.calls.base.get() - BLOCK as u64, 1 << 20)?;
        zeros(shape.calls.base.get() + BLOCK as u64, BLOCK)?;
        zeros(shape.log.base.get(), 1 << 20)?;
        zeros(shape.data_end.get() - (1 << 20), 1 << 20)
    };
    let mut device = Device::open(&server.device)?;
    scan(&device).context("without a session")?;
    let first = device.shape().data_start.get();
    ensure!(device.read(first, BLOCK)?.iter().all(|&byte| byte == 0));
    let start = Instant::now();
    // Finds no filesystem, and says so with its exit code.
    let blkid = Command::new("blkid").args(["-p", &server.device]).output()?;
    ensure!(blkid.stdout.is_empty(), "{}", String::from_utf8_lossy(&blkid.stdout));
    ensure!(
        start.elapsed() < Duration::from_secs(20),
        "looking takes {:?}",
        start.elapsed()
    );
    let shape = device.shape();
    for at in [
        0,
        BLOCK as u64,
        shape.data_start.get() + (2 << 32),
        shape.data_end.get() - (1 << 20),
    ] {
        ensure!(
            device.write(at, &[1; BLOCK]).is_err(),
            "a write at {at:#x} without a session"
        );
    }
    device.hello(1)?;
    scan(&device).context("with a session")?;
    ensure!(
        device.read(first, BLOCK).is_err(),
        "bytes of a number that is no file's"
    );
    let ino = device.numbers(1)?.start;
    let base = shape.data_start.get() + (ino << 32);
    ensure!(
        device.write(base, &[1; BLOCK]).is_err(),
        "bytes of a file that is not there yet"
    );
    // Nonsense in slots and log.
    for number in 0..50 {
        let noise = pattern(number, 8192);
        let slot = shape.calls.base.get() + (number % 32) * u64::from(shape.calls.stride.get());
        device.write(slot, &noise).context("noise in a slot")?;
        let piece = shape.log.base.get() + (number % 8) * u64::from(shape.log.stride.get());
        ensure!(device.write(piece, &noise).is_err(), "a batch that is none");
    }
    let again = device.exchange(5, &pattern(1, 8192))?;
    ensure!(again.has(wire::REPLY_AGAIN));
    device.apply(3, &[create(Ino::ROOT, ino, b"still there")])?;
    drop(device);
    server.stop()?;
    pool.check()
}

/// Kills and replaces the server until told to stop; returns how often.
fn keep_killing(mut server: Server, arguments: &[&str], stop: &AtomicBool) -> Result<(Server, u32)> {
    let program = "/run/vexfs-ublkd-fs";
    fs::copy(SERVER, program)?;
    let mut times = 0;
    while !stop.load(Ordering::Relaxed) {
        // Every third lives long enough to say AGAIN to a READ whose request one before it has carried out.
        let life = match times % 3 {
            2 => Duration::from_secs(1) + LATE,
            _ => Duration::from_millis(300 + 97 * u64::from(times % 5)),
        };
        std::thread::sleep(life);
        server.kill()?;
        let mut command = Command::new(program);
        let device = server.device.clone();
        server = Server::spawn(command.arg("serve").args(arguments))?;
        ensure!(server.device == device, "{device} was taken over as {}", server.device);
        times += 1;
    }
    Ok((server, times))
}

#[lab_guest::test(disks = ["pool:512"], timeout = 480)]
fn a_client_does_not_notice_that_its_server_is_killed() -> Result<()> {
    const KILLS: u32 = 5;
    let pool = Pool::new()?;
    let server = Server::start(&pool.arguments())?;
    let mut device = Device::open(&server.device)?;
    device.hello(1)?;
    let stop = AtomicBool::new(false);
    let arguments = pool.arguments();
    let (server, made, kills) = std::thread::scope(|scope| -> Result<_> {
        let killer = scope.spawn(|| keep_killing(server, &arguments, &stop));
        let outcome = work(&mut device, KILLS);
        stop.store(true, Ordering::Relaxed);
        let (server, kills) = killer.join().map_err(|_| anyhow::anyhow!("the killer died"))??;
        Ok((server, outcome?, kills))
    })?;
    println!("{kills} servers, {made} files, {} calls repeated", device.agains);
    ensure!(kills >= KILLS, "only {kills} servers were killed");
    drop(device);
    server.stop()?;
    pool.check()?;
    let fs = pool.open()?;
    let all = fs.list_all(Ino::ROOT)?;
    ensure!(all.len() as u64 == made, "{} files instead of {made}", all.len());
    for entry in all {
        let mut bytes = vec![0; 3 * BLOCK];
        let length = fs.read(entry.ino, 0, &mut bytes)?;
        ensure!(
            length == 3 * BLOCK && bytes == pattern(entry.ino.0, 3 * BLOCK),
            "{:?}",
            entry.name
        );
    }
    Ok(fs.close()?)
}

/// Creates, writes, renames: by calls and by posting. Each change fails if it is made twice. Ends after so many servers.
fn work(device: &mut Device, servers: u32) -> Result<u64> {
    let (mut made, mut position, mut seen) = (0, 0, 0);
    let mut epoch = device.epoch;
    let mut numbers = 0..0;
    while seen <= servers {
        if numbers.is_empty() {
            numbers = device.numbers(100)?;
        }
        let ino = numbers.next().context("numbers are granted")?;
        let (draft, name) = (format!("draft {ino}"), format!("file {ino}"));
        let rename = Op::Rename {
            from: Ino::ROOT,
            to: Ino::ROOT,
            flags: 1,
            whiteout: Ino(0),
            time: NOW,
            name: draft.as_bytes(),
            new_name: name.as_bytes(),
        };
        let creation = create(Ino::ROOT, ino, draft.as_bytes());
        let base = device.shape().data_start.get() + (ino << 32);
        let content = pattern(ino, 3 * BLOCK);
        let slot = u16::try_from(made % 32)?;
        if made % 2 == 0 {
            device.apply(slot, &[creation])?;
            device.write(base, &content)?;
            device.apply(slot, &[extend(ino, content.len() as u64), rename])?;
        } else {
            device.post(position, &[creation])?;
            device.write(base, &content)?;
            device.post(position + 1, &[extend(ino, content.len() as u64), rename])?;
            position += 3;
            // What was applied comes again, and is skipped.
            device.post(position - 1, &[create(Ino::ROOT, ino, b"never")])?;
        }
        made += 1;
        let now = device.attr(Ino(ino))?;
        ensure!(now.size.get() == content.len() as u64);
        if device.epoch != epoch {
            (epoch, seen) = (device.epoch, seen + 1);
        }
    }
    Ok(made)
}
