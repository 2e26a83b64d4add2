// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cost of the operations that everything else is made of. One thread.

#![allow(missing_docs, reason = "the macro makes a public function")]

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use support::{FILE, NOW, Numbers, contents, manual, pool_file, pool_without_data};
use vexfs::fs::vectors::space::{Element, Metric, Shape};
use vexfs::fs::vectors::{NewSpace, Put};
use vexfs::fs::{Fs, MountOptions};
use vexfs::units::Ino;

/// Creating files in one directory, each journalled into the page cache of the file system below.
fn create(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("create");
    group
        .throughput(Throughput::Elements(1))
        .sample_size(10)
        .measurement_time(Duration::from_secs(8));
    group.bench_function("journalled to the page cache", |bench| {
        bench.iter_custom(|count| {
            let path = pool_file("create.vexfs", 4 << 30);
            let fs = Fs::open(&path, &MountOptions::default()).expect("open");
            let names: Vec<String> = (0..count).map(|number| format!("file-{number}")).collect();
            let start = Instant::now();
            for name in &names {
                fs.create(Ino::ROOT, name.as_bytes(), &FILE).expect("create");
            }
            start.elapsed()
        });
    });
    group.finish();
}

/// Names in a directory of a million: where they were just created, and from the tables.
fn lookup(criterion: &mut Criterion) {
    const ENTRIES: u64 = 1_000_000;
    let path = pool_file("lookup.vexfs", 4 << 30);
    let fs = Fs::open(&path, &manual()).expect("open");
    for number in 0..ENTRIES {
        fs.create(Ino::ROOT, format!("file-{number}").as_bytes(), &FILE)
            .expect("create");
    }
    let mut numbers = Numbers(1);
    let names: Vec<String> = (0..100_000)
        .map(|_| format!("file-{}", numbers.below(ENTRIES)))
        .collect();
    let mut group = criterion.benchmark_group("lookup of one in a million");
    group.throughput(Throughput::Elements(1));
    let mut run = |fs: &Fs, name: &str| {
        let mut next = names.iter().cycle();
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(fs.lookup(Ino::ROOT, next.next().expect("endless").as_bytes())).expect("lookup"));
        });
    };
    run(&fs, "just created");
    fs.close().expect("close");
    let fs = Fs::open(&path, &manual()).expect("open");
    for name in &names {
        fs.lookup(Ino::ROOT, name.as_bytes()).expect("lookup");
    }
    run(&fs, "known from the tables");
    group.finish();
}

/// What a client in the kernel asks about a file: in a pool without spaces of vectors, and in one with, where most files have
/// no vectors.
fn see(criterion: &mut Criterion) {
    const FILES: u64 = 100_000;
    let path = pool_file("see.vexfs", 4 << 30);
    let fs = Fs::open(&path, &manual()).expect("open");
    let files: Vec<Ino> = (0..FILES)
        .map(|number| {
            let name = format!("file-{number}");
            fs.create(Ino::ROOT, name.as_bytes(), &FILE).expect("create").ino
        })
        .collect();
    fs.close().expect("close");
    let mut group = criterion.benchmark_group("attributes of one in 100,000");
    group.throughput(Throughput::Elements(1));
    for with_space in [false, true] {
        let fs = Fs::open(&path, &manual()).expect("open");
        if with_space {
            let shape = Shape::new(4, Element::F32, Metric::L2).expect("a shape");
            let new = NewSpace {
                name: b"s",
                shape,
                effort: 0,
                fields: &[],
                now: NOW,
            };
            let space = fs.create_space(&new).expect("space");
            for &ino in files.iter().step_by(10) {
                let put = Put {
                    ino,
                    space,
                    ordinal: 0,
                    whole: true,
                    of: None,
                    bytes: &[0; 16],
                    now: NOW,
                };
                fs.put_vectors(&put).expect("put");
            }
            fs.checkpoint().expect("checkpoint");
        }
        for &ino in &files {
            fs.see(ino).expect("there");
        }
        let mut next = files.iter().cycle();
        let name = if with_space { "with a space" } else { "without spaces" };
        group.bench_function(name, |bench| {
            bench.iter(|| black_box(fs.see(*next.next().expect("endless"))).expect("there"));
        });
        fs.close().expect("close");
    }
    group.finish();
}

/// Overwriting random blocks of a large file, with the journal in memory and no data written: what the engine adds.
fn overwrite(criterion: &mut Criterion) {
    const BLOCKS: u64 = 65_536;
    let fs = pool_without_data(2 << 30);
    let ino = fs.create(Ino::ROOT, b"file", &FILE).expect("create").ino;
    let piece = contents(1 << 20);
    for at in 0..BLOCKS / 256 {
        fs.write(ino, at << 20, &piece, NOW).expect("write");
    }
    let block = contents(4096);
    let mut numbers = Numbers(3);
    let mut group = criterion.benchmark_group("overwrite 4 KiB");
    group.throughput(Throughput::Elements(1));
    let mut count = 0_u64;
    group.bench_function("plan, checksum, commit", |bench| {
        bench.iter(|| {
            fs.write(ino, numbers.below(BLOCKS) << 12, &block, NOW).expect("write");
            count += 1;
            if count.is_multiple_of(50_000) {
                fs.flush().expect("flush");
                fs.flush().expect("flush");
            }
        });
    });
    group.finish();
}

/// A megabyte written in one go: what checksums and map cost, against copying it once.
fn sequential(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1 MiB");
    group.throughput(Throughput::Bytes(1 << 20));
    let piece = contents(1 << 20);
    let mut copy = vec![0_u8; 1 << 20];
    group.bench_function("memcpy", |bench| {
        bench.iter(|| black_box(&mut copy).copy_from_slice(black_box(&piece)));
    });
    group.bench_function("checksums alone", |bench| {
        bench.iter(|| {
            for block in black_box(&piece).chunks_exact(4096) {
                black_box(vexfs::checksum::Crc::of(block));
            }
        });
    });
    let fs = pool_without_data(2 << 30);
    let ino = fs.create(Ino::ROOT, b"file", &FILE).expect("create").ino;
    let mut at = 0;
    group.bench_function("plan, checksums, commit", |bench| {
        bench.iter_batched(
            || {
                at = (at + 1) % 512;
                if at == 0 {
                    fs.flush().expect("flush");
                    fs.flush().expect("flush");
                }
                at << 20
            },
            |at| fs.write(ino, at, &piece, NOW).expect("write"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, create, lookup, see, overwrite, sequential);
criterion_main!(benches);
