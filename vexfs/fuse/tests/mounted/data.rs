// SPDX-License-Identifier: MIT OR Apache-2.0

//! Bytes: ways of writing, holes, copies, a full pool.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};

use nix::fcntl::{FallocateFlags, copy_file_range, fallocate};
use nix::libc;
use nix::unistd::{Whence, lseek};

use crate::support::{Mapping, Mounted, errno, open, stat};

/// Bytes that differ from place to place.
fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect()
}

mounted_tests! {
    fn what_was_written_in_any_size_and_place_is_read_again() {
        let mut mounted = Mounted::new();
        let mut expected = vec![0; 3 << 20];
        let file = open(&mounted.write("f", ""));
        let bytes = pattern(2 << 20);
        for (at, count) in [(0, 1), (5, 4096), (8192, 1 << 20), (100, 2000), (1_500_001, 1_500_000), (4095, 2)] {
            file.write_all_at(&bytes[..count], at as u64).unwrap();
            expected[at..at + count].copy_from_slice(&bytes[..count]);
        }
        expected.truncate(usize::try_from(file.metadata().unwrap().len()).unwrap());
        drop(file);
        assert!(fs::read(mounted.at("f")).unwrap() == expected);
        mounted.unmount();
        mounted.mount("").unwrap();
        assert!(fs::read(mounted.at("f")).unwrap() == expected);
        mounted.check();
    }

    fn appending_writers_do_not_overwrite_each_other() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let mut file = File::options().append(true).open(&path).unwrap();
                scope.spawn(move || (0..100).for_each(|_| file.write_all(&[thread; 33]).unwrap()));
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 4 * 100 * 33);
        assert!(bytes.chunks(33).all(|line| line.iter().all(|byte| *byte == line[0])));
    }

    fn synchronous_writes_and_fsync_of_files_and_directories_succeed() {
        let mounted = Mounted::new();
        let path = mounted.at("f");
        let flags = libc::O_SYNC | libc::O_DIRECT;
        let mut file = File::options().create(true).write(true).custom_flags(libc::O_DSYNC).open(&path).unwrap();
        file.write_all(b"durable").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        File::open(mounted.root()).unwrap().sync_all().unwrap();
        assert!(File::options().write(true).custom_flags(flags).open(&path).is_ok());
    }

    fn holes_are_found_and_take_no_space() {
        let mounted = Mounted::new();
        let file = open(&mounted.write("f", ""));
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        file.set_len(4 << 20).unwrap();
        assert_eq!(lseek(&file, 0, Whence::SeekData).unwrap(), 1 << 20);
        assert_eq!(lseek(&file, 1 << 20, Whence::SeekHole).unwrap(), (1 << 20) + 4096);
        assert_eq!(lseek(&file, 2 << 20, Whence::SeekData), Err(nix::errno::Errno::ENXIO));
        assert_eq!(lseek(&file, 3 << 20, Whence::SeekHole).unwrap(), 3 << 20);
        assert_eq!(stat(&mounted.at("f")).blocks(), 8);
    }

    fn preallocation_keeps_its_promise_and_the_size_if_told_so() {
        let mounted = Mounted::of_size(64 << 20, "");
        let file = open(&mounted.write("f", "head"));
        fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 8 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4);
        fallocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE, 0, 4096).unwrap();
        assert!(fs::read(mounted.at("f")).unwrap() == vec![0; 4096]);
        fill(&mounted);
        file.write_all_at(&vec![5; 8 << 20], 0).unwrap();
        assert!(fs::read(mounted.at("f")).unwrap() == vec![5; 8 << 20]);
        // The kernel does not pass these on to any server.
        let collapse = fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 4096);
        assert_eq!(collapse, Err(nix::errno::Errno::EOPNOTSUPP));
    }

    fn a_full_pool_is_told_to_who_writes_and_what_was_accepted_stays() {
        let mut mounted = Mounted::of_size(32 << 20, "");
        let accepted = fill(&mounted);
        assert!(accepted > 16 << 20);
        mounted.unmount();
        mounted.mount("").unwrap();
        let bytes = fs::read(mounted.at("filler")).unwrap();
        assert_eq!(bytes.len(), accepted);
        assert!(bytes.chunks(1 << 16).all(|chunk| chunk == &pattern(1 << 16)[..chunk.len()]));
        fs::remove_file(mounted.at("filler")).unwrap();
        mounted.write("again", vec![1; 8 << 20]);
        mounted.check();
    }

    fn a_direct_write_of_which_only_a_part_finds_room_is_refused_for_want_of_room() {
        let mut mounted = Mounted::of_size(32 << 20, "");
        let path = mounted.write("direct", vec![1; 1 << 20]);
        mounted.write("kept", vec![2; 256 << 10]);
        fill(&mounted);
        // What this gives back is enough for what lies before the boundary of a MiB, and not for what lies behind it.
        fs::remove_file(mounted.at("kept")).unwrap();
        let direct = File::options().write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
        let mut mapping = Mapping::anonymous(1 << 20);
        mapping.bytes().fill(3);
        let told = direct.write_at(mapping.bytes(), (2 << 20) - (64 << 10));
        assert_eq!(errno(told), libc::ENOSPC);
        assert_eq!(direct.metadata().unwrap().len(), 1 << 20);
        drop(direct);
        assert_eq!(fs::read(&path).unwrap(), vec![1; 1 << 20]);
        mounted.check();
    }

    fn copies_of_any_alignment_hold_the_same_bytes() {
        let mut mounted = Mounted::new();
        let bytes = pattern(300_000);
        let from = open(&mounted.write("from", &bytes));
        for (source, target, count) in [
            (0, 0, 300_000),
            (0, 0, 8192),
            (4096, 8192, 100_000),
            (100, 100, 200_000),
            (1, 2, 50_000),
            (4095, 4095, 1),
            (4090, 8186, 20),
            (290_000, 0, 50_000),
        ] {
            let name = format!("to-{source}-{target}-{count}");
            let to = open(&mounted.write(&name, vec![9; 10_000]));
            let (mut at, mut into) = (source, target);
            let mut left = count;
            while left > 0 {
                let copied = copy_file_range(&from, Some(&mut at), &to, Some(&mut into), left).unwrap();
                if copied == 0 {
                    break;
                }
                left -= copied;
            }
            let (source, target) = (usize::try_from(source).unwrap(), usize::try_from(target).unwrap());
            let count = count.min(300_000 - source);
            let mut expected = vec![9; 10_000];
            expected.resize(expected.len().max(target + count), 0);
            expected[target..target + count].copy_from_slice(&bytes[source..source + count]);
            assert!(fs::read(mounted.at(&name)).unwrap() == expected, "{name}");
        }
        drop(from);
        mounted.check();
    }

    fn a_copy_of_whole_blocks_shares_them() {
        let mounted = Mounted::of_size(64 << 20, "");
        let from = open(&mounted.write("from", pattern(30 << 20)));
        let to = open(&mounted.write("to", ""));
        let (mut at, mut into) = (0, 0);
        // A second copy would not fit.
        assert_eq!(copy_file_range(&from, Some(&mut at), &to, Some(&mut into), 30 << 20).unwrap(), 30 << 20);
        assert!(fs::read(mounted.at("to")).unwrap() == pattern(30 << 20));
    }

    fn a_shared_mapping_and_read_see_the_same_bytes() {
        let mounted = Mounted::new();
        mounted.write("f", vec![1; 8192]);
        let script = "import mmap\n\
            f = open('f', 'r+b')\n\
            m = mmap.mmap(f.fileno(), 0)\n\
            m[5000:5004] = b'mmap'\n\
            assert open('f', 'rb').read()[5000:5004] == b'mmap'\n\
            f.seek(10); f.write(b'write'); f.flush()\n\
            assert m[10:15] == b'write'\n\
            m.flush()\n";
        mounted.run(&format!("python3 -c \"{script}\""));
        assert_eq!(&fs::read(mounted.at("f")).unwrap()[5000..5004], b"mmap");
    }

    fn offsets_that_no_file_has_are_refused() {
        let mounted = Mounted::new();
        let file = open(&mounted.write("f", ""));
        file.write_all_at(b"x", (1 << 62) - 1).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 62);
        assert_eq!(errno(file.write_at(b"xx", i64::MAX as u64)), libc::EINVAL);
    }

    fn written_bytes_that_the_kernel_keeps_arrive_too() {
        let mut mounted = Mounted::with("writeback");
        let bytes = pattern(2_000_000);
        for (at, chunk) in bytes.chunks(777).enumerate() {
            let file = File::options().create(true).truncate(false).write(true).open(mounted.at("f")).unwrap();
            file.write_all_at(chunk, (at * 777) as u64).unwrap();
        }
        assert!(fs::read(mounted.at("f")).unwrap() == bytes);
        mounted.unmount();
        mounted.mount("").unwrap();
        assert!(fs::read(mounted.at("f")).unwrap() == bytes);
        mounted.check();
    }
}

/// Writes until the pool is full; says how much was accepted.
fn fill(mounted: &Mounted) -> usize {
    let file = File::create(mounted.at("filler")).unwrap();
    let bytes = pattern(1 << 16);
    let mut accepted = 0;
    loop {
        match file.write_at(&bytes, accepted as u64) {
            Ok(0) => panic!("nothing written, and no error"),
            Ok(count) => accepted += count,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                return accepted;
            }
        }
        assert!(accepted < 1 << 30);
    }
}
