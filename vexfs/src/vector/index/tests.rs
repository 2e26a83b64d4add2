// SPDX-License-Identifier: MIT OR Apache-2.0

//! The index against comparing everything, through random histories.

#![expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]
#![expect(clippy::trivially_copy_pass_by_ref, reason = "a space is lent here as everywhere")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::memory::MemoryStore;
use super::search::{Answer, Request};
use super::store::{Leaves, StoreError};
use super::*;
use crate::vector::codec::CodecConfig;
use crate::vector::filter::{BitSet, Hints, Mask};
use crate::vector::index::effort::Effort;
use crate::vector::space::{Element, Metric, Space};

const KINDS: [(Element, Metric); 13] = [
    (Element::F32, Metric::Cosine),
    (Element::F32, Metric::L2),
    (Element::F32, Metric::Dot),
    (Element::F32, Metric::L1),
    (Element::F16, Metric::Cosine),
    (Element::F16, Metric::L2),
    (Element::F16, Metric::Dot),
    (Element::F16, Metric::L1),
    (Element::I8, Metric::Cosine),
    (Element::I8, Metric::L2),
    (Element::I8, Metric::Dot),
    (Element::I8, Metric::L1),
    (Element::Binary, Metric::Hamming),
];

/// An index with its store.
struct Both {
    index: Index,
    store: MemoryStore,
    leaf_max: usize,
}

impl Both {
    fn new(space: Space, leaf_max: usize, flat: usize) -> Self {
        let codec = Codec::new(CodecConfig::new(space, 11));
        let settings = Settings {
            leaf_max,
            flat,
            flush: 300,
            change_items: 120,
            ..Settings::new(1, space.dimensions())
        };
        Self {
            store: MemoryStore::new(codec.leaf_layout(), space.row_bytes()),
            index: Index::open(codec, settings, []),
            leaf_max,
        }
    }

    fn add(&mut self, bytes: &[u8], hints: Hints) -> u32 {
        self.index.codec().space().check(bytes).unwrap();
        let vid = self.store.put(bytes);
        self.index.add(vid, hints, bytes);
        vid
    }

    fn keep(&mut self, change: &Change) {
        self.store.keep(change).unwrap();
        self.index.apply(change);
    }

    fn flush(&mut self) {
        while !self.index.growing().is_empty() {
            let mut routed = self.index.route(&self.store).unwrap();
            while !routed.is_empty() {
                let mut again = routed.clone();
                let change = self.index.flush(&self.store, &self.store, &mut routed).unwrap();
                let same = self.index.flush(&self.store, &self.store, &mut again).unwrap();
                assert!(change == same && routed == again, "a flush is deterministic");
                self.keep(&change);
            }
        }
    }

    fn dead(&self) -> BTreeMap<u32, u32> {
        let mut dead = BTreeMap::new();
        for vid in self
            .store
            .vids()
            .filter(|vid| !super::store::Vectors::is_live(&self.store, *vid))
        {
            if let Some(leaf) = self.store.place(vid) {
                *dead.entry(leaf).or_insert(0) += 1;
            }
        }
        dead
    }

    /// Until nothing needs work.
    fn maintain(&mut self) {
        for _ in 0..10_000 {
            let dead = self.dead();
            let Some(leaf) = self.index.needs_work(|leaf| dead.get(&leaf).copied().unwrap_or(0)) else {
                return;
            };
            let change = self.index.maintain(&self.store, &self.store, leaf).unwrap();
            self.keep(&change);
        }
        panic!("maintenance does not come to an end");
    }

    fn search(&self, query: &[u8], count: usize, effort: Effort) -> Answer {
        self.index
            .search(&self.store, &self.store, &Request::new(query, count, effort))
            .unwrap()
    }

    /// What comparing everything finds.
    fn truth(&self, query: &[u8], count: usize) -> Vec<(f32, u32)> {
        let all: Vec<u32> = self.store.vids().collect();
        let request = Request::new(query, count, Effort::ALL);
        self.index.search_among(&self.store, &request, &all).unwrap().hits
    }

