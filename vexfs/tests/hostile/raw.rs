// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damage without regard to checksums: to any byte of any block in use.

use vexfs::disk::{Disk, MemDisk, SplitMix64};
use vexfs::pool::Survey;
use vexfs::units::{BLOCK_SIZE, Block};

use crate::images::Image;
use crate::{limits, walk};

/// Blocks that hold anything but zeros.
fn used_blocks(disk: &MemDisk) -> Vec<Block> {
    let mut block = [0; BLOCK_SIZE];
    (0..disk.size_bytes() / BLOCK_SIZE as u64)
        .map(Block)
        .filter(|at| {
            disk.read(at.byte_at(), &mut block).unwrap();
            block.iter().any(|&byte| byte != 0)
        })
        .collect()
}

/// Blocks that say how to read others: the first of the pool, of its journal, and every page that has a table's header.
fn telling_blocks(disk: &MemDisk, used: &[Block]) -> Vec<Block> {
    let mut block = [0; BLOCK_SIZE];
    let journal = Survey::of(disk).newest().unwrap().journal;
    used.iter()
        .copied()
        .filter(|at| {
            disk.read(at.byte_at(), &mut block).unwrap();
            let fixed = at.0 < 4 || (1024..1028).contains(&at.0) || (journal.start..journal.end()).contains(at);
            fixed || &block[4..8] == b"VXMF" || matches!(block[4], 1..=3) && block[5] == 1 && block[22..24] == [0, 0]
        })
        .collect()
}

pub(crate) fn pick<'a, T>(random: &mut SplitMix64, from: &'a [T]) -> &'a T {
    &from[usize::try_from(random.below(from.len() as u64)).unwrap()]
}

/// A change of some bytes of a buffer: one bit, a byte, a field.
pub(crate) fn spoil(random: &mut SplitMix64, bytes: &mut [u8]) {
    let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    let width = [1, 2, 4, 8][usize::try_from(random.below(4)).unwrap()].min(bytes.len() - at);
    let field = &mut bytes[at..at + width];
    let mut number = [0; 8];
    number[..width].copy_from_slice(field);
    let number = u64::from_le_bytes(number);
    let new = match random.below(9) {
        0 => number ^ 1 << random.below(8 * width as u64),
        1 => 0,
        2 => u64::MAX,
        3 => number.wrapping_add(1),
        4 => number.wrapping_sub(1),
        5 => number.wrapping_mul(2),
        6 => 1 << random.below(64),
        7 => u64::MAX >> random.below(64),
        _ => random.next(),
    };
    field.copy_from_slice(&new.to_le_bytes()[..width]);
}

fn damage(image: Image, disk: MemDisk, random: &mut SplitMix64, used: &[Block], telling: &[Block]) -> MemDisk {
    let any = |random: &mut SplitMix64| {
        let from = if random.below(4) == 0 { used } else { telling };
        pick(random, from).byte_at()
    };
    let (at, other) = (any(random), any(random));
    let mut block = [0; BLOCK_SIZE];
    let mut second = [0; BLOCK_SIZE];
    disk.read(at, &mut block).unwrap();
    disk.read(other, &mut second).unwrap();
    match random.below(10) {
        0..5 => {
            for _ in 0..=random.below(3) {
                spoil(random, &mut block);
            }
        }
        5 => block.fill(0),
        6 => block = second,
        7 => {
            disk.write(other, &block).unwrap();
            block = second;
        }
        8 => random.fill(&mut block),
        _ => {
            // A pool of which the end is missing, in the middle of a block perhaps.
            let size = random.below(disk.size_bytes());
            let size = if image == Image::Fresh { size % (8 << 20) } else { size };
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            disk.read(0, &mut bytes).unwrap();
            return MemDisk::from_bytes(&bytes);
        }
    }
    disk.write(at, &block).unwrap();
    disk
}

fn run(image: Image, count: u64) {
    let disk = image.snapshot();
    let used = used_blocks(&disk);
    let telling = telling_blocks(&disk, &used);
    limits::all(limits::cases(count).map(|seed| {
        let (used, telling) = (used.clone(), telling.clone());
        let case = move || {
            let mut random = SplitMix64::new(seed);
            let damaged = damage(image, image.snapshot(), &mut random, &used, &telling);
            walk::use_it(damaged, seed);
        };
        (
            format!("raw damage, {image:?}, seed {seed}"),
            Box::new(case) as Box<dyn FnOnce()>,
        )
    }));
}

#[test]
fn undamaged_pools_open_and_nothing_but_what_is_forbidden_fails() {
    for image in Image::ALL {
        let outcome = walk::use_it(image.snapshot(), 0);
        assert!(
            outcome.opened && (image == Image::Fresh || outcome.files > 30),
            "{image:?}: {outcome:?}"
        );
        println!("{image:?}: {outcome:?}");
    }
}

#[test]
fn a_fresh_pool_with_any_damage_opens_or_says_why_not() {
    run(Image::Fresh, 100);
}

#[test]
fn a_rich_pool_with_any_damage_opens_or_says_why_not() {
    run(Image::Rich, 120);
}

#[test]
fn an_aged_pool_with_any_damage_opens_or_says_why_not() {
    run(Image::Aged, 60);
}

#[test]
fn a_pool_with_a_long_journal_and_any_damage_opens_or_says_why_not() {
    run(Image::Journal, 80);
}

#[test]
fn a_full_pool_with_any_damage_opens_or_says_why_not() {
    run(Image::Full, 60);
}
