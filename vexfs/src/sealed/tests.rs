// SPDX-License-Identifier: MIT OR Apache-2.0

//! A tree with everything in it goes into an image and comes out as it was; whatever happens to the bytes of an image, it
//! is an error and no panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::layout::{self, Inode};
use super::read::Image;
use super::write::{self, Options, WriteError, Written};
use super::{check, forge, is_sealed};
use crate::disk::scratch::Scratch;
use crate::disk::{Disk, MemDisk};
use crate::error::{Errno, Error};
use crate::fs::record::{FileFlags, Kind, Timestamp};
use crate::fs::{Fs, MountOptions, NewFile, SetAttributes};
use crate::pool::format::{FormatOptions, Seeds, format_disk};
use crate::pool::{Access, Host, OpenOptions, Pool};
use crate::units::{BLOCK_SIZE, Ino};

const NOW: Timestamp = Timestamp(1_700_000_000_123_456_789);

fn new_pool(seed: u64) -> Fs {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(256 << 20));
    format_disk(
        &*disk,
        &FormatOptions::default(),
        &Seeds::from_number(seed),
        &Host::this(),
    )
    .unwrap();
    let pool = Pool::open_disk(disk, &OpenOptions::new(Access::ReadWrite)).unwrap();
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Fs::mount(pool, &options).unwrap()
}

fn make(fs: &Fs, parent: Ino, name: &str, kind: Kind, target: &[u8], device: u64) -> Ino {
    let new = NewFile {
        kind,
        permissions: 0o640,
        uid: 7,
        gid: 8,
        device,
        target,
        now: NOW,
    };
    fs.create(parent, name.as_bytes(), &new).unwrap().ino
}

fn file(fs: &Fs, parent: Ino, name: &str) -> Ino {
    make(fs, parent, name, Kind::File, b"", 0)
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|at| ((at * 31 + seed) % 251).to_le_bytes()[0])
        .collect()
}

fn write_all(fs: &Fs, ino: Ino, at: u64, bytes: &[u8]) {
    let mut done = 0;
    while done < bytes.len() {
        done += fs.write(ino, at + done as u64, &bytes[done..], NOW).unwrap();
    }
}

/// Every kind of file, and of contents.
fn fill(fs: &Fs) {
    let dir = make(fs, Ino::ROOT, "directory", Kind::Directory, b"", 0);
    let deep = make(fs, dir, "deep", Kind::Directory, b"", 0);
    make(fs, deep, "empty directory", Kind::Directory, b"", 0);
    let many = make(fs, Ino::ROOT, "many", Kind::Directory, b"", 0);
    for number in 0..700 {
        file(fs, many, &format!("{number}-{}", "n".repeat(number % 240)));
    }
    file(fs, dir, "empty");
    write_all(fs, file(fs, dir, "short"), 0, b"in the metadata");
    let long = file(fs, dir, "long");
    write_all(fs, long, 0, &pattern(3_000_000, 1));
    let again = file(fs, deep, "clone");
    fs.clone_range(long, 0, again, 0, 3_000_000, NOW).unwrap();
    write_all(fs, again, 40_000, b"changed");
    let holes = file(fs, dir, "holes");
    for number in 0..400_u64 {
        write_all(
            fs,
            holes,
            number * 3 * 4096,
            &pattern(5000, usize::try_from(number).unwrap()),
        );
    }
    fs.truncate(holes, 5_000_000_000, NOW).unwrap();
    let sparse = file(fs, dir, "sparse");
    write_all(fs, sparse, 1 << 50, b"far away");
    let packed = file(fs, dir, "compressed");
    let set = SetAttributes {
        flags: Some(FileFlags::COMPRESS),
        now: NOW,
        ..SetAttributes::default()
    };
    fs.set_attributes(packed, &set).unwrap();
    write_all(fs, packed, 0, &vec![b'x'; 500_000]);
    let packed_again = file(fs, deep, "compressed clone");
    fs.clone_range(packed, 0, packed_again, 0, 500_000, NOW).unwrap();
    make(fs, dir, "link", Kind::Symlink, b"short/target", 0);
    make(fs, dir, "long link", Kind::Symlink, &[b'l'; 4000], 0);
    make(fs, dir, "fifo", Kind::Fifo, b"", 0);
    make(fs, dir, "socket", Kind::Socket, b"", 0);
    make(fs, dir, "character", Kind::Character, b"", 0x0123_4567);
    make(fs, dir, "block", Kind::Block, b"", 0x701);
    fs.link(long, Ino::ROOT, b"another name", NOW).unwrap();
    fs.link(long, deep, b"one more", NOW).unwrap();
    for (ino, value) in [(long, 5), (deep, 5), (holes, 3000), (sparse, 65_536)] {
        fs.set_xattr(ino, b"user.some", &pattern(value, 3), 0, NOW).unwrap();
        fs.set_xattr(ino, b"user.z", b"last", 0, NOW).unwrap();
        fs.set_xattr(ino, b"trusted.t", b"", 0, NOW).unwrap();
    }
}

