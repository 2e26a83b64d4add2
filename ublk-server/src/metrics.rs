// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a device counts and measures about itself.
//!
//! # Contract
//!
//! - A thread of a queue writes to a [`QueueMetrics`] of its own: its counters share one cache line that nobody else
//!   writes, and are changed without atomic read-modify-write. Anybody may read at any time.
//! - A time is that from the turn in which the request was taken from the ring to the one in which its answer is handed to
//!   the driver. Clocks are read per turn, not per request; times of stages are read per stage.
//! - A [`DeviceSnapshot`] is taken number by number while work goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use libublk::sys;
use vexfs::metrics::{Distribution, Histogram, Kind, Metric, Value};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Data to the application.
    Read,
    /// Data from the application.
    Write,
    /// Make writes durable.
    Flush,
    /// Give space up.
    Discard,
    /// Write zeros without sending them, and whatever else the driver may think of.
    WriteZeroes,
}

impl Operation {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Flush, Self::Discard, Self::WriteZeroes];

    /// As labels say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write_zeroes",
        }
    }

    pub(crate) const fn of(desc: &sys::ublksrv_io_desc) -> Self {
        match desc.op_flags & 0xff {
            sys::UBLK_IO_OP_READ => Self::Read,
            sys::UBLK_IO_OP_WRITE => Self::Write,
            sys::UBLK_IO_OP_FLUSH => Self::Flush,
            sys::UBLK_IO_OP_DISCARD => Self::Discard,
            _ => Self::WriteZeroes,
        }
    }
}

/// A part of the work on a request, where a target has parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Finding out where bytes are or go.
    Plan,
    /// Moving them.
    Transfer,
    /// Verifying what was read, or making what was written the file's.
    Commit,
}

impl Stage {
    /// All of them, by number.
    pub const ALL: [Self; 3] = [Self::Plan, Self::Transfer, Self::Commit];

    /// As labels say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Transfer => "transfer",
            Self::Commit => "commit",
        }
    }
}

/// What a thread of a queue records.
#[derive(Debug)]
pub struct QueueMetrics {
    queue: u16,
    tally: Tally,
    times: [Histogram; Operation::ALL.len()],
    stages: [Histogram; Stage::ALL.len()],
}

/// Cache lines that one thread writes: the first, unless something fails.
#[derive(Debug, Default)]
#[repr(C, align(64))]
struct Tally {
    answered: [AtomicU64; Operation::ALL.len()],
    /// Read, written.
    bytes: [AtomicU64; 2],
    in_flight: AtomicU32,
    errors: [AtomicU32; Operation::ALL.len()],
}

const _: () = assert!(std::mem::offset_of!(Tally, errors) < 64 && size_of::<Tally>() == 128);

/// Adds where nobody else does.
macro_rules! add {
    ($place:expr, $count:expr) => {{
        let place = &$place;
        place.store(place.load(Relaxed).wrapping_add($count), Relaxed);
    }};
}

impl QueueMetrics {
    pub(crate) fn new(queue: u16) -> Self {
        Self {
            queue,
            tally: Tally::default(),
            times: Default::default(),
            stages: Default::default(),
        }
    }

    /// A request was taken from the ring.
    pub(crate) fn begins(&self) {
        add!(self.tally.in_flight, 1);
    }

    /// It has an answer: bytes, or a negated errno.
    #[expect(clippy::indexing_slicing, reason = "an array with a place for each")]
    pub(crate) fn ends(&self, operation: Operation, result: i32) {
        let tally = &self.tally;
        add!(tally.answered[operation as usize], 1);
        add!(tally.in_flight, u32::MAX);
        match (u64::try_from(result), operation) {
            (Ok(bytes), Operation::Read) => add!(tally.bytes[0], bytes),
            (Ok(bytes), Operation::Write) => add!(tally.bytes[1], bytes),
            (Ok(_), _) => {}
            (Err(_), _) => add!(tally.errors[operation as usize], 1),
        }
    }

    /// So many answers go out after this time.
    #[expect(clippy::indexing_slicing, reason = "an array with a place for each")]
    pub(crate) fn took(&self, operation: Operation, time: Duration, count: u64) {
        self.times[operation as usize].record_alone(time, count);
    }

    /// A part of it has ended.
    #[expect(clippy::indexing_slicing, reason = "an array with a place for each")]
    pub(crate) fn stage_took(&self, stage: Stage, time: Duration) {
        self.stages[stage as usize].record_alone(time, 1);
    }

