// SPDX-License-Identifier: MIT OR Apache-2.0

//! What an open pool tells about itself: the numbers are those of what was done, the text is what Prometheus reads, and the
//! documentation lists every metric.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vexfs::disk::{Disk, MemDisk};
use vexfs::fs::record::{FileFlags, Kind, Timestamp};
use vexfs::fs::{Fs, MountOptions, NewFile, SetAttributes};
use vexfs::metrics::snapshot::PoolMode;
use vexfs::metrics::{Family, Snapshot, Value, text};
use vexfs::pool::format::{FormatOptions, Seeds, format_disk};
use vexfs::pool::{Access, Host, OpenOptions, Pool};
use vexfs::units::Ino;

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);

const FILE: NewFile<'static> = NewFile {
    kind: Kind::File,
    permissions: 0o644,
    uid: 0,
    gid: 0,
    device: 0,
    target: b"",
    now: NOW,
};

fn disk() -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::new(64 << 20));
    format_disk(&*disk, &FormatOptions::default(), &Seeds::from_number(1), &Host::this()).unwrap();
    disk
}

fn mount(disk: &Arc<MemDisk>) -> Fs {
    let pool = Pool::open_disk(Arc::clone(disk) as _, &OpenOptions::new(Access::ReadWrite)).unwrap();
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Fs::mount(pool, &options).unwrap()
}

fn measure(fs: &Fs) -> Snapshot {
    fs.measure(Duration::from_secs(10)).unwrap()
}

/// A pool in which everything was done once.
fn used() -> Fs {
    let fs = mount(&disk());
    let family = Arc::new(Family::new("fuse_operation_seconds", ["read", "write"]));
    fs.metrics().add_family(Arc::clone(&family));
    family.record(0, Duration::from_micros(3), false);
    family.record(0, Duration::from_millis(3), true);
    let ino = fs.create(Ino::ROOT, b"a \"file\"", &FILE).unwrap().ino;
    fs.write(ino, 0, &vec![7; 100_000], NOW).unwrap();
    fs.flush().unwrap();
    fs.checkpoint().unwrap();
    fs.set_label("one \"two\" \\ three").unwrap();
    fs
}

#[test]
fn the_numbers_are_those_of_what_was_done() {
    let fs = mount(&disk());
    let before = measure(&fs);
    let ino = fs.create(Ino::ROOT, b"file", &FILE).unwrap().ino;
    fs.write(ino, 0, &vec![1; 50_000], NOW).unwrap();
    let mut buffer = [0; 8000];
    fs.read(ino, 45_000, &mut buffer).unwrap();
    fs.flush().unwrap();
    fs.flush().unwrap();
    let now = measure(&fs);
    assert_eq!(now.data.written_bytes, 50_000);
    assert_eq!(now.data.read_bytes, 5000);
    assert_eq!(now.journal.transactions - before.journal.transactions, 2);
    assert_eq!(now.journal.writes.count() - before.journal.writes.count(), 2);
    assert_eq!(
        now.journal.bytes - before.journal.bytes,
        now.journal.used - before.journal.used
    );
    assert_eq!(
        now.flush.syncs.count() - before.flush.syncs.count(),
        1,
        "the second had nothing to do"
    );
    assert_eq!((now.flush.waits.count(), now.flush.shared), (1, 0));
    assert_eq!(now.journal.undurable, 0);
    assert_eq!(now.pool.files - before.pool.files, 1);
    assert_eq!(now.space.files - before.space.files, 13 * 4096);
    let space = now.space;
    assert_eq!(
        space.total,
        space.free + space.files + space.system + space.deferred + space.in_flight
    );
    assert!(now.checkpoint.pending > 0);

    fs.checkpoint().unwrap();
    let then = measure(&fs);
    assert_eq!(then.checkpoint.times.count() - now.checkpoint.times.count(), 1);
    assert!(then.checkpoint.records >= now.checkpoint.pending);
    assert!(then.checkpoint.bytes >= 2 * 4096);
    assert_eq!((then.checkpoint.pending, then.checkpoint.failures), (0, 0));
    assert!(then.base.tables > 0 && then.base.level_bytes[0] > 0);
    assert!(then.journal.used < now.journal.used);
}

