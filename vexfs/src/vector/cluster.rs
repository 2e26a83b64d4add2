// SPDX-License-Identifier: MIT OR Apache-2.0

//! k-means: centres for leaves. Deterministic: the same points, number and seed give the same centres.
//!
//! Points lie one after the other in one slice, `dimensions` numbers each.

use super::kernels::Kernels;
use super::sums::square;

/// Nearest centre of every point, by Euclidean distance, with the squared distance.
pub fn assign(points: &[f32], centres: &[f32], dimensions: usize) -> Vec<(u32, f32)> {
    let kernels = Kernels::best();
    let halves: Vec<f32> = centres
        .chunks_exact(dimensions)
        .map(|centre| square(centre) / 2.0)
        .collect();
    let mut nearest = Vec::with_capacity(points.len() / dimensions);
    for four in points.chunks(4 * dimensions) {
        let rows: Vec<&[f32]> = four.chunks_exact(dimensions).collect();
        let row = |index: usize| rows.get(index).copied().unwrap_or(rows[0]);
        let rows4 = [row(0), row(1), row(2), row(3)];
        let mut best = [(0, f32::INFINITY); 4];
        for (index, (centre, half)) in (0_u32..).zip(centres.chunks_exact(dimensions).zip(&halves)) {
            let products = kernels.dot_four(rows4, centre);
            for (best, product) in best.iter_mut().zip(products) {
                let score = half - product;
                if score < best.1 {
                    *best = (index, score);
                }
            }
        }
        for (row, (index, score)) in rows.iter().zip(best) {
            nearest.push((index, (square(row) + 2.0 * score).max(0.0)));
        }
    }
    nearest
}

/// At most `count` centres of the points: fewer if there are fewer different points.
pub fn train(points: &[f32], dimensions: usize, count: usize, rounds: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let total = points.len() / dimensions;
    let row = |index: usize| &points[index * dimensions..(index + 1) * dimensions];
    let mut chosen: Vec<usize> = (0..total).collect();
    random.shuffle(&mut chosen);
    chosen.truncate(count.max(1));
    let mut centres: Vec<f32> = chosen.iter().flat_map(|index| row(*index)).copied().collect();
    for _ in 0..rounds {
        let nearest = assign(points, &centres, dimensions);
        centres = means(points, &nearest, &centres, dimensions, &mut random);
    }
    centres
}

/// The means of the points of each centre. A centre without points takes the farthest point of a crowded one.
fn means(
    points: &[f32],
    nearest: &[(u32, f32)],
    centres: &[f32],
    dimensions: usize,
    random: &mut fastrand::Rng,
) -> Vec<f32> {
    let mut sums = vec![0.0_f32; centres.len()];
    let mut counts = vec![0_u32; centres.len() / dimensions];
    for (point, (centre, _)) in points.chunks_exact(dimensions).zip(nearest) {
        let centre = *centre as usize;
        counts[centre] += 1;
        for (sum, value) in sums[centre * dimensions..].iter_mut().zip(point) {
            *sum += value;
        }
    }
    for (centre, (sums, count)) in sums.chunks_exact_mut(dimensions).zip(&counts).enumerate() {
        if *count == 0 {
            // A few draws find a point far from its centre; that is where another centre helps most.
            let far = (0..16).map(|_| random.usize(..nearest.len()));
            let far = far
                .max_by(|one, other| nearest[*one].1.total_cmp(&nearest[*other].1))
                .unwrap_or(0);
            sums.copy_from_slice(&points[far * dimensions..(far + 1) * dimensions]);
        } else {
            #[expect(clippy::cast_precision_loss, reason = "a number of points")]
            let scale = 1.0 / *count as f32;
            for sum in sums.iter_mut() {
                *sum *= scale;
            }
        }
        debug_assert!(centre < counts.len());
    }
    sums
}

/// Splits points into two parts of similar size around two centres; `None` if all points are (nearly) the same.
pub fn split(points: &[f32], dimensions: usize, seed: u64) -> Option<[Vec<f32>; 2]> {
    let first = &points[..dimensions];
    let differs = points.chunks_exact(dimensions).any(|point| point != first);
    if !differs {
        return None;
    }
    for attempt in 0..4 {
        let centres = train(points, dimensions, 2, 8, seed.wrapping_add(attempt));
        let (one, other) = centres.split_at(dimensions);
        let in_one = assign(points, &centres, dimensions)
            .iter()
            .filter(|(centre, _)| *centre == 0)
            .count();
        let total = points.len() / dimensions;
        if in_one * 8 >= total && in_one * 8 <= total * 7 {
            return Some([one.to_vec(), other.to_vec()]);
        }
    }
    // No even split: accept any that leaves something on both sides.
    (0..8).find_map(|attempt| {
        let centres = train(points, dimensions, 2, 8, seed.wrapping_add(100 + attempt));
        let in_one = assign(points, &centres, dimensions)
            .iter()
            .filter(|(centre, _)| *centre == 0)
            .count();
        let uneven = in_one > 0 && in_one < points.len() / dimensions;
        let (one, other) = centres.split_at(dimensions);
        uneven.then(|| [one.to_vec(), other.to_vec()])
    })
}

/// The mean of points.
pub fn mean(points: &[f32], dimensions: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dimensions];
    for point in points.chunks_exact(dimensions) {
        for (sum, value) in sums.iter_mut().zip(point) {
            *sum += f64::from(*value);
        }
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a mean of f32"
    )]
    let mean = |sum: f64| (sum / (points.len() / dimensions).max(1) as f64) as f32;
    sums.into_iter().map(mean).collect()
}
