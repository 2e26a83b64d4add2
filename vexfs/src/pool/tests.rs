// SPDX-License-Identifier: MIT OR Apache-2.0

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use super::format::{FormatError, FormatOptions, Seeds, format_disk, format_path, format_path_with};
use super::heartbeat::{DeadOwner, Found, Lost, Owner, Refusal, Witness};
use super::superblock::{MIN_BLOCKS, PLACES};
use super::*;
use crate::disk::scratch::Scratch;
use crate::disk::{MemDisk, Operation, SimDisk};
use crate::units::Seq;

const SIZE: u64 = 16 << 20;

fn machine(number: u8) -> Host {
    Host {
        identity: Owner {
            machine_id: [number; 16],
            boot_id: [number; 16],
            process: 1,
            host_name: format!("host{number}"),
        },
        now: || Timestamp { seconds: 5, nanos: 6 },
    }
}

fn options(access: Access) -> OpenOptions {
    OpenOptions {
        access,
        heartbeat: Heartbeat::Auto,
        policy: Policy {
            interval: Duration::from_millis(300),
            dead_owner: DeadOwner::TakeOver,
        },
        host: machine(1),
        host_cache: HostCache::Used,
    }
}

fn sized() -> FormatOptions {
    FormatOptions {
        size_bytes: Some(SIZE),
        label: "test".into(),
        ..FormatOptions::default()
    }
}

fn format(disk: &dyn Disk) -> Superblock {
    format_disk(disk, &FormatOptions::default(), &Seeds::from_number(1), &machine(1)).unwrap()
}

fn open(disk: impl Disk) -> std::result::Result<Pool, OpenError> {
    Pool::open_disk(Arc::new(disk), &options(Access::ReadWrite))
}

fn begin_epoch(pool: &mut Pool) {
    let host = pool.host().clone();
    let epoch = pool.next_epoch();
    pool.commit(|superblock| superblock.begin_epoch(&host, epoch, 7, Seq(1)))
        .unwrap();
}

#[test]
fn a_pool_file_is_made_opened_marked_and_opened_again() {
    let path = Scratch::new();
    let made = format_path(path.path(), &sized()).unwrap();
    assert_eq!(
        (made.total_blocks, made.journal.count, made.label.as_str()),
        (4096, 256, "test")
    );
    let mut pool = Pool::open_path(path.path(), &options(Access::ReadWrite)).unwrap();
    assert_eq!(pool.superblock(), &made);
    assert!(pool.was_clean() && !pool.same_boot() && pool.survey().damaged().count() == 0);
    begin_epoch(&mut pool);
    assert!(matches!(
        Pool::open_path(path.path(), &options(Access::ReadOnly)),
        Err(OpenError::Disk(OpenDiskError::InUse { .. }))
    ));
    drop(pool);
    let pool = Pool::open_path(path.path(), &options(Access::ReadOnly)).unwrap();
    assert!(!pool.was_clean() && pool.same_boot());
    assert_eq!(pool.superblock().epoch, made.epoch + 1);
    assert_eq!(pool.superblock().last_mounted.seconds, 5);
    drop(pool);
    let mut pool = Pool::open_path(path.path(), &options(Access::ReadWrite)).unwrap();
    pool.commit(|superblock| {
        superblock.durable_seq = Seq(9);
        superblock.leave_clean();
    })
    .unwrap();
    drop(pool);
    let other = OpenOptions {
        host: machine(2),
        ..options(Access::ReadOnly)
    };
    let mut pool = Pool::open_path(path.path(), &other).unwrap();
    assert!(pool.was_clean() && !pool.same_boot());
    assert_eq!(pool.superblock().durable_seq, Seq(9));
    assert_eq!(pool.commit(|_| {}).unwrap_err().errno(), nix::libc::EROFS);
    assert_eq!(pool.grow(10_000).unwrap_err().errno(), nix::libc::EROFS);
}

