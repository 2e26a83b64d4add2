// SPDX-License-Identifier: MIT OR Apache-2.0

//! Codes estimate what they say, and damaged blocks are found.

use proptest::prelude::*;

use super::block::{Identity, LeafError};
use super::query::Query;
use super::writer::{Entry, LeafBytes, LeafWriter};
use super::*;
use crate::vector::filter::Hints;
use crate::vector::kernels::{ITEMS, Scanned};
use crate::vector::space::Element;

const IDENTITY: Identity = Identity {
    space: 3,
    leaf: 9,
    generation: 2,
};

fn codec(dimensions: u32, metric: Metric, tier: Tier) -> Codec {
    let mut config = CodecConfig::new(Space::new(dimensions, Element::F32, metric).unwrap(), 5);
    config.tier = tier;
    Codec::new(config)
}

fn vector(random: &mut fastrand::Rng, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| random.f32() + random.f32() - 1.0).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn leaf(codec: &Codec, rows: &[Vec<f32>], centre: &[f32]) -> LeafBytes {
    let mut writer = LeafWriter::new(codec, codec.leaf_layout(), centre);
    for (vid, row) in (100..).zip(rows) {
        let row = bytes(row);
        let entry = Entry {
            vid,
            hints: Hints::UNKNOWN,
            point: &codec.point(&row),
            row: &row,
        };
        writer.push(codec, &entry);
    }
    writer.finish(IDENTITY)
}

/// Errors of one-bit and of sharper estimates relative to the bound, and how often the bound does not hold.
fn errors(dimensions: u32, metric: Metric, tier: Tier) -> (f64, f64, f64, f64) {
    let mut random = fastrand::Rng::with_seed(7);
    let codec = codec(dimensions, metric, tier);
    let many = dimensions as usize;
    let offset = vector(&mut random, many);
    let moved = |row: Vec<f32>| -> Vec<f32> { row.iter().zip(&offset).map(|(one, other)| one + other).collect() };
    let rows: Vec<_> = (0..500).map(|_| moved(vector(&mut random, many))).collect();
    let points: Vec<f32> = rows.iter().flat_map(|row| codec.point(&bytes(row))).collect();
    let centre = crate::vector::cluster::mean(&points, many);
    let opened = leaf(&codec, &rows, &centre).open(codec.leaf_layout()).unwrap();
    let view = opened.view();
    let (mut mean, mut coarse, mut fine, mut broken, mut count) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for _ in 0..20 {
        let query = Query::new(&codec, &bytes(&vector(&mut random, many)));
        let aim = query.aim(query.square_between(&centre));
        let mut scanned = Scanned::default();
        for block in 0..view.blocks() {
            query.scan(view.block(block), aim, 1.0, f32::INFINITY, &mut scanned);
            for slot in 0..(view.items - block * ITEMS).min(ITEMS) {
                let point = codec.point(&bytes(&rows[block * ITEMS + slot]));
                let truth = query.score_between(&point);
                let width = f64::from(scanned.estimate[slot] - scanned.low[slot]).max(1e-9);
                let error = f64::from(scanned.estimate[slot] - truth);
                mean += error / width;
                coarse += (error / width).powi(2);
                broken += f64::from(u8::from(truth < scanned.low[slot]));
                if tier != Tier::Bare {
                    let sharp = query.sharpen(&view, block * ITEMS + slot, aim);
                    fine += (f64::from(sharp - truth) / width).powi(2);
                }
                count += 1.0;
            }
        }
    }
    (
        mean / count,
        (coarse / count).sqrt(),
        (fine / count).sqrt(),
        broken / count,
    )
}

#[test]
fn estimates_have_no_bias_and_keep_their_bound() {
    for dimensions in [65, 100, 384, 768, 1025] {
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            let (bias, coarse, fine, broken) = errors(dimensions, metric, Tier::Nibble);
            let what = format!("{dimensions} {metric:?}: {bias} {coarse} {fine} {broken}");
            assert!(bias.abs() < 0.05, "biased: {what}");
            // The bound is 1.9 standard deviations: one side is broken in 2.9 of 100 cases.
            assert!(broken < 0.04 && coarse < 0.6, "the bound does not hold: {what}");
            assert!(fine * 5.0 < coarse, "four bits say little more than one: {what}");
            let (_, _, finer, _) = errors(dimensions, metric, Tier::Byte);
            assert!(
                finer * 1.5 < fine,
                "eight bits say little more than four: {what} {finer}"
            );
        }
    }
}

