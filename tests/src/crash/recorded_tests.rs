// SPDX-License-Identifier: MIT OR Apache-2.0

//! The classifier against consoles recorded on real machines, see `samples/README.md`.

use std::time::Duration;

use super::*;

const NULL_DEREF: &str = include_str!("samples/null-deref-6.12.txt");
const BUG: &str = include_str!("samples/bug-6.12.txt");
const GPF: &str = include_str!("samples/gpf-6.12.txt");
const PANIC: &str = include_str!("samples/panic-6.12.txt");
const ATOMIC: &str = include_str!("samples/atomic-6.12.txt");
const LOCKUP: &str = include_str!("samples/lockup-6.12.txt");
const DEADLOCK: &str = include_str!("samples/deadlock-6.12.txt");
const KFENCE: &str = include_str!("samples/kfence-6.12.txt");
const INT3_PANIC: &str = include_str!("samples/int3-panic-6.12.txt");
const KASAN: &str = include_str!("samples/kasan-debug.txt");
const NULL_DEREF_KASAN: &str = include_str!("samples/null-deref-debug.txt");
const LOCKDEP: &str = include_str!("samples/lockdep-debug.txt");
const UBSAN: &str = include_str!("samples/ubsan-debug.txt");
const LEAK: &str = include_str!("samples/leak-debug.txt");
const BUG_SHORT: &str = include_str!("samples/bug-debug.txt");
const ATOMIC_DEBUG: &str = include_str!("samples/atomic-debug.txt");

/// Feeds a console; lines arrive when the kernel wrote them, or together with the line before.
pub(super) fn feed(classifier: &mut Classifier, console: &str) -> Vec<Sighting> {
    let mut at = Duration::ZERO;
    let mut found = Vec::new();
    for line in console.lines() {
        at = messages(line)
            .last()
            .and_then(|message| message.stamp)
            .unwrap_or(at)
            .max(at);
        found.extend(classifier.feed_line(line, at));
    }
    found
}

pub(super) fn report_of(console: &str, watched: &[&str]) -> Report {
    let mut classifier = Classifier::new(watched);
    feed(&mut classifier, console);
    classifier.report().expect("a report")
}

pub(super) fn ids(report: &Report) -> Vec<&str> {
    report.sightings.iter().map(|s| s.pattern.as_str()).collect()
}

#[test]
fn a_good_run_gives_no_report_and_only_the_expected_notices() {
    let mut classifier = Classifier::new(&["vexfs"]);
    feed(&mut classifier, include_str!("samples/good-6.12.txt"));
    assert_eq!(classifier.report(), None);
    let notices: Vec<_> = classifier
        .notices()
        .iter()
        .map(|(id, n)| (id.as_str(), n.count))
        .collect();
    assert_eq!(notices, [("module-taint", 2)]);
}

#[test]
fn an_oops_in_a_watched_module_is_a_module_crash() {
    let cases = [
        (NULL_DEREF, "lab_null_deref", ["null-deref", "oops"].as_slice()),
        (BUG, "lab_bug", &["bug-on", "invalid-opcode"]),
        (GPF, "lab-gpf", &["gpf"]),
        (ATOMIC, "lab_atomic_sleep", &["atomic-schedule", "warning"]),
        (NULL_DEREF_KASAN, "lab_null_deref", &["gpf", "kasan-null-deref"]),
        (BUG_SHORT, "lab_bug", &["bug-on", "invalid-opcode"]),
        (
            ATOMIC_DEBUG,
            "lab_atomic_sleep",
            &["atomic-sleep", "atomic-schedule", "warning"],
        ),
    ];
    for (console, module, expected) in cases {
        let report = report_of(console, &[module]);
        assert_eq!(ids(&report), expected);
        assert_eq!(report.verdict.crash, CrashType::ModuleCrash, "{module}");
        assert_eq!(report.verdict.severity, Severity::Moderate);
        assert_eq!(report.recovery(), Recovery::ReloadModule);
        assert_eq!(report.modules, [module.replace('-', "_")]);
        assert!(report.verdict.is_fatal());
        assert!(
            report
                .context
                .iter()
                .any(|line| line.contains("entry_SYSCALL_64_after_hwframe")),
            "{module}"
        );
    }
}

#[test]
fn the_same_oops_without_our_module_is_a_kernel_bug_and_worse() {
    let report = report_of(NULL_DEREF, &["vexfs"]);
    assert_eq!(
        (report.verdict.crash, report.verdict.severity),
        (CrashType::KernelBug, Severity::High)
    );
    assert_eq!(report.modules, ["lab_null_deref"]);
    assert_eq!(report.recovery(), Recovery::VmRestart);
}

#[test]
fn the_answer_is_immediate_and_the_blame_follows_with_the_trace() {
    let mut classifier = Classifier::new(&["lab_bug"]);
    let mut lines = BUG.lines().skip_while(|line| !line.contains("kernel BUG at"));
    let first = classifier.feed_line(lines.next().unwrap(), Duration::ZERO).unwrap();
    assert_eq!((first.crash, first.modules.len()), (CrashType::KernelBug, 0));
    assert!(classifier.is_collecting(Duration::from_secs(1)));
    assert!(!classifier.is_collecting(Duration::from_secs(60)));
    for line in lines.by_ref().take_while(|line| !line.contains("end trace")) {
        classifier.feed_line(line, Duration::ZERO);
        assert!(classifier.is_collecting(Duration::ZERO), "{line}");
    }
    assert_eq!(classifier.report().unwrap().verdict.crash, CrashType::ModuleCrash);
}

