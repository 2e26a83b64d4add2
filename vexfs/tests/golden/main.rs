// SPDX-License-Identifier: MIT OR Apache-2.0

//! The format stays what it is: pools of earlier engines open and hold what they held, and no byte of the format changes
//! by accident.
//!
//! | file | what it is |
//! |---|---|
//! | `v<version>.img.zst` | a pool that an engine of that version made, compressed |
//! | `v<version>.txt` | everything in it, as text |
//! | `fingerprint.txt` | one example of each encoded structure of the present version |
//!
//! Until the format is released, a wanted change is made known with
//! `VEXFS_REGENERATE=1 cargo test -p vexfs --test golden`, which writes the files of the present version anew. After that, a
//! wanted change gets a new version number in the superblock first: the same command then adds a pool of the new version,
//! and those of the old ones stay.

#![expect(clippy::unwrap_used, reason = "a test: what cannot happen may panic")]

mod describe;
mod fingerprint;
#[path = "../hostile/images.rs"]
#[expect(dead_code, reason = "shared with the tests of hostile pools, which use all of it")]
mod images;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use vexfs::check::assert_sound;
use vexfs::disk::{Disk, MemDisk};
use vexfs::pool::{Access, Survey};
use vexfs::units::Ino;

const WHAT_TO_DO: &str = "the format changed. If that was not wanted, undo it. If it was: after a release, raise the version \
     in vexfs/src/pool/superblock and teach the engine to open the old one; then, or before a release, run \
     VEXFS_REGENERATE=1 cargo test -p vexfs --test golden, and look at what it changed";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn regenerating() -> bool {
    std::env::var_os("VEXFS_REGENERATE").is_some()
}

/// Compares a text with a file of it, or writes the file.
fn compare(file: &str, text: &str) {
    let path = directory().join(file);
    if regenerating() {
        fs::write(path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differing = expected
        .lines()
        .zip(text.lines())
        .find(|(expected, found)| expected != found);
    assert!(
        expected == text,
        "{WHAT_TO_DO}.\n{file}, first difference:\n  was {:?}\n  is  {:?}",
        differing.map(|pair| pair.0),
        differing.map(|pair| pair.1)
    );
}

/// The version that this engine makes.
fn version() -> u32 {
    let disk = images::format(16);
    let block = Survey::of(&disk).newest().unwrap().encode();
    u32::from_le_bytes(block[8..12].try_into().unwrap())
}

/// A pool with something of everything: files in the tables, in the journal, in both, orphans, what was removed.
fn generate() -> MemDisk {
    let disk = Arc::new(images::format(16));
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
    let fs = images::mount(&shared, Access::ReadWrite).unwrap();
    images::every_kind(&fs, Ino::ROOT, lines);
    let many = fs
        .create(Ino::ROOT, b"many", &images::new(vexfs::fs::record::Kind::Directory))
        .unwrap()
        .ino;
    for number in 0..200 {
        let name = format!("file {number}");
        let ino = fs
            .create(many, name.as_bytes(), &images::new(vexfs::fs::record::Kind::File))
            .unwrap()
            .ino;
        fs.write(ino, 0, name.as_bytes(), images::NOW).unwrap();
        if number % 40 == 0 {
            fs.checkpoint().unwrap();
        }
    }
    for number in (0..200).step_by(3) {
        fs.unlink(many, format!("file {number}").as_bytes(), images::NOW)
            .unwrap();
    }
    fs.checkpoint().unwrap();
    let journal = fs
        .create(Ino::ROOT, b"journal", &images::new(vexfs::fs::record::Kind::Directory))
        .unwrap()
        .ino;
    images::every_kind(&fs, journal, lines);
    let ino = fs.lookup(Ino::ROOT, b"clone of plain").unwrap().ino;
    fs.hold(ino).unwrap();
    fs.unlink(Ino::ROOT, b"clone of plain", images::NOW).unwrap();
    fs.flush().unwrap();
    drop((fs, shared));
    disk.snapshot()
}

/// Numbered lines: the image must compress well, and no block be like another.
fn lines(length: usize, seed: u64) -> Vec<u8> {
    let lines = (0..).flat_map(|number: u64| format!("line {number} of {seed}\n").into_bytes());
    lines.take(length).collect()
}

fn versions() -> Vec<String> {
    let files = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut versions: Vec<String> = files
        .filter_map(|name| name.strip_suffix(".img.zst").map(str::to_owned))
        .collect();
    versions.sort();
    versions
}

#[test]
fn pools_of_every_version_open_and_hold_what_they_held() {
    let present = format!("v{}", version());
    if regenerating() {
        let disk = generate();
        let mut bytes = vec![0; usize::try_from(disk.size_bytes()).unwrap()];
        disk.read(0, &mut bytes).unwrap();
        let packed = zstd::bulk::compress(&bytes, 19).unwrap();
        assert!(
            packed.len() < 100 << 10,
            "{} bytes are too many for the repository",
            packed.len()
        );
        fs::write(directory().join(format!("{present}.img.zst")), packed).unwrap();
    }
    assert!(versions().contains(&present), "no pool of {present}: {WHAT_TO_DO}");
    for version in versions() {
        let packed = fs::read(directory().join(format!("{version}.img.zst"))).unwrap();
        let bytes = zstd::bulk::decompress(&packed, 64 << 20).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::from_bytes(&bytes));
        assert_sound(Arc::clone(&disk)).unwrap();
        let as_found = describe::all(&images::mount(&disk, Access::ReadOnly).unwrap());
        compare(&format!("{version}.txt"), &as_found);
        // Opened for writing, closed, opened again: the orphans went, the files did not.
        images::mount(&disk, Access::ReadWrite).unwrap().close().unwrap();
        let closed = describe::all(&images::mount(&disk, Access::ReadWrite).unwrap());
        let files = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with('/'))
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(files(&as_found), files(&closed), "{version}");
    }
}

#[test]
fn a_present_pool_describes_itself_as_the_golden_one() {
    let disk: Arc<dyn Disk> = Arc::new(generate());
    compare(
        &format!("v{}.txt", version()),
        &describe::all(&images::mount(&disk, Access::ReadOnly).unwrap()),
    );
}

#[test]
fn no_byte_of_the_format_changes_by_accident() {
    compare("fingerprint.txt", &fingerprint::all());
}
