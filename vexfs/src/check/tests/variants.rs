// SPDX-License-Identifier: MIT OR Apache-2.0

//! Every kind of issue, planted alone: exactly it is found, and nothing after the repair.

use super::*;
use crate::checksum::Crc;
use crate::data::row::{Ptr, Row};
use crate::fs::record::{
    AttributeKey, BitmapRow, Bytes, Entry, EntryKey, Further, GroupKey, Orphan, OrphanKey, PlaceKey, RowKey, SharedKey,
};
use crate::fs::vectors::record::{
    Embedding, EmbeddingKey, GrowingKey, IndexKey, IndexRecord, LeafKey, LeafRow, Place, Slab, SlabKey, Space,
    SpaceKey, SpaceName, SpaceNameKey, Vector, VectorKey,
};
use crate::space::shared::References;

const GHOST: Ino = Ino(4000);

/// The space of a name.
fn space(plant: &Plant, name: &[u8]) -> Ino {
    Ino(plant.get::<_, SpaceName>(&SpaceNameKey { name: name.into() }).space)
}

/// Where a planted damage goes.
enum Way {
    /// Records of the closed pool.
    Records(fn(&mut Plant)),
    /// The disk itself.
    Disk(fn(&Arc<SimDisk>)),
    /// Told by the tables, whose own tests provoke it.
    Base,
}
use Way::{Base as ByBase, Disk as Bytes_, Records as By};

