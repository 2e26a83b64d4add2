// SPDX-License-Identifier: MIT OR Apache-2.0

//! Resources followed while a scenario runs: memory, descriptors and threads of a server, the kernel's slabs, how long calls
//! take.
//!
//! A [`Course`] is one resource over time. It warns while there is still time: when the resource grows steadily
//! ([`Trend`]), and when it comes near its limit. A [`Monitor`] feeds courses from a thread, tells a warning the moment it is
//! due, and at the end tells the curves; that all of them are flat is a promise of every long scenario.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::crash::{Trend, TrendConfig};
use lab_guest::measure::{Measurement, Promise, check};
use lab_guest::sys;

/// This much of a limit is near it.
const NEAR: f64 = 0.9;
/// More samples are thinned out before they are told: a picture shows no more.
const MOST_POINTS: usize = 240;

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Resident memory of the server.
    Rss,
    /// Open descriptors of the server.
    Descriptors,
    /// Threads of the server.
    Threads,
    /// Memory of the kernel that it cannot reclaim.
    Slab,
    /// The longest call since the last look.
    Latency,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Rss, Self::Descriptors, Self::Threads, Self::Slab, Self::Latency];

    /// What growth matters.
    const fn config(self) -> TrendConfig {
        match self {
            Self::Rss => TrendConfig::RSS,
            Self::Descriptors => TrendConfig::FDS,
            Self::Threads => TrendConfig::THREADS,
            Self::Slab => TrendConfig::SLAB,
            Self::Latency => TrendConfig::LATENCY,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rss => "server memory, bytes",
            Self::Descriptors => "server descriptors",
            Self::Threads => "server threads",
            Self::Slab => "kernel slabs, bytes",
            Self::Latency => "longest call, s",
        })
    }
}

/// One resource over time.
#[derive(Debug)]
pub struct Course {
    resource: Resource,
    trend: Trend,
    limit: Option<f64>,
    points: Vec<(u64, f64)>,
    warned: Option<String>,
}

impl Course {
    /// Nothing seen yet.
    pub fn new(resource: Resource, limit: Option<f64>) -> Self {
        let config = resource.config();
        Self {
            resource,
            trend: Trend::new(limit.map_or(config, |limit| config.with_limit(limit))),
            limit,
            points: Vec::new(),
            warned: None,
        }
    }

    /// Takes a sample. Warns, once, if the resource grows without end or comes near its limit.
    pub fn feed(&mut self, at: Duration, value: f64) -> Option<Measurement> {
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.points.push((at_ms, value));
        let steady = self.trend.feed(at, value).map(|warning| warning.to_string());
        let near = self
            .limit
            .filter(|limit| value >= limit * NEAR)
            .map(|limit| format!("at {value:.0}, near its limit of {limit:.0}"));
        let text = near.or(steady)?;
        if self.warned.is_some() {
            return None;
        }
        self.warned = Some(text.clone());
        Some(Measurement::Warning {
            resource: self.resource.to_string(),
            at_ms,
            text,
        })
    }

    /// The warning that was given, if one was.
    pub fn warned(&self) -> Option<&str> {
        self.warned.as_deref()
    }

    /// The curve, with as many points as a picture shows.
    pub fn series(&self) -> Measurement {
        let step = self.points.len().div_ceil(MOST_POINTS).max(1);
        Measurement::Series {
            resource: self.resource.to_string(),
            points: self.points.iter().step_by(step).copied().collect(),
            limit: self.limit,
        }
    }
}

/// The longest call since the last look, told by whoever makes calls.
#[derive(Debug, Clone, Default)]
pub struct Latency(Arc<AtomicU64>);

impl Latency {
    /// A call took so long.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.fetch_max(micros, Ordering::Relaxed);
    }

    fn take(&self) -> f64 {
        Duration::from_micros(self.0.swap(0, Ordering::Relaxed)).as_secs_f64()
    }
}

/// Waits until the server's caches are full: its memory grew by less than a MiB within half a minute. One that goes on growing
/// is waited for so long and no longer.
pub fn warm_up(server: u32, longest: Duration) -> Result<()> {
    const STEP: Duration = Duration::from_secs(30);
    const LITTLE: f64 = 1024.0;
    let memory = || status(server, "VmRSS").with_context(|| format!("process {server} is gone"));
    let begin = Instant::now();
    let mut before = 0.0;
    let mut now = memory()?;
    while now - before > LITTLE && begin.elapsed() < longest {
        thread::sleep(STEP);
        before = now;
        now = memory()?;
    }
    Ok(())
}

/// Follows a server, and the kernel below it, until [`Monitor::finish`].
#[derive(Debug)]
pub struct Monitor {
    stop: Arc<AtomicBool>,
    courses: Arc<Mutex<Vec<Course>>>,
    thread: JoinHandle<Result<()>>,
}

impl Monitor {
    /// Begins to look at the process `server` every so often.
    pub fn start(server: u32, latency: Latency, every: Duration) -> Result<Self> {
        let limits = sys::read(format!("/proc/{server}/limits"))?;
        let descriptors = soft_limit(&limits, "Max open files").context("no limit of open files")?;
        let memory = meminfo("MemTotal").context("/proc/meminfo has no MemTotal")?;
        let courses = Resource::ALL.map(|resource| {
            let limit = match resource {
                Resource::Rss | Resource::Slab => Some(memory),
                Resource::Descriptors => Some(descriptors),
                Resource::Threads | Resource::Latency => None,
            };
            Course::new(resource, limit)
        });
        let courses = Arc::new(Mutex::new(courses.into()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (courses, stop) = (Arc::clone(&courses), Arc::clone(&stop));
            thread::spawn(move || follow(server, &latency, every, &courses, &stop))
        };
        Ok(Self { stop, courses, thread })
    }

    /// Ends; tells the curves, and whether all of them are flat.
    pub fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result?,
            Err(_) => bail!("the monitor panicked"),
        }
        let courses = self.courses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut samples = 0;
        for course in courses.iter() {
            samples = samples.max(course.points.len());
            course.series().tell()?;
        }
        let warned: Vec<String> = courses
            .iter()
            .filter_map(|course| Some(format!("{}: {}", course.resource, course.warned()?)))
            .collect();
        let enough = samples >= Trend::MIN_SAMPLES;
        let words = match (enough, warned.is_empty()) {
            (false, _) => format!("only {samples} samples, which say nothing"),
            (true, true) => format!("{samples} samples of {} resources", courses.len()),
            (true, false) => warned.join("; "),
        };
        check(Promise::FlatTrend, enough && warned.is_empty(), words)
    }
}

