// SPDX-License-Identifier: MIT OR Apache-2.0

//! Examples of what front ends rely on. The general proof is in `tests/simulation`.

use std::sync::Arc;

use super::record::{FileFlags, Kind, Timestamp};
use super::*;
use crate::disk::{Disk, MemDisk};
use crate::error::Errno;
use crate::pool::format::{FormatOptions, Seeds, format_disk};
use crate::pool::{Access, Host, OpenOptions, Pool};
use crate::units::{FileBlock, Ino, blocks_for};

const NOW: Timestamp = Timestamp(1_000_000_000);

fn options() -> MountOptions {
    MountOptions {
        background: false,
        ..MountOptions::default()
    }
}

fn open(disk: &Arc<dyn Disk>) -> Fs {
    let pool = Pool::open_disk(Arc::clone(disk), &OpenOptions::new(Access::ReadWrite)).unwrap();
    Fs::mount(pool, &options()).unwrap()
}

fn pool(mib: u64) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(mib << 20));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(7), &Host::this()).unwrap();
    disk
}

fn file(permissions: u16) -> NewFile<'static> {
    NewFile {
        kind: Kind::File,
        permissions,
        uid: 1,
        gid: 2,
        device: 0,
        target: b"",
        now: NOW,
    }
}

fn read_all(fs: &Fs, ino: Ino) -> Vec<u8> {
    let size = fs.attributes(ino).unwrap().size();
    let mut content = vec![0xee; usize::try_from(size).unwrap()];
    assert_eq!(fs.read(ino, 0, &mut content).unwrap(), content.len());
    content
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|index| (index / 7 % 251).to_le_bytes()[0] ^ seed)
        .collect()
}

#[test]
fn promised_space_is_told_where_nothing_is_stored_and_beyond_the_end() {
    let disk = pool(64);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"f", &file(0o644)).unwrap().ino;
    assert_eq!(fs.promised_ranges(ino).unwrap(), []);
    let mode = Preallocation::Allocate { keep_size: true };
    fs.preallocate(ino, mode, 0, 300 << 10, NOW).unwrap();
    fs.preallocate(ino, mode, 20 << 20, 4096, NOW).unwrap();
    fs.write(ino, 128 << 10, &pattern(4096, 1), NOW).unwrap();
    let expected = [0..128 << 10, 132 << 10..300 << 10, 20 << 20..(20 << 20) + 4096];
    assert_eq!(fs.promised_ranges(ino).unwrap(), expected);
}

#[test]
fn what_was_written_is_read_after_a_crash_of_the_process_and_after_a_clean_close() {
    let disk = pool(64);
    let fs = open(&disk);
    let small = fs.create(Ino::ROOT, b"small", &file(0o644)).unwrap().ino;
    let large = fs.create(Ino::ROOT, b"large", &file(0o600)).unwrap().ino;
    fs.write(small, 0, b"hello", NOW).unwrap();
    let content = pattern(3_333_333, 5);
    assert_eq!(fs.write(large, 1000, &content, NOW).unwrap(), content.len());
    let expected = [vec![0; 1000], content].concat();
    assert_eq!(read_all(&fs, large), expected);
    drop(fs);
    for _ in 0..2 {
        let fs = open(&disk);
        assert_eq!(read_all(&fs, small), b"hello");
        assert_eq!(read_all(&fs, large), expected);
        assert_eq!(fs.lookup(Ino::ROOT, b"large").unwrap().ino, large);
        fs.close().unwrap();
    }
}

#[test]
fn every_block_comes_back_when_everything_is_removed() {
    let disk = pool(64);
    let fs = open(&disk);
    fs.checkpoint().unwrap();
    let before = fs.statistics().free_blocks;
    for round in 0..3 {
        let ino = fs.create(Ino::ROOT, b"file", &file(0o644)).unwrap().ino;
        fs.write(ino, 12_345, &pattern(2_000_000, round), NOW).unwrap();
        fs.preallocate(ino, Preallocation::Allocate { keep_size: true }, 4 << 20, 1 << 20, NOW)
            .unwrap();
        fs.preallocate(ino, Preallocation::Punch, 50_000, 300_000, NOW).unwrap();
        fs.truncate(ino, 1_000_001, NOW).unwrap();
        let copy = fs.clone_tree(ino, Ino::ROOT, b"copy", NOW).unwrap().ino;
        assert_eq!(read_all(&fs, copy), read_all(&fs, ino));
        fs.write(ino, 100, &pattern(9000, 77), NOW).unwrap();
        fs.unlink(Ino::ROOT, b"file", NOW).unwrap();
        fs.unlink(Ino::ROOT, b"copy", NOW).unwrap();
    }
    fs.checkpoint().unwrap();
    fs.checkpoint().unwrap();
    let after = fs.statistics();
    assert_eq!(after.inodes, 1);
    let metadata = before.abs_diff(after.free_blocks);
    assert!(metadata < 64, "{metadata} blocks are not where they were");
}

