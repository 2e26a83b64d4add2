// SPDX-License-Identifier: MIT OR Apache-2.0

//! Extended attributes.

use nix::libc;

use crate::support::{Mounted, errno, get_xattr, get_xattr_into, remove_xattr, set_xattr};

mounted_tests! {
    fn a_value_of_any_size_is_kept_and_a_buffer_that_is_too_small_is_refused() {
        let mut mounted = Mounted::new();
        let path = mounted.write("f", "");
        for size in [0, 1, 255, 4096, 40_000, 65_536] {
            set_xattr(&path, "user.v", &vec![5; size], 0).unwrap();
            assert!(get_xattr(&path, "user.v").unwrap() == vec![5; size]);
            assert_eq!(get_xattr_into(&path, "user.v", &mut []).unwrap(), size);
            if size > 1 {
                assert_eq!(errno(get_xattr_into(&path, "user.v", &mut vec![0; size - 1])), libc::ERANGE);
            }
        }
        assert_eq!(errno(set_xattr(&path, "user.v", &vec![5; 65_537], 0)), libc::E2BIG);
        mounted.unmount();
        mounted.mount("").unwrap();
        assert!(get_xattr(&path, "user.v").unwrap() == vec![5; 65_536]);
        mounted.check();
    }

    fn an_attribute_can_be_wanted_new_or_old() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        assert_eq!(errno(set_xattr(&path, "user.a", b"1", libc::XATTR_REPLACE)), libc::ENODATA);
        set_xattr(&path, "user.a", b"1", libc::XATTR_CREATE).unwrap();
        assert_eq!(errno(set_xattr(&path, "user.a", b"2", libc::XATTR_CREATE)), libc::EEXIST);
        set_xattr(&path, "user.a", b"2", libc::XATTR_REPLACE).unwrap();
        assert_eq!(get_xattr(&path, "user.a").unwrap(), b"2");
        remove_xattr(&path, "user.a").unwrap();
        assert_eq!(errno(remove_xattr(&path, "user.a")), libc::ENODATA);
        assert_eq!(errno(set_xattr(&path, "system.other", b"", 0)), libc::EOPNOTSUPP);
    }

    fn users_see_no_names_that_are_for_root() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "");
        mounted.run("chmod 666 f");
        set_xattr(&path, "trusted.t", b"1", 0).unwrap();
        set_xattr(&path, "user.u", b"1", 0).unwrap();
        assert_eq!(errno(set_xattr(&path, "security.capability", b"no capability", 0)), libc::EINVAL);
        let list = "python3 -c \"import os; print(os.listxattr('f'))\"";
        assert_eq!(mounted.run(list), "['trusted.t', 'user.u']\n");
        assert_eq!(mounted.run_as(1000, 1000, list).unwrap(), "['user.u']\n");
        assert!(mounted.run_as(1000, 1000, "python3 -c \"import os; os.getxattr('f', 'trusted.t')\"").is_err());
    }

    fn a_program_loses_its_capabilities_when_it_is_written_to() {
        let mounted = Mounted::new();
        let path = mounted.write("f", "program");
        // Version 2, effective, CAP_NET_BIND_SERVICE.
        let value = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for script in ["echo more >>f", "truncate -s 3 f", "chown 5 f; chown 0 f"] {
            set_xattr(&path, "security.capability", &value, 0).unwrap();
            assert_eq!(get_xattr(&path, "security.capability").unwrap(), value);
            mounted.run(script);
            assert_eq!(errno(get_xattr(&path, "security.capability")), libc::ENODATA, "{script}");
        }
    }
}
