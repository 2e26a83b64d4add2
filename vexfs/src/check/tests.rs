// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damage of every kind, planted, found, mended; and damage by chance.

mod chance;
mod variants;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;

use super::records::Records;
use super::*;
use crate::disk::SimDisk;
use crate::error::Errno;
use crate::fs::op::xattr;
use crate::fs::record::{Kind, TotalsKey};
use crate::fs::vectors::NewSpace;
use crate::fs::vectors::space::{Element, Metric, Shape};
use crate::fs::{Fs, MountOptions, NewFile, Preallocation};
use crate::meta::base::BlockSource;
use crate::meta::{Key, Record, encode_key};
use crate::pool::format::{FormatOptions, Seeds, format_disk};
use crate::pool::{Host, OpenOptions};
use crate::units::Block;

const NOW: Timestamp = Timestamp(1_000_000_000);
const MIB: u64 = 16;

fn as_disk(disk: &Arc<SimDisk>) -> Arc<dyn Disk> {
    Arc::clone(disk) as Arc<dyn Disk>
}

fn open(disk: &Arc<SimDisk>, access: Access) -> Pool {
    Pool::open_disk(as_disk(disk), &OpenOptions::new(access)).unwrap()
}

fn mount(disk: &Arc<SimDisk>) -> Fs {
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Fs::mount(open(disk, Access::ReadWrite), &options).unwrap()
}

fn new_file(kind: Kind, target: &[u8]) -> NewFile<'_> {
    NewFile {
        kind,
        permissions: 0o644,
        uid: 1,
        gid: 2,
        device: 0,
        target,
        now: NOW,
    }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index / 5).to_le_bytes()[0]).collect()
}

/// A pool with something of everything: small and large files, a hole, promises, shared blocks, links of both kinds,
/// directories, attributes, a file that is to be removed. Closed.
fn sample() -> Arc<SimDisk> {
    let disk = Arc::new(SimDisk::new(MIB << 20, 1));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(7), &Host::this()).unwrap();
    fill(&mount(&disk));
    disk
}

fn fill(fs: &Fs) {
    let create =
        |parent, name: &[u8], kind, target: &[u8]| fs.create(parent, name, &new_file(kind, target)).unwrap().ino;
    let small = create(Ino::ROOT, b"small", Kind::File, b"");
    fs.write(small, 0, b"some bytes", NOW).unwrap();
    fs.set_xattr(small, b"user.note", b"value", xattr::CREATE, NOW).unwrap();
    let big = create(Ino::ROOT, b"big", Kind::File, b"");
    fs.write(big, 0, &bytes(40 * 4096), NOW).unwrap();
    let directory = create(Ino::ROOT, b"d", Kind::Directory, b"");
    let inner = create(directory, b"e", Kind::Directory, b"");
    let linked = create(inner, b"linked", Kind::File, b"");
    fs.link(linked, Ino::ROOT, b"link", NOW).unwrap();
    create(directory, b"symlink", Kind::Symlink, b"../small");
    for name in [&b"copy"[..], b"another copy"] {
        fs.clone_tree(big, directory, name, NOW).unwrap();
    }
    let promised = create(inner, b"promised", Kind::File, b"");
    fs.preallocate(promised, Preallocation::Allocate { keep_size: true }, 0, 1 << 16, NOW)
        .unwrap();
    let shape = Shape::new(2, Element::F32, Metric::L2).unwrap();
    for name in [&b"text"[..], b"more"] {
        let new = NewSpace {
            name,
            shape,
            effort: 0,
            fields: &[],
            now: NOW,
        };
        fs.create_space(&new).unwrap();
    }
    let set = |ino, value: &[u8]| fs.set_xattr(ino, b"user.vexfs.vec.text", value, 0, NOW).unwrap();
    set(small, &[7; 24]);
    set(big, &[8; 16]);
    fs.seal_vectors().unwrap();
    fs.index_vectors().unwrap();
    // One in a slab is dead, one grows.
    set(big, &[9; 8]);
    let doomed = create(Ino::ROOT, b"doomed", Kind::File, b"");
    fs.write(doomed, 0, &bytes(9000), NOW).unwrap();
    fs.hold(doomed).unwrap();
    fs.unlink(Ino::ROOT, b"doomed", NOW).unwrap();
    fs.clone().close().unwrap();
}

fn run(disk: &Arc<SimDisk>, repair: bool, verify_data: bool) -> Result<Report> {
    let access = if repair { Access::ReadWrite } else { Access::ReadOnly };
    let options = OpenOptions::new(access);
    let mut pool = Pool::open_disk(as_disk(disk), &options).map_err(|error| Damage::new("open", error))?;
    check(
        &mut pool,
        &mut CheckOptions {
            verify_data,
            rebuild_vectors: false,
            repair,
            memory_bytes: 1 << 20,
            max_issues: 1000,
            progress: &mut |_| ControlFlow::Continue(()),
        },
    )
}

fn names(issues: &[Issue]) -> BTreeSet<&'static str> {
    issues.iter().map(Issue::name).collect()
}

fn sentences(report: &Report) -> Vec<String> {
    report.issues.iter().map(|issue| report.describe(issue)).collect()
}

/// Gives the blocks from the end of the pool on, which nothing else uses.
struct FromTheEnd(Mutex<u64>);

impl BlockSource for FromTheEnd {
    fn take(&self, want: u32) -> Result<Run> {
        let mut end = self.0.lock();
        *end -= u64::from(want);
        Ok(Run::new(Block(*end), want))
    }