    fn recall(&self, queries: &[Vec<u8>], effort: Effort) -> f64 {
        let (mut found, mut wanted) = (0, 0);
        for query in queries {
            let truth = self.truth(query, 10);
            let farthest = truth.last().unwrap().0;
            let hits = self.search(query, 10, effort).hits;
            found += hits.iter().filter(|(distance, _)| *distance <= farthest).count();
            wanted += truth.len();
        }
        f64::from(found as u32) / f64::from(wanted as u32)
    }

    /// Every living vector is in exactly one place, and the index is the one its records make.
    fn check(&self) {
        let mut seen = BTreeSet::new();
        for record in self.index.records() {
            let mut lent = Vec::new();
            self.store.leaves(&[record.leaf], &mut lent);
            let leaf = lent.pop().unwrap().unwrap();
            assert_eq!(leaf.view().items, record.items as usize);
            for vid in leaf.view().vids() {
                assert!(seen.insert(vid), "{vid} is in two places");
                assert!(
                    !super::store::Vectors::is_live(&self.store, vid) || self.store.place(vid) == Some(record.leaf)
                );
            }
        }
        for (vid, _) in self.index.growing().oldest(usize::MAX) {
            assert!(seen.insert(vid), "{vid} is in a leaf and growing");
        }
        for vid in self
            .store
            .vids()
            .filter(|vid| super::store::Vectors::is_live(&self.store, *vid))
        {
            assert!(seen.contains(&vid), "{vid} is lost");
        }
        assert_eq!(self.index.router.len(), self.index.records().len());
    }
}

/// Random vectors around a few centres.
fn clustered(space: &Space, random: &mut fastrand::Rng, clusters: u32) -> Vec<u8> {
    let cluster = random.u32(..clusters);
    let mut centre = fastrand::Rng::with_seed(u64::from(cluster) + 1000);
    let values: Vec<f32> = (0..space.dimensions())
        .map(|_| (centre.f32() - 0.5) * 100.0 + (random.f32() - 0.5) * 50.0)
        .collect();
    encode(space, &values)
}