#[test]
fn a_million_blocks_of_names_survive_checkpoints_and_reopening() {
    let disk = pool(256);
    let fs = open(&disk);
    let names: Vec<String> = (0..20_000).map(|number| format!("file-{number}")).collect();
    for name in &names {
        fs.create(Ino::ROOT, name.as_bytes(), &file(0o644)).unwrap();
    }
    for name in names.iter().step_by(3) {
        fs.unlink(Ino::ROOT, name.as_bytes(), NOW).unwrap();
    }
    let check = |fs: &Fs| {
        for (index, name) in names.iter().enumerate() {
            let found = fs.lookup(Ino::ROOT, name.as_bytes());
            assert_eq!(found.is_ok(), index % 3 != 0, "{name}");
        }
        let listed = fs.list_all(Ino::ROOT).unwrap();
        assert_eq!(listed.len(), names.len() - names.len().div_ceil(3));
    };
    check(&fs);
    drop(fs);
    let fs = open(&disk);
    check(&fs);
    fs.checkpoint().unwrap();
    fs.close().unwrap();
    check(&open(&disk));
}

#[test]
fn a_long_journal_is_replayed_once() {
    let disk = pool(256);
    let fs = open(&disk);
    for number in 0..1100 {
        fs.create(Ino::ROOT, format!("{number}").as_bytes(), &file(0o644))
            .unwrap();
    }
    drop(fs);
    let fs = open(&disk);
    assert!(fs.core().replayed > engine::LONG_REPLAY);
    fs.create(Ino::ROOT, b"last", &file(0o644)).unwrap();
    drop(fs);
    let fs = open(&disk);
    assert!(fs.core().replayed < 10);
    fs.lookup(Ino::ROOT, b"last").unwrap();
}

#[test]
fn a_full_pool_says_so_at_the_operation_and_still_deletes_and_overwrites() {
    let disk = pool(16);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"filler", &file(0o644)).unwrap().ino;
    let block = pattern(1 << 16, 3);
    let mut at = 0;
    let error = loop {
        match fs.write(ino, at, &block, NOW) {
            Ok(count) => at += count as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.errno(), Errno::NoSpace.number());
    assert!(at > 8 << 20, "only {at} bytes fit");
    for round in 0..200 {
        let place = round * 65_536 % at;
        assert_eq!(
            fs.write(ino, place, &block, NOW).unwrap(),
            block.len(),
            "overwrite {round}"
        );
    }
    fs.checkpoint().unwrap();
    fs.unlink(Ino::ROOT, b"filler", NOW).unwrap();
    fs.checkpoint().unwrap();
    fs.checkpoint().unwrap();
    let ino = fs.create(Ino::ROOT, b"again", &file(0o644)).unwrap().ino;
    assert_eq!(fs.write(ino, 0, &block, NOW).unwrap(), block.len());
}

#[test]
fn room_can_be_made_of_what_was_just_removed() {
    let disk = pool(16);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"filler", &file(0o644)).unwrap().ino;
    let block = pattern(1 << 16, 3);
    let mut at = 0;
    while let Ok(count) = fs.write(ino, at, &block, NOW) {
        at += count as u64;
    }
    fs.unlink(Ino::ROOT, b"filler", NOW).unwrap();
    // The change itself does not wait for a flush.
    let refused = fs.create(Ino::ROOT, b"again", &file(0o644)).unwrap_err();
    assert_eq!(refused.errno(), Errno::NoSpace.number());
    let mut tried = Tried::default();
    assert!(fs.make_room(&mut tried).unwrap());
    fs.create(Ino::ROOT, b"again", &file(0o644)).unwrap();
    assert!(fs.statistics().available_blocks > 1000);
}

