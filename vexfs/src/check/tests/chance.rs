// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damage by chance, power loss while mending, and a pool that is read while it is used.

use proptest::prelude::*;

use super::*;
use crate::disk::SplitMix64;
use crate::fs::record::RowKey;

/// Checks, mends, checks: nothing of it panics, and what is mended stays mended.
fn survive(disk: &Arc<SimDisk>) -> std::result::Result<(), TestCaseError> {
    let Ok(found) = run(disk, false, true) else {
        return Ok(());
    };
    let mended = match run(disk, true, false) {
        Ok(mended) => mended,
        // There may be no room for new tables.
        Err(error) => {
            prop_assert_eq!(error.errno(), Errno::NoSpace.number(), "{}", error);
            return Ok(());
        }
    };
    if found.worst() == Some(Severity::Fatal) {
        return Ok(());
    }
    prop_assert!(mended.clean_after, "{:#?}", mended);
    let left = run(disk, false, false).unwrap();
    prop_assert_eq!(sentences(&left), Vec::<String>::new());
    let fs = mount(disk);
    // The root may have become immutable: that is for its owner to know.
    if let Err(error) = fs.create(Ino::ROOT, b"usable", &new_file(Kind::File, b"")) {
        prop_assert_eq!(error.errno(), Errno::NotPermitted.number());
    }
    fs.close().unwrap();
    Ok(())
}

fn used_blocks(disk: &Arc<SimDisk>) -> Vec<Block> {
    let plant = Plant::new(disk);
    let superblock = plant.pool.superblock().clone();
    let journal = Run::new(superblock.journal.start, 4);
    let superblocks = [1, 2, 1025, 1026].map(|block| Run::new(Block(block), 1));
    let runs = plant.records.base.blocks_in_use().chain([journal]).chain(superblocks);
    runs.flat_map(Run::blocks).collect()
}

/// A closed pool, or one with a journal.
fn image(closed: bool) -> Arc<SimDisk> {
    let disk = sample();
    if !closed {
        let fs = mount(&disk);
        let ino = fs.create(Ino::ROOT, b"late", &new_file(Kind::File, b"")).unwrap().ino;
        fs.write(ino, 0, &bytes(20_000), NOW).unwrap();
        fs.unlink(Ino::ROOT, b"small", NOW).unwrap();
        fs.flush().unwrap();
        fs.truncate(ino, 5000, NOW).unwrap();
    }
    disk
}

/// So many, unless `PROPTEST_CASES` asks for a longer search.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() {
            default.cases
        } else {
            cases
        },
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn changed_bytes_are_survived_and_mended(
        closed: bool,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..4096_u64, 0..8_u8), 1..6),
        garbage in prop::option::of((any::<prop::sample::Index>(), any::<u64>())),
    ) {
        let disk = image(closed);
        let used = used_blocks(&disk);
        for (block, at, bit) in flips {
            disk.bit_flip(block.get(&used).byte_at() + at, bit);
        }
        if let Some((block, seed)) = garbage {
            let mut bytes = vec![0; 4096];
            SplitMix64::new(seed).fill(&mut bytes);
            disk.write(block.get(&used).byte_at(), &bytes).unwrap();
        }
        survive(&disk)?;
    }

    #[test]
    fn changed_records_are_survived_and_mended(
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..12),
    ) {
        let disk = sample();
        let mut plant = Plant::new(&disk);
        let mut all = Vec::new();
        let mut stream = plant.records.everything().unwrap();
        while let Some((key, value)) = stream.next().unwrap() {
            all.push((key, value.unwrap()));
        }
        drop(stream);
        for (record, byte, value, how) in changes {
            let (mut key, mut bytes) = record.get(&all).clone();
            match how {
                0 => plant.raw(key, None),
                1 => {
                    // The record moves to another key.
                    plant.raw(key.clone(), None);
                    let at = byte.index(key.len());
                    key[at] = value;
                    plant.raw(key, Some(&bytes));
                }
                // Records that are nothing but their key cannot become shorter, or change.
                2.. if bytes.is_empty() => plant.raw(key, Some(&[value])),
                2 => plant.raw(key, Some(&bytes[..byte.index(bytes.len())])),
                _ => {
                    let at = byte.index(bytes.len());
                    bytes[at] = value;
                    plant.raw(key, Some(&bytes));
                }
            }
        }
        plant.commit();
        survive(&disk)?;
    }

    #[test]
    fn power_loss_while_mending_leaves_the_old_pool_or_the_mended_one(seed: u64) {
        let disk = sample();
        let mut plant = Plant::new(&disk);
        plant.inode(Ino::ROOT, |root| root.size += 3);
        plant.remove(&RowKey { ino: plant.ino("d/symlink"), chunk: 0 });
        plant.commit();
        let before = names(&run(&disk, false, false).unwrap().issues);
        let start = disk.operations();
        let whole = Arc::new((*disk).clone());
        run(&whole, true, false).unwrap();
        let end = whole.operations();
        for stop in start..=end {
            let disk = Arc::new((*disk).clone());
            disk.stop_after(stop);
            let mended = run(&disk, true, false);
            prop_assert_eq!(mended.is_ok(), stop == end);
            let after = Arc::new(disk.crash(seed.wrapping_add(stop)));
            let mut found = names(&run(&after, false, true).unwrap().issues);
            // The power failed while a copy of the superblock was written.
            found.remove("SuperblockCopy");
            prop_assert!(found == before || found.is_empty(), "{:?}", found);
            prop_assert!(run(&after, true, false).unwrap().clean_after);
        }
    }
}