/// Issues, in the order of the list, and how to make them. The last tells which others are expected beside it.
const CASES: &[(&str, Way, &[&str])] = &[
    (
        "SuperblockCopy",
        Bytes_(|disk| disk.bit_flip(1025 * 4096 + 100, 3)),
        &[],
    ),
    (
        "NeedsCheck",
        Bytes_(|disk| {
            let mut pool = open(disk, Access::ReadWrite);
            pool.commit(|superblock| superblock.needs_check = true).unwrap();
        }),
        &[],
    ),
    ("NotClosed", Bytes_(|disk| drop(mount(disk))), &[]),
    (
        "JournalShort",
        Bytes_(|disk| {
            let mut pool = open(disk, Access::ReadWrite);
            pool.commit(|superblock| superblock.durable_seq.0 += 5).unwrap();
        }),
        &[],
    ),
    (
        "JournalContradiction",
        Bytes_(|disk| {
            let fs = mount(disk);
            fs.create(Ino::ROOT, b"before", &new_file(Kind::File, b"")).unwrap();
            fs.unlink(Ino::ROOT, b"small", NOW).unwrap();
            drop(fs);
            let mut plant = Plant::new(disk);
            let (key, entry) = plant.entry(Ino::ROOT, "small");
            plant.remove(&key);
            plant.add_entry(Ino::ROOT, "renamed", entry.ino, entry.kind);
            plant.commit();
        }),
        &["NotClosed", "NameGone", "NameUnknown"],
    ),
    (
        "ManifestDamaged",
        Bytes_(|disk| {
            let first = open(disk, Access::ReadOnly).superblock().manifest.first.unwrap();
            disk.bit_flip(first.byte_at() + 50, 1);
        }),
        &[],
    ),
    ("TablePage", Bytes_(|disk| spoil_page(disk, 1)), &["*"]),
    ("TableGuide", Bytes_(|disk| spoil_page(disk, 3)), &[]),
    ("TableFilter", ByBase, &[]),
    ("TableCount", ByBase, &[]),
    (
        "UndecodableRecord",
        By(|plant| {
            // One of each kind whose loss has no other consequence at once.
            plant.raw(encode_key(&InodeKey { ino: plant.ino("big") }), Some(b"\xff"));
            plant.raw(
                encode_key(&RowKey {
                    ino: plant.ino("big"),
                    chunk: 9,
                }),
                Some(b"\xff"),
            );
            plant.raw(encode_key(&GroupKey { group: 0 }), Some(b"short"));
            let shared: Vec<u8> = first_of(plant, SharedKey::TAG);
            plant.raw(shared, Some(b"\xff\xff"));
            plant.raw(encode_key(&OrphanKey { ino: orphan(plant) }), Some(b""));
            plant.raw(encode_key(&TotalsKey {}), Some(b"\x09"));
            plant.raw(vec![InodeKey::TAG, 1, 2], Some(b"x"));
            plant.raw(vec![AttributeKey::TAG, 1, 2], Some(b"x"));
            let mut key = encode_key(&EntryKey {
                directory: Ino::ROOT,
                cookie: 0x7000,
            });
            plant.raw(key.clone(), Some(b"\x05"));
            plant.inode(Ino::ROOT, |root| root.size += 1);
            key.truncate(5);
            plant.raw(key, Some(b"x"));
        }),
        &[],
    ),
    (
        "UnknownTag",
        By(|plant| plant.raw(vec![200, 1, 2], Some(b"future"))),
        &[],
    ),
    ("TotalsMissing", By(|plant| plant.remove(&TotalsKey {})), &[]),
    (
        "NextInoTooLow",
        By(|plant| plant.totals(|totals| totals.next_ino = Ino(3))),
        &[],
    ),
    (
        "InodeCountWrong",
        By(|plant| plant.totals(|totals| totals.inodes += 1)),
        &[],
    ),
    (
        "PromisedWrong",
        By(|plant| plant.totals(|totals| totals.promised += 1)),
        &[],
    ),
    (
        "PromisesExceedFree",
        By(|plant| {
            let ino = plant.ino("d/e/promised");
            let mut map = Map::default();
            (0..32).for_each(|index| _ = map.set(index, Ptr::Promised));
            for chunk in 1..=200 {
                plant.put(&RowKey { ino, chunk }, &Row::Map(map.clone()));
            }
            plant.totals(|totals| totals.promised += 200 * 32);
        }),
        &[],
    ),
    (
        "RootMissing",
        By(|plant| plant.remove(&InodeKey { ino: Ino::ROOT })),
        &[],
    ),
    (
        "RootNotDirectory",
        By(|plant| plant.inode(Ino::ROOT, |root| root.mode = Kind::File.mode_bits() | 0o644)),
        &[],
    ),
    (
        "InodeWithoutName",
        By(|plant| {
            // A file, and a directory with all that is in it.
            for (name, subdirectory) in [("small", 0), ("d", 1)] {
                let (key, _) = plant.entry(Ino::ROOT, name);
                plant.remove(&key);
                plant.inode(Ino::ROOT, |root| {
                    root.size -= 1;
                    root.links -= subdirectory;
                });
            }
        }),
        &[],
    ),
    (
        "LinkCountWrong",
        By(|plant| {
            plant.inode(plant.ino("small"), |inode| inode.links = 7);
            plant.inode(plant.ino("d"), |inode| inode.links = 9);
        }),
        &[],
    ),
    (
        "ParentWrong",
        By(|plant| {
            plant.inode(plant.ino("d/e"), |inode| inode.parent = Ino::ROOT);
        }),
        &[],
    ),
    (
        "DirectorySizeWrong",
        By(|plant| plant.inode(plant.ino("d"), |inode| inode.size += 1)),
        &[],
    ),
    (
        "SecondParent",
        By(|plant| {
            plant.add_entry(Ino::ROOT, "second", plant.ino("d/e"), Kind::Directory);
            plant.inode(Ino::ROOT, |root| {
                root.size += 1;
                root.links += 1;
            });
        }),
        &[],
    ),
    (
        "DirectoryLoop",
        By(|plant| {
            let (outer, inner) = (plant.ino("d"), plant.ino("d/e"));
            let (key, _) = plant.entry(Ino::ROOT, "d");
            plant.remove(&key);
            plant.inode(Ino::ROOT, |root| {
                root.size -= 1;
                root.links -= 1;
            });
            plant.add_entry(inner, "d", outer, Kind::Directory);
            plant.inode(inner, |inode| {
                inode.size += 1;
                inode.links += 1;
            });
            plant.inode(outer, |inode| inode.parent = inner);
        }),
        &[],
    ),
    (
        "OrphanWithoutInode",
        By(|plant| plant.put(&OrphanKey { ino: GHOST }, &Orphan { next_chunk: 0 })),
        &[],
    ),
    (
        "OrphanInUse",
        By(|plant| {
            plant.put(
                &OrphanKey {
                    ino: plant.ino("small"),
                },
                &Orphan { next_chunk: 0 },
            );
            plant.put(&OrphanKey { ino: plant.ino("d") }, &Orphan { next_chunk: 3 });
        }),
        &[],
    ),
    (
        "BlocksWrong",
        By(|plant| plant.inode(plant.ino("big"), |inode| inode.blocks = 3)),
        &[],
    ),
    (
        "InlineWrong",
        By(|plant| plant.inode(plant.ino("small"), |inode| inode.size = 2)),
        &[],
    ),
    (
        "SymlinkLength",
        By(|plant| plant.inode(plant.ino("d/symlink"), |inode| inode.size += 1)),
        &[],
    ),
    (
        "SymlinkWithoutTarget",
        By(|plant| {
            plant.remove(&RowKey {
                ino: plant.ino("d/symlink"),
                chunk: 0,
            });
        }),
        &[],
    ),
    (
        "EntryWithoutDirectory",
        By(|plant| {
            let (file, target) = (plant.ino("small"), plant.ino("link"));
            plant.add_entry(file, "inside a file", target, Kind::File);
            plant.add_entry(GHOST, "inside nothing", target, Kind::File);
            plant.inode(target, |inode| inode.links += 2);
        }),
        &[],
    ),
    (
        "EntryNamesNothing",
        By(|plant| {
            plant.add_entry(Ino::ROOT, "ghost", GHOST, Kind::File);
            plant.inode(Ino::ROOT, |root| root.size += 1);
        }),
        &[],
    ),
    (
        "EntryKindWrong",
        By(|plant| {
            let (key, entry) = plant.entry(Ino::ROOT, "small");
            plant.put(
                &key,
                &Entry {
                    kind: Kind::Fifo,
                    ..entry
                },
            );
        }),
        &[],
    ),
    (
        "EntryMisplaced",
        By(|plant| {
            let (key, entry) = plant.entry(Ino::ROOT, "small");
            plant.remove(&key);
            plant.put(
                &EntryKey {
                    directory: Ino::ROOT,
                    cookie: 0x12_3400,
                },
                &entry,
            );
        }),
        &["NameGone"],
    ),
    (
        "DuplicateName",
        By(|plant| {
            let (key, entry) = plant.entry(Ino::ROOT, "small");
            let target = plant.ino("link");
            plant.put(
                &key,
                &Entry {
                    chained: true,
                    ..entry.clone()
                },
            );
            let second = EntryKey {
                directory: Ino::ROOT,
                cookie: key.cookie + 1,
            };
            plant.put(&second, &Entry { ino: target, ..entry });
            plant.inode(Ino::ROOT, |root| root.size += 1);
            plant.inode(target, |inode| inode.links += 1);
        }),
        &[],
    ),
    (
        "BrokenChain",
        By(|plant| {
            let (key, entry) = plant.entry(Ino::ROOT, "small");
            plant.remove(&key);
            plant.put(
                &EntryKey {
                    directory: Ino::ROOT,
                    cookie: key.cookie + 2,
                },
                &entry,
            );
        }),
        &["NameGone", "NameUnknown"],
    ),
    (
        "NameUnknown",
        By(|plant| {
            let ino = plant.ino("d/e/linked");
            let further: Vec<u8> = first_of(plant, PlaceKey::TAG);
            plant.raw(further, None);
            assert_ne!(plant.get::<_, Inode>(&InodeKey { ino }).place, 0);
            plant.inode(plant.ino("small"), |inode| (inode.parent, inode.place) = (Ino(0), 0));
            plant.inode(plant.ino("d/e"), |inode| inode.place += 1);
        }),
        &[],
    ),
    (
        "NameGone",
        By(|plant| {
            let (directory, cookie) = (Ino::ROOT, plant.cookie("nobody"));
            for ino in [plant.ino("small"), plant.ino("d"), GHOST] {
                plant.put(&PlaceKey { ino, directory, cookie }, &Further);
            }
        }),
        &[],
    ),
    (
        "RowOfMissingInode",
        By(|plant| {
            for chunk in 0..3 {
                plant.put(&RowKey { ino: GHOST, chunk }, &Row::Inline(b"x".as_slice().into()));
            }
        }),
        &[],
    ),
    (
        "RowOfNonFile",
        By(|plant| {
            plant.put(
                &RowKey {
                    ino: plant.ino("d"),
                    chunk: 0,
                },
                &Row::Inline(b"x".as_slice().into()),
            );
        }),
        &[],
    ),
    (
        "RowBeyondLimit",
        By(|plant| {
            let mut map = Map::default();
            map.set(0, Ptr::Promised);
            plant.put(
                &RowKey {
                    ino: plant.ino("big"),
                    chunk: 1 << 46,
                },
                &Row::Map(map),
            );
            plant.totals(|totals| totals.promised += 1);
        }),
        &[],
    ),
    ("BlockOutside", By(|plant| add_block(plant, Block(1 << 40))), &[]),
    ("BlockInSystemArea", By(|plant| add_block(plant, Block(2))), &[]),
    (
        "BlocksNotAllocated",
        By(|plant| {
            let block = first_block(plant, "big");
            set_bit(plant, block, false);
        }),
        &[],
    ),
    ("BlocksLeaked", By(|plant| set_bit(plant, Block(2500), true)), &[]),
    ("SystemAllocated", By(|plant| set_bit(plant, Block(2), true)), &[]),
    (
        "BitmapBeyondPool",
        By(|plant| plant.put(&GroupKey { group: 77 }, &BitmapRow(Box::new([1; 512])))),
        &[],
    ),
    ("ReferencesTooLow", By(|plant| share(plant, References::remove)), &[]),
    (
        "ReferencesTooHigh",
        By(|plant| share(plant, |references, block| _ = references.add(block))),
        &[],
    ),
    (
        "CrossLinked",
        By(|plant| {
            let group = References::group_of(first_block(plant, "big"));
            plant.remove(&SharedKey { group });
        }),
        &[],
    ),
    (
        "AttributeOfMissingInode",
        By(|plant| attribute(plant, GHOST, b"user.ghost", 3)),
        &[],
    ),
    (
        "AttributeName",
        By(|plant| attribute(plant, plant.ino("big"), b"user.\0", 3)),
        &[],
    ),
    (
        "AttributeTooLarge",
        By(|plant| attribute(plant, plant.ino("big"), b"user.large", 70_000)),
        &[],
    ),
    (
        "SpaceWithoutStore",
        By(|plant| plant.inode(space(plant, b"more"), |inode| inode.mode = Kind::Fifo.mode_bits())),
        &["*"],
    ),
    (
        "SpaceNameWrong",
        By(|plant| {
            let (text, more) = (space(plant, b"text"), space(plant, b"more"));
            let mut record: Space = plant.get(&SpaceKey { space: more });
            record.name = b"text".as_slice().into();
            plant.put(&SpaceKey { space: more }, &record);
            let name = b"other".as_slice().into();
            plant.put(&SpaceNameKey { name }, &SpaceName { space: text.0 });
        }),
        &[],
    ),
    (
        "SlabWrong",
        By(|plant| {
            let space = space(plant, b"more");
            let slab = Slab {
                blocks: 2,
                vectors: 1,
                alive: 0,
            };
            plant.put(&SlabKey { space, at: 7 }, &slab);
        }),
        &[],
    ),
    (
        "EmbeddingOfNothing",
        By(|plant| {
            let (ino, space) = (plant.ino("small"), space(plant, b"text"));
            for ino in [ino, GHOST] {
                let key = EmbeddingKey { ino, space, ordinal: 9 };
                plant.put(&key, &Embedding { vector: 1 });
            }
        }),
        &[],
    ),
    (
        "VectorOfNothing",
        By(|plant| {
            let space = space(plant, b"text");
            let vector = Vector {
                ino: plant.ino("small"),
                ordinal: 0,
                of: NOW,
                place: Place::Growing,
                indexed: false,
            };
            plant.put(&VectorKey { space, vector: 77 }, &vector);
            plant.put(&GrowingKey { space, vector: 77 }, &Bytes([1; 8].into()));
            plant.put(&GrowingKey { space, vector: 1 }, &Bytes([1; 8].into()));
        }),
        &[],
    ),
    (
        "VectorLost",
        By(|plant| {
            let space = space(plant, b"text");
            // One that grows, one that is said to be where no slab is.
            plant.remove(&GrowingKey { space, vector: 6 });
            let key = VectorKey { space, vector: 1 };
            plant.edit(&key, |vector: &mut Vector| vector.place = Place::Sealed(1 << 30));
        }),
        &["SlabCountWrong", "SpaceCountsWrong"],
    ),
    (
        "SlabCountWrong",
        By(|plant| {
            let space = space(plant, b"text");
            plant.edit(&SlabKey { space, at: 0 }, |slab: &mut Slab| slab.alive += 1);
        }),
        &[],
    ),
    (
        "SpaceCountsWrong",
        By(|plant| {
            let space = space(plant, b"text");
            plant.edit(&SpaceKey { space }, |space: &mut Space| space.growing += 1);
        }),
        &[],
    ),
    (
        "VectorDamaged",
        By(|plant| {
            let space = space(plant, b"text");
            // Two change places: the bytes are what was written, but another's.
            let (one, other) = (VectorKey { space, vector: 1 }, VectorKey { space, vector: 2 });
            let (mut first, mut second): (Vector, Vector) = (plant.get(&one), plant.get(&other));
            std::mem::swap(&mut first.place, &mut second.place);
            plant.put(&one, &first);
            plant.put(&other, &second);
        }),
        &[],
    ),
    (
        "IndexOfNothing",
        By(|plant| {
            let row: LeafRow = plant.get(&LeafKey {
                space: space(plant, b"text"),
                leaf: 1,
            });
            plant.put(&LeafKey { space: GHOST, leaf: 1 }, &row);
            let index: IndexRecord = plant.get(&IndexKey {
                space: space(plant, b"text"),
            });
            plant.put(&IndexKey { space: GHOST }, &index);
        }),
        &[],
    ),
    (
        "IndexWrong",
        By(|plant| {
            let space = space(plant, b"text");
            plant.edit(&LeafKey { space, leaf: 1 }, |row: &mut LeafRow| row.at += 1000);
        }),
        &[],
    ),
    (
        "MarksWrong",
        By(|plant| {
            plant.edit(&InodeKey { ino: plant.ino("big") }, |inode: &mut Inode| {
                inode.marks.0 = 3;
            });
        }),
        &[],
    ),
    (
        "DataDamaged",
        Bytes_(|disk| disk.bit_flip(first_block(&Plant::new(disk), "big").byte_at() + 9, 1)),
        &[],
    ),
    (
        "DataUnreadable",
        Bytes_(|disk| {
            let at = first_block(&Plant::new(disk), "big").plus(3).byte_at();
            disk.bad_sectors(at..at + 512);
        }),
        &[],
    ),
    (
        "DataLost",
        By(|plant| {
            let ino = plant.ino("big");
            plant.edit(&RowKey { ino, chunk: 1 }, |row: &mut Row| {
                if let Row::Map(map) = row {
                    map.set(20, Ptr::Lost);
                }
            });
        }),
        &[],
    ),
];

