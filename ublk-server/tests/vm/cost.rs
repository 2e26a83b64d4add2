// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a request costs a server that is warm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::{Context, Result, ensure};
use lab_guest::{kmod, sys};
use nix::libc;
use ublk_server::device::Device;
use ublk_server::features;
use ublk_server::metrics::Operation;
use ublk_server::options::Options;
use ublk_server::target::{Loop, Mem, Null, Target, Volume, WriteCache};
use ublk_server::transfer::{Transfer, Wishes};
use ublk_server::units::{BlockSize, Bytes};

use crate::volume::Pool;

/// Allocations of this process so far.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SIZE: u64 = 8 << 20;
/// Applications at the same time.
const APPLICATIONS: usize = 4;
/// Reads and as many writes of each.
const ROUNDS: u64 = 300;

/// A block in memory that direct I/O takes.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Serves the target from this process; returns allocations per request once it is warm. Applications and server are one
/// process, and the applications allocate nothing.
fn allocations_per_request(target: impl Target, transfer: Transfer) -> Result<f64> {
    let wishes = Wishes {
        transfer: Some(transfer),
        ..Wishes::default()
    };
    let options = Options {
        queues: 1,
        depth: 32,
        wishes,
        ..Options::default()
    };
    let device = Device::start(&Arc::new(target), &options, |_| Ok(()))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(device.path())?;
    let barrier = Barrier::new(APPLICATIONS + 1);
    let work = |first: u64| -> Result<()> {
        let mut page = Box::new(Page([7; 4096]));
        // Once to warm up, once measured.
        for _ in 0..2 {
            barrier.wait();
            for round in 0..ROUNDS {
                let at = (first * ROUNDS + round) * 4096 % SIZE;
                file.write_all_at(&page.0, at)?;
                file.read_exact_at(&mut page.0, at)?;
            }
            barrier.wait();
        }
        Ok(())
    };
    let count = thread::scope(|scope| {
        let applications: Vec<_> = (0..)
            .take(APPLICATIONS)
            .map(|first| scope.spawn(move || work(first)))
            .collect();
        barrier.wait();
        barrier.wait();
        let before = ALLOCATIONS.load(Relaxed);
        barrier.wait();
        barrier.wait();
        let after = ALLOCATIONS.load(Relaxed);
        for application in applications {
            application.join().ok().context("an application panicked")??;
        }
        anyhow::Ok(after - before)
    })?;
    let snapshot = device.metrics().snapshot();
    let queue = snapshot.queues.first().context("a queue")?;
    let requests = ROUNDS * APPLICATIONS as u64 * 2;
    for operation in [Operation::Read, Operation::Write] {
        let (answered, times) = (queue.answered[operation as usize], &queue.times[operation as usize]);
        ensure!(
            answered >= requests,
            "{answered} of {requests} are counted: {}",
            operation.name()
        );
        ensure!(times.count() == answered, "{} of {answered} have a time", times.count());
    }
    ensure!(
        queue.bytes[1] >= requests * 4096 && queue.errors == [0; 5],
        "{:?}, {:?} errors",
        queue.bytes,
        queue.errors
    );
    drop(file);
    device.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "small")]
    Ok(count as f64 / (requests as f64))
}

fn plain() -> (Bytes, BlockSize, WriteCache) {
    (Bytes::new(SIZE), BlockSize::B4096, WriteCache::WriteThrough)
}

#[lab_guest::test(disks = ["backing:64"], timeout = 120)]
fn a_warm_queue_allocates_nothing() -> Result<()> {
    kmod::modprobe("ublk_drv")?;
    let (size, block, cache) = plain();
    let disk = sys::disk("backing")?;
    let none = |count: f64, what: &str| {
        println!("{what}: {count} allocations per request");
        ensure!(count == 0.0, "{what}: {count} allocations per request");
        Ok(())
    };
    none(
        allocations_per_request(Null::new(size, block, cache), Transfer::Copy)?,
        "null",
    )?;
    none(
        allocations_per_request(Mem::new(size, block, cache)?, Transfer::Copy)?,
        "mem",
    )?;
    none(
        allocations_per_request(Mem::new(size, block, cache)?, Transfer::UserCopy)?,
        "mem, user copy",
    )?;
    let looped = || Loop::open(&disk, Some(block), false);
    none(allocations_per_request(looped()?, Transfer::Copy)?, "loop")?;
    if features::names()?.contains(&"AUTO_BUF_REG") {
        none(
            allocations_per_request(looped()?, Transfer::ZeroCopy)?,
            "loop, zero copy",
        )?;
    }
    Ok(())
}

/// Of a write: the record, its place in the journal and in the tables, the plan.
const VOLUME_BOUND: f64 = 40.0;

#[lab_guest::test(disks = ["pool:128"], timeout = 120)]
fn a_request_of_a_volume_allocates_little() -> Result<()> {
    kmod::modprobe("ublk_drv")?;
    let pool = Pool::new("pool", SIZE >> 20, None)?;
    let fs = pool.open()?;
    let volume = Volume::open(&fs, Path::new(&pool.path), "/volume".as_ref())?;
    let count = allocations_per_request(volume, Transfer::Copy);
    fs.close()?;
    let count = count?;
    println!("volume: {count} allocations per request");
    std::fs::write("/dev/kmsg", format!("volume: {count} allocations per request"))?;
    ensure!(count < VOLUME_BOUND, "{count} allocations per request");
    pool.check()
}
