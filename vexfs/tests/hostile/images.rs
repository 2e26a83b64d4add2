// SPDX-License-Identifier: MIT OR Apache-2.0

//! Real pools for damage to be done to. Each is made once per process; cases work on snapshots.

use std::sync::{Arc, OnceLock};

use vexfs::disk::{Disk, MemDisk, SplitMix64};
use vexfs::fs::record::{FileFlags, Kind, Timestamp};
use vexfs::fs::state::CacheLimits;
use vexfs::fs::vectors::NewSpace;
use vexfs::fs::vectors::space::{Element, Field, FieldKind, Metric, Shape};
use vexfs::fs::{Fs, MountOptions, NewFile, Preallocation, SetAttributes};
use vexfs::pool::format::{FormatOptions, Seeds, format_disk};
use vexfs::pool::heartbeat::Owner;
use vexfs::pool::{Access, Host, HostCache, OpenError, OpenOptions, Pool};
use vexfs::units::Ino;

/// The time of everything.
pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_123_456_789);

/// Which pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// Just formatted.
    Fresh,
    /// Files of every kind, an orphan, deep directories; some in the tables, some in the journal.
    Rich,
    /// After many checkpoints and compactions: tables on several levels, tombstones.
    Aged,
    /// Nearly everything in the journal.
    Journal,
    /// Nearly full.
    Full,
}

impl Image {
    /// Every pool.
    pub(crate) const ALL: [Self; 5] = [Self::Fresh, Self::Rich, Self::Aged, Self::Journal, Self::Full];

    /// A copy of the pool.
    pub(crate) fn snapshot(self) -> MemDisk {
        static MADE: [OnceLock<MemDisk>; 5] = [const { OnceLock::new() }; 5];
        MADE[self as usize].get_or_init(|| self.make()).snapshot()
    }

    fn make(self) -> MemDisk {
        let disk = Arc::new(format(if self == Self::Aged { 32 } else { 16 }));
        let shared: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
        match self {
            Self::Fresh => {}
            Self::Rich => rich(&mount(&shared, Access::ReadWrite).unwrap()),
            Self::Aged => aged(mount(&shared, Access::ReadWrite).unwrap()),
            Self::Journal => journal(&mount(&shared, Access::ReadWrite).unwrap()),
            Self::Full => full(&mount(&shared, Access::ReadWrite).unwrap()),
        }
        drop(shared);
        disk.snapshot()
    }
}

/// An empty pool.
pub(crate) fn format(mib: u64) -> MemDisk {
    let disk = MemDisk::new(mib << 20);
    format_disk(&disk, &FormatOptions::default(), &Seeds::from_number(mib), &host()).unwrap();
    disk
}

/// A machine, always the same, at a fixed time.
pub(crate) fn host() -> Host {
    Host {
        identity: Owner {
            machine_id: [1; 16],
            boot_id: [2; 16],
            process: 3,
            host_name: "test".into(),
        },
        now: || vexfs::pool::Timestamp {
            seconds: 1_700_000_000,
            nanos: 5,
        },
    }
}

/// Opens a pool the way that uses no thread and little memory.
pub(crate) fn mount(disk: &Arc<dyn Disk>, access: Access) -> Result<Fs, OpenError> {
    let options = OpenOptions {
        host: host(),
        ..OpenOptions::new(access)
    };
    let pool = Pool::open_disk(Arc::clone(disk), &options)?;
    Fs::mount(
        pool,
        &MountOptions {
            read_only: access == Access::ReadOnly,
            background: false,
            caches: CacheLimits { names: 512, rows: 256 },
            page_cache_bytes: 512 << 10,
            keep_session: false,
            host_cache: HostCache::Used,
        },
    )
}

/// A new file of a kind.
pub(crate) fn new(kind: Kind) -> NewFile<'static> {
    NewFile {
        kind,
        permissions: 0o640,
        uid: 1000,
        gid: 100,
        device: 0x0801,
        target: if kind == Kind::Symlink { b"../some/where" } else { b"" },
        now: NOW,
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SplitMix64::new(seed).fill(&mut bytes);
    bytes
}

/// Bytes that do.
pub(crate) fn text(length: usize) -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog, "
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn file(fs: &Fs, parent: Ino, name: &str, content: &[u8]) -> Ino {
    let ino = fs.create(parent, name.as_bytes(), &new(Kind::File)).unwrap().ino;
    fs.write(ino, 0, content, NOW).unwrap();
    ino
}

fn set_flags(fs: &Fs, ino: Ino, flags: u32) {
    let set = SetAttributes {
        flags: Some(FileFlags(flags)),
        now: NOW,
        ..SetAttributes::default()
    };
    fs.set_attributes(ino, &set).unwrap();
}

