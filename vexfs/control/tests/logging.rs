// SPDX-License-Identifier: MIT OR Apache-2.0

//! Changing what a process logs while it runs. One test per process: there is one subscriber.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use std::hint::black_box;
use std::time::Instant;

use tracing::Level;
use vexfs_control::logging::{self, Output};

#[test]
fn the_filter_changes_while_the_process_runs_and_spans_cost_nothing_before() {
    let log = logging::start(Some("warn"), "info", Output::Errors).unwrap();
    assert_eq!(log.filter(), "warn");
    assert!(!tracing::enabled!(Level::INFO));
    assert!(logging::operation("read", 2).is_disabled());

    let begin = Instant::now();
    for ino in 0..1_000_000 {
        black_box(logging::operation("read", ino));
    }
    let each = begin.elapsed() / 1_000_000;
    println!("a span that nobody wants: {each:?}");
    assert!(each.as_nanos() < 200, "{each:?}");

    log.set("warn,vexfs::operation=debug").unwrap();
    assert!(!logging::operation("read", 2).is_disabled());
    assert!(!tracing::enabled!(Level::INFO));
    log.set("debug").unwrap();
    assert!(tracing::enabled!(Level::DEBUG));
    log.set("loud").unwrap_err();
    assert_eq!(log.filter(), "debug", "the wrong one changed nothing");
    log.set("off").unwrap();
    assert!(!tracing::enabled!(Level::ERROR));
    logging::start(None, "info", Output::Errors).unwrap_err();
}
