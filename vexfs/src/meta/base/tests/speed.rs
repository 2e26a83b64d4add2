// SPDX-License-Identifier: MIT OR Apache-2.0

//! Figures: `cargo test --release -p vexfs --lib meta::base::tests::speed -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

const ENTRIES: u64 = 1_000_000;
const BLOCKS: u64 = 1 << 18;

fn key(number: u64) -> [u8; 24] {
    let mut key = [3; 24];
    key[8..16].copy_from_slice(&number.to_be_bytes());
    key
}

fn rate(what: &str, count: u64, since: Instant) {
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let per_second = count as f64 / since.elapsed().as_secs_f64();
    println!("{what}: {:.2} M/s", per_second / 1e6);
}

#[test]
#[ignore = "measures"]
fn figures() {
    let source = Scatter::new(BLOCKS, 1, 1 << 16);
    let settings = Settings {
        page_cache_bytes: 512 << 20,
        ..Settings::for_pool(BLOCKS * 8)
    };
    println!("{settings:?}");
    let base = Base::create(Memory::new(BLOCKS), settings);
    let mut change = base.begin(&source).unwrap();
    let since = Instant::now();
    change
        .write_run((0..ENTRIES).map(|number| (key(number), Some([5_u8; 60]))))
        .unwrap();
    rate("write_run", ENTRIES, since);
    install(&base, change, &source).unwrap();
    println!("{:?}", base.stats());

    let (blocks, bound) = (
        base.stats().table_blocks,
        base.space_for_run(ENTRIES, 24 * ENTRIES, 60 * ENTRIES),
    );
    println!(
        "{blocks} blocks, announced as {bound}; a step may take {}",
        base.space_for_step()
    );

    let mut random = 1_u64;
    let mut numbers: Vec<u64> = (0..ENTRIES).collect();
    numbers.sort_by_cached_key(|_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random >> 32
    });
    for round in ["get, first time", "get, cached", "get, cached"] {
        let since = Instant::now();
        let found = numbers
            .iter()
            .filter(|number| base.get(&key(**number)).unwrap().is_some())
            .count();
        assert_eq!(found as u64, ENTRIES);
        rate(round, ENTRIES, since);
    }
    let since = Instant::now();
    let missing = numbers
        .iter()
        .filter(|number| base.get(&[&key(**number)[..], b"x"].concat()).unwrap().is_none())
        .count();
    assert_eq!(missing as u64, ENTRIES);
    rate("get, absent", ENTRIES, since);
    let since = Instant::now();
    let mut scan = base.scan(&[], &[0xff; 24]).unwrap();
    let mut count = 0;
    while scan.next_entry().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, ENTRIES);
    rate("scan", ENTRIES, since);
    drop(scan);

    for residue in 0..4 {
        let mut change = base.begin(&source).unwrap();
        let entries = (0..ENTRIES)
            .filter(|number| number % 5 == residue)
            .map(|number| (key(number), Some([6_u8; 60])));
        change.write_run(entries).unwrap();
        install(&base, change, &source).unwrap();
    }
    let stats = base.stats();
    let since = Instant::now();
    let mut steps = 0;
    while base.stats().young_runs > 0 {
        let mut change = base.begin(&source).unwrap();
        change.compact_step().unwrap();
        install(&base, change, &source).unwrap();
        steps += 1;
    }
    rate("merge of five runs", stats.entries, since);
    println!("{steps} steps, {:?}", base.stats());
    let since = Instant::now();
    let found = numbers
        .iter()
        .filter(|number| base.get(&key(**number)).unwrap().is_some())
        .count();
    assert_eq!(found as u64, ENTRIES);
    rate("get after the merge, first time", ENTRIES, since);
}