#[test]
fn bytes_whose_place_was_lost_with_a_table_page_do_not_read_as_zeros() {
    let disk = Arc::new(SimDisk::new(MIB << 20, 1));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(7), &Host::this()).unwrap();
    let fs = mount(&disk);
    let inos: Vec<Ino> = (0..300)
        .map(|number| {
            let name = format!("file-{number}");
            let ino = fs
                .create(Ino::ROOT, name.as_bytes(), &new_file(Kind::File, b""))
                .unwrap()
                .ino;
            let length = if number % 2 == 0 { 100 } else { 3 * 4096 };
            fs.write(ino, 0, &vec![7; length], NOW).unwrap();
            ino
        })
        .collect();
    fs.close().unwrap();
    let rows_at = |block: Block| {
        let mut page = [0; 4096];
        disk.read(block.byte_at(), &mut page).unwrap();
        let rows = page.windows(8).filter(|bytes| bytes.starts_with(&[7; 8])).count();
        page[4] == 1 && rows > 2
    };
    let plant = Plant::new(&disk);
    let block = plant
        .records
        .base
        .blocks_in_use()
        .flat_map(Run::blocks)
        .find(|block| rows_at(*block));
    disk.bit_flip(block.unwrap().byte_at() + 500, 2);
    drop(plant);
    assert!(run(&disk, true, false).unwrap().clean_after);
    let fs = mount(&disk);
    let mut lost = 0;
    for ino in inos {
        let mut content = vec![0; 3 * 4096];
        match fs.read(ino, 0, &mut content) {
            Ok(count) => assert!(
                count > 0 && content[..count].iter().all(|byte| *byte == 7),
                "{ino} reads wrong"
            ),
            Err(_) => lost += 1,
        }
    }
    assert!((1..100).contains(&lost), "{lost} files lost");
}

fn scrub(fs: &Fs, from: Position, limit: usize) -> Scrubbed {
    let mut steps = 0;
    fs.scrub(&mut ScrubOptions {
        from,
        bytes_per_second: Some(1 << 40),
        progress: &mut |_| {
            steps += 1;
            if steps < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
    })
    .unwrap()
}

#[test]
fn a_scrub_finds_bad_bytes_of_a_mounted_pool_and_goes_on_where_it_was_stopped() {
    let disk = sample();
    let fs = mount(&disk);
    let clean = scrub(&fs, Position::Tables, usize::MAX);
    assert_eq!((&clean.findings, clean.next), (&vec![], None));
    let big = fs.resolve(b"big").unwrap().ino;
    let copy = fs
        .create(Ino::ROOT, b"d/x".get(2..).unwrap(), &new_file(Kind::File, b""))
        .unwrap()
        .ino;
    fs.write(copy, 0, &bytes(70 * 4096), NOW).unwrap();
    let run = match &fs.extents(copy, crate::units::FileBlock(0), 70).unwrap()[0].source {
        crate::fs::file::Source::Blocks(run, _) => *run,
        other => panic!("{other:?}"),
    };
    disk.bit_flip(run.start.plus(3).byte_at(), 0);
    disk.bad_sectors(run.start.plus(9).byte_at()..run.start.plus(11).byte_at());
    let found = scrub(&fs, Position::Tables, usize::MAX);
    let told: Vec<_> = found
        .findings
        .iter()
        .map(|finding| (finding.issue.name(), finding.path.as_deref()))
        .collect();
    assert_eq!(told, [("DataDamaged", Some("/x")), ("DataUnreadable", Some("/x"))]);
    assert!(matches!(
        found.findings[0].issue,
        Issue::DataDamaged {
            at: 12_288,
            bytes: 4096,
            ..
        }
    ));
    assert!(matches!(
        found.findings[1].issue,
        Issue::DataUnreadable {
            at: 36_864,
            bytes: 8192,
            ..
        }
    ));
    assert_eq!(fs.path_of(big).unwrap().as_deref(), Some(&b"/big"[..]));
    let mut pieces = Scrubbed::default();
    let mut next = Some(Position::Tables);
    while let Some(from) = next {
        let piece = scrub(&fs, from, if from == Position::Tables { usize::MAX } else { 1 });
        pieces.findings.extend(piece.findings);
        next = piece.next;
    }
    assert_eq!(pieces.findings, found.findings);
}

/// Prints how long a check takes: `cargo test --release -p vexfs --lib check::tests::chance::figures -- --ignored --nocapture`
#[test]
#[ignore = "measures"]
fn figures() {
    let disk: Arc<dyn Disk> = Arc::new(crate::disk::MemDisk::new(8 << 30));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(7), &Host::this()).unwrap();
    let open = |access| Pool::open_disk(Arc::clone(&disk), &OpenOptions::new(access)).unwrap();
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    let fs = Fs::mount(open(Access::ReadWrite), &options).unwrap();
    let content = bytes(4096);
    let mut directory = Ino::ROOT;
    let files = 1_000_000;
    for number in 0..files {
        if number % 1000 == 0 {
            let name = format!("d{number}");
            directory = fs
                .create(Ino::ROOT, name.as_bytes(), &new_file(Kind::Directory, b""))
                .unwrap()
                .ino;
        }
        let name = format!("file-{number}");
        let ino = fs
            .create(directory, name.as_bytes(), &new_file(Kind::File, b""))
            .unwrap()
            .ino;
        fs.write(ino, 0, &content, NOW).unwrap();
    }
    fs.close().unwrap();
    let since = std::time::Instant::now();
    let report = check(
        &mut open(Access::ReadOnly),
        &mut CheckOptions {
            verify_data: false,
            rebuild_vectors: false,
            repair: false,
            memory_bytes: DEFAULT_MEMORY,
            max_issues: 100,
            progress: &mut |_| ControlFlow::Continue(()),
        },
    )
    .unwrap();
    println!("{files} files: {:?}, {} issues", since.elapsed(), report.issues.len());
}
