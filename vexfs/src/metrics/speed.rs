// SPDX-License-Identifier: MIT OR Apache-2.0

//! What recording costs. Prints figures, so it runs only when asked for:
//! `cargo test --release -p vexfs --lib metrics::speed -- --ignored --nocapture --test-threads 1`

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::{Counter, Family, Histogram};

const TIMES: u32 = 20_000_000;

fn figure(what: &str, mut call: impl FnMut(u64)) {
    let begin = Instant::now();
    let mut ns = 1_u64;
    for _ in 0..TIMES {
        ns = ns.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        call(ns >> 44);
    }
    println!(
        "  {what}: {:.1} ns",
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    );
}

#[test]
#[ignore = "prints figures instead of checking anything"]
fn recording() {
    let (histogram, counter) = (Histogram::default(), Counter::default());
    let alone = Histogram::default();
    let family = Family::new("test_operation_seconds", ["read", "write"]);
    figure("nothing", |ns| {
        black_box(ns);
    });
    figure("Counter::add", |ns| counter.add(ns));
    figure("Histogram::record", |ns| histogram.record(Duration::from_nanos(ns)));
    figure("Histogram::record_alone", |ns| {
        alone.record_alone(Duration::from_nanos(ns), 1);
    });
    figure("Family::record", |ns| {
        family.record(usize::from(ns & 1 == 1), Duration::from_nanos(ns), false);
    });
    figure("reading the clock", |_| {
        black_box(Instant::now());
    });
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                figure("Histogram::record, two threads", |ns| {
                    histogram.record(Duration::from_nanos(ns));
                });
            });
        }
    });
    println!("  {} times", black_box(alone.snapshot().count()));
}
