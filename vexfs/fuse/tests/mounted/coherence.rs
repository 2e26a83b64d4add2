// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the kernel keeps for a day is true all the time: every attribute before and after every kind of change, and compared
//! with what the engine says once the pool is unmounted.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, copy_file_range, fallocate, renameat2};

use crate::support::{Mounted, get_xattr, mode, open, remove_xattr, set_xattr, stat, tick, times};

/// A block at an address that `O_DIRECT` accepts.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

/// The attributes that must agree, of everything below a directory, by path.
fn seen(top: &Path) -> Vec<(String, [i128; 9])> {
    let mut all = Vec::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let found = stat(&path);
        let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        all.push((
            path.strip_prefix(top).unwrap().to_str().unwrap().to_owned(),
            [
                i128::from(found.ino()),
                i128::from(found.mode()),
                i128::from(found.nlink()),
                i128::from(found.uid()),
                i128::from(found.gid()),
                i128::from(found.size()),
                i128::from(found.blocks()),
                nanos(found.mtime(), found.mtime_nsec()),
                nanos(found.ctime(), found.ctime_nsec()),
            ],
        ));
        if found.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

/// Makes the kernel know everything, changes something, and compares what it then says with a fresh mount.
fn stays_true(prepare: impl FnOnce(&Mounted), change: impl FnOnce(&Mounted)) {
    let mut mounted = Mounted::new();
    prepare(&mounted);
    let before = seen(&mounted.root());
    tick();
    change(&mounted);
    let after = seen(&mounted.root());
    assert_ne!(before, after, "the change must change something");
    mounted.unmount();
    mounted.mount("").unwrap();
    assert_eq!(after, seen(&mounted.root()));
    mounted.check();
}

fn files(mounted: &Mounted) {
    fs::create_dir_all(mounted.at("d/e")).unwrap();
    fs::create_dir(mounted.at("x")).unwrap();
    mounted.write("d/one", vec![1; 20_000]);
    mounted.write("x/two", vec![2; 50]);
    fs::hard_link(mounted.at("d/one"), mounted.at("x/link")).unwrap();
    symlink("one", mounted.at("d/symlink")).unwrap();
}

mounted_tests! {
    fn new_names_change_their_directory() {
        stays_true(files, |mounted| {
            mounted.write("d/new", "new");
            fs::create_dir(mounted.at("x/sub")).unwrap();
            symlink("t", mounted.at("x/s")).unwrap();
        });
    }

    fn a_new_link_shows_in_the_count_of_the_file() {
        stays_true(files, |mounted| {
            fs::hard_link(mounted.at("d/one"), mounted.at("third")).unwrap();
            assert_eq!(stat(&mounted.at("x/link")).nlink(), 3);
        });
    }

    fn removing_a_link_shows_in_the_other_names() {
        stays_true(files, |mounted| {
            let (_, before) = times(&mounted.at("x/link"));
            fs::remove_file(mounted.at("d/one")).unwrap();
            assert_eq!(stat(&mounted.at("x/link")).nlink(), 1);
            assert!(times(&mounted.at("x/link")).1 > before);
        });
    }

    fn removing_a_directory_shows_in_its_parent() {
        stays_true(files, |mounted| {
            fs::remove_dir(mounted.at("d/e")).unwrap();
            assert_eq!(stat(&mounted.at("d")).nlink(), 2);
        });
    }

    fn moving_between_directories_shows_in_both() {
        stays_true(files, |mounted| {
            fs::rename(mounted.at("d/e"), mounted.at("x/e")).unwrap();
            fs::rename(mounted.at("d/one"), mounted.at("x/two")).unwrap();
        });
    }

    fn replacing_a_name_takes_a_link_from_what_it_stood_for() {
        stays_true(files, |mounted| {
            fs::rename(mounted.at("x/two"), mounted.at("x/link")).unwrap();
            assert_eq!(stat(&mounted.at("d/one")).nlink(), 1);
        });
    }

    fn exchanging_a_directory_and_a_file_shows_in_both_directories() {
        stays_true(files, |mounted| {
            let (from, to) = (mounted.at("d/e"), mounted.at("x/two"));
            renameat2(AT_FDCWD, &from, AT_FDCWD, &to, RenameFlags::RENAME_EXCHANGE).unwrap();
            assert!(stat(&to).is_dir());
        });
    }

    fn writes_show_in_size_blocks_and_times() {
        stays_true(files, |mounted| {
            let file = open(&mounted.at("d/one"));
            file.write_all_at(&[3; 5000], 100_000).unwrap();
            assert_eq!(stat(&mounted.at("x/link")).size(), 105_000);
        });
    }

    fn truncating_shows_in_size_and_bytes() {
        stays_true(files, |mounted| {
            let file = open(&mounted.at("d/one"));
            file.set_len(10).unwrap();
            file.set_len(9000).unwrap();
            let mut expected = vec![1; 10];
            expected.resize(9000, 0);
            assert!(fs::read(mounted.at("x/link")).unwrap() == expected);
        });
    }

    fn preallocating_and_punching_show_in_blocks_and_bytes() {
        stays_true(files, |mounted| {
            let file = open(&mounted.at("d/one"));
            assert_eq!(fs::read(mounted.at("d/one")).unwrap()[8192], 1);
            fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
            assert_eq!(stat(&mounted.at("d/one")).size(), 1 << 20);
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, hole, 4096, 8192).unwrap();
            assert_eq!(fs::read(mounted.at("d/one")).unwrap()[8192], 0);
        });
    }

    fn copying_in_the_server_shows_in_size_and_bytes() {
        stays_true(files, |mounted| {
            let (from, to) = (open(&mounted.at("d/one")), open(&mounted.at("x/two")));
            assert_eq!(fs::read(mounted.at("x/two")).unwrap().len(), 50);
            let (mut source, mut target) = (0, 0);
            let count = copy_file_range(&from, Some(&mut source), &to, Some(&mut target), 20_000).unwrap();
            assert_eq!(count, 20_000);
            assert_eq!(stat(&mounted.at("x/two")).size(), 20_000);
            assert!(fs::read(mounted.at("x/two")).unwrap() == vec![1; 20_000]);
        });
    }

    fn extended_attributes_show_in_the_time_of_change() {
        stays_true(files, |mounted| {
            let path = mounted.at("d/one");
            let first = times(&path).1;
            set_xattr(&path, "user.a", b"1", 0).unwrap();
            let second = times(&path).1;
            assert!(second > first);
            tick();
            remove_xattr(&path, "user.a").unwrap();
            assert!(times(&path).1 > second);
        });
    }

    fn permissions_and_owner_show_at_every_name() {
        stays_true(files, |mounted| {
            fs::set_permissions(mounted.at("d/one"), fs::Permissions::from_mode(0o4711)).unwrap();
            std::os::unix::fs::chown(mounted.at("x/link"), Some(7), Some(8)).unwrap();
            let found = stat(&mounted.at("d/one"));
            // The change of the owner took the set-user-ID bit.
            assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o711, 7, 8));
        });
    }

    fn flags_show_and_protect() {
        stays_true(files, |mounted| {
            mounted.run("chattr +a x/two && lsattr x/two | grep -q a && echo more >>x/two");
            assert!(mounted.run_as(0, 0, "echo less >x/two").is_err());
            mounted.run("chattr +i d/one");
            assert!(mounted.run_as(0, 0, "rm -f d/one").is_err());
            mounted.run("chattr -i d/one; chattr -a x/two");
        });
    }

    fn an_access_list_shows_in_the_mode() {
        stays_true(files, |mounted| {
            mounted.run("chmod 600 x/two && setfacl -m u:1000:rw x/two");
            assert_eq!(mode(&mounted.at("x/two")), 0o660);
        });
    }

    fn a_name_that_was_not_there_is_found_once_it_is() {
        let mounted = Mounted::new();
        fs::create_dir(mounted.at("d")).unwrap();
        assert!(!mounted.at("d/late").exists());
        assert!(!mounted.at("d/moved").exists());
        mounted.write("d/late", "here");
        assert_eq!(fs::read(mounted.at("d/late")).unwrap(), b"here");
        fs::rename(mounted.at("d/late"), mounted.at("d/moved")).unwrap();
        assert!(!mounted.at("d/late").exists() && mounted.at("d/moved").exists());
        fs::remove_file(mounted.at("d/moved")).unwrap();
        assert!(!mounted.at("d/moved").exists());
    }

    fn a_list_of_a_directory_that_the_kernel_kept_shows_later_changes() {
        let mounted = Mounted::new();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(mounted.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for round in 0..20 {
            mounted.write(&format!("f{round:02}"), "");
            assert_eq!(names().len(), round + 1);
        }
        for round in 0..20 {
            fs::remove_file(mounted.at(&format!("f{round:02}"))).unwrap();
            assert_eq!(names().len(), 19 - round);
        }
    }

    fn reading_shows_in_the_time_of_reading_unless_noatime_says_no() {
        for (options, moves) in [("", true), ("noatime", false)] {
            let mut mounted = Mounted::new();
            mounted.write("f", "bytes");
            mounted.unmount();
            mounted.mount(options).unwrap();
            let before = stat(&mounted.at("f"));
            tick();
            fs::read(mounted.at("f")).unwrap();
            let after = stat(&mounted.at("f"));
            let moved = (after.atime(), after.atime_nsec()) > (before.atime(), before.atime_nsec());
            assert_eq!(moved, moves, "{options}");
        }
    }

    fn what_is_written_through_one_way_is_read_through_the_others() {
        use std::os::unix::fs::OpenOptionsExt;
        let mounted = Mounted::new();
        let path = mounted.write("f", vec![1; 16_384]);
        let direct = File::options().read(true).write(true).custom_flags(nix::libc::O_DIRECT).open(&path).unwrap();
        let mut block = Box::new(Aligned([2; 4096]));
        direct.write_all_at(&block.0, 4096).unwrap();
        let read = fs::read(&path).unwrap();
        assert!(read[4096..8192].iter().all(|&byte| byte == 2) && read[0] == 1 && read[8192] == 1);
        open(&path).write_all_at(&[3; 10], 4100).unwrap();
        direct.read_exact_at(&mut block.0, 4096).unwrap();
        assert_eq!((block.0[3], block.0[4], block.0[14]), (2, 3, 2));
        assert_eq!(get_xattr(&path, "user.none").unwrap_err().raw_os_error(), Some(nix::libc::ENODATA));
    }
}