/// Files of every kind.
pub(crate) fn every_kind(fs: &Fs, parent: Ino, noise: fn(usize, u64) -> Vec<u8>) {
    file(fs, parent, "inline", b"a few bytes");
    let plain = file(fs, parent, "plain", &noise(300_000, 1));
    for (name, flags) in [
        ("lz4", FileFlags::COMPRESS.0),
        ("zstd", FileFlags::COMPRESS.0 | FileFlags::ZSTD.0),
        ("bare", FileFlags::NO_CHECKSUM.0),
    ] {
        let ino = file(fs, parent, name, b"");
        set_flags(fs, ino, flags);
        fs.write(ino, 0, &text(200_000), NOW).unwrap();
        fs.write(ino, 30_000, &noise(5000, 2), NOW).unwrap();
    }
    let sparse = file(fs, parent, "sparse", b"");
    fs.truncate(sparse, 1 << 50, NOW).unwrap();
    for at in [0, 10 << 20, 1 << 40, (1 << 50) - 10] {
        fs.write(sparse, at, b"island", NOW).unwrap();
    }
    let promised = file(fs, parent, "promised", &noise(10_000, 3));
    fs.preallocate(promised, Preallocation::Allocate { keep_size: true }, 0, 200_000, NOW)
        .unwrap();
    fs.preallocate(promised, Preallocation::Punch, 4096, 4096, NOW).unwrap();
    let packed = fs.lookup(parent, b"lz4").unwrap().ino;
    fs.clone_tree(packed, parent, b"clone of lz4", NOW).unwrap();
    fs.preallocate(packed, Preallocation::Collapse, 8192, 12_288, NOW)
        .unwrap();
    let clone = fs.clone_tree(plain, parent, b"clone of plain", NOW).unwrap().ino;
    fs.write(clone, 100_000, &noise(9000, 4), NOW).unwrap();
    fs.link(plain, parent, b"link to plain", NOW).unwrap();
    for (name, kind) in [
        ("fifo", Kind::Fifo),
        ("socket", Kind::Socket),
        ("block", Kind::Block),
        ("character", Kind::Character),
        ("symlink", Kind::Symlink),
        ("directory", Kind::Directory),
    ] {
        fs.create(parent, name.as_bytes(), &new(kind)).unwrap();
    }
    let set = |name: &str, value: &[u8]| fs.set_xattr(plain, name.as_bytes(), value, 0, NOW).unwrap();
    set("user.small", b"value");
    set("user.empty", b"");
    set("user.large", &noise(20_000, 5));
    set("trusted.text", &text(700));
    let shape = Shape::new(8, Element::F16, Metric::Cosine).unwrap();
    let space = NewSpace {
        name: b"kinds",
        shape,
        effort: 3,
        fields: &[Field::new(FieldKind::Text, b"user.small".as_slice())],
        now: NOW,
    };
    if fs.space(b"kinds").is_err() {
        fs.create_space(&space).unwrap();
    }
    set("user.vexfs.vec.kinds", &[1; 48]);
    fs.seal_vectors().unwrap();
    fs.index_vectors().unwrap();
    // One of the slab is dead, one vector grows.
    set("user.vexfs.vec.kinds", &[2; 16]);
}

fn deep(fs: &Fs, levels: usize) {
    let mut at = Ino::ROOT;
    for level in 0..levels {
        let name = format!("level {level}");
        at = fs.create(at, name.as_bytes(), &new(Kind::Directory)).unwrap().ino;
    }
    file(fs, at, "bottom", &text(5000));
}

fn orphan(fs: &Fs, name: &str, content: &[u8]) {
    let ino = file(fs, Ino::ROOT, name, content);
    fs.hold(ino).unwrap();
    fs.unlink(Ino::ROOT, name.as_bytes(), NOW).unwrap();
}

fn rich(fs: &Fs) {
    every_kind(fs, Ino::ROOT, noise);
    deep(fs, 40);
    orphan(fs, "orphan in the tables", &noise(100_000, 6));
    fs.checkpoint().unwrap();
    let second = fs.create(Ino::ROOT, b"second", &new(Kind::Directory)).unwrap().ino;
    every_kind(fs, second, noise);
    fs.unlink(Ino::ROOT, b"fifo", NOW).unwrap();
    orphan(fs, "orphan in the journal", &noise(50_000, 7));
    fs.flush().unwrap();
}

fn aged(fs: Fs) {
    let long = "x".repeat(150);
    every_kind(&fs, Ino::ROOT, noise);
    for round in 0..6 {
        let name = format!("directory {round}");
        let at = fs
            .create(Ino::ROOT, name.as_bytes(), &new(Kind::Directory))
            .unwrap()
            .ino;
        for number in 0..1600 {
            let name = format!("{number} {long}");
            let ino = fs.create(at, name.as_bytes(), &new(Kind::File)).unwrap().ino;
            if number % 8 == 0 {
                fs.write(ino, 0, b"some bytes of their own", NOW).unwrap();
            }
        }
        fs.checkpoint().unwrap();
        for number in (0..1600).step_by(5) {
            let name = format!("{number} {long}");
            fs.unlink(at, name.as_bytes(), NOW).unwrap();
        }
        fs.checkpoint().unwrap();
    }
    fs.close().unwrap();
}

fn journal(fs: &Fs) {
    fs.checkpoint().unwrap();
    every_kind(fs, Ino::ROOT, noise);
    let mut number = 0;
    // Half of the ring is what a checkpoint waits for.
    while fs.statistics().journal_bytes < 480 << 10 {
        let name = format!("file {number}");
        let ino = file(fs, Ino::ROOT, &name, &noise(100 + number % 7 * 3000, number as u64));
        if number % 5 == 0 {
            fs.truncate(ino, 10, NOW).unwrap();
        }
        if number % 7 == 0 {
            fs.unlink(Ino::ROOT, name.as_bytes(), NOW).unwrap();
        }
        if number % 64 == 0 {
            fs.flush().unwrap();
        }
        number += 1;
        if fs.statistics().free_blocks < 600 {
            break;
        }
    }
}

fn full(fs: &Fs) {
    every_kind(fs, Ino::ROOT, noise);
    let filler = file(fs, Ino::ROOT, "filler", b"");
    let content = noise(1 << 16, 8);
    let mut at = 0;
    while fs
        .write(filler, at, &content, NOW)
        .is_ok_and(|count| count == content.len())
    {
        at += content.len() as u64;
    }
    fs.checkpoint().unwrap();
    file(fs, Ino::ROOT, "last", b"in the journal");
}