#[test]
fn a_crash_at_any_point_of_commits_leaves_the_old_or_the_new_superblock() {
    let origin = SimDisk::new(SIZE, 1);
    format(&origin);
    let work = |pool: &mut Pool| {
        for number in 1..=4 {
            // The first failure ends the work, as it ends the engine's.
            if pool.commit(|superblock| superblock.durable_seq = Seq(number)).is_err() {
                return number;
            }
        }
        5
    };
    let before = origin.operations();
    let probe = Arc::new(origin.clone());
    work(&mut Pool::open_disk(Arc::clone(&probe) as Arc<dyn Disk>, &options(Access::ReadWrite)).unwrap());
    let mut seen = HashSet::new();
    for stop in before..=probe.operations() {
        let disk = Arc::new(origin.clone());
        disk.stop_after(stop);
        let mut pool = Pool::open_disk(Arc::clone(&disk) as Arc<dyn Disk>, &options(Access::ReadWrite)).unwrap();
        let failed = work(&mut pool);
        for seed in 0..40 {
            let survivor = disk.crash(seed);
            let mut pool = open(survivor).unwrap_or_else(|error| panic!("stop {stop}, seed {seed}: {error}"));
            let found = pool.superblock().durable_seq.0;
            assert!(
                found == failed || found + 1 == failed,
                "stop {stop}, seed {seed}: {found}, not {failed}"
            );
            seen.insert((failed, found));
            // Life goes on from there.
            pool.commit(|superblock| superblock.durable_seq = Seq(100)).unwrap();
            pool.rewrite_superblocks().unwrap();
            let again = Pool::open_disk(Arc::clone(pool.disk()), &options(Access::ReadWrite)).unwrap();
            assert_eq!(
                (again.superblock().durable_seq, again.survey().damaged().count()),
                (Seq(100), 0)
            );
        }
    }
    assert_eq!(seen.len(), 2 * 4 + 1, "both outcomes of each commit, and the end");
}

#[test]
fn after_a_failed_commit_the_superblock_is_the_old_one_and_no_commit_succeeds() {
    for kind in [Operation::Write, Operation::Sync] {
        let disk = Arc::new(SimDisk::new(SIZE, 1));
        format(disk.as_ref());
        let mut pool = Pool::open_disk(Arc::clone(&disk) as Arc<dyn Disk>, &options(Access::ReadWrite)).unwrap();
        disk.fail_nth(kind, 1);
        assert!(matches!(
            pool.commit(|superblock| superblock.durable_seq = Seq(7)),
            Err(Error::Io(_))
        ));
        assert_eq!(pool.superblock().durable_seq, Seq(0));
        assert!(matches!(pool.commit(|_| {}), Err(Error::Posix(Errno::Failed))));
    }
}

#[test]
fn a_superblock_that_could_not_be_read_back_is_not_written() {
    let disk = SimDisk::new(SIZE, 1);
    format(&disk);
    let mut pool = open(disk).unwrap();
    pool.commit(|superblock| superblock.total_blocks = 5).unwrap_err();
    assert_eq!(pool.superblock().total_blocks, MIN_BLOCKS);
    pool.commit(|_| {}).unwrap();
}

#[test]
fn any_three_places_may_be_lost() {
    let disk = MemDisk::new(SIZE);
    let newest = format(&disk);
    for kept in PLACES {
        let hurt = disk.snapshot();
        for place in PLACES.into_iter().filter(|&place| place != kept) {
            hurt.write(place.byte_at() + 100, &[0xff; 4]).unwrap();
        }
        let mut pool = open(hurt).unwrap();
        assert_eq!(pool.superblock().generation, if kept.0 % 2 == 1 { 2 } else { 1 });
        assert_eq!(pool.superblock().uuid, newest.uuid);
        assert_eq!(pool.survey().damaged().count(), 3);
        pool.rewrite_superblocks().unwrap();
        assert_eq!(Survey::of(pool.disk().as_ref()).damaged().count(), 0);
    }
    let bad = SimDisk::new(SIZE, 1);
    format(&bad);
    bad.bad_sectors(4096..12288);
    assert_eq!(open(bad).unwrap().survey().damaged().count(), 2);
}

#[test]
fn what_cannot_be_opened_says_why() {
    assert!(matches!(open(MemDisk::new(SIZE)), Err(OpenError::NotAPool)));
    assert!(matches!(open(MemDisk::new(100)), Err(OpenError::NotAPool)));
    let disk = MemDisk::new(SIZE);
    format(&disk);
    for place in PLACES {
        disk.write(place.byte_at() + 100, &[0xff; 4]).unwrap();
    }
    assert!(matches!(open(disk), Err(OpenError::Damaged(_))));
    let unreadable = SimDisk::new(SIZE, 1);
    unreadable.bad_sectors(0..SIZE);
    assert!(matches!(open(unreadable), Err(OpenError::Io(_))));
    let large = MemDisk::new(2 * SIZE);
    format(&large);
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    large.read(0, &mut bytes).unwrap();
    assert!(matches!(
        open(MemDisk::from_bytes(&bytes)),
        Err(OpenError::Truncated {
            pool_blocks: 8192,
            device_blocks: 4096
        })
    ));
}