#[test]
fn what_was_read_from_the_pool_is_told_apart_from_what_was_in_memory() {
    let disk = disk();
    {
        let fs = mount(&disk);
        fs.create(Ino::ROOT, b"file", &FILE).unwrap();
        fs.close().unwrap();
    }
    let fs = mount(&disk);
    let reads = || {
        let caches = measure(&fs).caches;
        let entries = caches.iter().find(|cache| cache.name == "entries").unwrap();
        (entries.hits, entries.misses)
    };
    let (_, misses) = reads();
    fs.lookup(Ino::ROOT, b"file").unwrap();
    let (warm_hits, warm_misses) = reads();
    assert!(warm_misses > misses);
    fs.lookup(Ino::ROOT, b"file").unwrap();
    let (hits, misses) = reads();
    assert!(hits > warm_hits);
    assert_eq!(misses, warm_misses);
}

#[test]
fn compressed_units_and_damage_are_counted() {
    let disk = disk();
    let fs = mount(&disk);
    let ino = fs.create(Ino::ROOT, b"packed", &FILE).unwrap().ino;
    let compress = SetAttributes {
        flags: Some(FileFlags::COMPRESS),
        now: NOW,
        ..SetAttributes::default()
    };
    fs.set_attributes(ino, &compress).unwrap();
    fs.write(ino, 0, &vec![9; 65_536], NOW).unwrap();
    let mut buffer = vec![0; 65_536];
    fs.read(ino, 0, &mut buffer).unwrap();
    let data = measure(&fs).data;
    assert_eq!((data.compressions, data.decompressions, data.damaged_reads), (1, 1, 0));

    let plain = fs.create(Ino::ROOT, b"plain", &FILE).unwrap().ino;
    fs.write(plain, 0, &[9; 4096], NOW).unwrap();
    let extents = fs.extents(plain, vexfs::units::FileBlock(0), 1).unwrap();
    let vexfs::fs::Source::Blocks(run, _) = extents[0].source else {
        panic!("{extents:?}");
    };
    disk.write(run.start.byte_at(), &[0; 4096]).unwrap();
    fs.read(plain, 0, &mut buffer[..4096]).unwrap_err();
    assert_eq!(measure(&fs).data.damaged_reads, 1);
}

#[test]
fn opening_after_a_crash_says_what_it_took() {
    let disk = disk();
    {
        let fs = mount(&disk);
        for number in 0..10 {
            fs.create(Ino::ROOT, format!("file-{number}").as_bytes(), &FILE)
                .unwrap();
        }
    }
    let fs = mount(&disk);
    let recovery = measure(&fs).recovery;
    assert_eq!((recovery.transactions, recovery.operations), (10, 10));
    assert!(recovery.bytes > 0);
    assert!(recovery.time >= recovery.replay_time);
    assert!(recovery.replay_time > Duration::ZERO);
}

#[test]
fn a_writer_that_waits_for_freed_blocks_is_a_stall() {
    let fs = mount(&disk());
    let mut number = 0;
    while measure(&fs).checkpoint.times.count() == 0 {
        fs.create(Ino::ROOT, format!("file-{number}").as_bytes(), &FILE)
            .unwrap();
        number += 1;
    }
    // Without a thread beside it, a checkpoint is made before there is anything to wait for.
    assert_eq!(measure(&fs).stalls.room.count(), 0);
    let ino = fs.create(Ino::ROOT, b"large", &FILE).unwrap().ino;
    let mut at = 0;
    while fs.write(ino, at, &vec![1; 1 << 20], NOW).is_ok() {
        at += 1 << 20;
    }
    let stalls = measure(&fs).stalls;
    assert!(
        stalls.space.count() > 0,
        "the pool is full: freed blocks were waited for"
    );
    assert_eq!(stalls.waiting, 0);
}

/// A disk whose syncs take long.
struct SlowDisk(MemDisk);

