// SPDX-License-Identifier: MIT OR Apache-2.0

//! Spaces and vectors against a model, across sealing, checkpoints, crashes of the process and reopening.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::similar_names,
    reason = "small numbers and names of a test"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::space::{Element, Field, FieldKind, Metric, Shape, ValueError};
use super::*;
use crate::check::assert_sound;
use crate::disk::{Disk, MemDisk, SplitMix64};
use crate::error::{Errno, Error};
use crate::fs::record::{Kind, Marks, Timestamp};
use crate::fs::{Fs, MountOptions, NewFile};
use crate::pool::format::{FormatOptions, Seeds, format_disk};
use crate::pool::{Access, Host, OpenOptions, Pool};
use crate::units::Ino;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

fn disk() -> Arc<dyn Disk> {
    let disk = MemDisk::new(32 << 20);
    format_disk(&disk, &FormatOptions::default(), &Seeds::from_number(3), &Host::this()).unwrap();
    Arc::new(disk)
}

fn large_disk() -> Arc<dyn Disk> {
    let disk = MemDisk::new(256 << 20);
    format_disk(&disk, &FormatOptions::default(), &Seeds::from_number(3), &Host::this()).unwrap();
    Arc::new(disk)
}

fn mount(disk: &Arc<dyn Disk>) -> Fs {
    let pool = Pool::open_disk(Arc::clone(disk), &OpenOptions::new(Access::ReadWrite)).unwrap();
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Fs::mount(pool, &options).unwrap()
}

fn file(fs: &Fs, name: &str) -> Ino {
    let new = NewFile {
        kind: Kind::File,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        device: 0,
        target: b"",
        now: NOW,
    };
    fs.create(Ino::ROOT, name.as_bytes(), &new).unwrap().ino
}