#[test]
fn compressed_files_read_back_and_take_less_space() {
    let disk = pool(64);
    let fs = open(&disk);
    for flags in [
        FileFlags::COMPRESS,
        FileFlags(FileFlags::COMPRESS.0 | FileFlags::ZSTD.0),
    ] {
        let ino = fs.create(Ino::ROOT, b"packed", &file(0o644)).unwrap().ino;
        let set = SetAttributes {
            flags: Some(flags),
            now: NOW,
            ..SetAttributes::default()
        };
        fs.set_attributes(ino, &set).unwrap();
        let mut content = pattern(700_000, 9);
        fs.write(ino, 0, &content, NOW).unwrap();
        let patch = pattern(5000, 100);
        fs.write(ino, 70_000, &patch, NOW).unwrap();
        content[70_000..75_000].copy_from_slice(&patch);
        assert_eq!(read_all(&fs, ino), content);
        let blocks = fs.attributes(ino).unwrap().inode.blocks;
        assert!(blocks < 90, "{blocks} blocks for 171 of content");
        fs.preallocate(ino, Preallocation::Collapse, 8192, 12_288, NOW).unwrap();
        content.drain(8192..8192 + 12_288);
        assert_eq!(read_all(&fs, ino), content);
        fs.preallocate(ino, Preallocation::Insert, 4096, 4096, NOW).unwrap();
        content.splice(4096..4096, vec![0; 4096]);
        assert_eq!(read_all(&fs, ino), content);
        fs.unlink(Ino::ROOT, b"packed", NOW).unwrap();
    }
}

#[test]
fn a_small_file_does_not_look_like_a_hole() {
    let disk = pool(16);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"small", &file(0o644)).unwrap().ino;
    assert_eq!(fs.attributes(ino).unwrap().sectors(), 0);
    fs.write(ino, 0, &pattern(1000, 1), NOW).unwrap();
    assert_eq!(fs.attributes(ino).unwrap().sectors(), 2);
    fs.write(ino, 0, &pattern(5000, 1), NOW).unwrap();
    assert_eq!(fs.attributes(ino).unwrap().sectors(), 16);
    let hole = fs.create(Ino::ROOT, b"hole", &file(0o644)).unwrap().ino;
    fs.truncate(hole, 1 << 20, NOW).unwrap();
    assert_eq!(fs.attributes(hole).unwrap().sectors(), 0);
}

#[test]
fn an_open_file_outlives_its_name() {
    let disk = pool(16);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"file", &file(0o644)).unwrap().ino;
    fs.write(ino, 0, b"still here", NOW).unwrap();
    fs.hold(ino).unwrap();
    fs.unlink(Ino::ROOT, b"file", NOW).unwrap();
    assert_eq!(read_all(&fs, ino), b"still here");
    fs.release(ino).unwrap();
    assert_eq!(fs.attributes(ino).unwrap_err().errno(), Errno::Stale.number());
    let unnamed = fs.create_unnamed(Ino::ROOT, &file(0o644)).unwrap().ino;
    fs.link(unnamed, Ino::ROOT, b"named", NOW).unwrap();
    fs.release(unnamed).unwrap();
    assert_eq!(fs.lookup(Ino::ROOT, b"named").unwrap().ino, unnamed);
}

#[test]
fn a_pool_grows_while_it_is_in_use() {
    let disk = Arc::new(MemDisk::new(16 << 20));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(7), &Host::this()).unwrap();
    let shared: Arc<dyn Disk> = disk.clone();
    let fs = open(&shared);
    let ino = fs.create(Ino::ROOT, b"file", &file(0o644)).unwrap().ino;
    let content = pattern(20 << 20, 1);
    let fitting = fs.write(ino, 0, &content, NOW).unwrap();
    assert!(fitting < content.len());
    assert_eq!(
        fs.grow(64 << 20).unwrap_err().errno(),
        Errno::NoSpace.number(),
        "the disk is as small as before"
    );
    disk.grow(64 << 20);
    fs.grow(64 << 20).unwrap();
    let rest = &content[fitting..];
    assert_eq!(fs.write(ino, fitting as u64, rest, NOW).unwrap(), rest.len());
    fs.set_label("grown").unwrap();
    assert_eq!(
        fs.set_label("line\nbreak").unwrap_err().errno(),
        Errno::Invalid.number()
    );
    drop(fs);
    let fs = open(&shared);
    assert_eq!(read_all(&fs, ino), content);
    assert_eq!(fs.statistics().total_blocks, 16_384);
    assert_eq!(fs.superblock().label, "grown");
}

#[test]
fn a_sparse_file_of_a_pebibyte_is_mapped_and_cloned_without_walking_its_holes() {
    let disk = pool(16);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"sparse", &file(0o644)).unwrap().ino;
    fs.truncate(ino, 1 << 50, NOW).unwrap();
    fs.write(ino, 1 << 45, b"island", NOW).unwrap();
    let blocks = blocks_for(1 << 50);
    assert_eq!(fs.extents(ino, FileBlock(0), blocks).unwrap().len(), 3);
    let copy = fs.clone_tree(ino, Ino::ROOT, b"copy", NOW).unwrap();
    assert_eq!((copy.size(), copy.inode.blocks), (1 << 50, 1));
    assert_eq!(fs.seek(copy.ino, 5, Seek::Data).unwrap(), 1 << 45);
}

