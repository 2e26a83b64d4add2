// SPDX-License-Identifier: MIT OR Apache-2.0

//! Single properties.

use super::*;
use crate::checksum::Crc;
use crate::codec::Writer;

fn key(number: u64) -> Vec<u8> {
    [&[7_u8][..], &number.to_be_bytes()].concat()
}

fn numbered(range: Range<u64>) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    range.map(|number| (key(number), Some(number.to_le_bytes().repeat(6))))
}

fn compact_fully(base: &Base, source: &Scatter) -> usize {
    let mut steps = 0;
    while base.wants_compaction() {
        let mut change = base.begin(source).unwrap();
        assert!(change.compact_step().unwrap());
        install(base, change, source).unwrap();
        steps += 1;
    }
    steps
}

#[test]
fn a_base_that_was_never_written_is_empty_and_opens_from_nothing() {
    let disk = Memory::new(4);
    let base = Base::open(disk, 4, &ManifestRef::default(), tiny()).unwrap();
    assert!(base.get(b"x").unwrap().is_none());
    assert!(everything(&base).unwrap().is_empty());
    assert_eq!(base.blocks_in_use().count(), 0);
    assert!(!base.wants_compaction());
}

#[test]
fn there_is_one_change_at_a_time() {
    let source = Scatter::new(64, 1, 8);
    let base = Base::create(Memory::new(64), tiny());
    let change = base.begin(&source).unwrap();
    assert!(matches!(base.begin(&source), Err(Error::Posix(Errno::Busy))));
    let prepared = change.prepare().unwrap();
    assert!(base.begin(&source).is_err());
    drop(prepared);
    assert!(base.begin(&source).is_ok());
}

#[test]
fn keys_and_values_beyond_the_limits_and_keys_out_of_order_are_refused_and_leave_nothing_behind() {
    let source = Scatter::new(256, 1, 8);
    let base = Base::create(Memory::new(256), tiny());
    let mut change = base.begin(&source).unwrap();
    let long = vec![0; MAX_KEY + 1];
    let large = vec![0; MAX_VALUE + 1];
    assert!(change.write_run([(&long[..], Some(&b""[..]))]).is_err());
    assert!(change.write_run([(&b"a"[..], Some(&large[..]))]).is_err());
    assert!(change.write_run([(&b"b"[..], Some(&b""[..])), (b"a", None)]).is_err());
    assert!(change.write_run([(&b"b"[..], Some(&b""[..])), (b"b", None)]).is_err());
    assert!(source.used().is_empty());
    change.write_run([(&long[1..], Some(&large[1..]))]).unwrap();
    install(&base, change, &source).unwrap();
    assert_eq!(*base.get(&long[1..]).unwrap().unwrap(), large[1..]);
}

#[test]
fn blocks_that_a_scan_still_reads_are_given_back_when_it_ends() {
    let source = Scatter::new(2000, 5, 8);
    let base = Base::create(Memory::new(2000), tiny());
    for _ in 0..3 {
        let mut change = base.begin(&source).unwrap();
        change.write_run(numbered(0..500)).unwrap();
        install(&base, change, &source).unwrap();
    }
    let scan = base.scan(&key(0), &key(1000)).unwrap();
    compact_fully(&base, &source);
    assert!(source.used().len() > blocks_of(&base).len());
    assert!(base.reclaim().is_empty());
    assert_eq!(scan.map(Result::unwrap).count(), 500);
    for run in base.reclaim() {
        source.release(run);
    }
    assert_eq!(source.used(), blocks_of(&base));
}

#[test]
fn ascending_keys_are_written_once() {
    let source = Scatter::new(4000, 5, 8);
    let base = Base::create(Memory::new(4000), tiny());
    let mut written = std::collections::HashSet::new();
    for part in 0..12 {
        let mut change = base.begin(&source).unwrap();
        change.write_run(numbered(part * 2000..(part + 1) * 2000)).unwrap();
        install(&base, change, &source).unwrap();
        written.extend(base.version().table_ids());
    }
    compact_fully(&base, &source);
    let left = base.version().table_ids();
    let moved = left.intersection(&written).count();
    assert!(base.version().levels.len() > 1);
    assert!(
        moved * 10 > left.len() * 8,
        "{moved} of {} tables were moved",
        left.len()
    );
}

#[test]
fn deleting_everything_leaves_nothing() {
    let source = Scatter::new(4000, 5, 8);
    let base = Base::create(Memory::new(4000), tiny());
    for _ in 0..2 {
        let mut change = base.begin(&source).unwrap();
        change.write_run(numbered(0..3000)).unwrap();
        change
            .write_run((0..3000).map(|number| (key(number), None::<Vec<u8>>)))
            .unwrap();
        install(&base, change, &source).unwrap();
        compact_fully(&base, &source);
    }
    let stats = base.stats();
    assert_eq!((stats.young_runs, stats.entries), (0, 0));
    assert_eq!(stats.table_blocks, 0);
}

