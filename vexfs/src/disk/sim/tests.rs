// SPDX-License-Identifier: MIT OR Apache-2.0

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use nix::libc;

const SIZE: usize = 16 * 1024;

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize, u8),
    Discard(usize, usize),
    Sync,
    FailedSync,
    FailedWrite(usize, usize, u8),
    ProcessCrash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (0..SIZE, 1..3000_usize);
    let step = prop_oneof![
        6 => (place(), 1..=u8::MAX).prop_map(|((at, length), byte)| Step::Write(at, length.min(SIZE - at), byte)),
        1 => place().prop_map(|(at, length)| Step::Discard(at, length.min(SIZE - at))),
        2 => Just(Step::Sync),
        1 => Just(Step::FailedSync),
        1 => (place(), 1..=u8::MAX).prop_map(|((at, length), byte)| Step::FailedWrite(at, length.min(SIZE - at), byte)),
        1 => Just(Step::ProcessCrash),
    ];
    prop::collection::vec(step, 0..25)
}

fn contents(disk: &SimDisk) -> Vec<u8> {
    let mut all = vec![0; SIZE];
    disk.read(0, &mut all).unwrap();
    all
}

/// What each sector may hold after a crash, by the most naive rules: everything it held since it was last synced.
struct Model {
    now: Vec<u8>,
    possible: Vec<HashSet<Vec<u8>>>,
    forgotten: Vec<bool>,
}

impl Model {
    fn new() -> Self {
        Self {
            now: vec![0; SIZE],
            possible: vec![HashSet::from([vec![0; SECTOR_BYTES]]); SIZE / SECTOR_BYTES],
            forgotten: vec![false; SIZE / SECTOR_BYTES],
        }
    }

    /// Takes over what the disk reads as now, where a step touched it.
    fn touched(&mut self, at: usize, length: usize, now: Vec<u8>) {
        let sectors = at / SECTOR_BYTES..(at + length).div_ceil(SECTOR_BYTES);
        for (sector, content) in now.chunks(SECTOR_BYTES).enumerate() {
            if sectors.contains(&sector) {
                self.possible[sector].insert(content.to_vec());
                self.forgotten[sector] = false;
            } else {
                assert_eq!(
                    content,
                    &self.now[sector * SECTOR_BYTES..][..SECTOR_BYTES],
                    "an innocent sector changed"
                );
            }
        }
        self.now = now;
    }

    /// The same for a step that may have left sectors out. Those keep their standing with the next sync; they cannot be
    /// told from sectors rewritten with the same bytes, for which both standings are right.
    fn changed(&mut self, now: Vec<u8>) {
        for (sector, content) in now.chunks(SECTOR_BYTES).enumerate() {
            if content != &self.now[sector * SECTOR_BYTES..][..SECTOR_BYTES] {
                self.possible[sector].insert(content.to_vec());
                self.forgotten[sector] = false;
            }
        }
        self.now = now;
    }

    fn synced(&mut self) {
        for (sector, content) in self.now.chunks(SECTOR_BYTES).enumerate() {
            if !self.forgotten[sector] {
                self.possible[sector] = HashSet::from([content.to_vec()]);
            }
        }
    }
}