fn encode(space: &Space, values: &[f32]) -> Vec<u8> {
    match space.element() {
        Element::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Element::F16 => values
            .iter()
            .flat_map(|value| half::f16::from_f32(*value).to_le_bytes())
            .collect(),
        Element::I8 => values.iter().map(|value| (*value as i8).cast_unsigned()).collect(),
        Element::Binary => {
            let mut bytes = vec![0; space.row_bytes()];
            for (bit, value) in values.iter().enumerate() {
                bytes[bit / 8] |= u8::from(*value > 0.0) << (bit % 8);
            }
            bytes
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Adds, deaths, flushes and maintenance in any order: nothing is lost, nothing dead is found, and a search that reads
    /// everything answers what comparing everything answers.
    #[test]
    fn a_search_of_everything_is_a_comparison_of_everything(
        kind in 0..KINDS.len(),
        dimensions in prop::sample::select(vec![1_u32, 2, 63, 64, 65, 100]),
        steps in prop::collection::vec((0..5_u8, 1..150_u32), 1..12),
        seed: u64,
        flat in prop::sample::select(vec![4_usize, 65_536]),
    ) {
        let (element, metric) = KINDS[kind];
        let space = Space::new(dimensions, element, metric).unwrap();
        let mut both = Both::new(space, 40, flat);
        let mut random = fastrand::Rng::with_seed(seed);
        for (step, number) in steps {
            match step {
                0 | 1 => for _ in 0..number {
                    let bytes = clustered(&space, &mut random, 6);
                    both.add(&bytes, Hints::UNKNOWN);
                },
                2 => for _ in 0..number {
                    let vids = both.store.vids();
                    if !vids.is_empty() {
                        both.store.kill(random.u32(vids));
                    }
                },
                3 => both.flush(),
                _ => both.maintain(),
            }
            both.check();
            let query = clustered(&space, &mut random, 6);
            let answer = both.search(&query, 7, Effort { leaves: both.index.records().len().max(1), ..Effort::ALL });
            prop_assert!(answer.lost.is_empty());
            if flat == 65_536 {
                prop_assert_eq!(answer.hits, both.truth(&query, 7));
            }
        }
    }
}

#[test]
fn default_effort_finds_nearly_everything_in_every_kind_of_space() {
    let mut random = fastrand::Rng::with_seed(1);
    for (element, metric) in KINDS {
        for dimensions in [2, 65, 384] {
            let space = Space::new(dimensions, element, metric).unwrap();
            let mut both = Both::new(space, 64, 65_536);
            for _ in 0..2500 {
                let bytes = clustered(&space, &mut random, 40);
                both.add(&bytes, Hints::UNKNOWN);
            }
            both.flush();
            both.maintain();
            both.check();
            let queries: Vec<_> = (0..20).map(|_| clustered(&space, &mut random, 40)).collect();
            let recall = both.recall(&queries, Effort::default());
            assert!(recall >= 0.95, "{element:?} {metric:?} {dimensions}: {recall}");
        }
    }
}

#[test]
fn very_long_vectors_are_found() {
    let mut random = fastrand::Rng::with_seed(2);
    for dimensions in [1025, 4097, 16384] {
        let space = Space::new(dimensions, Element::F32, Metric::Cosine).unwrap();
        let mut both = Both::new(space, 32, 65_536);
        for _ in 0..100 {
            let bytes = clustered(&space, &mut random, 4);
            both.add(&bytes, Hints::UNKNOWN);
        }
        both.flush();
        let queries: Vec<_> = (0..3).map(|_| clustered(&space, &mut random, 4)).collect();
        assert!(both.recall(&queries, Effort::default()) >= 0.95);
    }
}

#[test]
fn copies_of_one_vector_share_a_leaf_beyond_its_limit_and_maintenance_ends() {
    let space = Space::new(100, Element::F32, Metric::L2).unwrap();
    let mut both = Both::new(space, 40, 65_536);
    let same = encode(&space, &[1.5; 100]);
    for _ in 0..200 {
        both.add(&same, Hints::UNKNOWN);
    }
    both.flush();
    both.maintain();
    both.check();
    assert_eq!(both.index.records().len(), 1);
    assert_eq!(both.search(&same, 200, Effort::default()).hits.len(), 200);
}

#[test]
fn churn_keeps_items_in_their_nearest_leaf_and_searches_as_good_as_a_new_index() {
    let mut random = fastrand::Rng::with_seed(3);
    let space = Space::new(64, Element::F32, Metric::L2).unwrap();
    let mut both = Both::new(space, 64, 65_536);
    let mut live: Vec<u32> = Vec::new();
    for round in 0..30_u32 {
        for _ in 0..250 {
            // Clusters come into being one after the other: the distribution drifts.
            let bytes = clustered(&space, &mut random, round * 2 + 4);
            live.push(both.add(&bytes, Hints::UNKNOWN));
            if live.len() > 4000 {
                let victim = live.swap_remove(random.usize(..live.len()));
                both.store.kill(victim);
            }
        }
        both.flush();
        both.maintain();
    }
    both.check();
    let queries: Vec<_> = (0..60).map(|_| clustered(&space, &mut random, 62)).collect();
    let churned = both.recall(&queries, Effort::default());
    let mut fresh = Both::new(space, both.leaf_max, 65_536);
    for vid in &live {
        fresh.add(both.store.row(*vid), Hints::UNKNOWN);
    }
    fresh.flush();
    fresh.maintain();
    let expected = fresh.recall(&queries, Effort::default());
    assert!(
        churned >= expected - 0.015,
        "{churned} after churn, {expected} when new"
    );
}

#[test]
fn what_was_kept_may_be_applied_twice() {
    let mut random = fastrand::Rng::with_seed(4);
    let space = Space::new(65, Element::F32, Metric::L2).unwrap();
    let mut both = Both::new(space, 40, 65_536);
    for _ in 0..250 {
        let bytes = clustered(&space, &mut random, 5);
        both.add(&bytes, Hints::UNKNOWN);
    }
    let mut routed = both.index.route(&both.store).unwrap();
    let change = both.index.flush(&both.store, &both.store, &mut routed).unwrap();
    both.keep(&change);
    let query = clustered(&space, &mut random, 5);
    let before = both.search(&query, 10, Effort::ALL);
    both.keep(&change);
    both.check();
    assert_eq!(before.hits, both.search(&query, 10, Effort::ALL).hits);
    both.flush();
    let records: Vec<LeafRecord> = both.index.records().cloned().collect();
    for record in &records {
        let bytes = super::store::encode_centre(&record.centre);
        assert_eq!(super::store::decode_centre(&bytes, 65).unwrap(), record.centre);
        assert!(super::store::decode_centre(&bytes[1..], 65).is_err());
    }
    let again = Index::open(both.index.codec().clone(), *both.index.settings(), records);
    let answer = again
        .search(&both.store, &both.store, &Request::new(&query, 10, Effort::ALL))
        .unwrap();
    assert_eq!(before.hits, answer.hits);
}

/// A store one of whose leaves cannot be read.
struct Damaged<'a>(&'a MemoryStore, u32);

impl Leaves for Damaged<'_> {
    fn leaves<'a>(&'a self, ids: &[u32], out: &mut Vec<Result<super::store::LeafRef<'a>, StoreError>>) {
        self.0.leaves(ids, out);
        for (id, lent) in ids.iter().zip(out) {
            if *id == self.1 {
                let damage = crate::vector::codec::block::LeafError::Checksum { leaf: *id, index: 0 };
                *lent = Err(StoreError::Leaf(damage));
            }
        }
    }
}