fn follow(
    server: u32,
    latency: &Latency,
    every: Duration,
    courses: &Mutex<Vec<Course>>,
    stop: &AtomicBool,
) -> Result<()> {
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let at = begin.elapsed();
        for course in courses.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let value = match course.resource {
                Resource::Rss => status(server, "VmRSS").map(|kib| kib * 1024.0),
                Resource::Threads => status(server, "Threads"),
                Resource::Descriptors => descriptors(server),
                Resource::Slab => meminfo("SUnreclaim"),
                Resource::Latency => Some(latency.take()),
            };
            let value = value.with_context(|| format!("process {server} is gone"))?;
            if let Some(warning) = course.feed(at, value) {
                warning.tell()?;
            }
        }
        thread::sleep(every);
    }
    Ok(())
}

/// A number in `/proc/<pid>/status`.
fn status(pid: u32, name: &str) -> Option<f64> {
    field(&sys::read(format!("/proc/{pid}/status")).ok()?, name)
}

/// Bytes in `/proc/meminfo`.
fn meminfo(name: &str) -> Option<f64> {
    field(&sys::read("/proc/meminfo").ok()?, name).map(|kib| kib * 1024.0)
}

/// The number in a line `name: number …`.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The first number of a line of `/proc/<pid>/limits`. `unlimited` is none.
fn soft_limit(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// How many descriptors a process has open.
fn descriptors(pid: u32) -> Option<f64> {
    let count = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(f64::from(u32::try_from(count).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(course: &mut Course, values: impl IntoIterator<Item = f64>) -> Vec<(u64, String)> {
        let fed =
            (0..).zip(values).filter_map(
                |(second, value)| match course.feed(Duration::from_secs(second), value)? {
                    Measurement::Warning { at_ms, text, .. } => Some((at_ms, text)),
                    _ => None,
                },
            );
        fed.collect()
    }

    #[test]
    fn what_stays_the_same_warns_of_nothing() {
        let mut course = Course::new(Resource::Descriptors, Some(1024.0));
        let values = (0..200).map(|second| 20.0 + f64::from(second * 7 % 5));
        assert!(warnings(&mut course, values).is_empty());
        assert_eq!(course.warned(), None);
    }

    #[test]
    fn a_leak_is_told_once_and_long_before_its_limit() {
        let mut course = Course::new(Resource::Descriptors, Some(1000.0));
        let found = warnings(&mut course, (0..300).map(|second| 20.0 + 2.0 * f64::from(second)));
        assert_eq!(found.len(), 1);
        let (at, text) = &found[0];
        assert!(*at < 60_000, "{at}");
        assert!(text.contains("reaches its limit in"), "{text}");
        assert_eq!(course.warned(), Some(text.as_str()));
    }

    #[test]
    fn a_step_to_near_the_limit_is_told_although_it_is_no_trend() {
        let mut course = Course::new(Resource::Rss, Some(1e9));
        let values = (0..40).map(|second| if second < 20 { 1e8 } else { 9.5e8 });
        let found = warnings(&mut course, values);
        assert!(
            matches!(&found[..], [(20_000, text)] if text.contains("near its limit")),
            "{found:?}"
        );
    }

    #[test]
    fn a_curve_has_as_many_points_as_a_picture_shows() {
        let mut course = Course::new(Resource::Latency, None);
        warnings(&mut course, std::iter::repeat_n(0.1, 1000));
        let Measurement::Series { points, .. } = course.series() else {
            panic!("a series");
        };
        assert!(
            points.len() <= MOST_POINTS && points.len() > MOST_POINTS / 2,
            "{}",
            points.len()
        );
    }

    #[test]
    fn numbers_are_found_in_the_files_of_proc() {
        let status = "Name:\tvexfs\nVmRSS:\t    2048 kB\nThreads:\t7\n";
        assert_eq!(
            (field(status, "VmRSS"), field(status, "Threads")),
            (Some(2048.0), Some(7.0))
        );
        assert_eq!(field(status, "Vm"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n\
                      Max file size             unlimited            unlimited            bytes     \n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(soft_limit(limits, "Max file size"), None);
    }

    #[test]
    fn the_longest_call_counts_until_somebody_looks() {
        let latency = Latency::default();
        latency.clone().note(Duration::from_millis(20));
        latency.note(Duration::from_millis(5));
        assert!((latency.take() - 0.02).abs() < 1e-9);
        assert!(latency.take().abs() < 1e-9);
    }

    #[test]
    fn this_process_can_be_followed() {
        let latency = Latency::default();
        let monitor = Monitor::start(std::process::id(), latency, Duration::from_millis(2)).unwrap();
        thread::sleep(Duration::from_millis(200));
        // Whether this process is flat while other tests run in it is another question.
        let _flat = monitor.finish();
        assert!(Monitor::start(u32::MAX, Latency::default(), Duration::from_millis(2)).is_err());
    }
}