fn orphan(plant: &Plant) -> Ino {
    let mut orphans = plant.records.all::<OrphanKey, Orphan>().unwrap();
    match orphans.next().unwrap() {
        Some(Item::Good(key, _)) => key.ino,
        _ => panic!("the sample has an orphan"),
    }
}

fn first_of(plant: &Plant, tag: u8) -> Vec<u8> {
    plant
        .records
        .scan(&[tag], &[tag + 1])
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .0
}

/// Damages the nth page from the front of the table with most blocks; 1: its data, larger: its guide.
fn spoil_page(disk: &Arc<SimDisk>, which: u64) {
    let plant = Plant::new(disk);
    let manifest = plant.pool.superblock().manifest;
    let runs: Vec<Run> = plant.records.base.blocks_in_use().collect();
    let mut pages = runs
        .iter()
        .flat_map(|run| run.blocks())
        .filter(|block| Some(*block) != manifest.first)
        .map(|block| {
            let mut page = [0; 4096];
            disk.read(block.byte_at(), &mut page).unwrap();
            (u64::from(page[4]), block)
        });
    let (_, block) = pages.find(|(kind, _)| *kind == which).unwrap();
    disk.bit_flip(block.byte_at() + 1000, 5);
}

fn first_block(plant: &Plant, path: &str) -> Block {
    match plant.get(&RowKey {
        ino: plant.ino(path),
        chunk: 0,
    }) {
        Row::Map(map) => map.pool_blocks().next().unwrap(),
        Row::Inline(_) => panic!("{path} has no blocks"),
    }
}

