// SPDX-License-Identifier: MIT OR Apache-2.0

//! Records and operations of impossible content in pools that are right in every other way: written by the engine's own
//! tables and journal. What a table or a journal says is as hostile as any other byte.

use std::sync::Arc;

use parking_lot::Mutex;

use vexfs::codec::Writer as _;
use vexfs::disk::{Disk, MemDisk, SplitMix64};
use vexfs::error::{Errno, Error, Result};
use vexfs::journal::{self, Journal, Log, Verdict};
use vexfs::meta::base::{Base, BlockSource, Settings};
use vexfs::pool::{Access, OpenOptions, Pool};
use vexfs::units::{Block, Ino, Run, Seq};

use crate::images::{Image, host};
use crate::raw::{pick, spoil};
use crate::{limits, walk};

/// Blocks from the end of the pool, which nobody has used yet.
struct Top(Mutex<u64>);

impl BlockSource for Top {
    fn take(&self, want: u32) -> Result<Run> {
        let mut end = self.0.lock();
        *end = end.checked_sub(u64::from(want)).ok_or(Error::Posix(Errno::NoSpace))?;
        Ok(Run::new(Block(*end), want))
    }

    fn give_back(&self, _: Run) {}
}

fn open(disk: &Arc<dyn Disk>) -> Pool {
    let options = OpenOptions {
        host: host(),
        ..OpenOptions::new(Access::ReadWrite)
    };
    Pool::open_disk(Arc::clone(disk), &options).unwrap()
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn base_of(disk: &Arc<dyn Disk>, pool: &Pool) -> Base {
    let superblock = pool.superblock();
    let settings = Settings {
        page_cache_bytes: 1 << 20,
        ..Settings::for_pool(superblock.total_blocks)
    };
    Base::open(
        Arc::clone(disk),
        superblock.total_blocks,
        &superblock.manifest,
        settings,
    )
    .unwrap()
}

fn records(image: Image) -> Records {
    let disk: Arc<dyn Disk> = Arc::new(image.snapshot());
    let base = base_of(&disk, &open(&disk));
    let scan = base.scan(&[0], &[0xff]).unwrap();
    let all: Records = scan
        .map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap())
        .collect();
    // Of many alike, some: every kind is to be met often.
    let mut kinds = [0; 256];
    let mut random = SplitMix64::new(1);
    all.into_iter()
        .filter(|(key, _)| {
            kinds[usize::from(key[0])] += 1;
            kinds[usize::from(key[0])] < 60 || random.below(100) == 0
        })
        .collect()
}