    fn snapshot(&self) -> QueueSnapshot {
        let tally = &self.tally;
        QueueSnapshot {
            queue: self.queue,
            answered: tally.answered.each_ref().map(|count| count.load(Relaxed)),
            bytes: tally.bytes.each_ref().map(|count| count.load(Relaxed)),
            errors: tally.errors.each_ref().map(|count| count.load(Relaxed)),
            in_flight: tally.in_flight.load(Relaxed),
            times: self.times.each_ref().map(Histogram::snapshot),
            stages: self.stages.each_ref().map(Histogram::snapshot),
        }
    }
}

/// The metrics of a device: share it with whoever wants to look.
#[derive(Debug, Clone, Default)]
pub struct DeviceMetrics(Vec<Arc<QueueMetrics>>);

impl DeviceMetrics {
    pub(crate) fn add(&mut self, queue: Arc<QueueMetrics>) {
        self.0.push(queue);
    }

    /// Everything up to now.
    pub fn snapshot(&self) -> DeviceSnapshot {
        DeviceSnapshot {
            queues: self.0.iter().map(|queue| queue.snapshot()).collect(),
        }
    }
}

/// What a device had recorded at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSnapshot {
    /// One per thread of a queue.
    pub queues: Vec<QueueSnapshot>,
}

/// What a thread of a queue had recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// The number of the queue.
    pub queue: u16,
    /// Requests answered, in the order of [`Operation::ALL`].
    pub answered: [u64; Operation::ALL.len()],
    /// Bytes read and written.
    pub bytes: [u64; 2],
    /// Those of them that were errors.
    pub errors: [u32; Operation::ALL.len()],
    /// Requests without an answer yet.
    pub in_flight: u32,
    /// Times to the answer, in the order of [`Operation::ALL`].
    pub times: [Distribution; Operation::ALL.len()],
    /// Times of stages, in the order of [`Stage::ALL`].
    pub stages: [Distribution; Stage::ALL.len()],
}

impl DeviceSnapshot {
    /// Of all queues together, in the order of [`Operation::ALL`]: what, how long it took, and how many failed.
    pub fn operations(&self) -> Vec<(Operation, Distribution, u64)> {
        let mut all = Operation::ALL.map(|operation| (operation, Distribution::default(), 0));
        for queue in &self.queues {
            for ((_, times, failures), (more, failed)) in all.iter_mut().zip(queue.times.iter().zip(queue.errors)) {
                times.merge(more);
                *failures += u64::from(failed);
            }
        }
        all.into()
    }
}

/// The metrics of many devices, each of which has the name before it as a label, in the order of the documentation.
pub fn families(devices: &[(String, DeviceSnapshot)]) -> Vec<Metric> {
    let per_queue = |name, kind, help, values| Family { devices, name, help }.per_queue(kind, values);
    let times = |name, help, label, values| Family { devices, name, help }.times(label, values);
    vec![
        per_queue("requests_total", Kind::Counter, "Requests answered", |queue| {
            let counts = Operation::ALL.iter().zip(queue.answered);
            counts
                .map(|(operation, count)| (Some(operation.name()), count))
                .collect()
        }),
        per_queue("bytes_total", Kind::Counter, "Bytes read and written", |queue| {
            let [read, written] = queue.bytes;
            vec![(Some("read"), read), (Some("write"), written)]
        }),
        per_queue(
            "errors_total",
            Kind::Counter,
            "Requests answered with an error",
            |queue| {
                let counts = Operation::ALL.iter().zip(queue.errors);
                counts
                    .map(|(operation, count)| (Some(operation.name()), count.into()))
                    .collect()
            },
        ),
        per_queue("in_flight", Kind::Gauge, "Requests without an answer yet", |queue| {
            vec![(None, queue.in_flight.into())]
        }),
        // Of all queues together: a histogram has many lines.
        times(
            "request_seconds",
            "Time from taking a request to handing over its answer",
            "operation",
            |queue| {
                Operation::ALL
                    .map(Operation::name)
                    .into_iter()
                    .zip(&queue.times)
                    .collect()
            },
        ),
        times(
            "stage_seconds",
            "Time of the parts of a request, of targets that have parts",
            "stage",
            |queue| Stage::ALL.map(Stage::name).into_iter().zip(&queue.stages).collect(),
        ),
    ]
}

/// A family of metrics to be.
struct Family<'a> {
    devices: &'a [(String, DeviceSnapshot)],
    name: &'static str,
    help: &'static str,
}