#[test]
fn the_page_cache_keeps_to_its_size_and_still_answers() {
    let source = Scatter::new(2000, 5, 8);
    let base = Base::create(Memory::new(2000), tiny());
    let mut change = base.begin(&source).unwrap();
    change.write_run(numbered(0..10_000)).unwrap();
    install(&base, change, &source).unwrap();
    for step in [1, 7, 31] {
        for number in (0..10_000).step_by(step) {
            assert!(base.get(&key(number)).unwrap().is_some());
        }
    }
    assert_eq!(base.stats().cached_pages, 20);
    let in_memory = |table: &Arc<Table>| {
        (0..table.info.data_pages)
            .filter(|index| table.slot(*index).is_some_and(|slot| slot.read().is_some()))
            .count()
    };
    assert!(base.version().tables().map(in_memory).sum::<usize>() <= 20);
}

#[test]
fn readers_see_whole_versions_while_changes_are_installed() {
    let source = Scatter::new(3000, 5, 8);
    let base = Base::create(Memory::new(3000), tiny());
    let round = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let value = |round: u64| move |number| (key(number), Some(round.to_le_bytes()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let before = round.load(Ordering::Acquire);
                    let values: BTreeSet<_> = base
                        .scan(&key(0), &key(800))
                        .unwrap()
                        .map(|e| e.unwrap().1.to_vec())
                        .collect();
                    let seen = values
                        .iter()
                        .map(|v| u64::from_le_bytes(v[..].try_into().unwrap()))
                        .max();
                    assert!(values.len() <= 1 && seen.unwrap_or(0) >= before);
                    let one = base.get(&key(5)).unwrap();
                    assert!(one.is_some() || before == 0);
                }
            });
        }
        for now in 1..40 {
            let mut change = base.begin(&source).unwrap();
            change.write_run((0..800).map(value(now))).unwrap();
            change.compact_step().unwrap();
            install(&base, change, &source).unwrap();
            round.store(now, Ordering::Release);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_failing_disk_fails_the_change_and_nothing_else() {
    let disk = Memory::new(3000);
    let source = Scatter::new(3000, 9, 6);
    let base = Base::create(disk.clone(), tiny());
    for round in 0..3 {
        let mut change = base.begin(&source).unwrap();
        change.write_run(numbered(round * 100..round * 100 + 700)).unwrap();
        install(&base, change, &source).unwrap();
    }
    let mut requests = 0;
    loop {
        disk.fail_after(requests);
        let mut change = base.begin(&source).unwrap();
        let written = change.write_run(numbered(50..200)).and_then(|()| change.compact_step());
        let prepared = written.and_then(|_| change.prepare().map(drop));
        disk.fail_after(PLENTY);
        assert_eq!(source.used(), blocks_of(&base));
        if prepared.is_ok() {
            break;
        }
        assert!(matches!(prepared, Err(Error::Io(_))));
        requests += 1;
    }
    assert!(requests > 10, "{requests} requests");
    compact_fully(&base, &source);
    assert_eq!(everything(&base).unwrap().len(), 900);
}

#[test]
fn the_format_is_what_it_was() {
    let source = Scatter::new(200, 1, 200);
    let disk = Memory::new(200);
    let base = Base::create(disk.clone(), tiny());
    let large = |number: u64| (key(number), Some(vec![number.to_le_bytes()[0]; 3000]));
    let mut change = base.begin(&source).unwrap();
    change.write_run(numbered(0..300)).unwrap();
    change.write_run((10..14).map(large).chain([(key(20), None)])).unwrap();
    change.write_run(numbered(100..400)).unwrap();
    change.write_run(numbered(1000..1010)).unwrap();
    assert!(change.compact_step().unwrap());
    install(&base, change, &source).unwrap();
    let mut bytes = Vec::new();
    let manifest = base.manifest();
    bytes.put_u64(manifest.first.map_or(0, |block| block.0));
    bytes.put_u64(manifest.bytes);
    bytes.put_u32(manifest.blocks);
    bytes.put_u32(manifest.crc.0);
    for block in blocks_of(&base) {
        let mut page = [0; BLOCK_SIZE];
        disk.read(Block(block).byte_at(), &mut page).unwrap();
        bytes.extend_from_slice(&page);
    }
    // Who has to change this number has changed the format, or what is packed where. The former needs a new version.
    assert_eq!(Crc::of(&bytes), Crc(0xcdba_6b01), "{} blocks", bytes.len() / BLOCK_SIZE);
}
