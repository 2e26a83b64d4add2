// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a case may take: no panic, so much memory, so much time.
//!
//! Memory is counted per thread, since a case runs in one. A case that goes beyond [`HARD_BYTES`] would take the machine
//! along, and one that does not end cannot be ended: both abort the process, after saying which case it was.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The most memory that a case may have at one time, beyond what was there before.
pub(crate) const SOFT_BYTES: i64 = 96 << 20;
/// Beyond this the process ends.
const HARD_BYTES: i64 = 1 << 30;
/// The most processor time of a case. Not wall time: a busy machine must not fail the test.
const SOFT_TIME: Duration = Duration::from_secs(5);
/// After so much wall time the process ends.
const HARD_TIME: Duration = Duration::from_secs(40);

struct Counting;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn count(bytes: i64) {
    // A thread that is going has no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
        if now.get() > HARD_BYTES {
            // Neither printing nor unwinding may happen in an allocator: the watchdog's list says which case it was.
            now.set(i64::MIN / 2);
            let _ = std::io::stderr().write_all(b"\nmore than 1 GiB of memory in one of these cases:\n");
            tell_running();
            std::process::abort();
        }
    });
}

fn size(layout: Layout) -> i64 {
    i64::try_from(layout.size()).unwrap_or(i64::MAX / 4)
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing unless the process is
// about to end.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promises are the ones that this call needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(i64::try_from(new_size).unwrap_or(i64::MAX / 4) - size(layout));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Cases under way: their names and when they began.
static RUNNING: Mutex<Vec<(u64, String, Instant)>> = Mutex::new(Vec::new());
static NUMBERS: AtomicU64 = AtomicU64::new(0);

fn tell_running() {
    if let Ok(running) = RUNNING.try_lock() {
        for (_, name, since) in &*running {
            eprintln!("  {name} ({:?})", since.elapsed());
        }
    }
}

fn watch() {
    static STARTED: std::sync::Once = std::sync::Once::new();
    STARTED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !INSIDE.get() {
                return usual(info);
            }
            let backtrace = std::backtrace::Backtrace::force_capture().to_string();
            let ours: Vec<&str> = backtrace
                .lines()
                .filter(|line| line.contains("vexfs") && !line.contains("hostile"))
                .take(12)
                .map(str::trim)
                .collect();
            PANIC.with_borrow_mut(|text| *text = format!("{info}\n    {}", ours.join("\n    ")));
        }));
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(500));
                let late = RUNNING
                    .lock()
                    .is_ok_and(|running| running.iter().any(|(_, _, since)| since.elapsed() > HARD_TIME));
                if late {
                    eprintln!("\na case does not end:");
                    tell_running();
                    std::process::abort();
                }
            }
        });
    });
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Runs a case; says what it did that it must not.
pub(crate) fn bounded(name: &str, case: impl FnOnce()) -> Result<(), String> {
    watch();
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    if let Ok(mut running) = RUNNING.lock() {
        running.push((number, name.to_owned(), Instant::now()));
    }
    let (before, begun) = (NOW.get(), processor_time());
    PEAK.set(before);
    INSIDE.set(true);
    let result = catch_unwind(AssertUnwindSafe(case));
    INSIDE.set(false);
    let (peak, took) = (PEAK.get() - before, processor_time().saturating_sub(begun));
    if let Ok(mut running) = RUNNING.lock() {
        running.retain(|(other, ..)| *other != number);
    }
    if result.is_err() {
        return Err(format!("{name}: {}", PANIC.take()));
    }
    if peak > SOFT_BYTES {
        return Err(format!("{name}: took {} MiB of memory", peak >> 20));
    }
    if took > SOFT_TIME {
        return Err(format!("{name}: took {took:?}"));
    }
    Ok(())
}

/// Runs many cases and fails with all that went wrong, at most a handful.
pub(crate) fn all(cases: impl Iterator<Item = (String, Box<dyn FnOnce()>)>) {
    let mut wrong = Vec::new();
    let mut number = 0_u64;
    let begun = Instant::now();
    for (name, case) in cases {
        number += 1;
        if let Err(what) = bounded(&name, case) {
            wrong.push(what);
            if wrong.len() >= 8 {
                break;
            }
        }
    }
    println!("{number} cases in {:.1?}", begun.elapsed());
    assert!(
        wrong.is_empty(),
        "{} cases went wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// How many cases to run: the given number, or its multiple that `VEXFS_HOSTILE_CASES` asks for in percent of the default.
pub(crate) fn cases(default: u64) -> std::ops::Range<u64> {
    let percent = number("VEXFS_HOSTILE_CASES").unwrap_or(100);
    let first = number("VEXFS_HOSTILE_SEED").unwrap_or(0);
    first..first + (default * percent).div_ceil(100)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