#[test]
fn features_of_newer_engines_are_refused_read_only_or_kept() {
    let made = |change: fn(&mut Features)| {
        let disk = MemDisk::new(SIZE);
        let mut superblock = format(&disk);
        // Only the newest generation has it: the older one must not be used instead.
        superblock.generation = 3;
        change(&mut superblock.features);
        superblock::write(&disk, &superblock).unwrap();
        Arc::new(disk) as Arc<dyn Disk>
    };
    let disk = made(|features| features.incompat = 4);
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let Err(error) = Pool::open_disk(Arc::clone(&disk), &options(access)) else {
            panic!()
        };
        assert!(error.to_string().contains("incompat bit 2"), "{error}");
    }
    let disk = made(|features| features.ro_compat = 2);
    let Err(error) = Pool::open_disk(Arc::clone(&disk), &options(Access::ReadWrite)) else {
        panic!()
    };
    assert!(matches!(error, OpenError::ReadOnlyFeatures(_)), "{error}");
    Pool::open_disk(disk, &options(Access::ReadOnly)).unwrap();
    let mut pool = Pool::open_disk(made(|features| features.compat = 1), &options(Access::ReadWrite)).unwrap();
    pool.commit(|_| {}).unwrap();
    assert_eq!(Survey::of(pool.disk().as_ref()).newest().unwrap().features.compat, 1);
}

#[test]
fn superblocks_of_another_pool_or_slot_do_not_count() {
    let disk = MemDisk::new(SIZE);
    let ours = format(&disk);
    let mut other = Superblock {
        generation: 1,
        ..ours.clone()
    };
    other.uuid = uuid::Uuid::from_bytes([8; 16]);
    disk.write(PLACES[3].byte_at(), &other.encode()).unwrap();
    disk.write(
        PLACES[1].byte_at(),
        &Superblock {
            generation: 100,
            ..ours.clone()
        }
        .encode(),
    )
    .unwrap();
    let pool = open(disk).unwrap();
    // Place 1 belongs to odd generations, place 0 to even ones.
    assert_eq!(pool.superblock(), &ours);
    assert!(
        pool.survey()
            .damaged()
            .all(|place| matches!(place.condition, Condition::Misplaced))
    );
    assert_eq!(pool.survey().damaged().count(), 2);
}

#[test]
fn pools_grow_with_their_file_and_never_shrink() {
    let path = Scratch::new();
    let before = format_path(path.path(), &sized()).unwrap();
    let mut pool = Pool::open_path(path.path(), &options(Access::ReadWrite)).unwrap();
    assert_eq!(pool.grow(4095).unwrap_err().errno(), nix::libc::EINVAL);
    assert_eq!(pool.grow(u64::MAX).unwrap_err().errno(), nix::libc::EINVAL);
    pool.grow(10_000).unwrap();
    assert_eq!(pool.disk().size_bytes(), 40_960_000);
    drop(pool);
    let pool = Pool::open_path(path.path(), &options(Access::ReadOnly)).unwrap();
    assert_eq!(
        (pool.superblock().total_blocks, pool.superblock().journal),
        (10_000, before.journal)
    );
    let fixed = Arc::new(MemDisk::new(SIZE));
    format(fixed.as_ref());
    let mut pool = Pool::open_disk(Arc::clone(&fixed) as Arc<dyn Disk>, &options(Access::ReadWrite)).unwrap();
    assert_eq!(pool.grow(8192).unwrap_err().errno(), nix::libc::ENOSPC);
    fixed.grow(2 * SIZE);
    pool.grow(8192).unwrap();
    assert_eq!(pool.superblock().total_blocks, 8192);
}

