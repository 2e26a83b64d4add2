// SPDX-License-Identifier: MIT OR Apache-2.0

//! Beginning and end of a mount: crashes, signals, who is in the way, what cannot be mounted.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use vexfs_fuse::mount_table;
use vexfs_fuse::unmount::{Left, UnmountError, unmount};

use crate::support::{Mounted, errno, eventually, open};

mounted_tests! {
    fn what_was_answered_outlives_a_killed_server_and_the_next_mount_replaces_the_dead_one() {
        let mut mounted = Mounted::new();
        for round in 0..3 {
            mounted.run(&format!("mkdir r{round}; for n in 1 2 3 4 5; do echo $n >r{round}/$n; done; rm r{round}/3"));
            mounted.write(&format!("r{round}/large"), vec![round; 3_000_000]);
            let unnamed = open(&mounted.write("unnamed", vec![1; 1 << 20]));
            fs::remove_file(mounted.at("unnamed")).unwrap();
            mounted.signal(Signal::SIGKILL);
            assert!(!mounted.ended());
            assert_eq!(errno(unnamed.metadata()), libc::ENOTCONN);
            assert_eq!(errno(fs::read_dir(mounted.root())), libc::ENOTCONN);
            mounted.mount("").unwrap();
            for round in 0..=round {
                assert_eq!(mounted.run(&format!("cat r{round}/[0-9]")), "1\n2\n4\n5\n");
                assert!(fs::read(mounted.at(&format!("r{round}/large"))).unwrap() == vec![round; 3_000_000]);
            }
        }
        mounted.check();
    }

    fn with_auto_unmount_a_killed_server_leaves_no_mount() {
        let mut mounted = Mounted::with("auto_unmount");
        mounted.write("f", "bytes");
        mounted.signal(Signal::SIGKILL);
        mounted.ended();
        eventually(|| mount_table::at(&mounted.root()).unwrap().is_none().then_some(()));
        assert!(!mounted.at("f").exists());
        mounted.mount("").unwrap();
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"bytes");
    }

    fn a_signal_unmounts_and_closes_the_pool() {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let mut mounted = Mounted::new();
            mounted.write("f", "bytes");
            mounted.signal(signal);
            assert!(mounted.ended());
            assert!(mount_table::at(&mounted.root()).unwrap().is_none());
            let options = vexfs::pool::OpenOptions::new(vexfs::pool::Access::ReadOnly);
            assert!(vexfs::pool::Pool::open_path(&mounted.pool(), &options).unwrap().was_clean());
        }
    }

    fn a_signal_ends_a_mount_in_use_after_a_moment_and_loses_nothing() {
        let mut mounted = Mounted::new();
        let mut file = open(&mounted.write("f", ""));
        file.write_all(b"answered").unwrap();
        mounted.signal(Signal::SIGTERM);
        assert!(mounted.ended());
        assert!(mount_table::at(&mounted.root()).unwrap().is_none());
        assert_eq!(errno(file.write_at(b"late", 0)), libc::ENOTCONN);
        drop(file);
        mounted.mount("").unwrap();
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"answered");
        mounted.check();
    }

    fn unmounting_names_who_is_in_the_way_and_ends_with_the_pool_closed() {
        let mut mounted = Mounted::new();
        let file = open(&mounted.write("f", ""));
        assert_eq!(umount2(&mounted.root(), MntFlags::empty()), Err(Errno::EBUSY));
        let refused = unmount(&mounted.root(), false).unwrap_err();
        let UnmountError::Busy { users, .. } = &refused else {
            panic!("{refused}");
        };
        assert!(users.iter().any(|user| user.process == std::process::id() && user.path == mounted.at("f")));
        assert!(refused.to_string().contains("end that, or unmount it with --lazy"));
        drop(file);
        assert_eq!(unmount(&mounted.root(), false).unwrap(), Left::Clean);
        // Closed means that the pool can be opened for writing at once.
        let options = vexfs::pool::OpenOptions::new(vexfs::pool::Access::ReadWrite);
        drop(vexfs::pool::Pool::open_path(&mounted.pool(), &options).unwrap());
        assert!(mounted.ended());
        let text = unmount(&mounted.root(), false).unwrap_err().to_string();
        assert!(text.contains("not a mounted VexFS pool"), "{text}");
    }

    fn a_lazy_unmount_leaves_open_files_usable() {
        let mut mounted = Mounted::new();
        let file = open(&mounted.write("f", ""));
        assert_eq!(unmount(&mounted.pool(), true).unwrap(), Left::InUse);
        file.write_all_at(b"later", 0).unwrap();
        drop(file);
        assert!(mounted.ended());
        mounted.mount("").unwrap();
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"later");
    }

    fn a_dead_mount_can_be_unmounted_and_the_pool_is_said_to_be_unclean() {
        let mut mounted = Mounted::new();
        mounted.write("f", "");
        mounted.signal(Signal::SIGKILL);
        mounted.ended();
        assert_eq!(unmount(&mounted.root(), false).unwrap(), Left::Unclean);
        mounted.mount("").unwrap();
        mounted.check();
    }

    fn what_cannot_be_mounted_is_said_in_one_sentence() {
        let mut mounted = Mounted::new();
        let said = mounted_twice(&mounted);
        assert!(said.contains("is in use by process"), "{said}");
        mounted.unmount();
        let refused = |pool: &str, directory: &str, options: &str| {
            let program = std::env::current_exe().unwrap();
            let program = program.parent().unwrap().parent().unwrap().join("examples/mount");
            let here = mounted.pool();
            let output = std::process::Command::new(program)
                .current_dir(here.parent().unwrap())
                .args([pool, directory, options])
                .output()
                .unwrap();
            assert!(!output.status.success());
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(said.lines().count(), 1, "{said}");
            said
        };
        fs::write(mounted.pool().with_file_name("text"), vec![b'x'; 1 << 20]).unwrap();
        assert!(refused("pool", "missing", "").contains("does not exist; make it first"));
        assert!(refused("pool", "text", "").contains("not a directory"));
        assert!(refused("missing", "mnt", "").contains("check the path"));
        assert!(refused("text", "mnt", "").contains("not a VexFS pool"));
        assert!(refused("pool", "mnt", "fast").contains("unknown mount option \"fast\""));
        assert!(mount_table::at(&mounted.root()).unwrap().is_none());
        let pool = open(&mounted.pool());
        for block in [1, 2, 1025, 1026] {
            pool.write_all_at(&[0xff; 64], block * 4096 + 100).unwrap();
        }
        assert!(refused("pool", "mnt", "").contains("superblock is damaged"));
    }

    fn a_read_only_mount_refuses_every_change_and_writes_nothing() {
        let mut mounted = Mounted::new();
        mounted.write("f", "bytes");
        mounted.unmount();
        let before = fs::read(mounted.pool()).unwrap();
        mounted.mount("ro").unwrap();
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"bytes");
        assert_eq!(errno(fs::write(mounted.at("f"), "")), libc::EROFS);
        assert_eq!(errno(fs::remove_file(mounted.at("f"))), libc::EROFS);
        mounted.unmount();
        assert!(fs::read(mounted.pool()).unwrap() == before);
    }

    fn options_of_the_kernel_arrive() {
        let mounted = Mounted::with("noexec,nosuid,nodev,threads=1");
        mounted.run("cp /bin/true t && mknod n c 1 3");
        assert!(mounted.run_as(0, 0, "./t").is_err());
        assert!(mounted.run_as(0, 0, "cat n").is_err());
    }

    fn a_damaged_file_is_an_error_and_the_rest_goes_on() {
        let mut mounted = Mounted::new();
        let marked = vec![0xa7; 1 << 20];
        mounted.write("bad", &marked);
        mounted.write("good", "fine");
        mounted.unmount();
        let mut bytes = fs::read(mounted.pool()).unwrap();
        let at = bytes.windows(4096).position(|window| window == &marked[..4096]).unwrap();
        bytes[at] ^= 1;
        fs::write(mounted.pool(), &bytes).unwrap();
        mounted.mount("").unwrap();
        assert_eq!(errno(fs::read(mounted.at("bad"))), libc::EIO);
        assert_eq!(fs::read(mounted.at("good")).unwrap(), b"fine");
    }

    fn the_server_keeps_no_privileges() {
        let mounted = Mounted::new();
        let pool = fs::canonicalize(mounted.pool()).unwrap();
        let servers: Vec<_> = vexfs_fuse::unmount::users_of(&pool).into_iter().filter(|user| user.command == "mount").collect();
        let [server] = servers.as_slice() else {
            panic!("{servers:?}");
        };
        for thread in fs::read_dir(format!("/proc/{}/task", server.process)).unwrap() {
            let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            for wanted in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
                assert!(status.contains(wanted), "{wanted} in {status}");
            }
        }
        let root = format!("/proc/{}/root", server.process);
        assert_eq!(fs::read_dir(root).unwrap().count(), 1);
    }
}

fn mounted_twice(mounted: &Mounted) -> String {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().unwrap().parent().unwrap().join("examples/mount");
    let other = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(program)
        .arg(mounted.pool())
        .arg(other.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}
