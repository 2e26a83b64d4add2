// SPDX-License-Identifier: MIT OR Apache-2.0

//! The classifier against the table's samples, reports written out after the kernel's formats, and random input.

use std::time::Duration;

use proptest::prelude::*;

use super::recorded_tests::{feed, ids, report_of};
use super::*;

#[test]
fn every_sample_is_classified_as_its_own_row() {
    for pattern in PatternTable::builtin().patterns() {
        for sample in &pattern.samples {
            let sighting = Classifier::new(&[]).feed_line(sample, Duration::ZERO);
            let found = sighting.as_ref().map(|s| (s.pattern.as_str(), s.crash, s.effect));
            assert_eq!(
                found,
                Some((pattern.id.as_str(), pattern.crash, pattern.effect)),
                "{sample}"
            );
        }
    }
}

#[test]
fn samples_survive_decoration() {
    for pattern in PatternTable::builtin().patterns() {
        for sample in &pattern.samples {
            let text = messages(sample)[0].text;
            for line in [
                format!("<1>[   12.345678][  T140] {text}\r"),
                format!("\u{1b}[31m[   12.345678]\u{1b}[0m {text}"),
                format!("user output without an end[   12.345678] {text}"),
                format!("<4>{text}"),
            ] {
                let sighting = Classifier::new(&[]).feed_line(&line, Duration::ZERO);
                assert_eq!(sighting.map(|s| s.pattern).as_ref(), Some(&pattern.id), "{line}");
            }
        }
    }
}

#[test]
fn ordinary_lines_match_nothing() {
    for line in include_str!("samples/benign.txt").lines() {
        let sighting = Classifier::new(&["vexfs"]).feed_line(line, Duration::ZERO);
        assert!(sighting.is_none(), "{sighting:?}");
    }
}

