// SPDX-License-Identifier: MIT OR Apache-2.0

//! Vectors and likeness of text, without a model.
//!
//! A text is its words in lower case; a word is the runs of three to five letters of it, with marks at both ends. Each run
//! is hashed to a dimension and a sign, and counts the more the more often it occurs, with its square root. So texts with
//! the same words, or parts of words, are near; texts of the same meaning in other words are not: that takes a model.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Shortest and longest run of letters.
const RUNS: std::ops::RangeInclusive<usize> = 3..=5;

/// Calls `each` with the hash of every run of letters.
fn runs(text: &str, mut each: impl FnMut(u64)) {
    let mut letters: Vec<char> = Vec::new();
    for word in text
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        letters.clear();
        letters.push('\u{2}');
        letters.extend(word.chars().flat_map(char::to_lowercase));
        letters.push('\u{3}');
        for length in RUNS {
            for run in letters.windows(length) {
                let mut hasher = SipHasher13::new();
                for letter in run {
                    hasher.write_u32(u32::from(*letter));
                }
                each(hasher.finish());
            }
        }
    }
}

/// The vector of a text: of length 1, or zeros if there are no words.
#[expect(clippy::cast_precision_loss, reason = "counts of letters in a text")]
pub fn embed(text: &str, dimensions: usize) -> Vec<f32> {
    let mut counts: rustc_hash::FxHashMap<u64, u32> = rustc_hash::FxHashMap::default();
    runs(text, |hash| *counts.entry(hash).or_default() += 1);
    let mut vector = vec![0.0_f32; dimensions];
    // In one order: sums of floats depend on it.
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable();
    for (hash, count) in counts {
        let at = usize::try_from((hash >> 1) % (dimensions.max(1) as u64)).unwrap_or(0);
        let sign = if hash & 1 == 0 { 1.0 } else { -1.0 };
        if let Some(place) = vector.get_mut(at) {
            *place += sign * (count as f32).sqrt();
        }
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in &mut vector {
            *value /= length;
        }
    }
    vector
}

/// How much of a query's runs of letters a text has, from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "counts of letters in a text")]
pub fn likeness(query: &str, text: &str) -> f32 {
    let mut wanted = std::collections::BTreeSet::new();
    runs(query, |hash| _ = wanted.insert(hash));
    let mut found = std::collections::BTreeSet::new();
    runs(text, |hash| {
        if wanted.contains(&hash) {
            found.insert(hash);
        }
    });
    if wanted.is_empty() {
        return 0.0;
    }
    found.len() as f32 / wanted.len() as f32
}
