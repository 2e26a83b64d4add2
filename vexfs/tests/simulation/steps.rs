// SPDX-License-Identifier: MIT OR Apache-2.0

//! Work on files with very many rows, which the engine does in steps. A crash may leave any of the steps done: so every page
//! of the range is as it was or zero, everything else is untouched, and nothing is lost or in use twice.

use std::sync::Arc;

use vexfs::data::CHUNK_BLOCKS;
use vexfs::error::Error;
use vexfs::fs::record::{Kind, Timestamp};
use vexfs::fs::{Fs, NewFile, Preallocation};
use vexfs::units::Ino;

use crate::content::{PAGE, pattern};
use crate::disk::{Points, Recorder};
use crate::runner::{Plan, open};

const ROWS: u64 = 700;
const ROW: u64 = CHUNK_BLOCKS * PAGE;
const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

/// A file with a page in each row, on disk; then a call, and what each crash within it leaves.
fn after_crashes(call: impl Fn(&Fs, Ino) -> Result<(), Error>, check: impl Fn(&Fs, Ino)) {
    let plan = Plan {
        seed: 1,
        journal_bytes: 1 << 20,
        actions: Vec::new(),
    };
    let session = plan.start(Points::All).unwrap();
    let (fs, disk) = (session.fs, session.disk);
    let new = NewFile {
        kind: Kind::File,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        device: 0,
        target: b"",
        now: NOW,
    };
    let ino = fs.create(Ino::ROOT, b"file", &new).unwrap().ino;
    for row in 0..ROWS {
        fs.write(ino, row * ROW, &pattern(2, row * ROW, PAGE as usize), NOW)
            .unwrap();
    }
    fs.flush().unwrap();
    disk.call_begins(1);
    call(&fs, ino).unwrap();
    disk.call_begins(2);
    let mut crashes = 0;
    for (seed, moment) in disk.moments().iter().filter(|moment| moment.call == 1).enumerate() {
        for left in [moment.power_fails(seed as u64), moment.process_ends()] {
            let fs = open(&Recorder::new(left, Points::None, 0)).unwrap();
            check(&fs, ino);
            crashes += 1;
        }
    }
    assert!(crashes >= 6, "the call takes more than one step");
    let left = disk.now(2).process_ends();
    let fs = open(&Arc::clone(&Recorder::new(left, Points::None, 0))).unwrap();
    check(&fs, ino);
}

/// The rows that still have their page; every other is zero, and blocks are counted right.
fn rows_left(fs: &Fs, ino: Ino) -> Vec<u64> {
    let blocks = fs.attributes(ino).unwrap().inode.blocks;
    let mut buffer = vec![0; PAGE as usize];
    let size = fs.attributes(ino).unwrap().inode.size;
    let mut left = Vec::new();
    for row in 0..size.div_ceil(ROW) {
        fs.read(ino, row * ROW, &mut buffer).unwrap();
        if buffer == pattern(2, row * ROW, PAGE as usize) {
            left.push(row);
        } else {
            assert!(
                buffer.iter().all(|&byte| byte == 0),
                "row {row} is neither old nor zero"
            );
        }
    }
    assert_eq!(
        (blocks, fs.statistics().file_blocks),
        (left.len() as u64, left.len() as u64)
    );
    left
}

#[test]
fn a_crash_while_a_large_file_is_cut_leaves_old_bytes_or_zeros() {
    let size = 100 * ROW;
    after_crashes(
        |fs, ino| fs.truncate(ino, size, NOW),
        |fs, ino| {
            let left = rows_left(fs, ino);
            assert!((0..100).all(|row| left.contains(&row)), "what stays is untouched");
            let cut = fs.attributes(ino).unwrap().inode.size == size;
            assert!(!cut || left.len() == 100, "the size changes last");
        },
    );
}

#[test]
fn a_crash_while_a_large_hole_is_made_leaves_old_bytes_or_zeros() {
    after_crashes(
        |fs, ino| fs.preallocate(ino, Preallocation::Punch, 50 * ROW, 600 * ROW, NOW),
        |fs, ino| {
            let left = rows_left(fs, ino);
            let outside = |row: &u64| *row < 50 || *row >= 650;
            assert_eq!(
                left.iter().filter(|row| outside(row)).count(),
                100,
                "what is outside is untouched"
            );
            assert_eq!(fs.attributes(ino).unwrap().inode.size, (ROWS - 1) * ROW + PAGE);
        },
    );
}

#[test]
fn a_crash_while_a_large_file_is_removed_leaves_all_of_it_or_nothing() {
    after_crashes(
        |fs, _| fs.unlink(Ino::ROOT, b"file", NOW),
        |fs, ino| {
            if fs.lookup(Ino::ROOT, b"file").is_ok() {
                assert_eq!(rows_left(fs, ino).len() as u64, ROWS);
            } else {
                let told = fs.statistics();
                // The root, and the store of the space.
                assert_eq!((told.inodes, told.file_blocks), (2, 0), "nothing of it stays");
            }
        },
    );
}
