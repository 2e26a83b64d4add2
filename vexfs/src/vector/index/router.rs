// SPDX-License-Identifier: MIT OR Apache-2.0

//! From a query to the leaves worth reading: centres of all leaves, in memory.
//!
//! Leaves are gathered into groups of similar centres; a group holds its centres like a leaf holds its items, as one-bit
//! codes and exactly. Up to [`FLAT`] leaves, routing scans the codes of all groups; above, of the nearest groups only,
//! until many times more centres were seen than leaves are wanted. The best by estimate are then compared exactly.

use std::collections::BTreeMap;

use crate::vector::cluster;
use crate::vector::codec::Codec;
use crate::vector::codec::query::Query;
use crate::vector::codec::writer::{Entry, LeafWriter};
use crate::vector::filter::Hints;
use crate::vector::kernels::{ITEMS, Scanned};

/// Leaves up to which all centres are scanned.
pub const FLAT: usize = 65_536;
/// Centres in a group.
const GROUP: usize = 512;
/// How many times more centres than wanted leaves a search looks at, where it does not look at all.
const OPENING: usize = 16;

/// A leaf on the way of a query.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    /// The leaf.
    pub leaf: u32,
    /// The squared distance of its centre.
    pub square: f32,
    /// What leaves are sorted by: the squared distance, or the negated product.
    pub score: f32,
    /// How far its items are from its centre: see `LeafRecord`.
    pub radii: [f32; 2],
}

#[derive(Clone, Debug)]
struct Group {
    centre: Vec<f32>,
    /// Leaf and radii of each item.
    members: Vec<(u32, [f32; 2])>,
    codes: LeafWriter,
}

/// The centres of all leaves.
#[derive(Clone, Debug)]
pub struct Router {
    flat: usize,
    groups: Vec<Group>,
    /// The group of each leaf.
    homes: BTreeMap<u32, usize>,
}

impl Default for Router {
    fn default() -> Self {
        Self::new(FLAT)
    }
}

/// A leaf as the router knows it.
pub type Centre<'a> = (u32, [f32; 2], &'a [f32]);

impl Router {
    /// No leaves yet; scans everything up to so many.
    pub const fn new(flat: usize) -> Self {
        Self {
            flat,
            groups: Vec::new(),
            homes: BTreeMap::new(),
        }
    }

