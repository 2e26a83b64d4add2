// SPDX-License-Identifier: MIT OR Apache-2.0

//! How long things take.
//!
//! A [`Histogram`] is recorded into by any number of threads without a lock; a [`Distribution`] is what it held at one
//! moment, and can be merged, subtracted and asked for quantiles.
//!
//! # Buckets
//!
//! Log-linear: eight buckets of equal width between each power of two and the next, from 1 ns to 2⁴⁰ ns (18 minutes); what
//! takes longer counts in the last. Bucket `i` holds times in `edge(i) < ns ≤ edge(i + 1)`, so a time that is an edge
//! belongs to the bucket below it, as the `le` of Prometheus wants it.
//!
//! | times | width | quantiles are wrong by at most |
//! |---|---|---|
//! | below 16 ns | 1 ns | 1 ns |
//! | from 2ᵏ to 2ᵏ⁺¹ ns | 2ᵏ⁻³ ns | 1/16 = 6.25 % of the time |
//!
//! Sum and count are exact, and so is the maximum.
//!
//! # Cost
//!
//! Recording adds to two numbers and reads a third; no figure is kept twice (the count is the sum of the buckets). 2.5 KB,
//! beginning at a cache line of its own. Figures: `speed.rs`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Bits of buckets between two powers of two.
const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// Times from this power of two on count in the last bucket.
const TOP_BIT: u32 = 40;
/// Number of buckets.
pub const BUCKETS: usize = (TOP_BIT - SUB_BITS + 1) as usize * SUB;

/// Recorded times. See the module.
#[derive(Debug)]
#[repr(align(64))]
pub struct Histogram {
    sum: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// The bucket of a time.
const fn bucket_of(ns: u64) -> usize {
    // Edges belong to the bucket below.
    let ns = ns.saturating_sub(1);
    if ns < SUB as u64 {
        #[expect(clippy::cast_possible_truncation, reason = "below 8")]
        return ns as usize;
    }
    let bit = ns.ilog2();
    if bit >= TOP_BIT {
        return BUCKETS - 1;
    }
    #[expect(clippy::cast_possible_truncation, reason = "three bits")]
    let inside = (ns >> (bit - SUB_BITS)) as usize & (SUB - 1);
    (bit - SUB_BITS + 1) as usize * SUB + inside
}

/// Lower edge of a bucket; of the one behind the last: the upper edge of that.
pub const fn edge(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    ((SUB + bucket % SUB) as u64) << (bucket / SUB - 1)
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// Whole nanoseconds: 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Histogram {
    /// Something took so long.
    pub fn record(&self, time: Duration) {
        let ns = nanos(time);
        if let Some(bucket) = self.buckets.get(bucket_of(ns)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(ns, Relaxed);
        // Rarely the longest: so mostly a read, which many threads can do at once.
        if ns > self.max.load(Relaxed) {
            self.max.fetch_max(ns, Relaxed);
        }
    }

    /// The same time so many times, where one thread records at a time: others may read meanwhile, and nothing is paid for
    /// writers that do not exist.
    pub fn record_alone(&self, time: Duration, count: u64) {
        let ns = nanos(time);
        let add = |place: &AtomicU64, more: u64| place.store(place.load(Relaxed).wrapping_add(more), Relaxed);
        if let Some(bucket) = self.buckets.get(bucket_of(ns)) {
            add(bucket, count);
        }
        add(&self.sum, ns.wrapping_mul(count));
        if ns > self.max.load(Relaxed) {
            self.max.store(ns, Relaxed);
        }
    }

    /// Something that began then ended now.
    pub fn record_since(&self, begin: Instant) {
        self.record(begin.elapsed());
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// What was recorded up to now.
    pub fn snapshot(&self) -> Distribution {
        Distribution {
            buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            sum_ns: self.sum.load(Relaxed),
            max_ns: self.max.load(Relaxed),
        }
    }
}

/// What a histogram held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    buckets: Box<[u64]>,
    sum_ns: u64,
    max_ns: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into(),
            sum_ns: 0,
            max_ns: 0,
        }
    }
}

impl Distribution {
    /// From its parts, as [`Self::filled`] and the others give them; an edge that is none gives nothing.
    pub fn from_parts(filled: &[(u64, u64)], sum: Duration, max: Duration) -> Option<Self> {
        let mut distribution = Self {
            sum_ns: nanos(sum),
            max_ns: nanos(max),
            ..Self::default()
        };
        for &(upper, count) in filled {
            let bucket = bucket_of(upper);
            if upper != edge(bucket + 1) {
                return None;
            }
            *distribution.buckets.get_mut(bucket)? = count;
        }
        Some(distribution)
    }