fn options() -> Options {
    Options {
        label: "all kinds".to_owned(),
        checksums: true,
    }
}

fn written(fs: &Fs, root: Ino, options: &Options) -> (Written, Vec<u8>) {
    let scratch = Scratch::new();
    let written = write::write(fs, root, options, scratch.path(), &mut |_| {}).unwrap();
    (written, std::fs::read(scratch.path()).unwrap())
}

fn open(bytes: &[u8]) -> Result<Image, Error> {
    Image::open(Box::new(MemDisk::from_bytes(bytes)))
}

/// What a file has besides its bytes, as text.
fn told(mode: u16, numbers: &[u64], times: [i64; 4], xattrs: &[(Vec<u8>, Vec<u8>)]) -> String {
    format!("{mode:o} {numbers:?} {times:?} {xattrs:?}")
}

/// Paths, and everything about each file of a pool.
fn of_pool(fs: &Fs, ino: Ino, path: &str, all: &mut BTreeMap<String, (String, Vec<u8>)>) {
    let found = fs.attributes(ino).unwrap();
    let inode = found.inode;
    let value = |name: Box<[u8]>| (name.to_vec(), fs.get_xattr(ino, &name).unwrap());
    let xattrs: Vec<_> = fs.list_xattrs(ino).unwrap().into_iter().map(value).collect();
    let device = if matches!(inode.kind(), Kind::Block | Kind::Character) {
        inode.device
    } else {
        0
    };
    let numbers = [
        inode.size,
        inode.links.into(),
        inode.uid.into(),
        inode.gid.into(),
        device,
    ];
    let times = [inode.accessed.0, inode.modified.0, inode.changed.0, inode.born.0];
    let mut content = Vec::new();
    match inode.kind() {
        Kind::File => {
            // Of a file that is too long to be read, both ends.
            for at in [0, inode.size.saturating_sub(4000)] {
                let mut piece = vec![0; 5_000_000];
                let count = fs.read(ino, at, &mut piece).unwrap();
                content.extend_from_slice(&piece[..count]);
            }
        }
        Kind::Symlink => content = fs.read_link(ino).unwrap(),
        Kind::Directory => {
            for entry in fs.list_all(ino).unwrap() {
                let name = String::from_utf8(entry.name.to_vec()).unwrap();
                of_pool(fs, entry.ino, &format!("{path}/{name}"), all);
            }
        }
        _ => {}
    }
    all.insert(path.to_owned(), (told(inode.mode, &numbers, times, &xattrs), content));
}