#[test]
fn an_interrupted_format_leaves_nothing_or_the_new_pool() {
    let old = SimDisk::new(SIZE, 1);
    format(&old);
    let old = open(old).map(|mut pool| {
        for _ in 0..50 {
            pool.commit(|superblock| superblock.label = "old".into()).unwrap();
        }
        Arc::clone(pool.disk())
    });
    let mut image = vec![0; usize::try_from(SIZE).unwrap()];
    old.unwrap().read(0, &mut image).unwrap();
    let old = SimDisk::from_bytes(&image, 2);
    let forced = FormatOptions {
        force: true,
        label: "new".into(),
        ..FormatOptions::default()
    };
    let run = |disk: &SimDisk| format_disk(disk, &forced, &Seeds::from_number(2), &machine(1));
    let complete = old.clone();
    run(&complete).unwrap();
    let mut labels = HashSet::new();
    for stop in 0..=complete.operations() {
        let disk = old.clone();
        disk.stop_after(stop);
        let result = run(&disk);
        for seed in 0..16 {
            match open(disk.crash(seed)) {
                Ok(pool) => {
                    let label = pool.superblock().label.clone();
                    assert!(result.is_err() || label == "new");
                    labels.insert(label);
                }
                Err(error) => assert!(result.is_err(), "{error}"),
            }
        }
    }
    assert_eq!(labels, HashSet::from(["old".into(), "new".into()]));
}

#[test]
fn formatting_refuses_what_is_not_empty_until_forced() {
    let path = Scratch::new();
    let format = |options: &FormatOptions| format_path_with(path.path(), options, &Seeds::from_number(1), &machine(1));
    let forced = FormatOptions { force: true, ..sized() };
    fs::write(path.path(), b"my only copy").unwrap();
    assert!(matches!(format(&sized()), Err(FormatError::NotEmpty)));
    assert_eq!(fs::read(path.path()).unwrap(), b"my only copy");
    format(&forced).unwrap();
    let Err(error @ FormatError::Occupied(_)) = format(&sized()) else {
        panic!()
    };
    assert!(
        error.to_string().contains("a VexFS pool at byte 4096") && error.to_string().contains("--force"),
        "{error}"
    );
    let pool = Pool::open_path(path.path(), &options(Access::ReadOnly)).unwrap();
    assert!(matches!(
        format(&forced),
        Err(FormatError::Disk(OpenDiskError::InUse { .. }))
    ));
    drop(pool);
    // An empty file, or one of zeros, may be used.
    fs::write(path.path(), vec![0; 1 << 20]).unwrap();
    format(&sized()).unwrap();
}

#[test]
fn what_was_there_is_erased_when_forced() {
    let disk = MemDisk::new(80 << 20);
    disk.write(0x438, b"\x53\xef").unwrap();
    disk.write((64 << 20) + 0x40, b"_BHRfS_M").unwrap();
    disk.write((80 << 20) - 512, b"EFI PART").unwrap();
    let small = FormatOptions {
        size_bytes: Some(SIZE),
        ..FormatOptions::default()
    };
    let run = |options: &FormatOptions| format_disk(&disk, options, &Seeds::from_number(1), &machine(1));
    assert!(matches!(run(&small), Err(FormatError::Occupied(found)) if found.len() == 3));
    run(&FormatOptions { force: true, ..small }).unwrap();
    let names: HashSet<_> = probe::probe(&disk)
        .unwrap()
        .into_iter()
        .map(|found| found.name)
        .collect();
    assert_eq!(names, HashSet::from(["a VexFS pool"]));
}

#[test]
fn impossible_pools_are_refused_before_anything_is_written() {
    let path = Scratch::new();
    let format = |options: &FormatOptions| format_path(path.path(), options);
    let cases = [
        FormatOptions {
            size_bytes: None,
            ..sized()
        },
        FormatOptions {
            size_bytes: Some(SIZE - 1),
            ..sized()
        },
        FormatOptions {
            size_bytes: Some(u64::MAX),
            ..sized()
        },
        FormatOptions {
            label: "x".repeat(64),
            ..sized()
        },
        FormatOptions {
            label: "\n".into(),
            ..sized()
        },
        FormatOptions {
            uuid: Some(uuid::Uuid::nil()),
            ..sized()
        },
        FormatOptions {
            journal_bytes: Some(1),
            ..sized()
        },
        FormatOptions {
            journal_bytes: Some(SIZE),
            ..sized()
        },
        FormatOptions {
            journal_bytes: Some(u64::MAX),
            ..sized()
        },
        FormatOptions {
            features: Features {
                compat: 1,
                ..Features::default()
            },
            ..sized()
        },
    ];
    for options in cases {
        let error = format(&options).unwrap_err().to_string();
        assert!(error.contains(';'), "{error} should say what to do");
        assert!(!path.path().exists(), "{error}");
    }
    format(&FormatOptions {
        journal_bytes: Some(4 << 20),
        ..sized()
    })
    .unwrap();
    let pool = Pool::open_path(path.path(), &options(Access::ReadOnly)).unwrap();
    assert_eq!(pool.superblock().journal, crate::units::Run::new(Block(1028), 1024));
}