    /// The router of all these leaves.
    pub fn of(codec: &Codec, flat: usize, centres: &[Centre<'_>]) -> Self {
        let mut router = Self::new(flat);
        let dimensions = codec.space().dimensions();
        let points: Vec<f32> = centres.iter().flat_map(|(_, _, centre)| *centre).copied().collect();
        let count = centres.len().div_ceil(GROUP / 2);
        if centres.is_empty() {
            return router;
        }
        let means = cluster::train(&points, dimensions, count, 4, 1);
        let nearest = cluster::assign(&points, &means, dimensions);
        for (group, mean) in (0_u32..).zip(means.chunks_exact(dimensions)) {
            let members: Vec<_> = centres
                .iter()
                .zip(&nearest)
                .filter(|(_, near)| near.0 == group)
                .collect();
            for part in members.chunks(GROUP) {
                let part: Vec<Centre<'_>> = part.iter().map(|(centre, _)| **centre).collect();
                router.push_group(codec, mean.to_vec(), &part);
            }
        }
        router
    }

    fn push_group(&mut self, codec: &Codec, centre: Vec<f32>, members: &[Centre<'_>]) {
        let mut group = Group {
            codes: LeafWriter::new(codec, codec.node_layout(), &centre),
            centre,
            members: Vec::new(),
        };
        for member in members {
            group.push(codec, member);
            self.homes.insert(member.0, self.groups.len());
        }
        self.groups.push(group);
    }

    /// Number of leaves.
    pub fn len(&self) -> usize {
        self.homes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.homes.is_empty()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let group = |group: &Group| group.codes.bytes() + group.members.len() * 12 + group.centre.len() * 4;
        self.groups.iter().map(group).sum::<usize>() + self.homes.len() * 16
    }

    /// A leaf has other items around the same centre.
    pub fn set_radii(&mut self, leaf: u32, radii: [f32; 2]) {
        let group = self.homes.get(&leaf).and_then(|home| self.groups.get_mut(*home));
        let member = group.and_then(|group| group.members.iter_mut().find(|(other, _)| *other == leaf));
        if let Some((_, known)) = member {
            *known = radii;
        }
    }

    /// Takes leaves out and puts others in; groups that change are encoded anew.
    pub fn update(&mut self, codec: &Codec, gone: &[u32], put: &[Centre<'_>]) {
        let mut touched: BTreeMap<usize, Vec<Centre<'_>>> = BTreeMap::new();
        let removed = gone.iter().chain(put.iter().map(|(leaf, _, _)| leaf));
        for home in removed.filter_map(|leaf| self.homes.remove(leaf)) {
            touched.entry(home).or_default();
        }
        for centre in put {
            let near = |group: &Group| {
                let pairs = group.centre.iter().zip(centre.2);
                pairs.map(|(one, other)| (one - other) * (one - other)).sum::<f32>()
            };
            let scores = self.groups.iter().map(near).enumerate();
            match scores.min_by(|one, other| one.1.total_cmp(&other.1)) {
                Some((home, _)) => touched.entry(home).or_default().push(*centre),
                None => self.push_group(codec, centre.2.to_vec(), &[*centre]),
            }
        }
        for (home, added) in touched {
            let old = std::mem::take(&mut self.groups[home].members);
            let added_now: std::collections::BTreeSet<u32> = added.iter().map(|(leaf, _, _)| *leaf).collect();
            let view = self.groups[home].codes.view();
            let kept: Vec<(u32, [f32; 2], Vec<f32>)> = old
                .iter()
                .enumerate()
                .filter(|(_, (leaf, _))| self.homes.get(leaf) == Some(&home) && !added_now.contains(leaf))
                .map(|(item, (leaf, radii))| (*leaf, *radii, floats(view.row(item))))
                .collect();
            let mut members: Vec<Centre<'_>> = kept
                .iter()
                .map(|(leaf, radii, row)| (*leaf, *radii, row.as_slice()))
                .collect();
            members.extend(added);
            self.refill(codec, home, &members);
        }
    }

    /// Gives a group new members; one that became too large is divided.
    fn refill(&mut self, codec: &Codec, home: usize, members: &[Centre<'_>]) {
        let dimensions = codec.space().dimensions();
        let points: Vec<f32> = members.iter().flat_map(|(_, _, centre)| *centre).copied().collect();
        let halves = if members.len() > GROUP {
            cluster::split(&points, dimensions, 1)
        } else {
            None
        };
        let Some([one, other]) = halves else {
            let centre = if members.is_empty() {
                self.groups[home].centre.clone()
            } else {
                cluster::mean(&points, dimensions)
            };
            self.replace(codec, home, centre, members);
            return;
        };
        let nearest = cluster::assign(&points, &[one.as_slice(), &other].concat(), dimensions);
        let side = |which: u32| -> Vec<Centre<'_>> {
            let chosen = members.iter().zip(&nearest).filter(|(_, near)| near.0 == which);
            chosen.map(|(member, _)| *member).collect()
        };
        self.replace(codec, home, one, &side(0));
        self.push_group(codec, other, &side(1));
    }

    fn replace(&mut self, codec: &Codec, home: usize, centre: Vec<f32>, members: &[Centre<'_>]) {
        let mut group = Group {
            codes: LeafWriter::new(codec, codec.node_layout(), &centre),
            centre,
            members: Vec::new(),
        };
        for member in members {
            group.push(codec, member);
            self.homes.insert(member.0, home);
        }
        self.groups[home] = group;
    }

    /// The `wanted` leaves nearest to a query, nearest first.
    pub fn route(&self, query: &Query, wanted: usize) -> Vec<Target> {
        let open = self.opened(query, wanted);
        let mut found: Vec<(f32, u32, u32)> = Vec::with_capacity(self.len().min(self.flat));
        let mut scanned = Scanned::default();
        for index in open {
            let group = &self.groups[index];
            let view = group.codes.view();
            let aim = query.aim(query.square_between(&group.centre));
            for block in 0..view.blocks() {
                query.scan(view.block(block), aim, 0.0, f32::INFINITY, &mut scanned);
                let there = (view.items - block * ITEMS).min(ITEMS);
                let numbered = (0..).zip(&scanned.estimate[..there]);
                #[expect(clippy::cast_possible_truncation, reason = "groups and their members are few")]
                found.extend(
                    numbered
                        .map(|(item, estimate): (usize, _)| (*estimate, index as u32, (block * ITEMS + item) as u32)),
                );
            }
        }
        let sharpened = wanted.saturating_add(32).min(found.len());
        if sharpened < found.len() {
            found.select_nth_unstable_by(sharpened, |one, other| one.0.total_cmp(&other.0));
            found.truncate(sharpened);
        }
        let target = |(_, group, item): &(f32, u32, u32)| {
            let group = &self.groups[*group as usize];
            let (leaf, radii) = group.members[*item as usize];
            let row = group.codes.view().row(*item as usize);
            let square = query.square_to(row);
            Target {
                leaf,
                square,
                score: query.score(square, row),
                radii,
            }
        };
        let mut targets: Vec<Target> = found.iter().map(target).collect();
        targets.sort_unstable_by(|one, other| one.score.total_cmp(&other.score).then(one.leaf.cmp(&other.leaf)));
        targets.truncate(wanted);
        targets
    }

    /// The groups to look into.
    fn opened(&self, query: &Query, wanted: usize) -> Vec<usize> {
        if self.len() <= self.flat {
            return (0..self.groups.len()).collect();
        }
        let score = |(index, group): (usize, &Group)| (query.score_between(&group.centre), index);
        let mut scored: Vec<_> = self.groups.iter().enumerate().map(score).collect();
        scored.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        let (mut open, mut seen) = (Vec::new(), 0);
        for (_, index) in scored {
            if seen >= wanted.saturating_mul(OPENING) {
                break;
            }
            seen += self.groups[index].members.len();
            open.push(index);
        }
        open
    }
}

impl Group {
    fn push(&mut self, codec: &Codec, (leaf, radii, centre): &Centre<'_>) {
        let row: Vec<u8> = centre.iter().flat_map(|value| value.to_le_bytes()).collect();
        let entry = Entry {
            vid: *leaf,
            hints: Hints::UNKNOWN,
            point: centre,
            row: &row,
        };
        self.codes.push(codec, &entry);
        self.members.push((*leaf, *radii));
    }
}

fn floats(row: &[u8]) -> Vec<f32> {
    row.as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
}