/// What a queue counts, each with its operation if there is one.
type Counts = Vec<(Option<&'static str>, u64)>;

impl Family<'_> {
    fn empty(&self, kind: Kind) -> Metric {
        Metric::new(format!("vexfs_ublk_{}", self.name), kind, self.help)
    }

    fn per_queue(&self, kind: Kind, values: fn(&QueueSnapshot) -> Counts) -> Metric {
        let mut metric = self.empty(kind);
        for (device, snapshot) in self.devices {
            for (thread, queue) in snapshot.queues.iter().enumerate() {
                for (operation, count) in values(queue) {
                    let mut labels = vec![
                        ("device", device.clone()),
                        ("queue", queue.queue.to_string()),
                        ("thread", thread.to_string()),
                    ];
                    labels.extend(operation.map(|name| ("operation", name.to_owned())));
                    metric = metric.labelled(labels, Value::Count(count));
                }
            }
        }
        metric
    }

    fn times(&self, label: &'static str, values: fn(&QueueSnapshot) -> Vec<(&'static str, &Distribution)>) -> Metric {
        let mut metric = self.empty(Kind::Histogram);
        for (device, snapshot) in self.devices {
            let mut all: Vec<(&str, Distribution)> = Vec::new();
            for (which, times) in snapshot.queues.iter().flat_map(values) {
                match all.iter_mut().find(|(name, _)| *name == which) {
                    Some((_, sum)) => sum.merge(times),
                    None => all.push((which, times.clone())),
                }
            }
            for (which, times) in all {
                let labels = vec![("device", device.clone()), (label, which.to_owned())];
                metric = metric.labelled(labels, Value::Times(Box::new(times)));
            }
        }
        metric
    }
}

#[cfg(test)]
mod tests {
    use vexfs::metrics::text;

    use super::*;

    #[test]
    fn what_begins_is_in_flight_until_it_ends() {
        let queue = Arc::new(QueueMetrics::new(3));
        let mut device = DeviceMetrics::default();
        device.add(Arc::clone(&queue));
        for _ in 0..3 {
            queue.begins();
        }
        queue.ends(Operation::Read, 4096);
        queue.ends(Operation::Write, -5);
        let found = device.snapshot();
        let queue = &found.queues[0];
        assert_eq!((queue.in_flight, queue.bytes), (1, [4096, 0]));
        assert_eq!(queue.errors, [0, 1, 0, 0, 0]);
        assert_eq!(queue.answered, [1, 1, 0, 0, 0]);
    }

    #[test]
    fn the_text_has_every_queue_and_the_times_of_all_of_them() {
        let mut device = DeviceMetrics::default();
        for number in 0..2 {
            let queue = Arc::new(QueueMetrics::new(number));
            queue.begins();
            queue.ends(Operation::Flush, 0);
            queue.took(Operation::Flush, Duration::from_micros(5), 1);
            queue.stage_took(Stage::Plan, Duration::from_micros(1));
            device.add(queue);
        }
        let text = text::render(&families(&[("/dev/ublkb7".to_owned(), device.snapshot())]), &[]);
        for line in [
            "vexfs_ublk_requests_total{device=\"/dev/ublkb7\",queue=\"1\",thread=\"1\",operation=\"flush\"} 1",
            "vexfs_ublk_in_flight{device=\"/dev/ublkb7\",queue=\"0\",thread=\"0\"} 0",
            "vexfs_ublk_request_seconds_count{device=\"/dev/ublkb7\",operation=\"flush\"} 2",
            "vexfs_ublk_errors_total{device=\"/dev/ublkb7\",queue=\"0\",thread=\"0\",operation=\"read\"} 0",
            "vexfs_ublk_stage_seconds_count{device=\"/dev/ublkb7\",stage=\"plan\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_documentation_lists_every_metric_of_devices() {
        let mut device = DeviceMetrics::default();
        device.add(Arc::new(QueueMetrics::new(0)));
        let rows = families(&[("/dev/ublkb0".to_owned(), device.snapshot())]);
        let rows = rows.iter().map(|metric| {
            let labels: Vec<&str> = metric.series[0].labels.iter().map(|(name, _)| *name).collect();
            let (name, kind, help) = (&metric.name, metric.kind.name(), &metric.help);
            format!("| `{name}{{{}}}` | {kind} | {help} |", labels.join(","))
        });
        let expected: Vec<String> = rows.collect();
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
        let page = std::fs::read_to_string(page).unwrap();
        let told: Vec<&str> = page.lines().filter(|line| line.starts_with("| `vexfs_ublk_")).collect();
        assert_eq!(told, expected);
    }
}
