// SPDX-License-Identifier: MIT OR Apache-2.0

//! A server that lies to the kernel module: it answers as the real one would have, and then spoils some of the answers, with
//! a checksum that is right. What applications get is errors or nonsense; the kernel gets nothing to report.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab_guest::{kmod, sys};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use ublk_server::device::Device;
use ublk_server::options::Options;
use ublk_server::target::{Filesystem, Io, IoError, Limits, Memory, Payload, Request, Target};
use vexfs::checksum::Crc;
use vexfs::client::addresses::{self, Place};
use vexfs::client::wire;
use vexfs::fs::Fs;
use zerocopy::{FromBytes, IntoBytes};

use super::Pool;

const AT: &str = "/mnt";
/// Milliseconds, and attempts: many short mounts meet more lies than one that waits.
const OPTIONS: &str = "timeout=200,retries=1";
/// What a call may take with that on an emulated machine.
const BOUND: Duration = Duration::from_secs(20);
/// So many mounts that nobody lied to are not refused one after the other by a server that is well.
const REFUSED: u32 = 20;
/// How long a mount is worked on.
const ROUND: Duration = Duration::from_secs(2);
const WORKERS: u64 = 3;

/// Stands before the real target.
struct Hostile {
    inner: Filesystem,
    random: Mutex<fastrand::Rng>,
    /// One in so many answers is spoiled; 0: none.
    rate: AtomicU64,
    spoiled: AtomicU64,
}