fn run(steps: &[Step], seed: u64) -> (SimDisk, Model) {
    let mut disk = SimDisk::new(SIZE as u64, seed);
    let mut model = Model::new();
    for step in steps {
        match *step {
            Step::Write(at, length, byte) => {
                disk.write(at as u64, &vec![byte; length]).unwrap();
                let mut now = model.now.clone();
                now[at..at + length].fill(byte);
                assert_eq!(contents(&disk), now, "a read sees what was written, wherever it is");
                model.touched(at, length, now);
            }
            Step::Discard(at, length) => {
                disk.discard(at as u64..(at + length) as u64).unwrap();
                model.changed(contents(&disk));
            }
            Step::Sync => {
                disk.sync().unwrap();
                model.synced();
            }
            Step::FailedSync => {
                disk.fail_nth(Operation::Sync, 1);
                disk.sync().unwrap_err();
                // Sectors with one possibility are on the medium; a failed sync cannot take that back.
                for (forgotten, possible) in model.forgotten.iter_mut().zip(&model.possible) {
                    *forgotten |= possible.len() > 1;
                }
            }
            Step::FailedWrite(at, length, byte) => {
                disk.fail_nth(Operation::Write, 1);
                disk.write(at as u64, &vec![byte; length]).unwrap_err();
                let now = contents(&disk);
                for (index, (&new, &old)) in now.iter().zip(&model.now).enumerate() {
                    assert!(new == old || (new == byte && (at..at + length).contains(&index)));
                }
                model.changed(now);
            }
            Step::ProcessCrash => {
                disk = disk.process_crash();
                assert_eq!(contents(&disk), model.now);
            }
        }
    }
    (disk, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn after_a_crash_each_sector_holds_something_it_held_since_it_was_synced(steps in steps(), seed: u64) {
        let (disk, model) = run(&steps, seed);
        for seed in seed..seed.saturating_add(24) {
            let crashed = disk.crash(seed);
            prop_assert_eq!(crashed.unsynced_sectors(), 0);
            for (sector, content) in contents(&crashed).chunks(SECTOR_BYTES).enumerate() {
                prop_assert!(
                    model.possible[sector].contains(content),
                    "seed {seed}: sector {sector} holds {:?}…, which it never held since its sync", &content[..4]
                );
            }
            prop_assert_eq!(contents(&disk.crash(seed)), contents(&crashed), "the seed decides everything");
        }
        prop_assert_eq!(contents(&disk), model.now, "a crash leaves the original alone");
    }
}

#[test]
fn every_combination_of_two_overlapping_writes_occurs() {
    let disk = SimDisk::new(4096, 1);
    disk.write(0, &[1; 1024]).unwrap();
    disk.write(512, &[2; 1024]).unwrap();
    let outcomes: HashSet<[u8; 3]> = (0..2000)
        .map(|seed| {
            let mut all = [0; 1536];
            disk.crash(seed).read(0, &mut all).unwrap();
            [all[0], all[512], all[1024]]
        })
        .collect();
    // Old or first; old, first or second; old or second.
    assert_eq!(outcomes.len(), 2 * 3 * 2);
}

#[test]
fn a_failed_sync_is_never_made_good_by_a_later_one() {
    let disk = SimDisk::new(4096, 1);
    disk.write(0, &[7; 512]).unwrap();
    disk.fail_nth(Operation::Sync, 1);
    disk.sync().unwrap_err();
    disk.sync().unwrap();
    let survives = |disk: &SimDisk, seed| {
        let mut byte = [0];
        disk.crash(seed).read(0, &mut byte).unwrap();
        byte[0] == 7
    };
    assert!((0..100).any(|seed| survives(&disk, seed)));
    assert!(!(0..100).all(|seed| survives(&disk, seed)));
    disk.write(0, &[7; 512]).unwrap();
    disk.sync().unwrap();
    assert!((0..100).all(|seed| survives(&disk, seed)));
}

#[test]
fn discarded_sectors_are_old_zero_or_garbage_and_edges_stay() {
    let disk = SimDisk::new(65536, 3);
    disk.write(0, &vec![9; 65536]).unwrap();
    disk.sync().unwrap();
    disk.discard(100..65000).unwrap();
    let mut all = vec![0; 65536];
    disk.read(0, &mut all).unwrap();
    assert!(all[..512].iter().all(|&byte| byte == 9) && all[64512..].iter().all(|&byte| byte == 9));
    let kinds: HashSet<u8> = all[512..64512]
        .chunks(512)
        .map(|sector| if [0, 9].contains(&sector[0]) { sector[0] } else { 10 })
        .collect();
    assert_eq!(kinds, HashSet::from([0, 9, 10]));
}

#[test]
fn faults_hit_what_they_name_and_say_why() {
    let disk = SimDisk::new(65536, 1);
    disk.fail_nth(Operation::Read, 2);
    disk.fail_nth(Operation::Write, 1);
    disk.bad_sectors(4096..8192);
    let mut byte = [0; 1];
    disk.read(0, &mut byte).unwrap();
    assert_eq!(disk.read(0, &mut byte).unwrap_err().errno(), libc::EIO);
    disk.read(4095, &mut byte).unwrap();
    disk.read(4095, &mut [0; 2]).unwrap_err();
    disk.read(8191, &mut byte).unwrap_err();
    disk.write(0, &[1]).unwrap_err();
    disk.write(0, &[1]).unwrap();
    disk.no_space_after(1000);
    disk.write(0, &[1; 1000]).unwrap();
    assert_eq!(disk.write(0, &[1]).unwrap_err().errno(), libc::ENOSPC);
    disk.clear_faults();
    disk.fail_writes_after(1);
    disk.write(0, &[1]).unwrap();
    disk.write(0, &[1]).unwrap_err();
    disk.write(0, &[1]).unwrap_err();
    disk.sync().unwrap();
    assert_eq!(disk.operations(), 8);
    assert!(disk.write(65536, &[1]).is_err() && disk.read(u64::MAX, &mut byte).is_err());
}

#[test]
fn without_power_nothing_works_and_the_interrupted_write_may_be_half_there() {
    let disk = SimDisk::new(65536, 1);
    disk.stop_after(2);
    disk.write(0, &[1; 4096]).unwrap();
    disk.sync().unwrap();
    let error = disk.write(0, &[2; 4096]).unwrap_err().to_string();
    assert!(error.contains("the power is off"), "{error}");
    disk.write(0, &[3; 4096]).unwrap_err();
    disk.sync().unwrap_err();
    disk.discard(0..4096).unwrap_err();
    disk.read(0, &mut [0]).unwrap_err();
    let mut ones = HashSet::new();
    for seed in 0..500 {
        let mut all = [0; 4096];
        disk.crash(seed).read(0, &mut all).unwrap();
        assert!(all.iter().all(|&byte| byte == 1 || byte == 2));
        ones.insert(all.chunks(512).filter(|sector| sector[0] == 1).count());
    }
    assert_eq!(ones, (0..=8).collect());
}

#[test]
fn a_flipped_bit_stays_flipped_through_sync_and_crash() {
    let disk = SimDisk::new(4096, 1);
    disk.write(0, &[0; 4096]).unwrap();
    disk.bit_flip(700, 3);
    disk.sync().unwrap();
    let mut all = [0; 4096];
    for seed in 0..20 {
        disk.crash(seed).read(0, &mut all).unwrap();
        assert_eq!((all[700], all.iter().filter(|&&byte| byte != 0).count()), (8, 1));
    }
}

#[test]
fn a_thousand_clones_of_a_pool_cost_little() {
    let disk = SimDisk::new(64 << 20, 1);
    for block in 0..256 {
        disk.write(block * 40_960, &[1; 4096]).unwrap();
    }
    disk.sync().unwrap();
    let before = std::time::Instant::now();
    for seed in 0..1000 {
        let clone = disk.crash(seed);
        clone.write(0, &[2; 4096]).unwrap();
    }
    assert!(before.elapsed().as_secs() < 2, "{:?}", before.elapsed());
}