#[test]
fn a_damaged_leaf_is_named_and_the_others_still_answer() {
    let mut random = fastrand::Rng::with_seed(5);
    let space = Space::new(65, Element::F32, Metric::L2).unwrap();
    let mut both = Both::new(space, 40, 65_536);
    for _ in 0..500 {
        let bytes = clustered(&space, &mut random, 5);
        both.add(&bytes, Hints::UNKNOWN);
    }
    both.flush();
    let query = clustered(&space, &mut random, 5);
    let nearest = both.search(&query, 1, Effort::ALL).hits[0].1;
    let bad = both.store.place(nearest).unwrap();
    let damaged = Damaged(&both.store, bad);
    let answer = both
        .index
        .search(&damaged, &both.store, &Request::new(&query, 10, Effort::ALL))
        .unwrap();
    assert_eq!((answer.lost, answer.hits.len()), (vec![bad], 10));
    assert!(answer.hits.iter().all(|(_, vid)| both.store.place(*vid) != Some(bad)));
}

#[test]
fn hints_never_lose_a_match() {
    let mut random = fastrand::Rng::with_seed(6);
    let space = Space::new(65, Element::F32, Metric::L2).unwrap();
    let mut both = Both::new(space, 40, 65_536);
    for number in 0..1000_u32 {
        let bytes = clustered(&space, &mut random, 5);
        let hints = Hints {
            directory: number % 100,
            class: 3,
            flags: if number % 50 == 7 { Hints::ANYWHERE } else { 0 },
            ..Hints::UNKNOWN
        };
        both.add(&bytes, hints);
    }
    both.flush();
    both.maintain();
    let mask = Mask {
        directories: Some([4, 5].into_iter().collect::<BitSet>()),
        stale: [11].into_iter().collect(),
        ..Mask::default()
    };
    let query = clustered(&space, &mut random, 5);
    let request = Request {
        mask: Some(&mask),
        ..Request::new(&query, 1000, Effort::ALL)
    };
    let mut found: Vec<u32> = both
        .index
        .search(&both.store, &both.store, &request)
        .unwrap()
        .hits
        .iter()
        .map(|hit| hit.1)
        .collect();
    found.sort_unstable();
    let passes = |vid: &u32| matches!(vid % 100, 4 | 5) || vid % 50 == 7 || *vid == 11;
    assert_eq!(found, (0..1000).filter(passes).collect::<Vec<_>>());
}

#[test]
fn answers_are_below_the_threshold() {
    let mut random = fastrand::Rng::with_seed(8);
    let space = Space::new(65, Element::F32, Metric::L2).unwrap();
    let mut both = Both::new(space, 40, 65_536);
    for _ in 0..300 {
        let bytes = clustered(&space, &mut random, 5);
        both.add(&bytes, Hints::UNKNOWN);
    }
    both.flush();
    let query = clustered(&space, &mut random, 5);
    let truth = both.truth(&query, 300);
    let request = Request {
        below: truth[20].0,
        ..Request::new(&query, 300, Effort::ALL)
    };
    let hits = both.index.search(&both.store, &both.store, &request).unwrap().hits;
    assert_eq!(hits, truth[..20]);
}
