// SPDX-License-Identifier: MIT OR Apache-2.0

//! The fuzz targets' bodies, over what fuzzing once found and over random bytes.

use std::fs;
use std::path::PathBuf;

use vexfs::disk::SplitMix64;

use crate::bodies::ALL;
use crate::limits;

/// Inputs that were once interesting.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/hostile/corpus")
        .join(target);
    let files = fs::read_dir(path)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> = files
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// Random bytes, or a piece of the corpus with some of them changed.
fn input(random: &mut SplitMix64, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let any = usize::try_from(random.below(corpus.len().max(1) as u64)).unwrap();
    if let Some((_, bytes)) = corpus
        .get(any)
        .filter(|(_, bytes)| !bytes.is_empty() && random.below(3) > 0)
    {
        let mut bytes = bytes.clone();
        for _ in 0..=random.below(4) {
            crate::raw::spoil(random, &mut bytes);
        }
        return bytes;
    }
    let length = [40, 400, 5000][usize::try_from(random.below(3)).unwrap()];
    let mut bytes = vec![0; usize::try_from(random.below(length)).unwrap()];
    random.fill(&mut bytes);
    // Small numbers are the interesting ones.
    for byte in &mut bytes {
        if random.below(3) == 0 {
            *byte &= 7;
        }
    }
    bytes
}

#[test]
fn the_targets_hold_over_their_corpus_and_random_bytes() {
    limits::all(ALL.into_iter().flat_map(|(target, body)| {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{target} has no corpus");
        let known: Vec<_> = corpus
            .iter()
            .cloned()
            .map(|(name, bytes)| (format!("corpus {name}"), bytes))
            .collect();
        let count = match target {
            "decoding" => 4000,
            "superblock" | "journal" => 400,
            _ => 150,
        };
        let random = limits::cases(count).map(move |seed| {
            let bytes = input(&mut SplitMix64::new(seed), &corpus);
            (format!("target {target}, seed {seed}"), bytes)
        });
        known.into_iter().chain(random).map(move |(name, bytes)| {
            let case = move || body(&bytes);
            (name, Box::new(case) as Box<dyn FnOnce()>)
        })
    }));
}

/// `VEXFS_REGENERATE=1` writes the first pieces of the corpus: an encoded example of everything.
#[test]
fn the_corpus_holds_every_structure() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests");
    let golden = fs::read_to_string(directory.join("golden/fingerprint.txt")).unwrap();
    let mut missing = Vec::new();
    for line in golden.lines().skip(1) {
        let Some((name, rest)) = line.split_once(": ") else {
            continue;
        };
        let Some((digits, zeros)) = rest.split_once(" + ") else {
            continue;
        };
        let bytes: Vec<u8> = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .chain(std::iter::repeat_n(0, zeros.parse().unwrap()))
            .collect();
        let target = match name {
            "superblock" => "superblock",
            "batch of the journal" => "journal",
            name if name.starts_with("block") => continue,
            name if name.starts_with("key ") => "decoding",
            _ => "decoding",
        };
        // Keys are decoded without their tags.
        let bytes = if name.starts_with("key ") {
            bytes[1..].to_vec()
        } else {
            bytes
        };
        let path = directory
            .join("hostile/corpus")
            .join(target)
            .join(name.replace(' ', "-"));
        if std::env::var_os("VEXFS_REGENERATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        if fs::read(&path).ok() != Some(bytes) {
            missing.push(name);
        }
    }
    assert!(
        missing.is_empty(),
        "VEXFS_REGENERATE=1 writes what is missing or old: {missing:?}"
    );
}