fn add_block(plant: &mut Plant, block: Block) {
    let ino = plant.ino("big");
    plant.edit(&RowKey { ino, chunk: 1 }, |row: &mut Row| {
        if let Row::Map(map) = row {
            map.set(20, Ptr::Data(block, Crc(1)));
        }
    });
    plant.inode(ino, |inode| {
        inode.blocks += 1;
        inode.size = 60 * 4096;
    });
}

fn set_bit(plant: &mut Plant, block: Block, value: bool) {
    plant.edit(&GroupKey { group: block.0 / 4096 }, |row: &mut BitmapRow| {
        let byte = &mut row.0[usize::try_from(block.0 % 4096 / 8).unwrap()];
        let bit = 1 << (block.0 % 8);
        *byte = if value { *byte | bit } else { *byte & !bit };
    });
}

fn share(plant: &mut Plant, change: fn(&mut References, Block)) {
    let block = first_block(plant, "big");
    let group = References::group_of(block);
    plant.edit(&SharedKey { group }, |references| change(references, block));
}

fn attribute(plant: &mut Plant, ino: Ino, name: &[u8], length: usize) {
    let key = AttributeKey { ino, name: name.into() };
    plant.put(&key, &Bytes(vec![1; length].into()));
}

use crate::data::row::Map;