/// The same of an image.
fn of_image(image: &Image, inode: &Inode, path: &str, all: &mut BTreeMap<String, (String, Vec<u8>)>) {
    let kind = Kind::of_mode(inode.mode.get()).unwrap();
    let numbers = [
        inode.size.get(),
        inode.links.get().into(),
        inode.uid.get().into(),
        inode.gid.get().into(),
        inode.device.get().into(),
    ];
    let times = [&inode.accessed, &inode.modified, &inode.changed, &inode.born].map(|time| time.get());
    let mut content = Vec::new();
    match kind {
        Kind::File => {
            for at in [0, inode.size.get().saturating_sub(4000)] {
                let mut piece = vec![0; 5_000_000];
                let count = image.read(inode, at, &mut piece).unwrap();
                content.extend_from_slice(&piece[..count]);
            }
        }
        Kind::Symlink => content = image.target(inode).unwrap(),
        Kind::Directory => {
            image
                .list(inode, |name| {
                    let child = image.inode(name.ino)?;
                    assert_eq!(Kind::of_mode(child.mode.get()), Some(name.kind));
                    assert_eq!(image.lookup(inode, &name.name)?, name);
                    let text = String::from_utf8(name.name).unwrap();
                    of_image(image, &child, &format!("{path}/{text}"), all);
                    Ok(())
                })
                .unwrap();
        }
        _ => {}
    }
    let xattrs = image.xattrs(inode).unwrap();
    all.insert(
        path.to_owned(),
        (told(inode.mode.get(), &numbers, times, &xattrs), content),
    );
}

#[test]
fn a_tree_comes_out_of_an_image_as_it_went_in() {
    let fs = new_pool(7);
    fill(&fs);
    for checksums in [true, false] {
        let options = Options { checksums, ..options() };
        let (told, bytes) = written(&fs, Ino::ROOT, &options);
        assert!(is_sealed(&bytes));
        assert_eq!(told.bytes, bytes.len() as u64);
        let image = open(&bytes).unwrap();
        assert_eq!(image.label(), "all kinds");
        assert_eq!(image.head().uuid, told.uuid);
        let report = check::check(&image, &mut || {}).unwrap();
        assert_eq!(report.problems, []);
        assert_eq!(report.inodes, told.inodes);
        let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
        of_pool(&fs, Ino::ROOT, "", &mut expected);
        of_image(&image, &image.inode(layout::ROOT).unwrap(), "", &mut found);
        assert_eq!(expected.len(), found.len());
        for (path, expected) in &expected {
            assert!(found.get(path) == Some(expected), "{path}: {}", found[path].0);
        }
        for path in ["no", "directory/zz", "directory/a", "many/700-"] {
            let error = image.resolve(path.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Posix(Errno::NoEntry)), "{path}: {error}");
        }
        // What two files share is there once, and all holes are left out.
        assert!(bytes.len() < 9 << 20, "{} bytes", bytes.len());
    }
}

#[test]
fn the_same_tree_gives_the_same_bytes_wherever_it_lies_in_a_pool() {
    let (one, other) = (new_pool(7), new_pool(8));
    // Other numbers of inodes and blocks.
    for number in 0..50 {
        let ino = file(&other, Ino::ROOT, &format!("gone {number}"));
        write_all(&other, ino, 0, &pattern(100_000, number));
    }
    fill(&one);
    fill(&other);
    for number in 0..50 {
        other
            .unlink(Ino::ROOT, format!("gone {number}").as_bytes(), NOW)
            .unwrap();
    }
    let below = |fs: &Fs| fs.resolve(b"directory").unwrap().ino;
    let (first, bytes) = written(&one, below(&one), &options());
    let (again, same) = written(&one, below(&one), &options());
    assert!(first == again && bytes == same);
    let (second, other_bytes) = written(&other, below(&other), &options());
    assert!(first == second && bytes == other_bytes);
    // What has names outside the tree says how many it has inside.
    let image = open(&bytes).unwrap();
    assert_eq!(image.resolve(b"long").unwrap().links.get(), 2);
    assert!(check::check(&image, &mut || {}).unwrap().is_sound());
    let label = Options {
        label: "other".to_owned(),
        ..options()
    };
    let (labelled, _) = written(&one, below(&one), &label);
    assert_ne!(labelled.uuid, first.uuid);
}

