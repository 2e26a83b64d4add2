// SPDX-License-Identifier: MIT OR Apache-2.0

//! The chunk table against a model, and the edges of access.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::prelude::*;

use super::*;
use crate::layout::REGION_SIZE;

/// A sparse file in the device's place. Counts what is mapped.
struct Backing {
    file: Arc<File>,
    maps: Arc<AtomicUsize>,
}

impl Source for Backing {
    fn map(&self, index: usize) -> io::Result<Mapping> {
        self.maps.fetch_add(1, Ordering::Relaxed);
        Mapping::of_file(&*self.file, index * CHUNK_SIZE, CHUNK_SIZE)
    }
}

fn region(cap: usize) -> (Region, Arc<File>, Arc<AtomicUsize>) {
    let file = Arc::new(File::from(memfd_create(c"chunks", MFdFlags::MFD_CLOEXEC).unwrap()));
    file.set_len(REGION_SIZE as u64).unwrap();
    let maps = Arc::new(AtomicUsize::new(0));
    let backing = Backing {
        file: Arc::clone(&file),
        maps: Arc::clone(&maps),
    };
    (Region::new(Box::new(backing), cap), file, maps)
}

#[test]
fn a_chunk_is_mapped_on_first_use_and_once() {
    let (region, _, maps) = region(CHUNKS);
    assert_eq!(maps.load(Ordering::Relaxed), 0);
    let first = region.chunk(7).unwrap();
    let second = region.chunk(7).unwrap();
    assert_eq!((first.index(), maps.load(Ordering::Relaxed)), (7, 1));
    first.write(16, 0x1234_5678_u32).unwrap();
    assert_eq!(second.read::<u32>(16).unwrap(), 0x1234_5678);
}

#[test]
fn all_ninety_chunks_can_be_mapped_and_are_where_they_belong() {
    let (region, file, _) = region(CHUNKS);
    for index in 0..CHUNKS {
        let place = CHUNK_SIZE - 8;
        region.chunk(index).unwrap().write(place, index as u64 + 1).unwrap();
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, (index * CHUNK_SIZE + place) as u64)
            .unwrap();
        assert_eq!(u64::from_le_bytes(bytes), index as u64 + 1);
    }
    assert_eq!(region.figures().mapped, CHUNKS);
}

#[test]
fn there_is_no_chunk_behind_the_last() {
    let (region, ..) = region(CHUNKS);
    assert!(matches!(region.chunk(CHUNKS), Err(Error::NoSuchChunk(CHUNKS))));
    assert!(matches!(region.chunk(usize::MAX), Err(Error::NoSuchChunk(_))));
}

#[test]
fn over_the_cap_the_chunk_used_longest_ago_goes() {
    let (region, _, maps) = region(2);
    for index in [0, 1, 0, 2] {
        drop(region.chunk(index).unwrap());
    }
    assert_eq!((region.figures().mapped, region.figures().evictions), (2, 1));
    drop(region.chunk(0).unwrap());
    assert_eq!(maps.load(Ordering::Relaxed), 3, "chunk 0 should have stayed");
    drop(region.chunk(1).unwrap());
    assert_eq!(maps.load(Ordering::Relaxed), 4, "chunk 1 should have gone");
}

#[test]
fn chunks_in_use_are_never_unmapped() {
    let (region, ..) = region(2);
    let held = [region.chunk(0).unwrap(), region.chunk(1).unwrap()];
    assert!(matches!(region.chunk(2), Err(Error::MapCap(2))));
    region.trim();
    for chunk in &held {
        chunk.write(0, 1_u8).unwrap();
    }
    drop(held);
    region.chunk(2).unwrap();
}

#[test]
fn what_was_written_is_there_after_the_chunk_was_unmapped_and_mapped_again() {
    let (region, ..) = region(1);
    region.chunk(3).unwrap().write(64, 99_u16).unwrap();
    region.chunk(4).unwrap();
    assert_eq!(region.chunk(3).unwrap().read::<u16>(64).unwrap(), 99);
}

