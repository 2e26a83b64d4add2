// SPDX-License-Identifier: MIT OR Apache-2.0

//! What files cost in memory and in the pool, and how long opening takes. Prints one line per figure.
//!
//! `cargo bench -p vexfs --bench footprint -- [files to open with, default 5000000]`

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{FILE, NOW, Numbers, manual, pool_file};
use vexfs::fs::state::CacheLimits;
use vexfs::fs::{Fs, MountOptions};
use vexfs::units::Ino;

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn main() {
    let files = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(5_000_000);
    empty_files();
    opening(files);
    replay();
}

fn create(fs: &Fs, count: u64) {
    // A thousand directories, as a large tree has them.
    for directory in 0..count.div_ceil(1000) {
        let new = vexfs::fs::NewFile {
            kind: vexfs::fs::record::Kind::Directory,
            ..FILE
        };
        let name = format!("directory-{directory}");
        let parent = fs.create(Ino::ROOT, name.as_bytes(), &new).expect("create").ino;
        for number in 0..1000.min(count - directory * 1000) {
            fs.create(parent, format!("file-{number}").as_bytes(), &FILE)
                .expect("create");
        }
    }
}

/// A million empty files: their space in the pool, and memory per file when all are cached.
fn empty_files() {
    const FILES: u64 = 1_000_000;
    let path = pool_file("empty.vexfs", 4 << 30);
    let fs = Fs::open(&path, &manual()).expect("open");
    fs.checkpoint().expect("checkpoint");
    let free = fs.statistics().free_blocks;
    create(&fs, FILES);
    fs.checkpoint().expect("checkpoint");
    fs.checkpoint().expect("checkpoint");
    let used = (free - fs.statistics().free_blocks) * 4096;
    println!("1 M empty files take {:.1} MB of the pool", used as f64 / 1e6);
    fs.close().expect("close");
    let options = MountOptions {
        caches: CacheLimits {
            names: 4_000_000,
            rows: 1000,
        },
        page_cache_bytes: 1 << 20,
        ..manual()
    };
    let fs = Fs::open(&path, &options).expect("open");
    let top = fs.list_all(Ino::ROOT).expect("list");
    let before = IN_USE.load(Ordering::Relaxed);
    let mut inodes = 0;
    for directory in &top {
        for number in 0..1000 {
            fs.lookup(directory.ino, format!("file-{number}").as_bytes())
                .expect("lookup");
            inodes += 1;
        }
    }
    let used = IN_USE.load(Ordering::Relaxed) - before;
    println!("a cached inode with its name takes {} bytes of memory", used / inodes);
}

fn opening(files: u64) {
    let path = pool_file("many.vexfs", 16 << 30);
    let fs = Fs::open(&path, &MountOptions::default()).expect("open");
    let start = Instant::now();
    create(&fs, files);
    let created = start.elapsed();
    println!(
        "creating {files} files in directories of 1000: {:.0} files/s",
        files as f64 / created.as_secs_f64()
    );
    fs.close().expect("close");
    let times: Vec<Duration> = (0..5)
        .map(|_| {
            let start = Instant::now();
            let fs = Fs::open(&path, &MountOptions::default()).expect("open");
            let took = start.elapsed();
            fs.close().expect("close");
            took
        })
        .collect();
    println!("opening a clean pool with {files} files: {}", spread(times));
}

/// The journal as full as it gets before a checkpoint is made, and none made.
fn replay() {
    for (what, bytes) in [("creates", 0_usize), ("4 KiB overwrites", 4096)] {
        let path = pool_file("replay.vexfs", 16 << 30);
        let fs = Fs::open(&path, &manual()).expect("open");
        let ino = fs.create(Ino::ROOT, b"file", &FILE).expect("create").ino;
        let block = vec![1; bytes];
        let mut numbers = Numbers(5);
        let mut count = 0_u64;
        // The next few would make a checkpoint, and there would be nothing to replay.
        while fs.statistics().journal_bytes < (32 << 20) - 4096 {
            if bytes == 0 {
                fs.create(Ino::ROOT, format!("file-{count}").as_bytes(), &FILE)
                    .expect("create");
            } else {
                fs.write(ino, numbers.below(16_384) << 12, &block, NOW).expect("write");
            }
            count += 1;
        }
        let journal = fs.statistics().journal_bytes;
        fs.flush().expect("flush");
        drop(fs);
        let start = Instant::now();
        let fs = Fs::open(&path, &manual()).expect("open");
        println!(
            "opening after a crash with {count} {what} in the journal ({} MiB): {:?}",
            journal >> 20,
            start.elapsed()
        );
        drop(fs);
    }
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    format!(
        "{:?} ({:?} to {:?})",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1]
    )
}