/// Puts records into the tables of a pool.
fn put(disk: MemDisk, mut changed: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> MemDisk {
    let disk = Arc::new(disk);
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
    let mut pool = open(&shared);
    let base = base_of(&shared, &pool);
    let source = Top(Mutex::new(pool.superblock().total_blocks));
    changed.sort();
    changed.dedup_by(|one, other| one.0 == other.0);
    let mut change = base.begin(&source).unwrap();
    change.write_run(changed).unwrap();
    let prepared = change.prepare().unwrap();
    let manifest = prepared.manifest();
    pool.commit(|superblock| superblock.manifest = manifest).unwrap();
    base.install(prepared);
    drop((base, pool, shared));
    disk.snapshot()
}

const EXTREMES: [u64; 12] = [
    0,
    1,
    2,
    255,
    256,
    1 << 31,
    u32::MAX as u64,
    (1 << 46) - 1,
    1 << 51,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// A record that is not what it should be; none: it is missing.
fn forge(random: &mut SplitMix64, all: &Records) -> (Vec<u8>, Option<Vec<u8>>) {
    // Tags in equal parts, since most records are inodes and entries.
    let tag = 1 + random.below(8).to_le_bytes()[0];
    let of_tag: Vec<_> = all.iter().filter(|(key, _)| key[0] == tag).collect();
    let (key, value) = if of_tag.is_empty() {
        pick(random, all)
    } else {
        *pick(random, &of_tag)
    };
    let (mut key, mut value) = (key.clone(), value.clone());
    match random.below(12) {
        0 => return (key, None),
        1 => value.truncate(usize::try_from(random.below(value.len() as u64 + 1)).unwrap()),
        2 => value.extend_from_slice(&random.next().to_le_bytes()),
        3 => value = pick(random, all).1.clone(),
        // Eight bytes of the key: an inode, a cookie, a chunk, a group.
        4 | 5 if key.len() > 8 => {
            let at = if key.len() >= 17 && random.below(3) > 0 { 9 } else { 1 };
            let number = *pick(random, &EXTREMES);
            key[at..at + 8].copy_from_slice(&number.to_be_bytes());
        }
        // A varint of the value becomes another one.
        6..9 if !value.is_empty() => {
            let at = usize::try_from(random.below(value.len().min(40) as u64)).unwrap();
            let end = at + value[at..].iter().take_while(|&&byte| byte & 0x80 != 0).take(9).count();
            let mut number = Vec::new();
            number.put_varint(*pick(random, &EXTREMES));
            value.splice(at..(end + 1).min(value.len()), number);
        }
        _ if !value.is_empty() => spoil(random, &mut value),
        _ => {}
    }
    (key, Some(value))
}

#[test]
fn records_may_say_anything() {
    let images: Vec<(Image, Records)> = [Image::Rich, Image::Aged]
        .into_iter()
        .map(|image| (image, records(image)))
        .collect();
    limits::all(limits::cases(900).map(|seed| {
        let mut random = SplitMix64::new(seed);
        let (image, all) = pick(&mut random, &images);
        let changed = (0..=random.below(4)).map(|_| forge(&mut random, all)).collect();
        let image = *image;
        let case = move || {
            walk::use_it(put(image.snapshot(), changed), seed);
        };
        (
            format!("records, {image:?}, seed {seed}"),
            Box::new(case) as Box<dyn FnOnce()>,
        )
    }));
}

#[test]
fn a_directory_may_contain_itself() {
    use vexfs::fs::record::{Entry, EntryKey, Inode, InodeKey, Kind, Marks};
    use vexfs::meta::{Record, encode_key};

    let disk: Arc<dyn Disk> = Arc::new(Image::Rich.snapshot());
    let fs = crate::images::mount(&disk, Access::ReadOnly).unwrap();
    let levels: Vec<Ino> = (0..4)
        .map(|level| {
            let path: Vec<String> = (0..=level).map(|level| format!("level {level}")).collect();
            fs.resolve(path.join("/").as_bytes()).unwrap().ino
        })
        .collect();
    let first = fs.attributes(levels[0]).unwrap().inode;
    let cookie = fs.list(levels[3], 2, 1).unwrap()[0].next - 1;
    drop(fs);
    let mut entry = Vec::new();
    Entry {
        ino: levels[0],
        kind: Kind::Directory,
        chained: false,
        name: b"level 4".as_slice().into(),
    }
    .encode(&mut entry);
    let mut parent = Vec::new();
    Inode {
        marks: Marks::default(),
        hidden: 0,
        hidden_in: 0,
        parent: levels[3],
        ..first
    }
    .encode(&mut parent);
    let key = encode_key(&EntryKey {
        directory: levels[3],
        cookie,
    });
    let changed = vec![
        (key, Some(entry)),
        (encode_key(&InodeKey { ino: levels[0] }), Some(parent)),
    ];
    limits::bounded("a circle of directories", move || {
        let disk: Arc<dyn Disk> = Arc::new(put(Image::Rich.snapshot(), changed));
        let fs = crate::images::mount(&disk, Access::ReadWrite).unwrap();
        let now = crate::images::NOW;
        let copy = fs.clone_tree(levels[1], Ino::ROOT, b"copy", now).unwrap_err();
        assert_eq!(copy.errno(), Errno::TooDeep.number(), "{copy}");
        let moved = fs.rename(Ino::ROOT, b"second", levels[2], b"new", 0, now).unwrap_err();
        assert!(moved.to_string().contains("loop"), "{moved}");
        let removed = fs.remove_tree(Ino::ROOT, b"level 0", now).unwrap_err();
        assert_eq!(removed.errno(), Errno::TooDeep.number(), "{removed}");
    })
    .unwrap();
}

/// Appends transactions to the journal of a pool, as the engine that has it open would.
pub(crate) fn append(disk: MemDisk, transactions: &[Vec<u8>], durable: bool) -> MemDisk {
    let disk: Arc<MemDisk> = Arc::new(disk);
    let shared: Arc<dyn Disk> = Arc::clone(&disk) as Arc<dyn Disk>;
    let superblock = open(&shared).superblock().clone();
    let log = Log {
        region: superblock.journal,
        tail: superblock.tail,
        resumed_at: superblock.resumed_at,
        epoch: superblock.epoch,
        durable: superblock.durable_seq,
        tolerant: false,
    };
    let found = journal::recover(&*shared, &log, |_| Ok(Verdict::Applied)).unwrap();
    let (region, tail) = (superblock.journal, superblock.tail.position);
    let mut journal = Journal::resume(Arc::clone(&shared), region, superblock.epoch, tail, found.end);
    for transaction in transactions {
        let seq = journal.push(|out| out.extend_from_slice(transaction));
        journal.write_out(Seq(seq.0 - 1)).unwrap();
    }
    if durable {
        let seq = journal.push(|_| ());
        journal.write_out(Seq(seq.0 - 1)).unwrap();
    }
    drop((journal, shared));
    disk.snapshot()
}

/// The transactions of a pool's journal.
fn transactions(image: Image) -> Vec<Vec<u8>> {
    let disk = image.snapshot();
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let superblock = open(&shared).superblock().clone();
    let log = Log {
        region: superblock.journal,
        tail: superblock.tail,
        resumed_at: superblock.resumed_at,
        epoch: superblock.epoch,
        durable: superblock.durable_seq,
        tolerant: false,
    };
    let mut all = Vec::new();
    journal::recover(&*shared, &log, |found| {
        all.push(found.bytes.to_vec());
        Ok(Verdict::Applied)
    })
    .unwrap();
    all
}

#[test]
fn transactions_may_say_anything() {
    // An aged pool was closed: its journal has room for what is appended. Numbers of files are the same in all pools.
    let all: Vec<Vec<u8>> = [Image::Rich, Image::Journal]
        .into_iter()
        .flat_map(transactions)
        .collect();
    limits::all(limits::cases(900).map(|seed| {
        let mut random = SplitMix64::new(seed);
        let image = *pick(&mut random, &[Image::Rich, Image::Aged, Image::Fresh, Image::Journal]);
        let forged: Vec<Vec<u8>> = (0..=random.below(5))
            .map(|_| {
                let mut bytes = pick(&mut random, &all).clone();
                if random.below(3) == 0 {
                    bytes.extend_from_slice(pick::<Vec<u8>>(&mut random, &all));
                }
                if random.below(4) > 0 && !bytes.is_empty() {
                    let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
                    let number = pick(&mut random, &EXTREMES).to_le_bytes();
                    let width = number.len().min(bytes.len() - at);
                    if random.below(2) == 0 {
                        bytes[at..at + width].copy_from_slice(&number[..width]);
                    } else {
                        spoil(&mut random, &mut bytes);
                    }
                }
                bytes
            })
            .collect();
        let durable = random.below(2) == 0;
        let case = move || {
            walk::use_it(append(image.snapshot(), &forged, durable), seed);
        };
        (
            format!("transactions, {image:?}, seed {seed}"),
            Box::new(case) as Box<dyn FnOnce()>,
        )
    }));
}
