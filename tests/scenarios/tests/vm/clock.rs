// SPDX-License-Identifier: MIT OR Apache-2.0

//! The clock jumps, forwards and backwards, while a mount is used: nobody waits for it, and files have the time of the clock.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use lab::suites::target::On;
use lab_guest::measure::{Promise, check};
use lab_guest::sys;

use crate::work::{Book, Crowd};
use crate::world::{AT, BOUND, World};

const DAY: i64 = 86_400;

/// The time that it would be without jumps; set again on drop.
struct TrueTime {
    then: SystemTime,
    begin: Instant,
}

impl TrueTime {
    fn remember() -> Self {
        Self {
            then: SystemTime::now(),
            begin: Instant::now(),
        }
    }

    /// Moves the clock so many seconds away from the true time.
    fn away(&self, seconds: i64) -> Result<()> {
        let now = self.then + self.begin.elapsed();
        let now = now.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let moved = i64::try_from(now)?.checked_add(seconds).context("too far")?;
        sys::output("date", &["--set", &format!("@{moved}")]).map(drop)
    }
}

impl Drop for TrueTime {
    fn drop(&mut self) {
        if let Err(error) = self.away(0) {
            println!("{error:#}");
        }
    }
}

fn clock_jumps(on: On) -> Result<()> {
    let world = World::new(on)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    book.fill(5, 50_000)?;
    let clock = TrueTime::remember();
    let done = Crowd::new(3, 50_000).work(Path::new(AT), || {
        for away in [DAY, -DAY, 400 * DAY, -3 * 365 * DAY, 1, 0] {
            clock.away(away)?;
            thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    })?;
    check(
        Promise::GracefulError,
        done.longest < BOUND,
        format!(
            "{} rounds without an error, the longest {:.1?}",
            done.rounds, done.longest
        ),
    )?;
    world.health()?;
    // A year ahead: what is made now was made then.
    clock.away(365 * DAY)?;
    let file = Path::new(AT).join("from the future");
    fs::write(&file, "bytes")?;
    let made = fs::metadata(&file)?.modified()?;
    let off = made
        .duration_since(SystemTime::now())
        .unwrap_or_else(|earlier| earlier.duration());
    check(
        Promise::Integrity,
        off < BOUND,
        format!("a file's time is {off:.1?} from the clock's"),
    )?;
    drop(clock);
    book.verify("after the clock jumped")?;
    world.finish()
}

#[lab_guest::test(disks = ["disk:768"], timeout = 180, stress = true)]
fn a_fuse_mount_goes_on_when_the_clock_jumps() -> Result<()> {
    clock_jumps(On::Fuse)
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 180, stress = true)]
fn a_kernel_mount_goes_on_when_the_clock_jumps() -> Result<()> {
    clock_jumps(On::Module)
}