#[test]
fn a_panic_after_an_oops_is_the_verdict_and_the_oops_the_cause() {
    let report = report_of(INT3_PANIC, &["vexfs"]);
    assert_eq!(report.verdict.pattern, "panic-after-oops");
    assert_eq!(report.verdict.severity, Severity::Critical);
    assert_eq!(
        (report.cause.pattern.as_str(), report.cause.crash),
        ("stray-int3", CrashType::KernelBug)
    );
    assert!(report.context.first().is_some_and(|line| line.contains("Oops: int3")));
    assert!(
        report
            .context
            .iter()
            .any(|line| line.contains("Kernel panic - not syncing"))
    );
    let text = report.to_string();
    assert!(
        text.contains("cause: kernel-bug (high, stray-int3)") && text.contains("level 2 (system reset)"),
        "{text}"
    );
}

#[test]
fn a_panic_keeps_the_module_of_the_oops_before_it() {
    let panic = "[    5.700000] Kernel panic - not syncing: Fatal exception";
    let report = report_of(&format!("{NULL_DEREF}{panic}\n"), &["lab_null_deref"]);
    assert_eq!(report.verdict.crash, CrashType::KernelPanic);
    assert!(report.verdict.modules.is_empty());
    assert_eq!(report.modules, ["lab_null_deref"]);
    assert_eq!(report.cause.crash, CrashType::ModuleCrash);
}

#[test]
fn a_panic_of_its_own_names_who_called_it() {
    let report = report_of(PANIC, &["lab_panic"]);
    assert_eq!(
        (report.verdict.pattern.as_str(), report.verdict.crash),
        ("panic", CrashType::KernelPanic)
    );
    assert_eq!(report.modules, ["lab_panic"]);
}

#[test]
fn lockup_stall_and_hung_task_are_three_reports_with_their_own_blame() {
    let report = report_of(LOCKUP, &["lab_spin"]);
    assert_eq!(ids(&report)[..3], ["soft-lockup", "rcu-stall", "hung-task"]);
    assert_eq!(report.verdict.crash, CrashType::SystemHang);
    let blamed: Vec<_> = report.sightings.iter().map(|s| s.modules.len()).collect();
    // The worker that hangs waits for RCU; its own trace has no module.
    assert_eq!(blamed[..3], [1, 1, 0]);
}

#[test]
fn a_deadlock_of_two_threads_is_a_deadlock() {
    let report = report_of(DEADLOCK, &["lab_deadlock"]);
    assert_eq!(
        (report.verdict.crash, report.verdict.severity),
        (CrashType::Deadlock, Severity::High)
    );
    assert_eq!(report.modules, ["lab_deadlock"]);
    assert_eq!(report.recovery(), Recovery::Kill);
}

#[test]
fn a_use_after_free_stays_memory_corruption_and_ends_with_its_ruler() {
    let report = report_of(KFENCE, &["lab_uaf"]);
    assert_eq!(ids(&report), ["kfence", "kfence"]);
    assert_eq!(report.verdict.crash, CrashType::MemoryCorruption);
    assert_eq!(report.modules, ["lab_uaf"]);
    assert!(
        report.context.last().is_some_and(|line| line.ends_with("====")),
        "{:?}",
        report.context.last()
    );
}

#[test]
fn debug_kernel_reports_name_the_module_and_what_it_did() {
    let cases = [
        (
            KASAN,
            "lab_uaf",
            ["kasan"].as_slice(),
            CrashType::MemoryCorruption,
            Effect::Fatal,
        ),
        (
            UBSAN,
            "lab_ubsan",
            &["ubsan", "ubsan"],
            CrashType::MemoryCorruption,
            Effect::Failure,
        ),
    ];
    for (console, module, expected, crash, effect) in cases {
        let report = report_of(console, &[module]);
        assert_eq!(ids(&report), expected);
        assert_eq!(
            (report.verdict.crash, report.verdict.effect),
            (crash, effect),
            "{module}"
        );
        assert!(report.sightings.iter().all(|s| s.modules == [module]), "{module}");
    }
    // The whole of a KASAN report, up to its closing ruler.
    let report = report_of(KASAN, &[]);
    for part in [
        "Allocated by task",
        "Freed by task",
        "Memory state around the buggy address",
    ] {
        assert!(report.context.iter().any(|line| line.contains(part)), "{part}");
    }
    assert!(
        report
            .context
            .iter()
            .all(|line| !line.contains("Disabling lock debugging"))
    );
}

#[test]
fn lock_order_found_before_the_deadlock_is_its_cause() {
    let report = report_of(LOCKDEP, &["lab_deadlock"]);
    assert_eq!(ids(&report)[..3], ["lockdep-circular", "hung-task", "hung-task"]);
    assert_eq!(
        (report.verdict.severity, report.cause.severity),
        (Severity::High, Severity::Moderate)
    );
    assert_eq!(report.modules, ["lab_deadlock"]);
}

#[test]
fn leaks_are_failures_that_the_machine_survives() {
    let report = report_of(LEAK, &["lab_leak"]);
    assert_eq!(ids(&report), ["kmemleak", "kmemleak"]);
    assert_eq!(
        (report.verdict.effect, report.recovery()),
        (Effect::Failure, Recovery::CleanUp)
    );
}