impl Hostile {
    fn with_random<R>(&self, of: impl FnOnce(&mut fastrand::Rng) -> R) -> R {
        of(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn spoils(&self) -> bool {
        let rate = self.rate.load(Relaxed);
        let chosen = rate > 0 && self.with_random(|random| random.u64(..rate)) == 0;
        self.spoiled.fetch_add(u64::from(chosen), Relaxed);
        chosen
    }

    fn spoil(&self, offset: u64, bytes: &mut [u8]) {
        let place = addresses::place(offset, bytes.len() as u64);
        self.with_random(|random| match place {
            Place::Super => spoil_super(random, bytes),
            Place::Call(_) => spoil_reply(random, bytes),
            _ => scatter(random, bytes),
        });
    }
}

impl Target for Hostile {
    fn name(&self) -> &'static str {
        "hostile"
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn files(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        self.inner.files()
    }

    async fn handle(&self, io: &Io<'_>, request: Request<'_>) -> Result<(), IoError> {
        let spoils = self.spoils();
        if spoils && self.with_random(|random| random.u8(..8)) == 0 {
            let errors = [
                Errno::EIO,
                Errno::ENOSPC,
                Errno::EAGAIN,
                Errno::ENODEV,
                Errno::ETIMEDOUT,
            ];
            let error = self.with_random(|random| random.choice(errors));
            return Err(IoError::Backing(error.unwrap_or(Errno::EIO)));
        }
        match request {
            Request::Read {
                offset,
                into: Payload::Memory(mut memory),
            } => {
                let into = Payload::Memory(Memory::lend(&mut memory));
                self.inner.handle(io, Request::Read { offset, into }).await?;
                if spoils {
                    self.spoil(offset, memory.bytes());
                }
                Ok(())
            }
            other => self.inner.handle(io, other).await,
        }
    }
}

/// A number that somebody might have forgotten to look at.
fn number(random: &mut fastrand::Rng, was: u64) -> u64 {
    let edges = [0, 1, 4095, 4096, 1 << 31, 1 << 32, 1 << 61, 1 << 62, 1 << 63, u64::MAX];
    match random.u8(..4) {
        0 => was.wrapping_add(random.u64(..3)).wrapping_sub(1),
        1 => was ^ 1 << random.u8(..64),
        2 => random.choice(edges).unwrap_or(0).wrapping_add(random.u64(..3)),
        _ => random.u64(..),
    }
}

fn scatter(random: &mut fastrand::Rng, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..random.usize(1..9) {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
}

/// Puts a number where fields of 8 bytes are.
fn renumber(random: &mut fastrand::Rng, bytes: &mut [u8]) {
    let Some(count) = (bytes.len() / 8).checked_sub(1) else {
        return scatter(random, bytes);
    };
    for _ in 0..random.usize(1..4) {
        // Most of what is long is zeros.
        let reach = 1 << random.u8(1..16);
        let at = random.usize(..=count.min(reach)) * 8;
        if let Some(Ok((field, _))) = bytes.get_mut(at..).map(wire_u64) {
            *field = number(random, u64::from_le_bytes(*field)).to_le_bytes();
        }
    }
}

fn wire_u64(bytes: &mut [u8]) -> Result<(&mut [u8; 8], &mut [u8]), ()> {
    bytes.split_first_chunk_mut().ok_or(())
}

/// A reply in which something is another than it was.
fn spoil_reply(random: &mut fastrand::Rng, bytes: &mut [u8]) {
    let Ok((mut reply, payload)) = wire::Reply::read_from_prefix(bytes) else {
        return;
    };
    let held = payload.len();
    let length = reply.length.get() as usize;
    let start = size_of::<wire::Reply>();
    match random.u8(..12) {
        0 => return scatter(random, bytes),
        1 => reply.status = random.i32(-200..10).into(),
        2 => reply.status = random.i32(..).into(),
        3 => reply.flags = random.u16(..8).into(),
        4 => reply.seq = number(random, reply.seq.get()).into(),
        5 => reply.epoch = random.u64(..).into(),
        6 => {
            reply.ino_from = number(random, reply.ino_from.get()).into();
            reply.ino_count = random.u32(..).into();
        }
        7 => {
            reply.credits = number(random, reply.credits.get()).into();
            reply.meta_credits = number(random, reply.meta_credits.get()).into();
        }
        8 => reply.length = u32::try_from(random.usize(..=held)).unwrap_or(0).into(),
        9 => reply.length = random.u32(..).into(),
        10 => scatter(random, &mut bytes[start..start + length.min(held)]),
        _ => renumber(random, &mut bytes[start..start + length.min(held)]),
    }
    reply.crc = 0.into();
    let length = (reply.length.get() as usize).min(held);
    reply.crc = Crc::of_all([reply.as_bytes(), &bytes[start..start + length]]).0.into();
    bytes[..start].copy_from_slice(reply.as_bytes());
}

/// A super block in which a field is another.
fn spoil_super(random: &mut fastrand::Rng, bytes: &mut [u8]) {
    if random.u8(..4) == 0 {
        return random.fill(bytes);
    }
    renumber(random, &mut bytes[..256]);
    if let Ok((mut block, _)) = wire::Super::read_from_prefix(bytes) {
        block.crc = 0.into();
        block.crc = Crc::of(block.as_bytes()).0.into();
        bytes[..size_of::<wire::Super>()].copy_from_slice(block.as_bytes());
    }
}

/// Does whatever comes to mind. Every result is right; how long each took is told.
fn work(seed: u64, over: &AtomicBool) -> Duration {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut longest = Duration::ZERO;
    while !over.load(Relaxed) {
        let path = |random: &mut fastrand::Rng| -> PathBuf {
            let directory = random.u8(..4);
            let name = format!("f{}", random.u8(..12));
            Path::new(AT).join(format!("d{directory}")).join(name)
        };
        let (one, other) = (path(&mut random), path(&mut random));
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&one)
        };
        let begin = Instant::now();
        // Nothing can be expected of a result: the server lies.
        let _whatever = match random.u8(..15) {
            0 => fs::create_dir_all(one.parent().unwrap_or(&one)),
            1 | 2 => fs::write(&one, vec![1; random.usize(..300_000)]),
            3 | 4 => fs::read(&one).map(drop),
            5 => fs::rename(&one, &other),
            6 => fs::remove_file(&one),
            7 => fs::hard_link(&one, &other),
            8 => {
                fs::read_dir(one.parent().unwrap_or(&one)).map(|entries| entries.filter_map(Result::ok).for_each(drop))
            }
            9 => fs::metadata(&one).map(drop),
            10 => std::os::unix::fs::symlink(&other, &one),
            11 => open().and_then(|file| file.set_len(random.u64(..1 << 20))),
            12 => open().and_then(|file| file.sync_all()),
            13 => open().and_then(|file| {
                let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(file, flags, 4096, random.i64(1..100_000)).map_err(Into::into)
            }),
            _ => fs::write("/proc/sys/vm/drop_caches", "3"),
        };
        longest = longest.max(begin.elapsed());
    }
    longest
}

fn attached(device: &str) -> Result<(), Errno> {
    mount(Some(device), AT, Some("vexfs"), MsFlags::empty(), Some(OPTIONS))
}

/// Mounts, works, unmounts, over and over.
fn endure(hostile: &Hostile, fs: &Fs, device: &str, how_long: Duration) -> Result<String> {
    let (start, mut rounds, mut refused, mut in_a_row) = (Instant::now(), 0_u64, 0, 0);
    let mut longest = Duration::ZERO;
    while start.elapsed() < how_long {
        rounds += 1;
        // Some mounts are lied to at once, others when they are at work.
        let rate = [3, 20, 100][usize::try_from(rounds % 3)?];
        let honest = !rounds.is_multiple_of(2);
        hostile.rate.store(if honest { 0 } else { rate }, Relaxed);
        let begin = Instant::now();
        let mounted = attached(device);
        longest = longest.max(begin.elapsed());
        hostile.rate.store(rate, Relaxed);
        if let Err(errno) = mounted {
            refused += 1;
            in_a_row += u32::from(honest);
            ensure!(
                in_a_row < REFUSED,
                "round {rounds}: the server answers nobody any more: {errno}; failed: {}, {:?}",
                fs.has_failed(),
                fs.statistics()
            );
            continue;
        }
        in_a_row = 0;
        let over = &AtomicBool::new(false);
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| scope.spawn(move || work(rounds * WORKERS + worker, over)))
                .collect();
            thread::sleep(ROUND);
            over.store(true, Relaxed);
            for worker in workers {
                let took = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
                longest = longest.max(took);
            }
            anyhow::Ok(())
        })?;
        let begin = Instant::now();
        umount2(AT, MntFlags::empty()).context("unmounting")?;
        longest = longest.max(begin.elapsed());
        ensure!(longest < BOUND, "round {rounds}: a call took {longest:?}");
    }
    Ok(format!(
        "hostile peer: {rounds} mounts, {refused} refused, {} lies, longest call {longest:?}",
        hostile.spoiled.load(Relaxed)
    ))
}

