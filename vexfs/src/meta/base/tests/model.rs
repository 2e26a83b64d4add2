// SPDX-License-Identifier: MIT OR Apache-2.0

//! Random sequences of changes, compared with an ordinary map.

use super::*;

const BLOCKS: u64 = 6000;

#[derive(Debug, Clone)]
enum Step {
    /// Write these entries in the current change.
    Write(Vec<(u16, Entry)>),
    /// Some steps of compaction in the current change.
    Compact(usize),
    Install,
    Abandon,
    /// Prepare, then abandon.
    AbandonPrepared,
    /// Drop everything in memory; open what was installed last.
    Reopen,
    /// The next writes find only so many blocks.
    Scarce(u64),
}

#[derive(Debug, Clone)]
enum Entry {
    Delete,
    Small(u8),
    Middle(u16),
    Large(u32),
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => Just(Entry::Delete),
        6 => (0..80_u8).prop_map(Entry::Small),
        2 => (0..1500_u16).prop_map(Entry::Middle),
        1 => (0..20_000_u32).prop_map(Entry::Large),
    ]
}

fn entries() -> impl Strategy<Value = Vec<(u16, Entry)>> {
    let dense = (0..1500_u16, proptest::collection::vec(entry(), 0..200))
        .prop_map(|(from, entries)| (from..).zip(entries).collect::<Vec<_>>());
    let sparse = proptest::collection::vec((0..1700_u16, entry()), 0..80);
    prop_oneof![dense, sparse]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => entries().prop_map(Step::Write),
        4 => (1..6_usize).prop_map(Step::Compact),
        6 => Just(Step::Install),
        1 => Just(Step::Abandon),
        1 => Just(Step::AbandonPrepared),
        1 => Just(Step::Reopen),
        1 => (0..60_u64).prop_map(Step::Scarce),
    ]
}

/// Keys of several shapes and lengths, in the order of their numbers within a shape.
fn key(number: u16) -> Vec<u8> {
    let inode = u64::from(number / 8).to_be_bytes();
    let name = format!("{:02x}", number % 8);
    match number / 8 % 5 {
        0 => [&[1][..], &inode, &[number.to_le_bytes()[0] % 8]].concat(),
        1 => [&[1][..], &inode, name.repeat(100).as_bytes()].concat(),
        _ => [&[1][..], &inode, name.as_bytes()].concat(),
    }
}

fn value(key: u16, salt: u32, entry: &Entry) -> Option<Vec<u8>> {
    let bytes = match entry {
        Entry::Delete => return None,
        Entry::Small(bytes) => usize::from(*bytes),
        Entry::Middle(bytes) => usize::from(*bytes),
        Entry::Large(bytes) => *bytes as usize,
    };
    let mut state = u32::from(key) ^ salt << 16;
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    });
    Some(noise.take(bytes).collect())
}

struct World {
    disk: Arc<Memory>,
    source: Scatter,
    base: Base,
    installed: Model,
    salt: u32,
}

impl World {
    fn compare(&self) {
        assert_eq!(everything(&self.base).unwrap(), self.installed);
        for number in (0..1700).step_by(3) {
            let found = self.base.get(&key(number)).unwrap();
            assert_eq!(found.as_deref(), self.installed.get(&key(number)).map(Vec::as_slice));
        }
        for (from, to) in [(3, 90), (500, 520), (800, 1700), (40, 40), (90, 3)] {
            let (from, to) = (key(from), key(to));
            let mut scan = self.base.scan(&from, &to).unwrap();
            let expected = self.installed.iter().filter(|(key, _)| **key >= from && **key < to);
            for (key, value) in expected {
                let (found, held) = scan.next_entry().unwrap().expect("as many entries as in the model");
                assert_eq!((found, &*held), (key.as_slice(), value.as_slice()));
            }
            assert!(scan.next_entry().unwrap().is_none());
        }
    }

    fn check(&self) {
        let issues = self.base.verify_all(|_| ControlFlow::Continue(())).unwrap();
        assert!(issues.is_empty(), "{issues:?}");
        let (known, used) = (blocks_of(&self.base), self.source.used());
        let astray: Vec<_> = known.symmetric_difference(&used).collect();
        assert!(astray.is_empty(), "{astray:?} of {known:?}");
        let levels = self.base.version();
        for (run, _) in levels.runs() {
            assert!(
                run.tables()
                    .windows(2)
                    .all(|pair| pair[0].info.last < pair[1].info.first)
            );
        }
    }

