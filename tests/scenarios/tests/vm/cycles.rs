// SPDX-License-Identifier: MIT OR Apache-2.0

//! A pool is mounted and unmounted over and over, while many work on another one beside it. Nothing grows.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::crash::Trend;
use lab::suites::target::{On, Room};
use lab_guest::measure::{Promise, check};
use lab_guest::sys;
use lab_scenarios::monitor::{Monitor, warm_up};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::work::{Book, Crowd};
use crate::world::{AT, BOUND, DISK, ROOMY, World, settings};

/// Who work beside the cycles.
const BESIDE: usize = 25;
/// Where the other pool is mounted.
const OTHER: &str = "/mnt/other";
/// Until caches are full, at most.
const WARM_UP: Duration = Duration::from_secs(300);
/// Of the kernel's mounts, on machines that are emulated too.
const PER_MINUTE: f64 = 100.0;

/// Cycles of one pool beside work on the other, for so long.
fn beside_work(on: On, time: Duration) -> Result<()> {
    let mut world = World::with_file(on, ROOMY / 3)?;
    let mut book = Book::new(&Path::new(AT).join("book"))?;
    book.fill(3, 50_000)?;
    let scratch = Path::new(DISK).join("other");
    fs::create_dir_all(&scratch)?;
    fs::create_dir_all(OTHER)?;
    let scratch = scratch.to_str().context("a name is text")?;
    let mut other = on.make(&settings(on, scratch), Path::new(OTHER), Room::File(ROOMY))?;
    other.mount()?;
    let server = other.server().context("nobody serves the other mount")?;
    let crowd = Crowd::new(BESIDE, 20_000);
    // What is made once, with the first work, is there before growth counts, and what caches hold.
    crowd.work(Path::new(OTHER), || {
        warm_up(server, WARM_UP)?;
        cycle(on, &mut world)
    })?;
    // As seldom as lets a trend see all of it: half a minute of a long run may go up as well as down.
    let every = (time / u32::try_from(Trend::WINDOW)?).max(Duration::from_millis(500));
    let monitor = Monitor::start(server, crowd.latency(), every)?;
    let leaks = sys::LeakCheck::start()?;
    let start = Instant::now();
    let mut cycles = 0_u32;
    let done = crowd.work(Path::new(OTHER), || {
        while start.elapsed() < time {
            cycle(on, &mut world).with_context(|| format!("cycle {cycles}"))?;
            cycles += 1;
        }
        Ok(())
    })?;
    let rate = f64::from(cycles) * 60.0 / start.elapsed().as_secs_f64();
    let words = format!(
        "{cycles} cycles, {rate:.0} per minute, beside {} rounds of {BESIDE} applications, the longest {:.1?}",
        done.rounds, done.longest
    );
    println!("{words}");
    monitor.finish()?;
    check(
        Promise::GracefulError,
        done.longest < BOUND && cycles > 0 && (on != On::Module || rate > PER_MINUTE),
        words,
    )?;
    other.unmount()?;
    other.check()?;
    let leaked = leaks.finish();
    check(
        Promise::FlatTrend,
        leaked.is_ok(),
        leaked.map_or_else(
            |error| format!("{error:#}"),
            |()| "the kernel's memory did not grow".to_owned(),
        ),
    )?;
    world.health()?;
    book.verify("after the cycles")?;
    world.finish()
}

/// The kernel's mount of a device that stays; with FUSE, a server each.
fn cycle(on: On, world: &mut World) -> Result<()> {
    if on != On::Module {
        return world.target()?.remount();
    }
    let mounts = sys::read("/proc/mounts")?;
    let line = mounts.lines().find_map(|line| line.split_once(&format!(" {AT} ")));
    let (device, _) = line.context("it is not mounted")?;
    umount2(AT, MntFlags::empty()).context("unmounting")?;
    ensure!(!Path::new(AT).join("book").exists(), "it is still there");
    mount(Some(device), AT, Some("vexfs"), MsFlags::empty(), None::<&str>).context("mounting")
}

#[lab_guest::test(disks = ["disk:768"], timeout = 900, stress = true)]
fn a_pool_is_mounted_through_fuse_over_and_over_beside_work_and_nothing_grows() -> Result<()> {
    beside_work(On::Fuse, Duration::from_secs(45))
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 900, stress = true)]
fn a_pool_is_mounted_by_the_kernel_over_and_over_beside_work_and_nothing_grows() -> Result<()> {
    beside_work(On::Module, Duration::from_secs(45))
}

#[lab_guest::test(modules = ["vexfs"], disks = ["disk:768"], timeout = 2400, stress = true)]
fn a_pool_is_mounted_by_the_kernel_for_twenty_minutes_beside_work_and_nothing_grows() -> Result<()> {
    beside_work(On::Module, Duration::from_secs(1200))
}
