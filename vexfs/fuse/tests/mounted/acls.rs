// SPDX-License-Identifier: MIT OR Apache-2.0

//! Access control lists: what new files inherit, how mode and list follow each other, and that the kernel keeps to them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::libc;

use crate::support::{Mounted, errno, get_xattr, mode, set_xattr};

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

mounted_tests! {
    fn a_named_user_may_what_the_list_and_the_mask_allow() {
        let mounted = Mounted::new();
        mounted.write("f", "secret");
        mounted.run("chmod 600 f && setfacl -m u:1000:rw f");
        assert_eq!(mounted.run_as(1000, 1000, "cat f").unwrap(), "secret");
        assert!(mounted.run_as(1001, 1001, "cat f").is_err());
        mounted.run("chmod g-w f");
        assert!(mounted.run_as(1000, 1000, "echo more >>f").is_err());
        assert_eq!(mounted.run_as(1000, 1000, "cat f").unwrap(), "secret");
        assert!(mounted.run("getfacl -nc f").contains("mask::r--"));
    }

    fn new_files_inherit_the_default_list_and_not_the_umask() {
        let mounted = Mounted::new();
        mounted.run("mkdir d && setfacl -d -m u:1000:rwx,g::rx,o::- d && umask 077 && mkdir d/sub && touch d/f");
        assert_eq!(mode(&mounted.at("d/f")), 0o660);
        assert_eq!(mode(&mounted.at("d/sub")), 0o770);
        let list = mounted.run("getfacl -nc d/f");
        assert!(list.contains("user:1000:rwx") && list.contains("mask::rw-"), "{list}");
        assert!(mounted.run("getfacl -nc d/sub").contains("default:user:1000:rwx"));
        assert_eq!(errno(get_xattr(&mounted.at("d/f"), DEFAULT)), libc::ENODATA);
    }

    fn without_a_default_list_the_umask_counts() {
        let mounted = Mounted::new();
        mounted.run("umask 027; touch f; mkdir d; mkfifo p");
        assert_eq!(mode(&mounted.at("f")), 0o640);
        assert_eq!(mode(&mounted.at("d")), 0o750);
        assert_eq!(mode(&mounted.at("p")), 0o640);
    }

    fn a_default_list_that_is_only_a_mode_leaves_new_files_without_a_list() {
        let mounted = Mounted::new();
        mounted.run("mkdir d && setfacl -d -m u::rwx,g::r,o::- d && touch d/f");
        assert_eq!(mode(&mounted.at("d/f")), 0o640);
        assert_eq!(errno(get_xattr(&mounted.at("d/f"), ACCESS)), libc::ENODATA);
    }

    fn a_list_that_says_no_more_than_a_mode_becomes_the_mode() {
        let mounted = Mounted::new();
        mounted.write("f", "");
        mounted.run("setfacl -m u:1000:rw f && setfacl -b f && setfacl -m u::rwx,g::r,o::x f");
        assert_eq!(mode(&mounted.at("f")), 0o741);
        assert_eq!(errno(get_xattr(&mounted.at("f"), ACCESS)), libc::ENODATA);
    }

    fn setting_a_list_takes_the_group_id_bit_from_who_is_not_in_the_group() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        std::os::unix::fs::chown(&path, Some(1000), Some(50)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2755)).unwrap();
        mounted.run_as(1000, 50, "setfacl -m u:7:r f").unwrap();
        assert_eq!(mode(&path) & 0o2000, 0o2000);
        mounted.run_as(1000, 1000, "setfacl -m u:8:r f").unwrap();
        assert_eq!(mode(&path) & 0o2000, 0);
    }

    fn what_is_no_list_is_refused() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        assert_eq!(errno(set_xattr(&path, ACCESS, b"\x02\0\0\0\x01\0\x07\0", 0)), libc::EINVAL);
        assert_eq!(errno(set_xattr(&path, DEFAULT, &list(), 0)), libc::EACCES);
        assert!(set_xattr(&path, ACCESS, &list(), 0).is_ok());
    }

    fn lists_outlive_the_mount() {
        let mut mounted = Mounted::new();
        mounted.run("mkdir d && setfacl -m u:1000:rx -d -m g:50:rwx d && getfacl -nc d >before");
        mounted.unmount();
        mounted.mount("").unwrap();
        assert_eq!(mounted.run("getfacl -nc d"), mounted.run("cat before"));
        mounted.check();
    }
}

/// The list that `u::rwx,g::rx,o::rx` is.
fn list() -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0];
    for (tag, permissions) in [(1u8, 7u8), (4, 5), (0x20, 5)] {
        out.extend([tag, 0, permissions, 0, 0xff, 0xff, 0xff, 0xff]);
    }
    out
}
