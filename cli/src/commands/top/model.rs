// SPDX-License-Identifier: MIT OR Apache-2.0

//! What is shown: the last two looks at each pool, and what they say about the time between.
//!
//! A pool with one look, or whose server was started anew between two, is shown since it was opened.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use vexfs::metrics::Distribution;
use vexfs_control::status::Status;

/// What a server said, and when.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) status: Status,
}

/// What the operations are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sort {
    /// Those per second.
    #[default]
    Rate,
    /// The slow ones.
    Slowest,
    /// The time they took together.
    Time,
    /// Their names.
    Name,
}

impl Sort {
    const fn next(self) -> Self {
        match self {
            Self::Rate => Self::Slowest,
            Self::Slowest => Self::Time,
            Self::Time => Self::Name,
            Self::Name => Self::Rate,
        }
    }
}

/// Everything the view shows.
#[derive(Debug, Default)]
pub(crate) struct Top {
    pools: Vec<Pool>,
    /// UUID of the one that is looked at: its place changes when others come and go.
    selected: Option<String>,
    sort: Sort,
    paused: bool,
    trouble: Option<String>,
}

/// Looks of throughput that are kept.
const HISTORY: usize = 240;

/// One pool.
#[derive(Debug)]
pub(crate) struct Pool {
    now: Sample,
    before: Option<Sample>,
    /// Bytes per second, oldest first.
    pub(crate) reads: VecDeque<u64>,
    pub(crate) writes: VecDeque<u64>,
}

/// One operation in the time between two looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) per_second: f64,
    pub(crate) failures_per_second: f64,
    pub(crate) times: Distribution,
    /// Since the pool was opened.
    pub(crate) total: u64,
}

impl Top {
    /// A new look at all pools. Nothing changes while it is paused.
    pub(crate) fn take(&mut self, samples: Vec<Sample>) {
        if self.paused {
            return;
        }
        self.trouble = None;
        let mut known: BTreeMap<String, Pool> = std::mem::take(&mut self.pools)
            .into_iter()
            .map(|pool| (pool.now.status.pool.uuid.clone(), pool))
            .collect();
        for sample in samples {
            let pool = match known.remove(&sample.status.pool.uuid) {
                Some(pool) => pool.go_on(sample),
                None => Pool::new(sample),
            };
            self.pools.push(pool);
        }
    }

    /// A look that failed. What was seen before stays.
    pub(crate) fn complain(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(crate) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Place of the pool that is looked at; the first if that is gone.
    pub(crate) fn index(&self) -> usize {
        let selected = |pool: &Pool| Some(&pool.now.status.pool.uuid) == self.selected.as_ref();
        self.pools.iter().position(selected).unwrap_or(0)
    }

    pub(crate) fn pool(&self) -> Option<&Pool> {
        self.pools.get(self.index())
    }

    pub(crate) fn select(&mut self, index: usize) {
        self.selected = self.pools.get(index).map(|pool| pool.now.status.pool.uuid.clone());
    }

    pub(crate) fn next_pool(&mut self) {
        let count = self.pools.len().max(1);
        self.select((self.index() + 1) % count);
    }

    pub(crate) fn previous_pool(&mut self) {
        let count = self.pools.len().max(1);
        self.select((self.index() + count - 1) % count);
    }

    pub(crate) fn pause(&mut self) {
        self.paused = !self.paused;
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn sort_by_next(&mut self) {
        self.sort = self.sort.next();
    }

    pub(crate) const fn sort(&self) -> Sort {
        self.sort
    }
}

impl Pool {
    fn new(now: Sample) -> Self {
        Self {
            now,
            before: None,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
        }
    }

    fn go_on(mut self, now: Sample) -> Self {
        let up = |sample: &Sample| sample.status.time("vexfs_pool_uptime_seconds");
        let same = now.status.server.pid == self.now.status.server.pid && up(&now) >= up(&self.now);
        if !same {
            return Self::new(now);
        }
        self.before = Some(std::mem::replace(&mut self.now, now));
        let (reads, writes) = (
            self.rate("vexfs_data_read_bytes_total"),
            self.rate("vexfs_data_written_bytes_total"),
        );
        for (history, rate) in [(&mut self.reads, reads), (&mut self.writes, writes)] {
            if history.len() == HISTORY {
                history.pop_front();
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bytes per second, not negative"
            )]
            history.push_back(rate as u64);
        }
        self
    }

    pub(crate) const fn status(&self) -> &Status {
        &self.now.status
    }

    /// The time that is shown.
    fn elapsed(&self) -> Duration {
        let elapsed = match &self.before {
            Some(before) => self.now.at.duration_since(before.at),
            None => self.now.status.time("vexfs_pool_uptime_seconds").unwrap_or_default(),
        };
        // Two looks at once would be endless speed.
        elapsed.max(Duration::from_millis(1))
    }

    /// How much a counter grew per second.
    pub(crate) fn rate(&self, name: &str) -> f64 {
        let before = self.before.as_ref().map_or(0, |before| before.status.count(name));
        self.per_second(self.now.status.count(name).saturating_sub(before))
    }

    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed().as_secs_f64()
    }

    /// What was timed, without what was before.
    pub(crate) fn times(&self, name: &str) -> Distribution {
        let now = self.now.status.times(name);
        match &self.before {
            Some(before) => now.since(&before.status.times(name)),
            None => now,
        }
    }

    /// How many of these there were per second.
    pub(crate) fn rate_of(&self, times: &Distribution) -> f64 {
        self.per_second(times.count())
    }

    /// The operations, sorted; those that did not happen meanwhile are there too, so that rows do not jump.
    pub(crate) fn operations(&self, sort: Sort) -> Vec<Operation> {
        let before = self.before.as_ref().map(|before| before.status.operations());
        let before: BTreeMap<String, (Distribution, u64)> = before
            .into_iter()
            .flatten()
            .map(|(name, times, failures)| (name, (times, failures)))
            .collect();
        let operations = self.now.status.operations().into_iter().map(|(name, now, failed)| {
            let total = now.count();
            let (times, failures) = match before.get(&name) {
                Some((then, failed_then)) => (now.since(then), failed.saturating_sub(*failed_then)),
                None => (now, failed),
            };
            Operation {
                per_second: self.per_second(times.count()),
                failures_per_second: self.per_second(failures),
                name,
                times,
                total,
            }
        });
        let mut operations: Vec<Operation> = operations.collect();
        operations.sort_by(|one, other| match sort {
            Sort::Rate => other.per_second.total_cmp(&one.per_second),
            Sort::Slowest => other.times.quantile(0.99).cmp(&one.times.quantile(0.99)),
            Sort::Time => other.times.sum().cmp(&one.times.sum()),
            Sort::Name => one.name.cmp(&other.name),
        });
        operations
    }

    /// What changes waited for, and how long.
    pub(crate) fn stalls(&self) -> Vec<(String, Distribution)> {
        let of = |status: &Status| -> BTreeMap<String, Distribution> {
            let causes = status.labelled("vexfs_stall_seconds");
            let times = causes.filter_map(|(cause, number)| match number {
                vexfs_control::status::Number::Times(times) => Some((cause.to_owned(), times.distribution()?)),
                _ => None,
            });
            times.collect()
        };
        let before = self
            .before
            .as_ref()
            .map(|before| of(&before.status))
            .unwrap_or_default();
        of(&self.now.status)
            .into_iter()
            .map(|(cause, now)| {
                let times = before.get(&cause).map_or_else(|| now.clone(), |then| now.since(then));
                (cause, times)
            })
            .collect()
    }
}