#[test]
fn an_item_at_the_centre_is_estimated_exactly() {
    let codec = codec(100, Metric::L2, Tier::Nibble);
    let centre = vector(&mut fastrand::Rng::with_seed(1), 100);
    let opened = leaf(&codec, std::slice::from_ref(&centre), &centre)
        .open(codec.leaf_layout())
        .unwrap();
    let query = Query::new(&codec, &bytes(&vec![0.5; 100]));
    let square = query.square_between(&centre);
    let mut scanned = Scanned::default();
    query.scan(
        opened.view().block(0),
        query.aim(square),
        1.0,
        f32::INFINITY,
        &mut scanned,
    );
    assert!((scanned.estimate[0] - square).abs() < 1e-3 && (scanned.low[0] - square).abs() < 1e-3);
    assert!((query.sharpen(&opened.view(), 0, query.aim(square)) - square).abs() < 1e-3);
}

#[test]
fn a_copied_item_is_the_item() {
    let mut random = fastrand::Rng::with_seed(2);
    for tier in [Tier::Bare, Tier::Nibble, Tier::Byte] {
        let codec = codec(100, Metric::L2, tier);
        let rows: Vec<_> = (0..70).map(|_| vector(&mut random, 100)).collect();
        let centre = vector(&mut random, 100);
        let original = leaf(&codec, &rows, &centre);
        let opened = original.open(codec.leaf_layout()).unwrap();
        let mut writer = LeafWriter::new(&codec, codec.leaf_layout(), &centre);
        for item in 0..70 {
            writer.copy(opened.view(), item);
        }
        assert!(writer.finish(IDENTITY) == original);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_changed_byte_is_found(at: prop::sample::Index, bit in 0..8_u32, tiny: bool) {
        let codec = codec(if tiny { 5 } else { 65 }, Metric::L2, Tier::Nibble);
        let mut random = fastrand::Rng::with_seed(3);
        let many = codec.space().dimensions();
        let rows: Vec<_> = (0..40).map(|_| vector(&mut random, many)).collect();
        let mut bytes = leaf(&codec, &rows, &vec![0.0; many]);
        let layout = codec.leaf_layout();
        prop_assert!(bytes.open(layout).is_ok());
        let place = at.index(bytes.codes.len() + bytes.rows.len());
        let split = bytes.codes.len();
        let byte = if place < split { &mut bytes.codes[place] } else { &mut bytes.rows[place - split] };
        *byte ^= 1 << bit;
        let found_damage = matches!(bytes.open(layout), Err(LeafError::Checksum { .. }));
        prop_assert!(found_damage);
    }

    #[test]
    fn any_bytes_open_or_fail(codes: Vec<u8>, rows: Vec<u8>, items in 0..100_usize) {
        let layout = codec(65, Metric::L2, Tier::Nibble).leaf_layout();
        let opened = block::Leaf::open(layout, IDENTITY, items, &codes, &rows);
        prop_assert!(opened.is_err() || items == 0);
    }
}

#[test]
fn a_block_of_another_leaf_or_time_or_place_is_refused() {
    let codec = codec(65, Metric::L2, Tier::Nibble);
    let mut random = fastrand::Rng::with_seed(4);
    let rows: Vec<_> = (0..64).map(|_| vector(&mut random, 65)).collect();
    let whole = leaf(&codec, &rows, &vec![0.0; 65]);
    let layout = codec.leaf_layout();
    let changes: [fn(&mut LeafBytes); 4] = [
        |leaf| leaf.identity.leaf += 1,
        |leaf| leaf.identity.generation += 1,
        |leaf| leaf.identity.space += 1,
        |leaf| leaf.items -= 1,
    ];
    for change in changes {
        let mut other = whole.clone();
        change(&mut other);
        assert!(matches!(other.open(layout), Err(LeafError::Foreign { .. })));
    }
    let mut swapped = whole.clone();
    swapped.codes.rotate_left(layout.code_block());
    assert!(matches!(
        swapped.open(layout),
        Err(LeafError::Foreign { field: "index", .. })
    ));
    let mut short = whole;
    short.rows.pop();
    assert!(matches!(short.open(layout), Err(LeafError::Length { .. })));
}