    fn give_back(&self, run: Run) {
        let mut end = self.0.lock();
        // What was taken last can be taken again; what lies behind it stays taken.
        if *end == run.start.0 {
            *end = run.end().0;
        }
    }
}

/// Changes records of a closed pool behind its back.
struct Plant {
    pool: Pool,
    records: Records,
}

impl Plant {
    fn new(disk: &Arc<SimDisk>) -> Self {
        let pool = open(disk, Access::ReadWrite);
        let superblock = pool.superblock();
        let blocks = superblock.total_blocks;
        let base = Base::open(as_disk(disk), blocks, &superblock.manifest, Settings::for_pool(blocks)).unwrap();
        let changes = Changes::new();
        Self {
            pool,
            records: Records { base, changes },
        }
    }

    fn raw(&mut self, key: Vec<u8>, value: Option<&[u8]>) {
        self.records.changes.insert(key, value.map(<[u8]>::to_vec));
    }

    fn put<K: Key, V: Record>(&mut self, key: &K, value: &V) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        self.raw(encode_key(key), Some(&bytes));
    }

    fn remove<K: Key>(&mut self, key: &K) {
        self.raw(encode_key(key), None);
    }

    fn get<K: Key, V: Record>(&self, key: &K) -> V {
        self.records.record(key).unwrap().unwrap()
    }

    fn edit<K: Key, V: Record>(&mut self, key: &K, change: impl FnOnce(&mut V)) {
        let mut value = self.get(key);
        change(&mut value);
        self.put(key, &value);
    }

    fn inode(&mut self, ino: Ino, change: impl FnOnce(&mut Inode)) {
        self.edit(&InodeKey { ino }, change);
    }

    fn totals(&mut self, change: impl FnOnce(&mut Totals)) {
        self.edit(&TotalsKey {}, change);
    }

    /// The inode of a path.
    fn ino(&self, path: &str) -> Ino {
        let mut at = Ino::ROOT;
        for name in path.split('/') {
            at = self.entry(at, name).1.ino;
        }
        at
    }

    fn cookie(&self, name: &str) -> u64 {
        crate::fs::name::cookie(&self.pool.superblock().name_hash_key, name.as_bytes())
    }

    fn entry(&self, directory: Ino, name: &str) -> (crate::fs::record::EntryKey, crate::fs::record::Entry) {
        let cookie = self.cookie(name);
        let key = crate::fs::record::EntryKey { directory, cookie };
        (key, self.get(&key))
    }

    fn add_entry(&mut self, directory: Ino, name: &str, ino: Ino, kind: Kind) {
        let cookie = self.cookie(name);
        let entry = crate::fs::record::Entry {
            ino,
            kind,
            chained: false,
            name: name.as_bytes().into(),
        };
        self.put(&crate::fs::record::EntryKey { directory, cookie }, &entry);
    }

    fn commit(mut self) {
        let source = FromTheEnd(Mutex::new(self.pool.superblock().total_blocks - self.used_at_the_end()));
        let mut change = self.records.base.begin(&source).unwrap();
        change
            .write_run(self.records.changes.iter().map(|(key, value)| (key, value.as_ref())))
            .unwrap();
        let prepared = change.prepare().unwrap();
        let manifest = prepared.manifest();
        std::mem::forget(prepared);
        self.pool.disk().sync().unwrap();
        self.pool.commit(|superblock| superblock.manifest = manifest).unwrap();
    }

    fn used_at_the_end(&self) -> u64 {
        let total = self.pool.superblock().total_blocks;
        let lowest = self.records.base.blocks_in_use().map(|run| run.start.0);
        lowest
            .filter(|start| *start > total / 2)
            .map(|start| total - start)
            .max()
            .unwrap_or(0)
    }
}

#[test]
fn a_pool_in_order_has_no_issues_closed_or_not() {
    let disk = sample();
    let report = run(&disk, false, true).unwrap();
    assert_eq!(sentences(&report), Vec::<String>::new());
    assert!(report.clean_after && report.is_sound());
    let fs = mount(&disk);
    fs.create(Ino::ROOT, b"new", &new_file(Kind::File, b"")).unwrap();
    drop(fs);
    let report = run(&disk, false, true).unwrap();
    assert_eq!(names(&report.issues), ["NotClosed"].into());
    assert_sound(as_disk(&disk)).unwrap();
    let fresh = Arc::new(SimDisk::new(MIB << 20, 1));
    format_disk(
        &*fresh,
        &FormatOptions::default(),
        &Seeds::from_number(7),
        &Host::this(),
    )
    .unwrap();
    assert_eq!(sentences(&run(&fresh, false, true).unwrap()), Vec::<String>::new());
    drop(mount(&fresh));
    assert_eq!(names(&run(&fresh, true, true).unwrap().issues), ["NotClosed"].into());
    assert_eq!(sentences(&run(&fresh, false, true).unwrap()), Vec::<String>::new());
}

#[test]
fn a_check_ends_when_it_is_told_to() {
    let mut pool = open(&sample(), Access::ReadOnly);
    let result = check(
        &mut pool,
        &mut CheckOptions {
            verify_data: false,
            rebuild_vectors: false,
            repair: false,
            memory_bytes: DEFAULT_MEMORY,
            max_issues: 10,
            progress: &mut |_| ControlFlow::Break(()),
        },
    );
    assert_eq!(result.unwrap_err().errno(), Errno::Interrupted.number());
}