#[test]
fn dropping_a_mapping_unmaps_it_and_dropping_a_part_of_one_leaves_nothing() {
    // By name: other tests map and unmap at any address meanwhile.
    let is_mapped = || {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .contains("memfd:gone-when-dropped")
    };
    let file = File::from(memfd_create(c"gone-when-dropped", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(2 * CHUNK_SIZE as u64).unwrap();
    let whole = Mapping::of_file(&file, 0, CHUNK_SIZE).unwrap();
    let part = Mapping::of_uio(&file, 2 * CHUNK_SIZE, CHUNK_SIZE).unwrap();
    drop(whole);
    assert!(is_mapped());
    drop(part);
    assert!(!is_mapped());
}

#[test]
fn the_tail_of_a_mapping_from_the_beginning_is_the_chunk_that_was_asked_for() {
    let (_, file, _) = region(1);
    file.write_all_at(b"fifth", 5 * CHUNK_SIZE as u64).unwrap();
    let mapping = Mapping::of_uio(&*file, 6 * CHUNK_SIZE, CHUNK_SIZE).unwrap();
    assert_eq!(mapping.length(), CHUNK_SIZE);
    assert_eq!(mapping.read::<u8>(0), Some(b'f'));
    assert_eq!(mapping.read::<u32>(CHUNK_SIZE - 4), Some(0));
    assert_eq!(mapping.read::<u8>(CHUNK_SIZE), None);
    assert!(Mapping::of_uio(&*file, CHUNK_SIZE, 2 * CHUNK_SIZE).is_err());
}

#[test]
fn a_source_that_fails_is_an_error_and_leaves_room() {
    struct Failing;
    impl Source for Failing {
        fn map(&self, _: usize) -> io::Result<Mapping> {
            Err(io::Error::from_raw_os_error(nix::libc::ENODEV))
        }
    }
    let region = Region::new(Box::new(Failing), 1);
    for _ in 0..3 {
        let error = region.chunk(0).unwrap_err();
        assert_eq!(error.errno(), nix::errno::Errno::ENODEV, "{error}");
    }
    assert_eq!(region.figures(), Figures::default());
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Use(usize),
    Hold(usize),
    Release,
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_usize).prop_map(Step::Use),
        2 => (0..8_usize).prop_map(Step::Hold),
        2 => Just(Step::Release),
        1 => Just(Step::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_table_behaves_as_a_list_ordered_by_use(cap in 1..5_usize, steps in prop::collection::vec(step(), 1..60)) {
        let (region, ..) = region(cap);
        // Least recently used first.
        let mut model: Vec<usize> = Vec::new();
        let mut held: Vec<Chunk> = Vec::new();
        for step in steps {
            let is_held = |held: &[Chunk], index| held.iter().any(|chunk| chunk.index() == index);
            match step {
                Step::Use(index) | Step::Hold(index) => {
                    let victim = model.iter().position(|&one| !is_held(&held, one));
                    let expected = if model.contains(&index) {
                        model.retain(|&one| one != index);
                        true
                    } else if model.len() < cap {
                        true
                    } else if let Some(victim) = victim {
                        model.remove(victim);
                        true
                    } else {
                        false
                    };
                    let got = region.chunk(index);
                    prop_assert_eq!(got.is_ok(), expected);
                    if expected {
                        model.push(index);
                    }
                    if let (Step::Hold(_), Ok(chunk)) = (step, got) {
                        held.push(chunk);
                    }
                }
                Step::Release => drop(held.pop()),
                Step::Trim => {
                    region.trim();
                    model.retain(|&one| is_held(&held, one));
                }
            }
            prop_assert_eq!(region.figures().mapped, model.len());
        }
    }

    #[test]
    fn words_of_every_width_read_what_was_written_or_are_refused(
        accesses in prop::collection::vec((0..4_u32, 0..4104_usize, any::<u64>()), 1..40)
    ) {
        let mapping = Mapping::anonymous(4096).unwrap();
        let mut model = vec![0_u8; 4096];
        for (width, offset, value) in accesses {
            let size = 1 << width;
            let fits = offset % size == 0 && offset + size <= 4096;
            let [a, b, c, d, ..] = value.to_ne_bytes();
            let written = match size {
                1 => mapping.write(offset, a),
                2 => mapping.write(offset, u16::from_ne_bytes([a, b])),
                4 => mapping.write(offset, u32::from_ne_bytes([a, b, c, d])),
                _ => mapping.write(offset, value),
            };
            prop_assert_eq!(written.is_some(), fits);
            if fits {
                model[offset..offset + size].copy_from_slice(&value.to_ne_bytes()[..size]);
            }
        }
        for (offset, byte) in model.iter().enumerate() {
            prop_assert_eq!(mapping.read::<u8>(offset), Some(*byte));
        }
    }
}