#[test]
fn there_is_a_case_for_every_issue() {
    let cases: Vec<&str> = CASES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(cases, Issue::NAMES);
}

#[test]
fn every_damage_is_found_as_what_it_is_and_mended() {
    let sample = sample();
    let mut wrong = Vec::new();
    for (name, way, beside) in CASES {
        let disk = Arc::new((*sample).clone());
        match way {
            By(plant) => {
                let mut into = Plant::new(&disk);
                plant(&mut into);
                into.commit();
            }
            Bytes_(damage) => damage(&disk),
            ByBase => continue,
        }
        if let Err(what) = found_and_mended(&disk, name, beside) {
            wrong.push(format!("{name}: {what}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn found_and_mended(
    disk: &Arc<SimDisk>,
    name: &'static str,
    beside: &[&'static str],
) -> std::result::Result<(), String> {
    let text = |error: Error| error.to_string();
    let report = run(disk, false, true).map_err(text)?;
    let found = names(&report.issues);
    let expected: BTreeSet<&str> = beside.iter().copied().chain([name]).collect();
    let more = beside == ["*"] && found.contains(name);
    if found != expected && !more {
        return Err(format!("found {:?}", sentences(&report)));
    }
    let repaired = run(disk, true, true).map_err(text)?;
    if names(&repaired.issues) != found {
        return Err(format!("the repair found {:?}", sentences(&repaired)));
    }
    if report.worst() == Some(Severity::Fatal) {
        return Ok(());
    }
    let mendable = report.issues.iter().all(Issue::repairable);
    if repaired.clean_after != (mendable || repaired.is_sound()) {
        return Err(format!("{repaired:?}"));
    }
    let left = run(disk, false, false).map_err(text)?;
    if !left.issues.is_empty() {
        return Err(format!("left {:?} after {repaired:#?}", sentences(&left)));
    }
    let fs = mount(disk);
    fs.create(Ino::ROOT, b"usable", &new_file(Kind::File, b""))
        .map_err(text)?;
    fs.close().map_err(text)?;
    let later = run(disk, false, false).map_err(text)?;
    if !later.issues.is_empty() {
        return Err(format!("after use {:?}", sentences(&later)));
    }
    Ok(())
}

#[test]
fn nothing_is_lost_that_was_readable() {
    let disk = sample();
    let mut plant = Plant::new(&disk);
    let (key, _) = plant.entry(Ino::ROOT, "d");
    plant.remove(&key);
    let directory = plant.ino_of(&key);
    plant.commit();
    assert!(run(&disk, true, false).unwrap().clean_after);
    let fs = mount(&disk);
    let path = format!("lost+found/#{}/another copy", directory.0);
    let ino = fs.resolve(path.as_bytes()).unwrap().ino;
    let mut content = vec![0; 40 * 4096];
    fs.read(ino, 0, &mut content).unwrap();
    assert_eq!(content, bytes(40 * 4096));
}

impl Plant {
    /// What an entry names in the tables.
    fn ino_of(&self, key: &EntryKey) -> Ino {
        let bytes = self.records.base.get(&encode_key(key)).unwrap().unwrap();
        Entry::decode(&bytes).unwrap().ino
    }
}

#[test]
fn lost_bytes_fail_to_read_until_they_are_written() {
    let disk = sample();
    let mut plant = Plant::new(&disk);
    let ino = plant.ino("big");
    plant.raw(encode_key(&RowKey { ino, chunk: 0 }), Some(b"\xff"));
    plant.commit();
    assert!(run(&disk, true, false).unwrap().clean_after);
    let fs = mount(&disk);
    let mut content = vec![0; 4096];
    assert_eq!(fs.read(ino, 0, &mut content).unwrap_err().errno(), nix::libc::EIO);
    assert_eq!(fs.read(ino, 32 * 4096, &mut content).unwrap(), 4096);
    fs.write(ino, 0, &[7; 4096], NOW).unwrap();
    assert_eq!(fs.read(ino, 0, &mut content).unwrap(), 4096);
    fs.close().unwrap();
    assert_eq!(names(&run(&disk, false, true).unwrap().issues), ["DataLost"].into());
}
