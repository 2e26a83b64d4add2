// SPDX-License-Identifier: MIT OR Apache-2.0

//! A tree of the machine's files as a value that can be compared, and one with everything that other programs copy.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};

use super::is_root;
use super::pool_tree::access_list;

/// Everything about one file that a copy must keep.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    size: u64,
    modified: (i64, i64),
    device: u64,
    target: PathBuf,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
    /// Much less is stored than the file is long.
    sparse: bool,
    same_as: PathBuf,
}

/// Everything below a directory, by path.
pub(crate) fn tree(top: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut inodes = HashMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        let kind = about.file_type();
        if kind.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let mut attributes = BTreeMap::new();
        let mut buffer = vec![0; 65_536];
        let names = llistxattr(&path, &mut buffer[..]).map_or_else(|_| Vec::new(), |length| buffer[..length].to_vec());
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let length = lgetxattr(&path, OsStr::from_bytes(name), &mut buffer[..]).unwrap();
            attributes.insert(name.to_vec(), buffer[..length].to_vec());
        }
        let inside = path.strip_prefix(top).unwrap().to_owned();
        inodes.insert(inside.clone(), about.ino());
        let device = kind.is_block_device() || kind.is_char_device();
        found.insert(
            inside,
            Entry {
                mode: about.mode(),
                owner: (about.uid(), about.gid()),
                links: if kind.is_dir() { 0 } else { about.nlink() },
                size: if kind.is_file() { about.len() } else { 0 },
                modified: (about.mtime(), about.mtime_nsec()),
                device: if device { about.rdev() } else { 0 },
                target: fs::read_link(&path).unwrap_or_default(),
                attributes,
                content: if kind.is_file() {
                    fs::read(&path).unwrap()
                } else {
                    Vec::new()
                },
                sparse: kind.is_file() && about.blocks() * 512 + 65_536 < about.len(),
                same_as: PathBuf::new(),
            },
        );
    }
    let mut firsts: HashMap<u64, PathBuf> = HashMap::new();
    for (path, entry) in &mut found {
        let first = firsts.entry(inodes[path]).or_insert_with(|| path.clone());
        entry.same_as.clone_from(first);
    }
    found
}

/// Makes a tree with everything that GNU tar copies.
pub(crate) fn make(top: &Path) {
    let deep = top.join("deep").join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(top.join("empty")).unwrap();
    fs::write(top.join("small"), "small").unwrap();
    fs::write(top.join("none"), "").unwrap();
    fs::write(deep.join("f".repeat(200)), vec![3; 1_100_000]).unwrap();
    fs::write(top.join("name-\u{e4}\u{4e2d}"), "utf-8").unwrap();
    fs::write(top.join(OsStr::from_bytes(b"bytes-\xff\x01 =\n")), "bytes").unwrap();
    fs::hard_link(top.join("small"), deep.join("again")).unwrap();
    symlink("../small", top.join("deep/link")).unwrap();
    symlink("x".repeat(300), top.join("long-link")).unwrap();
    fs::hard_link(top.join("long-link"), top.join("zz-long-link")).unwrap();
    let sparse = File::create(top.join("sparse")).unwrap();
    for at in [0, 3 << 20, 9 << 20] {
        sparse.write_all_at(&[5; 8192], at).unwrap();
    }
    sparse.set_len(12 << 20).unwrap();
    let many = File::create(top.join("sparse-many")).unwrap();
    for index in 0..40 {
        many.write_all_at(&[6; 4096], index * 65_536).unwrap();
    }
    many.write_all_at(b"odd end", 40 * 65_536).unwrap();
    File::create(top.join("only-hole")).unwrap().set_len(5 << 20).unwrap();
    mknod(&top.join("fifo"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o640), 0).unwrap();
    let set = |name: &str, key: &str, value: &[u8]| {
        lsetxattr(top.join(name), key, value, XattrFlags::empty()).unwrap();
    };
    set("small", "user.text", b"value");
    set("small", "user.bytes", b"\0\n=\xff");
    set("small", "user.eq=ual%3D", b"x");
    set("empty", "user.dir", &[9; 3000]);
    let list = [
        (1, 7, u32::MAX),
        (2, 5, 1234),
        (4, 5, u32::MAX),
        (8, 6, 4321),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ];
    set("none", "system.posix_acl_access", &access_list(&list));
    set("empty", "system.posix_acl_default", &access_list(&list));
    if is_root() {
        mknod(
            &top.join("null"),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(1, 3),
        )
        .unwrap();
        mknod(
            &top.join("disk"),
            SFlag::S_IFBLK,
            Mode::from_bits_truncate(0o660),
            makedev(259, 70_000),
        )
        .unwrap();
        set("small", "trusted.secret", b"root");
        std::os::unix::fs::lchown(top.join("small"), Some(1001), Some(2002)).unwrap();
        std::os::unix::fs::lchown(top.join("long-link"), Some(3_000_000), Some(7)).unwrap();
    }
    mode(&top.join("small"), 0o6751);
    mode(&top.join("empty"), 0o1777);
    mode(&deep, 0o2750);
    for (name, seconds, nanos) in [
        ("small", 1_000_000_000, 123_456_789),
        ("none", -5, 250_000_000),
        ("sparse", 5_000_000_000, 1),
        ("long-link", 86_400, 999_999_999),
        ("empty", 1, 0),
        ("deep", 1_234_567_890, 5),
        ("", 1_111_111_111, 7),
    ] {
        let time = TimeSpec::new(seconds, nanos);
        utimensat(
            nix::fcntl::AT_FDCWD,
            &top.join(name),
            &time,
            &time,
            UtimensatFlags::NoFollowSymlink,
        )
        .unwrap();
    }
}

fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
