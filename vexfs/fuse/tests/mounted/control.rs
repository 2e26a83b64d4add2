// SPDX-License-Identifier: MIT OR Apache-2.0

//! The control socket of a mount: from inside the sandbox, and with a kernel that caches.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;

use nix::sys::signal::Signal;
use vexfs_control::client::Client;
use vexfs_control::handler::{Call, Copy};
use vexfs_control::place::sockets;
use vexfs_control::status::{Number, Status};

use crate::support::{Mapping, Mounted, open, stat};

/// Copies of a tree that is written all the while.
const ROUNDS: u8 = 12;

fn client(mounted: &Mounted) -> Client {
    let found = sockets(&mounted.sockets()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    Client::new(&found[0])
}

/// How often an operation was served.
fn served(status: &Status, operation: &str) -> u64 {
    match status.metrics.get("vexfs_fuse_operation_seconds") {
        Some(Number::Labelled(operations)) => match operations.get(operation) {
            Some(Number::Times(times)) => times.count,
            None => 0,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

mounted_tests! {
    fn who_serves_and_what_it_did_is_told_until_it_ends() {
        let mut mounted = Mounted::with("noatime");
        let before = client(&mounted).status().unwrap();
        mounted.run("for n in 1 2 3; do mkdir d$n; done; rmdir d2");
        let after = client(&mounted).status().unwrap();
        assert_eq!(after.server.facts.mount_point.as_deref(), mounted.root().to_str());
        assert_eq!(after.server.facts.options, ["noatime"]);
        assert_eq!(served(&after, "mkdir") - served(&before, "mkdir"), 3);
        assert_eq!(served(&after, "rmdir") - served(&before, "rmdir"), 1);
        mounted.unmount();
        assert!(sockets(&mounted.sockets()).unwrap().is_empty());

        mounted.mount("").unwrap();
        mounted.signal(Signal::SIGKILL);
        mounted.ended();
        mounted.mount("ro").unwrap();
        assert_eq!(client(&mounted).status().unwrap().pool.mode, "read-only");
    }

    fn a_copy_has_all_that_was_written_and_shows_where_the_kernel_knew_of_nothing() {
        for options in ["", "writeback"] {
            let mut mounted = Mounted::with(options);
            mounted.run("mkdir tree; mkdir tree/deep; echo one >tree/deep/file");
            // What the kernel now believes of the name, the listing and the directory.
            assert!(!mounted.at("copy").exists());
            assert_eq!(fs::read_dir(mounted.root()).unwrap().count(), 1);
            let links = stat(&mounted.root()).len();
            let mut file = fs::File::options().append(true).open(mounted.at("tree/deep/file")).unwrap();
            file.write_all(b"two\n").unwrap();

            let copy = Copy { source: "/tree".into(), copy: "/copy".into() };
            let made = client(&mounted).call(&Call::Snapshot(copy.clone())).unwrap();
            file.write_all(b"three\n").unwrap();

            assert_eq!(fs::read(mounted.at("copy/deep/file")).unwrap(), b"one\ntwo\n", "{options}");
            assert_eq!(fs::read_dir(mounted.root()).unwrap().count(), 2);
            assert_eq!(made["inode"], std::os::unix::fs::MetadataExt::ino(&stat(&mounted.at("copy"))));
            assert!(stat(&mounted.root()).len() >= links);
            let again = client(&mounted).call(&Call::Snapshot(copy)).unwrap_err();
            assert!(again.to_string().contains("/copy"), "{again}");
            drop(file);
            mounted.check();
        }
    }

    /// The kernel says of a file that it is clean, and a sync of the mount ends, while its WRITE requests are still queued.
    fn a_copy_has_the_last_bytes_of_many_files_that_stay_open_and_of_mappings() {
        const FILES: usize = 8;
        const BYTES: usize = 1 << 20;
        for options in ["", "writeback"] {
            let mut mounted = Mounted::with(options);
            mounted.run("mkdir -p tree/some/deep tree/empty");
            let names: Vec<String> = (0..FILES).map(|n| format!("{}file {n}", ["", "some/", "some/deep/"][n % 3])).collect();
            let files: Vec<fs::File> = names.iter().map(|name| open(&mounted.write(&format!("tree/{name}"), vec![0; BYTES]))).collect();
            // Half of them are changed through a mapping, as any program may.
            let mut mappings: Vec<Mapping> = files[FILES / 2..].iter().map(|file| Mapping::of(file, BYTES)).collect();
            for round in 1..=ROUNDS {
                for file in &files[..FILES / 2] {
                    file.write_all_at(&vec![round; BYTES], 0).unwrap();
                }
                for mapping in &mut mappings {
                    mapping.bytes().fill(round);
                }
                let copy = Copy { source: "/./tree/some/..//".into(), copy: "/copy".into() };
                client(&mounted).call(&Call::Snapshot(copy)).unwrap();
                for name in &names {
                    let copied = fs::read(mounted.at("copy").join(name)).unwrap();
                    let old = copied.iter().filter(|&&byte| byte != round).count();
                    assert_eq!((copied.len(), old), (BYTES, 0), "{name}, round {round}, {options:?}");
                }
                fs::remove_dir_all(mounted.at("copy")).unwrap();
            }
            drop((files, mappings));
            mounted.check();
        }
    }
}