const OOPS_72: &str = "\
[   12.345678][  T301] BUG: kernel NULL pointer dereference, address: 0000000000000018
[   12.345690][  T301] #PF: supervisor read access in kernel mode
[   12.345700][  T301] Oops: Oops: 0000 [#1] SMP KASAN NOPTI
server: still writing
[   12.345710][  T301] CPU: 1 UID: 0 PID: 301 Comm: mount Tainted: G           OE       7.2.12 #1 PREEMPT(lazy)
[   12.345720][  T301] RIP: 0010:iomap_iter+0x1b3/0x420
[   12.345730][  T301] Call Trace:
[   12.345731][  T301]  <TASK>
[   12.345732][  T301]  ? xfs_stale+0x10/0x20 [xfs]
[   12.345740][  T301]  vexfs_read_iter+0x44/0x90 [vexfs 0123456789abcdef0123456789abcdef01234567]
[   12.345750][  T301]  vfs_read+0x2c1/0x3b0
[   12.345760][  T301]  </TASK>
[   12.345770][  T301] Modules linked in: vexfs(OE) ublk_drv [last unloaded: uio_dsmil(OE)]
[   12.345780][  T301] ---[ end trace 0000000000000000 ]---
[   12.345790][  T301] RIP: 0010:iomap_iter+0x1b3/0x420
";

#[test]
fn a_seven_series_oops_with_callers_and_build_ids_is_read_the_same_way() {
    let report = report_of(OOPS_72, &["vexfs"]);
    assert_eq!(report.verdict.crash, CrashType::ModuleCrash);
    assert_eq!(report.modules, ["vexfs"]);
    assert!(report.context.iter().all(|line| !line.contains("still writing")));
}

const WARNING_612: &str = "\
[   28.110200] ------------[ cut here ]------------
[   28.110210] refcount_t: underflow; use-after-free.
[   28.110220] WARNING: CPU: 1 PID: 231 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110
[   28.110230] RIP: 0010:refcount_warn_saturate+0xba/0x110
[   28.110240] Call Trace:
[   28.110250]  vexfs_put_session+0x41/0x90 [vexfs]
[   28.110260] ---[ end trace 0000000000000000 ]---
";

const WARNING_72: &str = "\
[   28.110200] ------------[ cut here ]------------
[   28.110210] refcount_t: underflow; use-after-free.
[   28.110220] WARNING: lib/refcount.c:28 at refcount_warn_saturate+0xba/0x110, CPU#1: umount/231
[   28.110230] RIP: 0010:refcount_warn_saturate+0xba/0x110
[   28.110240] Call Trace:
[   28.110250]  vexfs_put_session+0x41/0x90 [vexfs]
[   28.110260] ---[ end trace 0000000000000000 ]---
";

#[test]
fn the_text_of_a_warning_decides_and_its_frame_is_one_report() {
    for console in [WARNING_612, WARNING_72] {
        let report = report_of(console, &["vexfs"]);
        assert_eq!(ids(&report), ["refcount", "warning"]);
        assert_eq!(report.verdict.crash, CrashType::MemoryCorruption);
        assert_eq!(report.modules, ["vexfs"]);
        assert_eq!(report.context.len(), 7, "{:#?}", report.context);
    }
}

const LOCKDEP: &str = "\
[   29.002200] ======================================================
[   29.002210] WARNING: possible circular locking dependency detected
[   29.002220] 6.12.95 #1 Tainted: G           OE
[   29.002230] ------------------------------------------------------
[   29.002240] mount/312 is trying to acquire lock:
[   29.002250] ffff888004b1a2c0 (&sbi->log_lock){+.+.}-{3:3}, at: vexfs_log_append+0x44/0x120 [vexfs]
[   29.002260] stack backtrace:
[   29.002270] Call Trace:
[   29.002280]  __lock_acquire+0x14e3/0x2420
[   40.000000] INFO: task umount:412 blocked for more than 10 seconds.
[   40.000010] Call Trace:
[   40.000020]  xfs_log_force+0x14e3/0x2420 [xfs]
";

#[test]
fn a_later_report_does_not_lend_its_blame_to_an_earlier_one() {
    let report = report_of(LOCKDEP, &["vexfs"]);
    assert_eq!(
        (report.cause.pattern.as_str(), report.cause.effect),
        ("lockdep-circular", Effect::Failure)
    );
    assert_eq!(report.cause.modules, ["vexfs"]);
    assert_eq!(report.verdict.pattern, "hung-task");
    assert_eq!(report.verdict.modules, ["xfs"]);
    assert_eq!(report.modules, ["vexfs", "xfs"]);
}

#[test]
fn what_user_space_says_of_bugs_is_not_what_the_kernel_says() {
    let mut classifier = Classifier::new(&[]);
    assert!(
        classifier
            .feed_line("BUG: unable to handle page fault", Duration::ZERO)
            .is_some()
    );
    let mut classifier = Classifier::new(&[]);
    classifier.feed_line("[    0.475275] Run /init as init process", Duration::ZERO);
    assert!(
        classifier
            .feed_line("BUG: unable to handle page fault", Duration::ZERO)
            .is_none()
    );
    assert!(
        classifier
            .feed_line("BUG: x[    1.000000] BUG: unable to handle page fault", Duration::ZERO)
            .is_some()
    );
}

#[test]
fn notices_never_become_a_verdict_however_many_there_are() {
    let mut classifier = Classifier::new(&[]);
    let line = "[   74.331201] I/O error, dev ublkb0, sector 2048 op 0x1:(WRITE) flags 0x800 phys_seg 1 prio class 2";
    for _ in 0..10_000 {
        assert!(classifier.feed_line(line, Duration::ZERO).is_some());
    }
    assert_eq!(classifier.report(), None);
    assert_eq!(classifier.notices().get("io-error").map(|n| n.count), Some(10_000));
}

#[test]
fn a_timeout_is_a_hang_and_keeps_the_failure_that_led_to_it() {
    let mut classifier = Classifier::new(&["vexfs"]);
    feed(&mut classifier, LOCKDEP);
    let hang = classifier.feed_timeout("no heartbeat for 60 s", Duration::from_secs(100));
    assert_eq!(
        (hang.pattern.as_str(), hang.crash),
        (PatternTable::TIMEOUT_ID, CrashType::SystemHang)
    );
    assert!(!classifier.is_collecting(Duration::from_secs(100)));
    let report = classifier.take_report().unwrap();
    assert_eq!(
        (report.recovery(), report.cause.pattern.as_str()),
        (Recovery::ForcedReset, "lockdep-circular")
    );
    assert_eq!(report.verdict, hang);
    assert_eq!(classifier.report(), None);
}

#[test]
fn a_flood_keeps_the_first_failure_and_the_worst() {
    let mut classifier = Classifier::new(&[]);
    let warning = |i: u64| format!("[{i:5}.000000] WARNING: CPU: 0 PID: 1 at fs/inode.c:{i} drop_nlink+0x33/0x40");
    for i in 0..200 {
        // Ten seconds apart, so that each is a report of its own.
        classifier.feed_line(&warning(i * 10), Duration::from_secs(i * 10));
        if i == 100 {
            classifier.feed_line(
                "[ 1005.000000] BUG: Bad page state in process x  pfn:1",
                Duration::from_secs(1005),
            );
        }
    }
    let report = classifier.report().unwrap();
    assert!(report.cause.line.contains("fs/inode.c:0 "), "{}", report.cause.line);
    assert_eq!(report.verdict.pattern, "bad-page");
    assert!(report.sightings.len() <= 32, "{}", report.sightings.len());
    assert_eq!(report.sightings.len() + report.dropped, 201);
}

#[test]
fn a_report_survives_json() {
    let report = report_of(WARNING_72, &[]);
    let json = serde_json::to_string(&report).unwrap();
    let back: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (back.modules, back.context, back.cause.pattern),
        (report.modules, report.context, report.cause.pattern)
    );
}

