// SPDX-License-Identifier: MIT OR Apache-2.0

//! Many vectors at once, in bounded memory: a plan from a sample, then leaves bucket by bucket.
//!
//! 1. Offer every vector to a [`Sampler`]; make a [`Plan`] of what it kept.
//! 2. Ask the plan for the bucket of every vector, and sort ids by bucket (outside, if they are many).
//! 3. Load each bucket's vectors and have the plan build its leaves; each bucket is one change.
//!
//! Nothing is kept between buckets, so a build that was interrupted goes on with the next one.

use super::Settings;
use super::store::{Change, LeafRecord, round_centre};
use crate::vector::cluster;
use crate::vector::codec::Codec;
use crate::vector::codec::block::Identity;
use crate::vector::codec::writer::{Entry, LeafWriter};
use crate::vector::filter::Hints;
use crate::vector::sums::square_between;

/// Rounds of k-means.
const ROUNDS: usize = 6;
/// Most centres of one clustering: above, buckets come first.
const FLAT_CENTRES: usize = 4096;
/// Points for each centre that training looks at.
const PER_CENTRE: usize = 48;

/// A vector to build with.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// Its id.
    pub vid: u32,
    /// What filters look at first.
    pub hints: Hints,
    /// Its bytes, checked.
    pub bytes: &'a [u8],
}

/// Keeps a fair sample of a stream of vectors.
#[derive(Debug)]
pub struct Sampler {
    room: usize,
    seen: usize,
    kept: Vec<Vec<u8>>,
    random: fastrand::Rng,
}

impl Sampler {
    /// Keeps at most so many.
    pub fn new(room: usize, seed: u64) -> Self {
        Self {
            room: room.max(1),
            seen: 0,
            kept: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Offers a vector.
    pub fn offer(&mut self, bytes: &[u8]) {
        self.seen += 1;
        if self.kept.len() < self.room {
            self.kept.push(bytes.to_vec());
        } else if let Some(place) = self.kept.get_mut(self.random.usize(..self.seen)) {
            place.clear();
            place.extend_from_slice(bytes);
        }
    }

    /// The mean of the sample: a good origin for the codec.
    pub fn origin(&self, codec: &Codec) -> Vec<f32> {
        cluster::mean(&self.points(codec), codec.space().dimensions())
    }

    fn points(&self, codec: &Codec) -> Vec<f32> {
        self.kept.iter().flat_map(|bytes| codec.point(bytes)).collect()
    }

    /// The plan for as many vectors as were offered, whose buckets' points fit into so many bytes.
    pub fn plan(&self, codec: &Codec, bucket_bytes: usize) -> Plan {
        let dimensions = codec.space().dimensions();
        let buckets = (self.seen * dimensions * 4).div_ceil(bucket_bytes.max(1));
        let centres = if buckets <= 1 {
            Vec::new()
        } else {
            let points = self.points(codec);
            cluster::train(&points, dimensions, buckets * 2, ROUNDS, 1)
        };
        Plan { centres }
    }
}

/// How vectors are divided before leaves are made.
#[derive(Clone, Debug)]
pub struct Plan {
    centres: Vec<f32>,
}

impl Plan {
    /// Number of buckets.
    pub fn buckets(&self, codec: &Codec) -> usize {
        (self.centres.len() / codec.space().dimensions()).max(1)
    }

    /// The bucket of a vector.
    pub fn bucket(&self, codec: &Codec, bytes: &[u8]) -> u32 {
        if self.centres.is_empty() {
            return 0;
        }
        let nearest = cluster::assign(&codec.point(bytes), &self.centres, codec.space().dimensions());
        nearest[0].0
    }
}

/// Builds the leaves of these vectors, numbered from `first` on.
pub fn leaves(codec: &Codec, settings: &Settings, first: u32, items: &[Item<'_>]) -> Change {
    let mut change = Change::default();
    if items.is_empty() {
        return change;
    }
    let dimensions = codec.space().dimensions();
    let points: Vec<f32> = items.iter().flat_map(|item| codec.point(item.bytes)).collect();
    let target = (settings.leaf_max * 5 / 8).max(1);
    let centres = centres(&points, dimensions, items.len().div_ceil(target));
    let nearest = cluster::assign(&points, &centres, dimensions);
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); centres.len() / dimensions];
    for (index, (centre, _)) in (0_u32..).zip(&nearest) {
        members[*centre as usize].push(index);
    }
    let mut groups: Vec<(Vec<u32>, Vec<f32>)> = Vec::new();
    for (members, centre) in members.into_iter().zip(centres.chunks_exact(dimensions)) {
        divide(&points, dimensions, settings.leaf_max, members, centre, &mut groups);
    }
    for (leaf, (members, centre)) in (first..).zip(groups) {
        let entries = members.iter().map(|index| {
            let item = &items[*index as usize];
            let point = &points[*index as usize * dimensions..][..dimensions];
            (item.vid, item.hints, point, item.bytes)
        });
        let identity = Identity {
            space: settings.space,
            leaf,
            generation: 1,
        };
        let stuck = if members.len() > settings.leaf_max {
            members.len()
        } else {
            0
        };
        write_leaf(codec, identity, stuck, &centre, entries, &mut change);
    }
    change
}

/// Encodes a leaf and puts it into a change.
#[expect(clippy::cast_possible_truncation, reason = "items of a leaf")]
pub(super) fn write_leaf<'a>(
    codec: &Codec,
    identity: Identity,
    stuck: usize,
    centre: &[f32],
    items: impl Iterator<Item = (u32, Hints, &'a [f32], &'a [u8])>,
    change: &mut Change,
) {
    let centre = &round_centre(centre);
    let mut writer = LeafWriter::new(codec, codec.leaf_layout(), centre);
    let mut squares = Vec::new();
    for (vid, hints, point, row) in items {
        squares.push(square_between(point, centre));
        let entry = Entry { vid, hints, point, row };
        writer.push(codec, &entry);
        change.placed.push((vid, identity.leaf));
    }
    let record = LeafRecord {
        leaf: identity.leaf,
        generation: identity.generation,
        items: writer.len() as u32,
        stuck: stuck as u32,
        centred: writer.len() as u32,
        radii: radii(&squares),
        centre: centre.clone(),
    };
    change.put.push((record, writer.finish(identity)));
}

