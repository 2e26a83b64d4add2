// SPDX-License-Identifier: MIT OR Apache-2.0

//! Owner, permissions and times as POSIX and Linux have them.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};

use nix::fcntl::AT_FDCWD;
use nix::libc;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::support::{Mounted, mode, open, stat, tick, times};

mounted_tests! {
    fn a_directory_with_the_group_id_bit_gives_its_group_and_directories_the_bit() {
        let mounted = Mounted::new();
        mounted.run("mkdir d && chgrp 50 d && chmod 2777 d");
        mounted.run_as(1000, 1000, "touch d/f && mkdir d/sub && ln -s x d/l").unwrap();
        assert_eq!((stat(&mounted.at("d/f")).uid(), stat(&mounted.at("d/f")).gid()), (1000, 50));
        assert_eq!(stat(&mounted.at("d/l")).gid(), 50);
        assert_eq!(mode(&mounted.at("d/sub")) & 0o2000, 0o2000);
        assert_eq!(mode(&mounted.at("d/f")) & 0o2000, 0);
    }

    fn a_user_cannot_make_a_program_with_the_identity_of_a_foreign_group() {
        let mounted = Mounted::new();
        mounted.run("mkdir d && chgrp 50 d && chmod 2777 d");
        mounted.run_as(1000, 1000, "umask 0; cp /bin/true d/f; chmod 2755 d/f").unwrap();
        assert_eq!(mode(&mounted.at("d/f")), 0o755);
        mounted.run_as(1000, 50, "umask 0; touch d/g; chmod 2755 d/g").unwrap();
        assert_eq!(mode(&mounted.at("d/g")), 0o2755);
    }

    fn a_users_change_of_the_bytes_takes_set_id_bits_and_roots_does_not() {
        let mounted = Mounted::new();
        for script in ["echo more >>f", "truncate -s 1 f", "fallocate -l 10000 f", "echo new >f"] {
            for (uid, left) in [(1000, 0), (0, 0o6000)] {
                let path = mounted.write("f", "some bytes");
                mounted.run("chown 1000:1000 f && chmod 6777 f");
                assert_eq!(mode(&path), 0o6777);
                mounted.run_as(uid, uid, script).unwrap();
                assert_eq!(mode(&path) & 0o6000, left, "{script} by {uid}");
            }
        }
    }

    fn a_change_of_the_owner_takes_set_id_bits_also_from_root() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
        chown(&path, Some(5), None).unwrap();
        assert_eq!(mode(&path), 0o755);
    }

    fn users_may_not_what_is_not_theirs() {
        let mounted = Mounted::new();
        mounted.write("f", "");
        mounted.run("chmod 666 f; mkdir -m 1777 t; touch t/f");
        assert!(mounted.run_as(1000, 1000, "chmod 777 f").is_err());
        assert!(mounted.run_as(1000, 1000, "chown 1000 f").is_err());
        assert!(mounted.run_as(1000, 1000, "touch -d 2020-01-01 f").is_err());
        assert!(mounted.run_as(1000, 1000, "touch f").is_ok());
        assert!(mounted.run_as(1000, 1000, "rm -f t/f").is_err());
        assert!(mounted.run_as(1000, 1000, "touch new").is_err());
    }

    fn times_are_kept_to_the_nanosecond_before_1970_and_after_2038() {
        let mut mounted = Mounted::new();
        let path = mounted.write("f", "");
        let set = [(-1, 500_000_000), (-2_000_000_000, 1), (5_000_000_000, 999_999_999), (0, 0)];
        for (seconds, nanos) in set {
            let time = TimeSpec::new(seconds, nanos);
            utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::FollowSymlink).unwrap();
            for _ in 0..2 {
                let found = stat(&path);
                assert_eq!((found.mtime(), found.mtime_nsec()), (seconds, nanos));
                assert_eq!((found.atime(), found.atime_nsec()), (seconds, nanos));
                mounted.unmount();
                mounted.mount("").unwrap();
            }
        }
    }

    fn one_time_can_be_set_to_now_and_the_other_left() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        let (old, omit, now) = (TimeSpec::new(1000, 1), TimeSpec::UTIME_OMIT, TimeSpec::UTIME_NOW);
        let utimes = |access, modification| {
            utimensat(AT_FDCWD, &path, access, modification, UtimensatFlags::FollowSymlink).unwrap();
        };
        utimes(&old, &old);
        utimes(&omit, &now);
        assert_eq!(stat(&path).atime(), 1000);
        assert!(stat(&path).mtime() > 1_700_000_000);
        utimes(&old, &omit);
        assert!(stat(&path).mtime() > 1_700_000_000);
    }

    fn truncating_to_the_same_size_counts_as_a_change() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "12345");
        let before = times(&path);
        tick();
        nix::unistd::truncate(&path, 5).unwrap();
        let after = times(&path);
        assert!(after.0 > before.0 && after.1 > before.1);
    }

    fn a_chown_to_nothing_is_a_change() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        let before = times(&path);
        tick();
        chown(&path, None, None).unwrap();
        assert!(times(&path).1 > before.1);
        assert_eq!(times(&path).0, before.0);
    }

    fn the_size_of_the_filesystem_is_told() {
        let mounted = Mounted::of_size(64 << 20, "");
        let told = nix::sys::statvfs::statvfs(&mounted.root()).unwrap();
        assert_eq!(told.blocks() * 4096, 64 << 20);
        assert_eq!((told.block_size(), told.name_max()), (4096, 255));
        let before = told.blocks_available();
        open(&mounted.write("f", "")).write_all_at(&vec![1; 8 << 20], 0).unwrap();
        let after = nix::sys::statvfs::statvfs(&mounted.root()).unwrap();
        assert!(before - after.blocks_available() >= 2048);
        assert_eq!(after.files() - after.files_free(), 2);
    }

    fn a_device_keeps_its_number_and_a_fifo_works() {
        let mounted = Mounted::new();
        mounted.run("mknod n c 1 3 && mknod b b 300 70000 && mkfifo p && echo x >n && (echo through >p & cat p >out)");
        let number = |name: &str| {
            let device = stat(&mounted.at(name)).rdev();
            (libc::major(device), libc::minor(device))
        };
        assert_eq!(number("n"), (1, 3));
        assert_eq!(number("b"), (300, 70_000));
        assert_eq!(fs::read(mounted.at("out")).unwrap(), b"through\n");
    }
}