impl Disk for SlowDisk {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> vexfs::error::Result<()> {
        self.0.read(at, into)
    }

    fn write(&self, at: u64, from: &[u8]) -> vexfs::error::Result<()> {
        self.0.write(at, from)
    }

    fn sync(&self) -> vexfs::error::Result<()> {
        std::thread::sleep(Duration::from_millis(50));
        self.0.sync()
    }

    fn discard(&self, range: std::ops::Range<u64>) -> vexfs::error::Result<()> {
        self.0.discard(range)
    }
}

#[test]
fn writers_faster_than_the_checkpoint_beside_them_stall_and_flushes_share_syncs() {
    let disk = SlowDisk(MemDisk::new(64 << 20));
    format_disk(&disk, &FormatOptions::default(), &Seeds::from_number(1), &Host::this()).unwrap();
    let pool = Pool::open_disk(Arc::new(disk), &OpenOptions::new(Access::ReadWrite)).unwrap();
    let fs = Fs::mount(pool, &MountOptions::default()).unwrap();
    let ino = fs.create(Ino::ROOT, b"file", &FILE).unwrap().ino;
    let begin = Instant::now();
    while measure(&fs).stalls.room.count() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "never stalled");
        let value = vec![7; 60_000];
        fs.set_xattr(ino, b"user.large", &value, 0, NOW).unwrap();
    }
    assert!(measure(&fs).stalls.room.sum() > Duration::ZERO);
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d", "e", "f"] {
            let fs = &fs;
            scope.spawn(move || {
                fs.create(Ino::ROOT, name.as_bytes(), &FILE).unwrap();
                fs.flush().unwrap();
            });
        }
    });
    let flush = measure(&fs).flush;
    assert!(flush.shared > 0, "{flush:?}");
    assert_eq!(flush.waiting, 0);
    assert!(flush.waits.quantile(0.5).unwrap() > Duration::from_millis(20));
}

#[test]
fn a_closed_pool_is_not_writable() {
    let fs = mount(&disk());
    let other = fs.clone();
    assert_eq!(measure(&fs).pool.mode, PoolMode::Writable);
    fs.close().unwrap();
    assert_eq!(measure(&other).pool.mode, PoolMode::ReadOnly);
}