fn space(fs: &Fs, name: &str, shape: Shape) -> Ino {
    fs.create_space(&NewSpace {
        name: name.as_bytes(),
        shape,
        effort: 0,
        fields: &[],
        now: NOW,
    })
    .unwrap()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn shape(dimensions: u32) -> Shape {
    Shape::new(dimensions, Element::F32, Metric::L2).unwrap()
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    match result.unwrap_err() {
        Error::Posix(errno) => errno,
        other => panic!("{other}"),
    }
}

/// Everything a scan meets and that is alive, once each.
fn scan(fs: &Fs, space: Ino) -> BTreeMap<(Ino, u32), Vec<u8>> {
    let mut all = BTreeMap::new();
    let complete = fs
        .scan_vectors(space, &mut |found| {
            if fs.is_alive(space, &found)? {
                all.insert((found.ino, found.ordinal), found.bytes.to_vec());
            }
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    assert!(complete);
    all
}

/// Everything that the index finds, in order of files.
fn nearest(fs: &Fs, space: Ino, query: &[u8]) -> Vec<(Ino, u32)> {
    let sought = Sought {
        query,
        count: 100_000,
        effort: 100,
        below: f32::INFINITY,
        accept: None,
    };
    let found = fs.nearest_vectors(space, &sought).unwrap().unwrap();
    assert!(found.complete);
    let mut found: Vec<_> = found.found.iter().map(|near| (near.ino, near.ordinal)).collect();
    found.sort_unstable();
    found
}

#[test]
fn only_whole_finite_vectors_of_the_shape_are_taken() {
    let f16 = Shape::new(2, Element::F16, Metric::Dot).unwrap();
    let bits = Shape::new(11, Element::Binary, Metric::Hamming).unwrap();
    assert_eq!(shape(2).count(&floats(&[1.0, 2.0, 3.0, 4.0])), Ok(2));
    for (shape, bytes) in [(shape(2), vec![0; 9]), (shape(2), vec![]), (f16, vec![0; 3])] {
        assert!(matches!(shape.count(&bytes), Err(ValueError::Length { .. })));
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(shape(2).count(&floats(&[0.0, bad])), Err(ValueError::NotFinite(1)));
    }
    assert_eq!(f16.count(&[0, 0, 0, 0x7c]), Err(ValueError::NotFinite(1)));
    assert_eq!(f16.count(&[0, 0x7b, 0xff, 0xfb]), Ok(1));
    assert_eq!(bits.vector_bytes(), 2);
    assert_eq!(bits.count(&[0xff, 0x07]), Ok(1));
    assert_eq!(bits.count(&[0xff, 0x08]), Err(ValueError::Padding));
    assert!(Shape::new(0, Element::F32, Metric::L2).is_err());
    assert!(Shape::new(16_385, Element::F32, Metric::L2).is_err());
    assert!(Shape::new(8, Element::Binary, Metric::L2).is_err());
    assert!(Shape::new(8, Element::F32, Metric::Hamming).is_err());
}

#[test]
fn an_attribute_gives_back_exactly_what_was_set_growing_and_sealed() {
    let disk = disk();
    let fs = mount(&disk);
    let ino = file(&fs, "a");
    space(&fs, "text", shape(2));
    let name = b"user.vexfs.vec.text".as_slice();
    assert_eq!(
        errno(fs.set_xattr(ino, b"user.vexfs.vec.none", b"1234", 0, NOW)),
        Errno::NotSupported
    );
    assert_eq!(errno(fs.get_xattr(ino, name)), Errno::NoAttribute);
    assert_eq!(errno(fs.remove_xattr(ino, name, NOW)), Errno::NoAttribute);
    assert_eq!(errno(fs.set_xattr(ino, name, b"123", 0, NOW)), Errno::Invalid);
    assert_eq!(
        errno(fs.set_xattr(ino, name, &floats(&[1.0, f32::NAN]), 0, NOW)),
        Errno::Invalid
    );
    assert_eq!(fs.list_xattrs(ino).unwrap(), Vec::<Box<[u8]>>::new());
    let three = floats(&[1.0, -0.0, 3.0, 4.0, f32::MIN_POSITIVE / 2.0, 6.0]);
    fs.set_xattr(ino, name, &three, crate::fs::op::xattr::CREATE, NOW)
        .unwrap();
    assert_eq!(
        errno(fs.set_xattr(ino, name, &three, crate::fs::op::xattr::CREATE, NOW)),
        Errno::Exists
    );
    fs.set_xattr(ino, b"user.z", b"z", 0, NOW).unwrap();
    fs.set_xattr(ino, b"user.a", b"a", 0, NOW).unwrap();
    let names: Vec<Box<[u8]>> = [b"user.a".as_slice(), name, b"user.z"].map(Into::into).into();
    for _ in 0..3 {
        assert_eq!(fs.list_xattrs(ino).unwrap(), names);
        assert_eq!(fs.get_xattr(ino, name).unwrap(), three);
        fs.seal_vectors().unwrap();
        fs.checkpoint().unwrap();
    }
    assert_eq!(fs.space(b"text").unwrap().space.growing, 0);
    // Fewer than before: what is not put is gone.
    fs.set_xattr(ino, name, &floats(&[7.0, 8.0]), 0, NOW).unwrap();
    assert_eq!(fs.get_xattr(ino, name).unwrap(), floats(&[7.0, 8.0]));
    fs.remove_xattr(ino, name, NOW).unwrap();
    assert_eq!(fs.list_xattrs(ino).unwrap().len(), 2);
    assert_eq!(scan(&fs, fs.space(b"text").unwrap().id), BTreeMap::new());
    fs.close().unwrap();
    assert_sound(disk).unwrap();
}

#[test]
fn vectors_that_together_are_longer_than_a_value_are_listed_and_got_one_by_one() {
    let fs = mount(&disk());
    let (ino, space) = (file(&fs, "a"), space(&fs, "s", shape(16_384)));
    let value = |seed: f32| floats(&vec![seed; 16_384]);
    for ordinal in [0, 5] {
        fs.put_vectors(&Put {
            ino,
            space,
            ordinal,
            whole: false,
            of: None,
            bytes: &value(1.0 + ordinal as f32),
            now: NOW,
        })
        .unwrap();
    }
    assert_eq!(fs.list_xattrs(ino).unwrap().len(), 1);
    assert_eq!(errno(fs.get_xattr(ino, b"user.vexfs.vec.s")), Errno::AttributeTooLarge);
    let found = fs.vectors_of(ino, space).unwrap();
    assert_eq!(found.iter().map(|vector| vector.ordinal).collect::<Vec<_>>(), [0, 5]);
    assert_eq!(*found[1].bytes, *value(6.0));
    // A copy has them too.
    let copy = fs.clone_tree(ino, Ino::ROOT, b"copy", NOW).unwrap().ino;
    assert_eq!(fs.vectors_of(copy, space).unwrap(), found);
}

#[test]
fn spaces_are_made_renamed_listed_and_dropped_with_everything_in_them() {
    let disk = disk();
    let fs = mount(&disk);
    let files = fs.statistics().inodes;
    let field = Field::new(FieldKind::Filter, b"user.lang".as_slice());
    let id = fs
        .create_space(&NewSpace {
            name: b"one",
            shape: shape(3),
            effort: 7,
            fields: std::slice::from_ref(&field),
            now: NOW,
        })
        .unwrap();
    for bad in [&b""[..], b".x", b"a/b", b"a b", &[b'a'; 65]] {
        let new = NewSpace {
            name: bad,
            shape: shape(3),
            effort: 0,
            fields: &[],
            now: NOW,
        };
        assert_eq!(errno(fs.create_space(&new)), Errno::Invalid);
    }
    let other = space(&fs, "other", shape(3));
    let rename = |from: &[u8], to: &[u8]| {
        fs.alter_space(
            from,
            &Alteration {
                name: Some(to),
                now: NOW,
                ..Alteration::default()
            },
            None,
        )
    };
    assert_eq!(errno(rename(b"one", b"other")), Errno::Exists);
    rename(b"one", b"two").unwrap();
    assert_eq!(errno(fs.space(b"one")), Errno::NoEntry);
    let info = fs.space(b"two").unwrap();
    assert_eq!((info.id, info.space.effort, info.space.fields), (id, 7, vec![field]));
    let inos: Vec<Ino> = (0..40).map(|number| file(&fs, &number.to_string())).collect();
    for &ino in &inos {
        for name in [&b"user.vexfs.vec.two"[..], b"user.vexfs.vec.other"] {
            fs.set_xattr(ino, name, &floats(&[ino.0 as f32, 0.0, 1.0]), 0, NOW)
                .unwrap();
        }
    }
    fs.seal_vectors().unwrap();
    assert_eq!(fs.spaces().unwrap().len(), 2);
    fs.drop_space(b"two", NOW).unwrap();
    assert_eq!(errno(fs.drop_space(b"two", NOW)), Errno::NoEntry);
    assert_eq!(
        fs.spaces().unwrap().iter().map(|info| info.id).collect::<Vec<_>>(),
        [other]
    );
    assert_eq!(fs.list_xattrs(inos[3]).unwrap().len(), 1);
    assert_eq!(scan(&fs, other).len(), 40);
    for (number, _) in inos.iter().enumerate() {
        fs.unlink(Ino::ROOT, number.to_string().as_bytes(), NOW).unwrap();
    }
    assert_eq!(scan(&fs, other).len(), 0);
    fs.drop_space(b"other", NOW).unwrap();
    let told = fs.statistics();
    assert_eq!((told.inodes, told.file_blocks), (files, 0));
    fs.close().unwrap();
    assert_sound(disk).unwrap();
}

/// That a pool has no spaces was remembered, and its first space was in the tables before anybody asked again.
#[test]
fn vectors_are_known_in_a_space_that_came_with_a_checkpoint() {
    let disk = disk();
    let fs = mount(&disk);
    let ino = file(&fs, "a");
    assert!(fs.spaces_of(ino).unwrap().is_empty());
    let space = space(&fs, "s", shape(2));
    fs.checkpoint().unwrap();
    let bytes = &floats(&[1.0, 2.0]);
    let whole = true;
    let put = Put {
        ino,
        space,
        ordinal: 0,
        whole,
        of: None,
        bytes,
        now: NOW,
    };
    fs.put_vectors(&put).unwrap();
    fs.checkpoint().unwrap();
    assert_eq!(fs.spaces_of(ino).unwrap(), [space]);
    fs.unlink(Ino::ROOT, b"a", NOW).unwrap();
    assert_eq!(fs.space(b"s").unwrap().space.vectors, 0);
    fs.close().unwrap();
    assert_sound(disk).unwrap();
}

#[test]
fn a_file_with_very_many_vectors_goes_in_steps() {
    let disk = disk();
    let fs = mount(&disk);
    let (ino, id) = (file(&fs, "a"), space(&fs, "s", shape(1)));
    fs.put_vectors(&Put {
        ino,
        space: id,
        ordinal: 0,
        whole: true,
        of: None,
        bytes: &floats(&(0_u16..16_000).map(f32::from).collect::<Vec<_>>()),
        now: NOW,
    })
    .unwrap();
    assert_eq!(fs.space(b"s").unwrap().space.vectors, 16_000);
    fs.unlink(Ino::ROOT, b"a", NOW).unwrap();
    let info = fs.space(b"s").unwrap();
    assert_eq!((info.space.vectors, info.space.growing), (0, 0));
    fs.seal_vectors().unwrap();
    assert_eq!(fs.space(b"s").unwrap().slabs, 0, "slabs without living vectors go");
    fs.close().unwrap();
    assert_sound(disk).unwrap();
}

#[derive(Debug, Clone)]
enum Action {
    Put(u8, u8, u8, bool, u8),
    Remove(u8, u8, u8, u8),
    Unlink(u8),
    Clone(u8, u8),
    Seal,
    Index,
    Checkpoint,
    Reopen,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let one = prop_oneof![
        8 => (0..6_u8, 0..2_u8, 0..5_u8, any::<bool>(), 1..4_u8)
            .prop_map(|(file, space, ordinal, whole, count)| Action::Put(file, space, ordinal, whole, count)),
        3 => (0..6_u8, 0..2_u8, 0..5_u8, 1..4_u8).prop_map(|(file, space, from, count)| Action::Remove(file, space, from, count)),
        2 => (0..6_u8).prop_map(Action::Unlink),
        1 => (0..6_u8, 0..6_u8).prop_map(|(from, to)| Action::Clone(from, to)),
        3 => Just(Action::Seal),
        3 => Just(Action::Index),
        1 => Just(Action::Checkpoint),
        1 => Just(Action::Reopen),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn vectors_are_what_a_plain_map_says(actions in actions()) {
        let disk = disk();
        let mut fs = mount(&disk);
        let spaces = [space(&fs, "zero", shape(3)), space(&fs, "one", Shape::new(9, Element::Binary, Metric::Hamming).unwrap())];
        let mut files: BTreeMap<u8, Ino> = BTreeMap::new();
        let mut model: BTreeMap<(u8, u8, u32), Vec<u8>> = BTreeMap::new();
        for (step, action) in actions.into_iter().enumerate() {
            match action {
                Action::Put(number, which, ordinal, whole, count) => {
                    let ino = *files.entry(number).or_insert_with(|| file(&fs, &number.to_string()));
                    let ordinal = if whole { 0 } else { u32::from(ordinal) };
                    let vector = |index: u8| match which {
                        0 => floats(&[step as f32, f32::from(index), 0.5]),
                        _ => vec![step as u8, index & 1],
                    };
                    let vectors: Vec<Vec<u8>> = (0..count).map(vector).collect();
                    let bytes = vectors.concat();
                    let put = Put { ino, space: spaces[usize::from(which)], ordinal, whole, of: None, bytes: &bytes, now: NOW };
                    fs.put_vectors(&put).unwrap();
                    if whole {
                        model.retain(|key, _| (key.0, key.1) != (number, which));
                    }
                    for (ordinal, vector) in (ordinal..).zip(vectors) {
                        model.insert((number, which, ordinal), vector);
                    }
                }
                Action::Remove(number, which, from, count) => {
                    let Some(&ino) = files.get(&number) else { continue };
                    let range = u32::from(from)..u32::from(from) + u32::from(count);
                    let before = model.len();
                    model.retain(|key, _| (key.0, key.1) != (number, which) || !range.contains(&key.2));
                    let removed = fs.remove_vectors(ino, spaces[usize::from(which)], range.start, u32::from(count), NOW);
                    prop_assert_eq!(removed.is_ok(), model.len() < before);
                }
                Action::Unlink(number) => {
                    if files.remove(&number).is_some() {
                        fs.unlink(Ino::ROOT, number.to_string().as_bytes(), NOW).unwrap();
                        model.retain(|key, _| key.0 != number);
                    }
                }
                Action::Clone(from, to) => {
                    if let (Some(&ino), false) = (files.get(&from), files.contains_key(&to)) {
                        let copy = fs.clone_tree(ino, Ino::ROOT, to.to_string().as_bytes(), NOW).unwrap();
                        files.insert(to, copy.ino);
                        let copied: Vec<_> = model.iter().filter(|(key, _)| key.0 == from).map(|(key, value)| ((to, key.1, key.2), value.clone())).collect();
                        model.extend(copied);
                    }
                }
                Action::Seal => { fs.seal_vectors().unwrap(); }
                Action::Index => fs.index_vectors().unwrap(),
                Action::Checkpoint => fs.checkpoint().unwrap(),
                // As after the end of the process: nothing answered is lost.
                Action::Reopen => {
                    drop(fs);
                    fs = mount(&disk);
                }
            }
            for (&number, &ino) in &files {
                let marked = fs.see(ino).unwrap().attributes.inode.marks == Marks::XATTRS;
                prop_assert_eq!(marked, model.keys().any(|key| key.0 == number));
            }
            for (which, &space) in (0_u8..).zip(&spaces) {
                let mut wanted = BTreeMap::new();
                for (key, value) in model.iter().filter(|(key, _)| key.1 == which) {
                    wanted.insert((files[&key.0], key.2), value.clone());
                }
                let mut found = BTreeMap::new();
                for &ino in files.values() {
                    for vector in fs.vectors_of(ino, space).unwrap() {
                        found.insert((ino, vector.ordinal), vector.bytes.to_vec());
                    }
                }
                prop_assert_eq!(&found, &wanted);
                let near = nearest(&fs, space, &wanted.values().next().cloned().unwrap_or(vec![0; [12, 2][usize::from(which)]]));
                prop_assert_eq!(near, wanted.keys().copied().collect::<Vec<_>>());
                prop_assert_eq!(scan(&fs, space), wanted);
            }
        }
        fs.close().unwrap();
        assert_sound(disk).unwrap();
    }
}

/// Vectors of a few clusters.
fn clustered(random: &mut SplitMix64, dimensions: usize) -> Vec<u8> {
    let cluster = random.below(20);
    let mut centre = SplitMix64::new(cluster + 1);
    let small = |random: &mut SplitMix64| random.below(1000) as f32 / 1000.0;
    let values: Vec<f32> = (0..dimensions)
        .map(|_| small(&mut centre) * 10.0 + small(random))
        .collect();
    floats(&values)
}

/// A space of so many vectors, one a file, in groups.
fn filled(fs: &Fs, name: &str, dimensions: u32, count: usize, random: &mut SplitMix64) -> (Ino, Vec<Ino>) {
    let id = space(fs, name, shape(dimensions));
    let inos: Vec<Ino> = (0..count).map(|number| file(fs, &format!("{name}{number}"))).collect();
    let bytes: Vec<Vec<u8>> = inos.iter().map(|_| clustered(random, dimensions as usize)).collect();
    let puts: Vec<Put<'_>> = inos
        .iter()
        .zip(&bytes)
        .map(|(ino, bytes)| Put {
            ino: *ino,
            space: id,
            ordinal: 0,
            whole: true,
            of: None,
            bytes,
            now: NOW,
        })
        .collect();
    for result in fs.put_many_vectors(&puts).unwrap() {
        result.unwrap();
    }
    (id, inos)
}

/// How many of the ten nearest are found, of so many queries.
fn recall(fs: &Fs, space: Ino, dimensions: usize, random: &mut SplitMix64) -> f64 {
    let all = scan(fs, space);
    let shape = shape(u32::try_from(dimensions).unwrap());
    let (mut hits, mut wanted) = (0, 0);
    for _ in 0..20 {
        let query = clustered(random, dimensions);
        let exact = shape.space().query(&query);
        let mut distances: Vec<f32> = all.values().map(|bytes| exact.distance(bytes)).collect();
        distances.sort_by(f32::total_cmp);
        let sought = Sought {
            query: &query,
            count: 10,
            effort: 0,
            below: f32::INFINITY,
            accept: None,
        };
        let found = fs.nearest_vectors(space, &sought).unwrap().expect("there is an index");
        assert!(found.complete);
        let truth = &distances[..10.min(distances.len())];
        hits += found
            .found
            .iter()
            .filter(|near| near.distance <= truth[truth.len() - 1])
            .count();
        wanted += truth.len();
    }
    hits as f64 / wanted as f64
}

#[test]
fn an_index_is_built_flushed_and_mended_while_vectors_come_and_go() {
    let disk = large_disk();
    let mut random = SplitMix64::new(5);
    let mut fs = mount(&disk);
    let (id, mut inos) = filled(&fs, "s", 20, 6000, &mut random);
    assert!(
        fs.index_size(id).unwrap().unwrap().leaves > 20,
        "enough vectors have leaves"
    );
    assert!(recall(&fs, id, 20, &mut random) >= 0.95);
    for round in 0..4 {
        // What is new is found at once, what went is not.
        for number in (round..inos.len()).step_by(3) {
            let bytes = clustered(&mut random, 20);
            let put = Put {
                ino: inos[number],
                space: id,
                ordinal: 0,
                whole: true,
                of: None,
                bytes: &bytes,
                now: NOW,
            };
            fs.put_vectors(&put).unwrap();
        }
        for ino in inos.split_off(inos.len() - 500) {
            fs.remove_vectors(ino, id, 0, 1, NOW).unwrap();
        }
        let known = inos.clone();
        assert_eq!(nearest(&fs, id, &clustered(&mut random, 20)).len(), known.len());
        if round % 2 == 0 {
            fs.index_vectors().unwrap();
            assert_eq!(fs.index_size(id).unwrap().unwrap().growing, 0);
        }
        drop(fs);
        assert_sound(Arc::clone(&disk)).unwrap();
        fs = mount(&disk);
        assert!(recall(&fs, id, 20, &mut random) >= 0.95);
    }
    let size = fs.index_size(id).unwrap().unwrap();
    assert!(
        size.items < 2 * inos.len() as u64,
        "leaves that are mostly dead are written anew: {size:?}"
    );
    fs.close().unwrap();
    assert_sound(disk).unwrap();
}

#[test]
fn a_damaged_leaf_is_missed_and_the_index_built_again() {
    let disk = large_disk();
    let mut random = SplitMix64::new(6);
    let fs = mount(&disk);
    let (id, inos) = filled(&fs, "s", 20, 5000, &mut random);
    let query = clustered(&mut random, 20);
    assert_eq!(nearest(&fs, id, &query).len(), inos.len());
    drop(fs);
    let fs = mount(&disk);
    for at in fs.blocks_of_leaf(id, 1).unwrap() {
        disk.write(at, &[0xa5; 4096]).unwrap();
    }
    let sought = Sought {
        query: &query,
        count: inos.len(),
        effort: 100,
        below: f32::INFINITY,
        accept: None,
    };
    let found = fs.nearest_vectors(id, &sought).unwrap().unwrap();
    assert!(!found.complete && found.found.len() < inos.len());
    // Without an index everything is compared, until it is built again.
    assert!(
        fs.nearest_vectors(id, &sought)
            .unwrap()
            .is_none_or(|found| found.complete)
    );
    fs.index_vectors().unwrap();
    assert_eq!(nearest(&fs, id, &query).len(), inos.len());
    fs.close().unwrap();
    assert_sound(disk).unwrap();
}