    fn run(&mut self, steps: &[Step]) {
        let mut steps = steps.iter().chain([&Step::Abandon]);
        let mut more = true;
        while more {
            let base = self.base.clone();
            let mut pending = self.installed.clone();
            let mut change = base.begin(&self.source).unwrap();
            self.source.limit(PLENTY);
            more = false;
            for step in steps.by_ref() {
                more = true;
                match step {
                    Step::Write(entries) => {
                        self.salt += 1;
                        let entries: BTreeMap<_, _> = entries
                            .iter()
                            .map(|(number, entry)| (key(*number), value(*number, self.salt, entry)))
                            .collect();
                        if self.write(&base, &mut change, &entries) {
                            for (key, value) in entries {
                                match value {
                                    Some(value) => pending.insert(key, value),
                                    None => pending.remove(&key),
                                };
                            }
                        }
                    }
                    Step::Compact(count) => {
                        for _ in 0..*count {
                            let scarce = self.source.left() < PLENTY / 2;
                            let wanted = change.wants_compaction();
                            match change.compact_step() {
                                Ok(done) => assert_eq!(done, wanted),
                                Err(error) => assert!(scarce, "{error}"),
                            }
                        }
                    }
                    Step::Scarce(blocks) => self.source.limit(*blocks),
                    Step::Install => {
                        self.source.limit(PLENTY);
                        install(&base, change, &self.source).unwrap();
                        self.installed = pending;
                        break;
                    }
                    Step::Abandon => {
                        drop(change);
                        break;
                    }
                    Step::AbandonPrepared => {
                        self.source.limit(PLENTY);
                        assert_ne!(change.prepare().unwrap().manifest(), base.manifest());
                        break;
                    }
                    Step::Reopen => {
                        drop(change);
                        let manifest = self.base.manifest();
                        // Sizes are not part of the format: they may change from one time to the next.
                        let settings = Settings {
                            table_bytes: (1 + u64::from(self.salt) % 6) * BLOCK_SIZE as u64,
                            ..tiny()
                        };
                        self.base = Base::open(self.disk.clone(), BLOCKS, &manifest, settings).unwrap();
                        break;
                    }
                }
            }
            self.check();
            self.compare();
        }
    }

    /// Whether the run was written; that may only fail for blocks, and never takes more of them than announced.
    fn write(&self, base: &Base, change: &mut Change<'_>, entries: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> bool {
        let keys: usize = entries.keys().map(Vec::len).sum();
        let values: usize = entries.values().flatten().map(Vec::len).sum();
        let bound = base.space_for_run(entries.len() as u64, keys as u64, values as u64);
        let before = self.source.left();
        let entries = entries.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        match change.write_run(entries) {
            Ok(()) => {
                let taken = before - self.source.left();
                assert!(taken <= bound, "took {taken} blocks instead of at most {bound}");
                true
            }
            Err(error) => {
                assert!(
                    matches!(error, Error::Posix(Errno::NoSpace)) && before < bound,
                    "{error}"
                );
                assert_eq!(self.source.left(), before);
                false
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_base_answers_like_a_map_and_its_blocks_balance(
        steps in proptest::collection::vec(step(), 1..70),
        seed: u64,
        longest in 1_u32..40,
    ) {
        let disk = Memory::new(BLOCKS);
        let mut world = World {
            base: Base::create(disk.clone(), tiny()),
            disk,
            source: Scatter::new(BLOCKS, seed, longest),
            installed: Model::new(),
            salt: 0,
        };
        world.run(&steps);
    }

    #[test]
    fn a_run_a_checkpoint_and_a_step_take_no_more_blocks_than_announced(
        shapes in proptest::collection::vec((1_usize..200, 0_usize..MAX_KEY, 0_usize..1400, any::<bool>()), 1..12),
        table_pages in 1_u64..40,
        longest in 1_u32..4,
    ) {
        let source = Scatter::new(20_000, 3, longest);
        let settings = Settings { table_bytes: table_pages * BLOCK_SIZE as u64, run_limit: 2, ..tiny() };
        let base = Base::create(Memory::new(20_000), settings);
        for round in 0..3_u8 {
            let mut entries = BTreeMap::new();
            for (number, (count, key, value, alike)) in (0_u8..).zip(&shapes) {
                for at in 0..u32::try_from(*count).unwrap() {
                    // Lengths jump from entry to entry, so that pages end early.
                    let long = usize::from(*alike) + at as usize % 2;
                    let name = [&[number][..], &at.to_be_bytes(), &vec![round; (key * long).min(MAX_KEY - 5)]].concat();
                    entries.insert(name, vec![round; value * long]);
                }
            }
            let keys: usize = entries.keys().map(Vec::len).sum();
            let values: usize = entries.values().map(Vec::len).sum();
            let bound = base.space_for_checkpoint(entries.len() as u64, keys as u64, values as u64);
            source.limit(bound);
            let mut change = base.begin(&source).unwrap();
            change.write_run(entries.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice())))).unwrap();
            install(&base, change, &source).unwrap();
            while base.wants_compaction() {
                let bound = base.space_for_step();
                source.limit(PLENTY);
                let mut change = base.begin(&source).unwrap();
                change.compact_step().unwrap();
                let prepared = change.prepare().unwrap();
                let taken = PLENTY - source.left();
                prop_assert!(taken <= bound, "took {} blocks instead of at most {}", taken, bound);
                base.install(prepared).into_iter().for_each(|run| source.release(run));
            }
        }
    }
}