fn lies(how_long: Duration, seed: u64) -> Result<()> {
    // Why the server gave up, if it did.
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .init();
    kmod::modprobe("ublk_drv")?;
    let pool = Pool::new()?;
    let fs: Fs = pool.open()?;
    let hostile = Arc::new(Hostile {
        inner: Filesystem::open(&fs, Path::new(&pool.0), Arc::new(|| ()))?,
        random: Mutex::new(fastrand::Rng::with_seed(seed)),
        rate: AtomicU64::new(0),
        spoiled: AtomicU64::new(0),
    });
    let device = Device::start(&hostile, &Options::default(), |_| Ok(()))?;
    let figures = endure(&hostile, &fs, &device.path(), how_long)?;
    println!("{figures}");
    fs::write("/dev/kmsg", &figures)?;

    // The kernel is none the worse for it.
    hostile.rate.store(0, Relaxed);
    sys::wait_for("late answers to end", BOUND, || attached(&device.path()).is_ok())?;
    fs::write(Path::new(AT).join("after"), "all is well")?;
    File::open(AT)?.sync_all()?;
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    ensure!(fs::read(Path::new(AT).join("after"))? == b"all is well");
    umount2(AT, MntFlags::empty())?;
    sys::wait_for("the module to be unused", BOUND, || {
        sys::read("/sys/module/vexfs/refcnt").is_ok_and(|count| count == "0")
    })?;
    device.stop()?;
    hostile.inner.end_session()?;
    drop(hostile);
    fs.close()?;
    pool.check()
}

#[lab_guest::test(modules = ["vexfs"], kernels = "7.x,debug", disks = ["pool:256"], timeout = 300)]
fn a_server_that_lies_costs_applications_errors_and_the_kernel_nothing() -> Result<()> {
    lies(Duration::from_secs(60), 1)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["pool:256"], timeout = 4200, stress = true)]
fn a_server_that_lies_for_an_hour_costs_the_kernel_nothing() -> Result<()> {
    lies(Duration::from_secs(3600), 2)
}
