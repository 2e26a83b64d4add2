// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names: moves with flags, links, files without names.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;

use crate::support::{Mounted, errno, eventually, open, stat};

fn rename(mounted: &Mounted, from: &str, to: &str, flags: RenameFlags) -> Result<(), i32> {
    let (from, to) = (mounted.at(from), mounted.at(to));
    renameat2(AT_FDCWD, &from, AT_FDCWD, &to, flags).map_err(|errno| errno as i32)
}

mounted_tests! {
    fn a_move_without_replacing_leaves_what_is_there() {
        let mounted = Mounted::new();
        mounted.write("a", "a");
        mounted.write("b", "b");
        assert_eq!(rename(&mounted, "a", "b", RenameFlags::RENAME_NOREPLACE), Err(libc::EEXIST));
        rename(&mounted, "a", "c", RenameFlags::RENAME_NOREPLACE).unwrap();
        assert_eq!(fs::read(mounted.at("c")).unwrap(), b"a");
        assert!(!mounted.at("a").exists());
    }

    fn an_exchange_needs_both_names() {
        let mounted = Mounted::new();
        mounted.write("a", "a");
        assert_eq!(rename(&mounted, "a", "b", RenameFlags::RENAME_EXCHANGE), Err(libc::ENOENT));
        mounted.write("b", "b");
        rename(&mounted, "a", "b", RenameFlags::RENAME_EXCHANGE).unwrap();
        assert_eq!(fs::read(mounted.at("a")).unwrap(), b"b");
        assert_eq!(fs::read(mounted.at("b")).unwrap(), b"a");
    }

    fn a_move_can_leave_a_whiteout() {
        let mut mounted = Mounted::new();
        mounted.write("a", "a");
        rename(&mounted, "a", "b", RenameFlags::RENAME_WHITEOUT).unwrap();
        let left = stat(&mounted.at("a"));
        assert!(left.file_type().is_char_device() && left.rdev() == 0);
        assert_eq!(fs::read(mounted.at("b")).unwrap(), b"a");
        mounted.check();
    }

    fn directories_replace_only_empty_directories() {
        let mounted = Mounted::new();
        mounted.run("mkdir -p a b/c; touch f");
        assert_eq!(errno(fs::rename(mounted.at("a"), mounted.at("b"))), libc::ENOTEMPTY);
        assert_eq!(errno(fs::rename(mounted.at("a"), mounted.at("f"))), libc::ENOTDIR);
        assert_eq!(errno(fs::rename(mounted.at("f"), mounted.at("a"))), libc::EISDIR);
        assert_eq!(errno(fs::rename(mounted.at("b"), mounted.at("b/c/d"))), libc::EINVAL);
        fs::rename(mounted.at("b"), mounted.at("a")).unwrap();
        assert!(mounted.at("a/c").is_dir());
        assert_eq!(errno(fs::remove_dir(mounted.at("a"))), libc::ENOTEMPTY);
        assert_eq!(errno(fs::hard_link(mounted.at("a"), mounted.at("l"))), libc::EPERM);
    }

    fn a_file_without_a_name_lives_as_long_as_it_is_open() {
        let mut mounted = Mounted::new();
        let path = mounted.write("f", vec![7; 3 << 20]);
        let free = || nix::sys::statvfs::statvfs(&mounted.root()).unwrap().blocks_free();
        let before = free();
        let mut file = open(&path);
        fs::remove_file(&path).unwrap();
        assert!(!path.exists());
        file.write_all_at(b"still here", 100).unwrap();
        file.seek(SeekFrom::Start(100)).unwrap();
        let mut bytes = [0; 10];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"still here");
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.set_len(50).unwrap();
        file.write_all(b"x").unwrap();
        drop(file);
        // The kernel forgets it, and its space comes back.
        eventually(|| (free() > before + 700).then_some(()));
        mounted.check();
    }

    fn a_directory_that_was_removed_can_still_be_looked_at() {
        let mounted = Mounted::new();
        fs::create_dir(mounted.at("d")).unwrap();
        let script = "cd d && rmdir ../d && ls -a . && if touch x 2>/dev/null; then exit 1; else true; fi";
        mounted.run(script);
    }

    fn a_file_that_was_replaced_stays_readable_for_who_has_it_open() {
        let mounted = Mounted::new();
        let old = open(&mounted.write("f", "old"));
        mounted.write("g", "new");
        fs::rename(mounted.at("g"), mounted.at("f")).unwrap();
        let mut bytes = [0; 3];
        old.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"old");
        assert_eq!(fs::read(mounted.at("f")).unwrap(), b"new");
    }

    fn symbolic_links_keep_what_they_were_given() {
        let mounted = Mounted::new();
        let long = "x/".repeat(500);
        symlink(&long, mounted.at("l")).unwrap();
        assert_eq!(fs::read_link(mounted.at("l")).unwrap().to_str().unwrap(), long);
        assert_eq!(stat(&mounted.at("l")).size(), 1000);
        symlink("f", mounted.at("s")).unwrap();
        mounted.write("f", "through");
        assert_eq!(fs::read(mounted.at("s")).unwrap(), b"through");
    }

    fn names_may_have_255_bytes_of_any_kind() {
        let mounted = Mounted::new();
        let long = "n".repeat(255);
        mounted.write(&long, "x");
        assert!(mounted.at(&long).exists());
        assert_eq!(errno(fs::write(mounted.at(&"n".repeat(256)), "")), libc::ENAMETOOLONG);
        mounted.run("touch \"$(printf 'a\\377\\001b')\" && rm \"$(printf 'a\\377\\001b')\"");
    }

    fn threads_that_make_and_remove_the_same_names_see_nothing_but_there_and_not_there() {
        let mut mounted = Mounted::new();
        fs::create_dir(mounted.at("d")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let directory = mounted.at("d");
                scope.spawn(move || {
                    for round in 0..200 {
                        let name = directory.join(format!("{}", round % 5));
                        let result = match thread % 4 {
                            0 => fs::write(&name, "x"),
                            1 => fs::remove_file(&name),
                            2 => fs::read(&name).map(drop),
                            _ => fs::rename(&name, directory.join(format!("{}", (round + 1) % 5))),
                        };
                        if let Err(error) = result {
                            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
                        }
                    }
                });
            }
        });
        mounted.check();
    }
}