#[test]
fn the_smallest_journal_takes_changes() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(16 << 20));
    let smallest = FormatOptions {
        journal_bytes: Some(256 << 10),
        ..FormatOptions::default()
    };
    format_disk(&*disk, &smallest, &Seeds::from_number(7), &Host::this()).unwrap();
    let fs = open(&disk);
    for number in 0..3000 {
        let ino = fs
            .create(Ino::ROOT, format!("{number}").as_bytes(), &file(0o644))
            .unwrap()
            .ino;
        fs.touch_accessed(ino, NOW).unwrap();
    }
    drop(fs);
    assert_eq!(open(&disk).list_all(Ino::ROOT).unwrap().len(), 3000);
}

#[test]
fn reading_alone_never_overruns_the_journal() {
    const DAY: i64 = 86_400_000_000_000;
    let disk = pool(16);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"read", &file(0o644)).unwrap().ino;
    for day in 1..20_000 {
        fs.touch_accessed(ino, Timestamp(NOW.0 + day * DAY)).unwrap();
        let used = fs.statistics().journal_bytes;
        assert!(used < 1 << 20, "{used} bytes in a journal of a mebibyte");
    }
    drop(fs);
    assert!(open(&disk).attributes(ino).unwrap().inode.accessed > NOW);
}

/// Moves the bytes of a plan as a front end with I/O of its own does.
fn store(disk: &Arc<dyn Disk>, plan: &WritePlan, content: &[u8]) {
    for (at, bytes) in plan.transfers(content) {
        disk.write(at, bytes).unwrap();
    }
}

#[test]
fn a_planned_write_shows_when_it_is_committed_and_leaves_nothing_when_it_is_abandoned() {
    for flags in [FileFlags::default(), FileFlags::COMPRESS, FileFlags::NO_CHECKSUM] {
        let disk = pool(64);
        let fs = open(&disk);
        let ino = fs.create(Ino::ROOT, b"volume", &file(0o600)).unwrap().ino;
        fs.truncate(ino, 4 << 20, NOW).unwrap();
        let set = SetAttributes {
            flags: Some(flags),
            ..SetAttributes::default()
        };
        fs.set_attributes(ino, &set).unwrap();
        // Compressible and not, over the end of a transaction's piece.
        let noise = (0..40_960_u32).flat_map(|number| number.wrapping_mul(2_654_435_769).to_le_bytes());
        let content: Vec<u8> = pattern(40_960, 3).into_iter().chain(noise).collect();
        let at = (1 << 20) - 8192;
        let available = fs.statistics().available_blocks;
        let plan = fs
            .plan_write(ino, at, &content, Author::Writer(NOW), Patience::Refuse)
            .unwrap();
        assert_eq!(plan.length(), 8192);
        store(&disk, &plan, &content);
        fs.abandon_write(plan);
        assert_eq!(fs.statistics().available_blocks, available);
        assert_eq!(read_all(&fs, ino), vec![0; 4 << 20]);

        let mut done = 0;
        while done < content.len() {
            let rest = &content[done..];
            let mut plan = fs
                .plan_write(ino, at + done as u64, rest, Author::Writer(NOW), Patience::Refuse)
                .unwrap();
            store(&disk, &plan, rest);
            assert!(fs.commit_write(&mut plan, Patience::Refuse).unwrap());
            done += plan.length();
        }
        let mut expected = vec![0; 4 << 20];
        let from = usize::try_from(at).unwrap();
        expected[from..from + content.len()].copy_from_slice(&content);
        assert_eq!(read_all(&fs, ino), expected);
        drop(fs);
        assert_eq!(read_all(&open(&disk), ino), expected);
    }
}