/// Between which distances these squared ones lie.
pub(super) fn radii(squares: &[f32]) -> [f32; 2] {
    let inner = squares.iter().copied().fold(f32::INFINITY, f32::min);
    let outer = squares.iter().copied().fold(0.0, f32::max);
    [inner.min(outer).sqrt(), outer.sqrt()]
}

/// Centres for so many leaves. Above [`FLAT_CENTRES`], coarse clusters are clustered by themselves.
fn centres(points: &[f32], dimensions: usize, count: usize) -> Vec<f32> {
    let total = points.len() / dimensions;
    let sample = |points: &[f32], count: usize| -> Vec<f32> {
        let total = points.len() / dimensions;
        let step = (total / (count * PER_CENTRE).max(1)).max(1);
        points
            .chunks_exact(dimensions)
            .step_by(step)
            .flatten()
            .copied()
            .collect()
    };
    if count <= FLAT_CENTRES {
        return cluster::train(&sample(points, count), dimensions, count, ROUNDS, 1);
    }
    let coarse = cluster::train(
        &sample(points, FLAT_CENTRES / 8),
        dimensions,
        FLAT_CENTRES / 8,
        ROUNDS,
        1,
    );
    let nearest = cluster::assign(points, &coarse, dimensions);
    let mut all = Vec::new();
    for bucket in (0_u32..).take(coarse.len() / dimensions) {
        let chosen = points
            .chunks_exact(dimensions)
            .zip(&nearest)
            .filter(|(_, near)| near.0 == bucket);
        let inside: Vec<f32> = chosen.flat_map(|(point, _)| point).copied().collect();
        let share = (inside.len() / dimensions * count).div_ceil(total);
        if share > 0 {
            all.extend(cluster::train(&sample(&inside, share), dimensions, share, ROUNDS, 1));
        }
    }
    all
}

/// Splits what is too large for a leaf, until nothing is, or what is left are copies of one vector.
fn divide(
    points: &[f32],
    dimensions: usize,
    most: usize,
    members: Vec<u32>,
    centre: &[f32],
    groups: &mut Vec<(Vec<u32>, Vec<f32>)>,
) {
    let mut open = vec![(members, centre.to_vec())];
    while let Some((members, centre)) = open.pop() {
        if members.is_empty() {
            continue;
        }
        let gather = |members: &[u32]| -> Vec<f32> {
            let rows = members
                .iter()
                .map(|index| &points[*index as usize * dimensions..][..dimensions]);
            rows.flatten().copied().collect()
        };
        let inside = gather(&members);
        let halves = if members.len() > most {
            cluster::split(&inside, dimensions, 1)
        } else {
            None
        };
        let Some(halves) = halves else {
            groups.push((members, centre));
            continue;
        };
        let nearest = cluster::assign(&inside, &halves.concat(), dimensions);
        for (side, half) in (0_u32..).zip(halves) {
            let chosen = members.iter().zip(&nearest).filter(|(_, near)| near.0 == side);
            open.push((chosen.map(|(index, _)| *index).collect(), half));
        }
    }
}