    /// Upper edges of the buckets that hold something, in nanoseconds, and how much.
    pub fn filled(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let edges = (1..=BUCKETS).map(edge);
        edges.zip(self.buckets.iter().copied()).filter(|&(_, count)| count > 0)
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// All of them together.
    pub const fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns)
    }

    /// The longest.
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The mean; none if there is nothing.
    pub fn mean(&self) -> Option<Duration> {
        self.sum_ns.checked_div(self.count()).map(Duration::from_nanos)
    }

    /// The time that this part (0 to 1) of all took at most: see the module for how exact it is.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank: that of 2⁵³ times is not wrong by much"
        )]
        let rank = ((count as f64 * part.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0_u64;
        let last = BUCKETS - 1;
        let bucket = self.buckets.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        let bucket = bucket.unwrap_or(last);
        // The last bucket has no upper edge.
        let middle = if bucket == last {
            self.max_ns
        } else {
            edge(bucket).midpoint(edge(bucket + 1) + 1)
        };
        Some(Duration::from_nanos(middle.min(self.max_ns)))
    }

    /// How many took at most so many nanoseconds, which must be an edge.
    pub fn count_up_to(&self, edge_ns: u64) -> u64 {
        let below = (0..BUCKETS).take_while(|&bucket| edge(bucket + 1) <= edge_ns).count();
        self.buckets
            .iter()
            .take(below)
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds what another holds.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// What came since an earlier snapshot of the same histogram. The longest is known only as well as a quantile then.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets: Box<[u64]> = self
            .buckets
            .iter()
            .zip(&earlier.buckets)
            .map(|(now, then)| now.saturating_sub(*then))
            .collect();
        let top = buckets.iter().rposition(|count| *count > 0);
        Self {
            max_ns: match top {
                None => 0,
                Some(last) if last == BUCKETS - 1 => self.max_ns,
                Some(top) => edge(top + 1).min(self.max_ns),
            },
            sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(times: &[u64]) -> Distribution {
        let histogram = Histogram::default();
        for &ns in times {
            histogram.record(Duration::from_nanos(ns));
        }
        histogram.snapshot()
    }

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        assert_eq!(edge(0), 0);
        assert_eq!(edge(BUCKETS), 1 << TOP_BIT);
        for bucket in 0..BUCKETS {
            let (low, high) = (edge(bucket), edge(bucket + 1));
            assert!(low < high);
            assert_eq!(bucket_of(low + 1), bucket, "just above the lower edge");
            assert_eq!(bucket_of(high), bucket, "the upper edge");
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_distribution_has_no_quantile_and_no_mean() {
        let empty = Distribution::default();
        assert_eq!((empty.quantile(0.5), empty.mean(), empty.count()), (None, None, 0));
    }

    #[test]
    fn what_takes_longer_than_the_last_bucket_is_told_by_the_maximum() {
        let long = Duration::from_secs(3600);
        let found = recorded(&[u64::try_from(long.as_nanos()).unwrap()]);
        assert_eq!(found.quantile(0.5), Some(long));
        assert_eq!(found.max(), long);
    }

    #[test]
    fn what_came_since_an_earlier_snapshot_is_told_apart() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_secs(2));
        let earlier = histogram.snapshot();
        histogram.record(Duration::from_micros(100));
        let since = histogram.snapshot().since(&earlier);
        assert_eq!((since.count(), since.sum()), (1, Duration::from_micros(100)));
        assert!(since.max() < Duration::from_micros(113), "{:?}", since.max());
    }

    #[test]
    fn threads_that_record_at_once_lose_nothing() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let histogram = &histogram;
                scope.spawn(move || {
                    for time in 1..=10_000 {
                        histogram.record(Duration::from_nanos(time * thread));
                    }
                });
            }
        });
        let found = histogram.snapshot();
        assert_eq!(found.count(), 40_000);
        assert_eq!(found.sum(), Duration::from_micros(500_050));
        assert_eq!(found.max(), Duration::from_micros(40));
    }

    #[test]
    fn parts_that_name_no_bucket_make_no_distribution() {
        assert_eq!(
            Distribution::from_parts(&[(17, 1)], Duration::ZERO, Duration::ZERO),
            None
        );
    }

    proptest! {
        #[test]
        fn quantiles_are_as_exact_as_the_module_says(
            mut times in prop::collection::vec((0_u32..39, any::<u64>()).prop_map(|(bit, bits)| bits % (2 << bit)), 1..300),
            part in 0.0..=1.0_f64,
        ) {
            let found = recorded(&times);
            times.sort_unstable();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let rank = ((times.len() as f64 * part).ceil() as usize).max(1);
            let exact = times[rank - 1];
            let told = u64::try_from(found.quantile(part).unwrap().as_nanos()).unwrap();
            prop_assert!(told.abs_diff(exact) <= 1 + exact / 16, "{told} instead of {exact}");
            prop_assert_eq!(found.count(), times.len() as u64);
            prop_assert_eq!(found.sum(), Duration::from_nanos(times.iter().sum()));
        }

        #[test]
        fn merging_is_recording_both_and_alone_is_the_same_as_together(
            one in prop::collection::vec(any::<u32>().prop_map(u64::from), 0..50),
            other in prop::collection::vec(any::<u32>().prop_map(u64::from), 0..50),
        ) {
            let mut merged = recorded(&one);
            merged.merge(&recorded(&other));
            let alone = Histogram::default();
            for &ns in one.iter().chain(&other) {
                alone.record_alone(Duration::from_nanos(ns), 1);
            }
            prop_assert_eq!(&merged, &alone.snapshot());
            let filled: Vec<_> = merged.filled().collect();
            prop_assert_eq!(Distribution::from_parts(&filled, merged.sum(), merged.max()), Some(merged));
        }

        #[test]
        fn the_count_up_to_an_edge_is_that_of_the_times(
            times in prop::collection::vec(any::<u32>().prop_map(u64::from), 0..50),
            bit in 0_u32..33,
        ) {
            let expected = times.iter().filter(|ns| **ns <= 1 << bit).count() as u64;
            prop_assert_eq!(recorded(&times).count_up_to(1 << bit), expected);
        }
    }
}