#[test]
fn an_image_is_made_of_a_directory_and_replaces_only_what_was_complete() {
    let fs = new_pool(7);
    let ino = file(&fs, Ino::ROOT, "file");
    let scratch = Scratch::new();
    std::fs::write(scratch.path(), "was there").unwrap();
    let error = write::write(&fs, ino, &options(), scratch.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, WriteError::NotDirectory), "{error}");
    let label = Options {
        label: "l".repeat(65),
        ..options()
    };
    let error = write::write(&fs, Ino::ROOT, &label, scratch.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, WriteError::LongLabel), "{error}");
    assert_eq!(std::fs::read(scratch.path()).unwrap(), b"was there");
}

/// A small image of everything but long contents.
fn small() -> Vec<u8> {
    let fs = new_pool(7);
    let dir = make(&fs, Ino::ROOT, "directory", Kind::Directory, b"", 0);
    let holes = file(&fs, dir, "holes");
    for number in 0..8_u64 {
        write_all(&fs, holes, number * 3 * 4096, &pattern(5000, 5));
    }
    make(&fs, dir, "link", Kind::Symlink, b"target", 0);
    make(&fs, dir, "long link", Kind::Symlink, &[b'l'; 300], 0);
    for number in 0..60 {
        file(&fs, dir, &format!("{number}-{}", "n".repeat(100)));
    }
    fs.set_xattr(holes, b"user.some", &pattern(5000, 3), 0, NOW).unwrap();
    written(&fs, Ino::ROOT, &options()).1
}

#[test]
fn every_flipped_bit_is_found_and_every_shorter_image_refused() {
    let bytes = small();
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        match open(&damaged) {
            Err(error) => assert!(at < BLOCK_SIZE, "byte {at}: {error}"),
            Ok(image) => {
                let report = check::check(&image, &mut || {}).unwrap();
                assert!(!report.is_sound(), "byte {at} was not found");
            }
        }
    }
    for blocks in 0..bytes.len() / BLOCK_SIZE {
        assert!(open(&bytes[..blocks * BLOCK_SIZE]).is_err());
    }
    let mut unsealed = bytes;
    unsealed[..BLOCK_SIZE].fill(0);
    assert!(open(&unsealed).is_err());
}

/// Asks everything of an image that can be asked; only that it ends is looked at.
fn look_everywhere(image: &Image) {
    let _report = check::check(image, &mut || {});
    for ino in 0..image.head().inodes.get().min(200) + 2 {
        let Ok(inode) = image.inode(ino) else { continue };
        let _target = image.target(&inode);
        let _xattrs = image.xattrs(&inode);
        let _found = image.lookup(&inode, b"holes");
        let mut buffer = vec![0; 20_000];
        for at in [0, 4097, inode.size.get().saturating_sub(7)] {
            let _count = image.read(&inode, at, &mut buffer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_is_an_error_and_no_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1_usize..9), 1..6),
        in_metadata: bool,
        mend: bool,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        static SMALL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut bytes = SMALL.get_or_init(small).clone();
        let metadata: Vec<usize> = (0..bytes.len())
            .step_by(BLOCK_SIZE)
            .filter(|&at| at == 0 || bytes[at..].starts_with(&layout::HEAD_MAGIC.to_le_bytes()))
            .collect();
        for (place, value, length) in changes {
            let at = if in_metadata {
                // The first bytes of a block say most.
                metadata[place.index(metadata.len())] + 8 + place.index(600)
            } else {
                place.index(bytes.len())
            };
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(value);
        }
        if mend {
            forge::make_right(&mut bytes);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(image) = open(&bytes) {
            look_everywhere(&image);
        }
    }
}