#[test]
fn two_pools_differ_in_everything_random_and_zero_is_never_chosen() {
    let disks = [1, 2].map(|seed| {
        let disk = MemDisk::new(SIZE);
        format_disk(&disk, &FormatOptions::default(), &Seeds::from_number(seed), &machine(1)).unwrap()
    });
    let [one, two] = disks;
    assert!(one.uuid != two.uuid && one.name_hash_key != two.name_hash_key);
    assert!(one.epoch != two.epoch && one.tail.position != two.tail.position);
    assert!(one.tail.position.is_multiple_of(4096) && one.tail.position < 1 << 40);
}

#[test]
fn with_a_heartbeat_the_second_machine_is_kept_out_and_a_robbed_one_stops_writing() {
    let path = Scratch::new();
    format_path(path.path(), &sized()).unwrap();
    let on = |number| OpenOptions {
        heartbeat: Heartbeat::On,
        host: machine(number),
        ..options(Access::ReadWrite)
    };
    let mut pool = Pool::open_path(path.path(), &on(1)).unwrap();
    begin_epoch(&mut pool);
    let ownership = pool.ownership().unwrap();
    ownership.check().unwrap();
    // The other machine sees the same bytes but not the lock.
    let bytes = fs::read(path.path()).unwrap();
    let copy = Found::decode(bytes[3 * BLOCK_SIZE..4 * BLOCK_SIZE].try_into().unwrap());
    assert!(matches!(copy, Found::Alive(record) if record.owner.host_name == "host1"));
    fs::OpenOptions::new()
        .write(true)
        .open(path.path())
        .and_then(|file| {
            std::os::unix::fs::FileExt::write_all_at(&file, &[0; BLOCK_SIZE], HEARTBEAT.byte_at())?;
            file.sync_all()
        })
        .unwrap();
    while ownership.check().is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ownership.check(), Err(Lost::Erased));
    assert!(pool.disk().write(SIZE - 4096, &[1]).is_err() && pool.disk().sync().is_err());
    assert!(pool.disk().read(0, &mut [0]).is_ok());
    assert!(pool.commit(|_| {}).is_err() && pool.grow(8192).is_err());
    drop(pool);
    drop(Pool::open_path(path.path(), &on(2)).unwrap());
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new(SIZE));
    format(disk.as_ref());
    let _first = Pool::open_disk(Arc::clone(&disk), &on(1)).unwrap();
    let refused = Pool::open_disk(disk, &on(2));
    assert!(matches!(
        refused,
        Err(OpenError::Heartbeat(ClaimError::Refused(Refusal::Alive(_))))
    ));
}

#[test]
fn another_opening_is_noticed_and_the_own_one_is_none() {
    let path = Scratch::new();
    format_path(path.path(), &sized()).unwrap();
    let on = |number| OpenOptions {
        heartbeat: Heartbeat::Off,
        host: machine(number),
        ..options(Access::ReadWrite)
    };
    for in_file in [true, false] {
        let file = Arc::new(FileDisk::open(path.path(), Access::ReadWrite).unwrap());
        let disk: Arc<dyn Disk> = Arc::clone(&file) as Arc<dyn Disk>;
        let open = |number| Pool::open_disk(Arc::clone(&disk), &on(number)).unwrap();
        let mut pool = open(1);
        let found = pool.superblock().clone();
        let mut witness = Superblocks::new(&found, &machine(1), &disk, in_file.then_some(&file));
        assert!(witness.is_unchanged().unwrap());
        begin_epoch(&mut pool);
        pool.commit(|_| {}).unwrap();
        assert!(witness.is_unchanged().unwrap());
        begin_epoch(&mut open(2));
        assert!(!witness.is_unchanged().unwrap());
        begin_epoch(&mut open(2));
        assert!(!witness.is_unchanged().unwrap());
        let over = FormatOptions { force: true, ..sized() };
        format_disk(
            disk.as_ref(),
            &over,
            &Seeds::from_number(8 + u64::from(in_file)),
            &machine(1),
        )
        .unwrap();
        assert!(!witness.is_unchanged().unwrap(), "it is another pool");
    }
}
