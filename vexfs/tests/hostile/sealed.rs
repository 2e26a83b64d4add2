// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damage that no checksum tells: what a pool looks like that somebody made up, or that an engine with a mistake wrote.

use vexfs::disk::{MemDisk, SplitMix64};
use vexfs::units::BLOCK_SIZE;

use crate::images::Image;
use crate::layout::{Layout, read, seal_superblocks, write};
use crate::raw::{pick, spoil};
use crate::{limits, walk};

fn run(what: &str, images: &[Image], count: u64, damage: impl Fn(&MemDisk, &Layout, &mut SplitMix64)) {
    let layouts: Vec<(Image, Layout)> = images
        .iter()
        .map(|&image| (image, Layout::of(&image.snapshot())))
        .collect();
    limits::all(limits::cases(count).map(|seed| {
        let mut random = SplitMix64::new(seed);
        let (image, layout) = pick(&mut random, &layouts);
        let disk = image.snapshot();
        damage(&disk, layout, &mut random);
        let case = move || {
            walk::use_it(disk, seed);
        };
        (
            format!("{what}, {image:?}, seed {seed}"),
            Box::new(case) as Box<dyn FnOnce()>,
        )
    }));
}

const WITH_TABLES: [Image; 4] = [Image::Rich, Image::Aged, Image::Journal, Image::Full];

#[test]
fn sealing_what_was_not_changed_changes_nothing() {
    for image in Image::ALL {
        let disk = image.snapshot();
        let layout = Layout::of(&disk);
        layout.seal_journal(&disk);
        layout.seal_tables(&disk);
        let original = image.snapshot();
        let tables = layout.tables.iter().flat_map(|table| table.pages.iter().copied());
        let metadata: Vec<_> = tables
            .chain(layout.chain.iter().copied())
            .chain(layout.superblock.journal.blocks())
            .collect();
        assert!(
            metadata.iter().all(|at| read(&disk, *at) == read(&original, *at)),
            "{image:?}"
        );
        let newest = layout.superblock.generation % 2 + 1;
        let newest = vexfs::units::Block(newest);
        assert_eq!(read(&disk, newest), read(&original, newest), "{image:?}");
        println!(
            "{image:?}: {} tables, {} blocks of metadata, {} batches",
            layout.tables.len(),
            metadata.len(),
            layout.batches.len()
        );
    }
}

#[test]
fn superblocks_may_say_anything() {
    run("superblock", &Image::ALL, 400, |disk, _, random| {
        let (seed, fields) = (random.next(), 1 + random.below(2));
        seal_superblocks(disk, |block| {
            let mut random = SplitMix64::new(seed);
            for _ in 0..fields {
                spoil(&mut random, &mut block[8..320]);
            }
        });
    });
}

#[test]
fn journal_batches_may_say_anything() {
    run(
        "journal",
        &[Image::Rich, Image::Journal, Image::Full],
        300,
        |disk, layout, random| {
            for _ in 0..=random.below(3) {
                let batch = pick(random, &layout.batches);
                let mut bytes = vec![0; batch.bytes];
                layout.read_journal(disk, batch.position, &mut bytes);
                let from = if random.below(4) == 0 { 8 } else { 56 };
                spoil(random, &mut bytes[from..]);
                layout.write_journal(disk, batch.position, &bytes);
            }
            layout.seal_journal(disk);
        },
    );
}

#[test]
fn manifests_may_say_anything() {
    run("manifest", &WITH_TABLES, 400, |disk, layout, random| {
        if random.below(8) == 0 {
            let at = *pick(random, &layout.chain);
            let mut block = read(disk, at);
            spoil(random, &mut block[4..24]);
            write(disk, at, &block);
        }
        let mut stream = layout.stream(disk);
        for _ in 0..=random.below(2) {
            // Most of the stream is keys: the numbers at its beginning and end matter more.
            let length = stream.len();
            let part = match random.below(3) {
                0 => 0..length.min(24),
                1 => length.saturating_sub(40)..length,
                _ => 0..length,
            };
            let at = part.start + usize::try_from(random.below(part.len() as u64)).unwrap();
            stream[at] = match random.below(4) {
                0 => stream[at].wrapping_add(1),
                1 => stream[at].wrapping_sub(1),
                2 => 0,
                _ => random.next().to_le_bytes()[0],
            };
        }
        layout.seal_manifest(disk, &stream);
    });
}

#[test]
fn pages_may_say_anything() {
    run("page", &WITH_TABLES, 400, |disk, layout, random| {
        for _ in 0..=random.below(3) {
            let table = pick(random, &layout.tables);
            let at = *match random.below(8) {
                0 => pick(random, &table.pages[table.guide..]),
                1 if table.guide > table.data => pick(random, &table.pages[table.data..table.guide]),
                _ => pick(random, &table.pages[..table.data]),
            };
            let mut page = read(disk, at);
            // The header, the slots of the first entries, or anything.
            let until = [24, 120, BLOCK_SIZE, BLOCK_SIZE][usize::try_from(random.below(4)).unwrap()];
            spoil(random, &mut page[4..until]);
            write(disk, at, &page);
        }
        layout.seal_tables(disk);
    });
}