#[test]
fn content_that_nobody_looks_at_is_kept_by_files_without_checksums_and_refused_by_others() {
    let disk = pool(64);
    let fs = open(&disk);
    let make = |name: &[u8], flags| {
        let ino = fs.create(Ino::ROOT, name, &file(0o600)).unwrap().ino;
        fs.truncate(ino, 1 << 20, NOW).unwrap();
        let set = SetAttributes {
            flags: Some(flags),
            ..SetAttributes::default()
        };
        fs.set_attributes(ino, &set).unwrap();
        ino
    };
    for (name, flags) in [("plain", FileFlags::default()), ("packed", FileFlags::COMPRESS)] {
        let ino = make(name.as_bytes(), flags);
        let refused = fs.plan_write_unseen(ino, 0, 8192, NOW, Patience::Refuse).map(drop);
        assert!(
            matches!(refused, Err(crate::error::Error::Posix(Errno::NotSupported))),
            "{name}: {refused:?}"
        );
        fs.write(ino, 0, &pattern(8192, 1), NOW).unwrap();
        assert!(
            fs.plan_read(ino, 0, 8192, Until::End).unwrap().placements().is_none(),
            "{name}"
        );
    }
    let ino = make(b"bare", FileFlags::NO_CHECKSUM);
    let content = pattern(65_536, 5);
    let mut plan = fs
        .plan_write_unseen(ino, 8192, content.len(), NOW, Patience::Refuse)
        .unwrap();
    for (at, range) in plan.placements() {
        disk.write(at, &content[range]).unwrap();
    }
    assert!(fs.commit_write(&mut plan, Patience::Refuse).unwrap());
    let mut expected = vec![0; 1 << 20];
    expected[8192..8192 + content.len()].copy_from_slice(&content);
    assert_eq!(read_all(&fs, ino), expected);

    let read = |spoil: &mut dyn FnMut()| {
        let mut buffer = vec![0xee; 1 << 20];
        let plan = fs.plan_read(ino, 0, buffer.len(), Until::End).unwrap();
        for place in plan.placements().unwrap() {
            match place.at {
                Some(at) => disk.read(at, &mut buffer[place.range]).unwrap(),
                None => buffer[place.range].fill(0),
            }
        }
        spoil();
        fs.finish_unseen_read(&plan, Ok(())).unwrap().then_some(buffer)
    };
    assert_eq!(read(&mut || ()), Some(expected));
    assert_eq!(
        read(&mut || drop(fs.write(ino, 8192, &[9; 4096], NOW))),
        None,
        "changed meanwhile"
    );
}

#[test]
fn a_planned_read_finds_damage_and_what_changed_under_it() {
    let disk = pool(64);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"volume", &file(0o600)).unwrap().ino;
    fs.write(ino, 0, &pattern(12_288, 1), NOW).unwrap();
    let mut buffer = vec![0; 12_288];
    let mut read = |spoil: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut plan = fs.plan_read(ino, 0, buffer.len(), Until::End).unwrap();
        for (at, bytes) in plan.transfers(&mut buffer) {
            disk.read(at, bytes).unwrap();
        }
        spoil(&mut buffer);
        fs.finish_read(&plan, &mut buffer, Ok(()))
    };
    assert!(read(&mut |_| ()).unwrap());
    let damaged = read(&mut |bytes| bytes[5000] ^= 1);
    assert!(matches!(damaged, Err(crate::error::Error::Damaged(_))), "{damaged:?}");
    // The same bytes, but by now the map names others: not damage.
    let changed = read(&mut |bytes| {
        bytes[5000] ^= 1;
        fs.write(ino, 4096, &[9; 4096], NOW).unwrap();
    });
    assert!(!changed.unwrap());
}

#[test]
fn only_whole_blocks_are_planned() {
    let fs = open(&pool(64));
    let ino = fs.create(Ino::ROOT, b"volume", &file(0o600)).unwrap().ino;
    for (at, length) in [(0, 0), (0, 100), (512, 4096), (4096, 4097)] {
        let planned = fs.plan_write(ino, at, &vec![0; length], Author::Writer(NOW), Patience::Wait);
        assert_eq!(
            planned.unwrap_err().errno(),
            Errno::Invalid.number(),
            "{length} at {at}"
        );
    }
}

#[test]
fn who_does_not_wait_is_told_so_and_who_does_gets_the_space_of_what_was_removed() {
    let disk = pool(16);
    let fs = open(&disk);
    let ino = fs.create(Ino::ROOT, b"volume", &file(0o600)).unwrap().ino;
    let piece = vec![1; 1 << 20];
    let mut at = 0;
    while fs
        .write(ino, at, &piece, NOW)
        .is_ok_and(|written| written == piece.len())
    {
        at += piece.len() as u64;
    }
    fs.truncate(ino, 0, NOW).unwrap();
    // What was freed is not to be had before a flush.
    let refused = fs
        .plan_write(ino, 0, &piece, Author::Writer(NOW), Patience::Refuse)
        .map(drop);
    assert_eq!(refused.unwrap_err().errno(), Errno::WouldWait.number());
    fs.plan_write(ino, 0, &piece, Author::Writer(NOW), Patience::Wait)
        .unwrap();
}