/// Sightings of a byte stream cut at the given places.
fn sightings(stream: &[u8], cuts: &[prop::sample::Index]) -> (Vec<Sighting>, Option<Report>) {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    at.sort_unstable();
    let mut splitter = LineSplitter::new();
    let mut classifier = Classifier::new(&["vexfs"]);
    let mut found = Vec::new();
    let mut from = 0;
    for to in at.into_iter().chain([stream.len()]) {
        splitter.push(&stream[from..to], |line| {
            found.extend(classifier.feed_line(line, Duration::ZERO));
        });
        from = to;
    }
    splitter.finish(|line| found.extend(classifier.feed_line(line, Duration::ZERO)));
    (found, classifier.report())
}

/// Console lines as they may come: samples, frames, rulers and noise, in any order.
fn any_line() -> impl Strategy<Value = String> {
    let samples: Vec<String> = PatternTable::builtin()
        .patterns()
        .iter()
        .flat_map(|p| p.samples.iter().cloned())
        .collect();
    let parts: Vec<String> = [
        "[   28.110200] ------------[ cut here ]------------",
        "[   28.110240] Call Trace:",
        "[   28.110250]  vexfs_put_session+0x41/0x90 [vexfs]",
        "[   28.110250]  ? stale+0x41/0x90 [xfs]",
        "[   28.110260] ---[ end trace 0000000000000000 ]---",
        "[   28.110260] ==================================================================",
        "[ 9928.110260] Workqueue: x y [vexfs]",
    ]
    .map(str::to_owned)
    .into();
    prop_oneof![2 => prop::sample::select(samples), 3 => prop::sample::select(parts), 1 => "\\PC{0,80}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn how_reads_cut_the_stream_changes_nothing(
        lines in prop::collection::vec(any_line(), 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream = lines.join("\r\n");
        prop_assert_eq!(sightings(stream.as_bytes(), &cuts), sightings(stream.as_bytes(), &[]));
    }

    #[test]
    fn any_bytes_are_survived_within_bounds(stream in prop::collection::vec(any::<u8>(), 0..6_000)) {
        sightings(&stream, &[]);
    }

    #[test]
    fn memory_is_bounded_for_any_order_of_lines(lines in prop::collection::vec(any_line(), 0..600)) {
        let mut classifier = Classifier::new(&["vexfs"]);
        let mut failures = 0;
        for line in &lines {
            let sighting = classifier.feed_line(line, Duration::ZERO);
            failures += usize::from(sighting.is_some_and(|s| s.effect > Effect::Notice));
        }
        if let Some(report) = classifier.report() {
            prop_assert!(report.sightings.len() <= 32 * 8 && report.context.len() <= 2 * 400);
            prop_assert_eq!(report.sightings.len() + report.dropped, failures);
            prop_assert!(report.sightings.iter().all(|s| !s.is_worse_than(&report.verdict)));
        } else {
            prop_assert_eq!(failures, 0);
        }
    }
}