/// One line of values.
#[derive(Debug)]
struct Line {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads a line as Prometheus does: `name{label="value",…} number`.
fn parse(line: &str) -> Line {
    let is_name = |text: &str| {
        !text.is_empty()
            && !text.starts_with(|letter: char| letter.is_ascii_digit())
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut letters = quoted.char_indices();
            let end = loop {
                match letters.next().unwrap() {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match letters.next().unwrap().1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("escaped {other} in {line}"),
                    }),
                    (_, letter) => value.push(letter),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = &quoted[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    Line {
        name: name.to_owned(),
        labels,
        value: rest.strip_prefix(' ').unwrap().parse().unwrap(),
    }
}

#[test]
fn the_text_is_well_formed_and_buckets_only_grow() {
    let fs = used();
    let snapshot = measure(&fs);
    let text = text::render(&snapshot.metrics(), &[("pool", "p")]);
    assert!(text.ends_with('\n'));
    let mut types: HashMap<String, String> = HashMap::new();
    let mut helped = HashSet::new();
    let mut seen = HashSet::new();
    // By name and labels without `le`: the buckets in their order, and what `_count` says.
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, what) = help.split_once(' ').unwrap();
            assert!(!what.is_empty() && helped.insert(name.to_owned()), "{line}");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(helped.contains(name), "HELP comes first: {line}");
            assert!(
                types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "twice: {line}"
            );
            current = name.to_owned();
            continue;
        }
        let mut parsed = parse(line);
        assert_eq!(parsed.labels.get("pool").map(String::as_str), Some("p"), "{line}");
        assert!(
            seen.insert((parsed.name.clone(), parsed.labels.clone())),
            "twice: {line}"
        );
        assert!(parsed.name.starts_with(&current), "values of another metric: {line}");
        let kind = types.get(&current).unwrap();
        let suffix = &parsed.name[current.len()..];
        match (kind.as_str(), suffix) {
            ("counter", "") => assert!(parsed.name.ends_with("_total") && parsed.value >= 0.0, "{line}"),
            ("gauge", "") => assert!(!parsed.name.ends_with("_total"), "{line}"),
            ("histogram", "_bucket") => {
                assert!(current.ends_with("_seconds"), "{line}");
                let le = parsed.labels.remove("le").unwrap().parse().unwrap();
                let key = format!("{current} {:?}", parsed.labels);
                buckets.entry(key).or_default().push((le, parsed.value));
            }
            ("histogram", "_sum") => assert!(parsed.value >= 0.0, "{line}"),
            ("histogram", "_count") => {
                counts.insert(format!("{current} {:?}", parsed.labels), parsed.value);
            }
            other => panic!("{other:?}: {line}"),
        }
    }
    assert!(buckets.len() > 4, "{buckets:?}");
    assert!(buckets.keys().eq(counts.keys()));
    for (key, buckets) in &buckets {
        assert!(
            buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1),
            "{key}: {buckets:?}"
        );
        let &(le, last) = buckets.last().unwrap();
        assert_eq!((le, last), (f64::INFINITY, counts[key]), "{key}");
    }
    // What went in comes out.
    let label = text.lines().find(|line| line.starts_with("vexfs_pool_info{")).unwrap();
    assert_eq!(parse(label).labels["label"], "one \"two\" \\ three");
    let reads = "vexfs_fuse_operation_seconds_count{pool=\"p\",operation=\"read\"} 2";
    assert!(text.lines().any(|line| line == reads), "{text}");
    let failures = "vexfs_fuse_operation_failures_total{pool=\"p\",operation=\"read\"} 1";
    assert!(text.lines().any(|line| line == failures), "{text}");
    assert!(!text.contains("operation=\"write\""), "it never happened");
}

/// The table of `docs/OPERATIONS.md`, as the code would write it.
fn table() -> String {
    let rows = measure(&used()).metrics().into_iter().map(|metric| {
        let labels: Vec<&str> = metric.series[0].labels.iter().map(|(name, _)| *name).collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        format!(
            "| `{}{labels}` | {} | {} |",
            metric.name,
            metric.kind.name(),
            metric.help
        )
    });
    rows.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_documentation_lists_every_metric() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
    let page = std::fs::read_to_string(page).unwrap();
    // Those of devices are the server's.
    let is_ours = |line: &&str| line.starts_with("| `vexfs_") && !line.starts_with("| `vexfs_ublk_");
    let told: Vec<&str> = page.lines().filter(is_ours).collect();
    let expected = table();
    assert!(told.join("\n") == expected, "the table must be:\n{expected}");
}

#[test]
fn every_metric_has_its_unit_in_its_name() {
    for metric in measure(&used()).metrics() {
        for series in &metric.series {
            if matches!(series.value, Value::Time(_) | Value::Times(_)) {
                assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
            }
        }
    }
}

#[test]
fn the_disk_is_told_of_free_space_when_there_is_time_and_not_of_what_is_used_again() {
    let fs = mount(&disk());
    let ino = fs.create(Ino::ROOT, b"file", &FILE).unwrap().ino;
    let content = vec![7; 8 << 20];
    // Every turn replaces all blocks; those of the turn before become free.
    for _ in 0..8 {
        fs.write(ino, 0, &content, NOW).unwrap();
        fs.flush().unwrap();
        fs.checkpoint().unwrap();
    }
    assert_eq!(
        measure(&fs).flush.discarded_bytes,
        0,
        "nobody waits for the disk to hear it"
    );
    fs.unlink(Ino::ROOT, b"file", NOW).unwrap();
    fs.checkpoint().unwrap();
    let ended = fs.clone();
    fs.close().unwrap();
    let told = measure(&ended).flush.discarded_bytes;
    assert!((8 << 20..64 << 20).contains(&told), "{told}");
}
