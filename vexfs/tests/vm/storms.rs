// SPDX-License-Identifier: MIT OR Apache-2.0

//! Storms: servers that are killed and replaced, or stopped for a while, over and over, under writers that keep books.
//!
//! Of a server that is killed and replaced in time nobody notices anything but a pause. A server that stands still longer
//! than calls wait costs errors, in bounded time; nothing that was answered is lost or changed by that either.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::suites::crash::storm::{Load, Seen};
use lab_guest::{measure, sys};

use crate::served::{AT, Mount, Server, drop_caches};

const WRITERS: usize = 3;
/// Where the logs of writers are.
const LOGS: &str = "/tmp";
/// Kills between two comparisons.
const CHUNK: usize = 6;
/// What the 99th percentile of stalls may be, beyond what a server takes to start on this machine, which is emulated.
const STALL: Duration = Duration::from_secs(2);
/// The same for a few kills, whose worst is no percentile, on a machine that others may load: finds hangs, not delays.
const LOOSE_STALL: Duration = Duration::from_secs(5);

/// Kills and replaces the server so many times.
fn kills(cycles: usize, bound: Duration) -> Result<()> {
    let mut server = Server::of_new_pool()?;
    let mut mount = server.mount("")?;
    let mut load = Load::new(Path::new(AT), Path::new(LOGS), WRITERS, 1)?;
    let (mut stalls, mut starts, mut answered) = (Vec::new(), Vec::new(), 0);
    for chunk in 0..cycles.div_ceil(CHUNK) {
        let mut moments = Vec::new();
        let seen = load.work(|progress| {
            for cycle in 0..CHUNK {
                progress.of_each(bound);
                // Another moment each time, so that all kinds of calls are under way.
                std::thread::sleep(Duration::from_millis(200 + 83 * (cycle as u64 % 11)));
                moments.push(Instant::now());
                starts.push(server.replace()?);
            }
            std::thread::sleep(Duration::from_millis(500));
            Ok(())
        })?;
        ensure!(seen.failed.is_empty(), "chunk {chunk}: {:#?}", seen.failed);
        stalls.extend(moments.into_iter().map(|moment| seen.stall(moment)));
        answered += seen.answered;
        mount = compare(&mut load, &server, mount)?;
    }
    ensure!(mount.counter("degraded")? == 0, "the mount was degraded");
    let start = percentile(&mut starts, 50);
    let figures = format!(
        "kill storm: {cycles} kills, {answered} calls; stall median {:?}, p99 {:?}; of it a server's start {start:?}",
        percentile(&mut stalls, 50),
        percentile(&mut stalls, 99),
    );
    tell(&figures)?;
    ensure!(percentile(&mut stalls, 99) < start + bound, "{figures}");
    mount.unmount()?;
    server.stop_and_check()
}

/// Stops the server so many times, for a time up to `longest`; a call may take `bound`.
fn stops(cycles: u32, options: &str, longest: Duration, bound: Duration) -> Result<()> {
    let server = Server::of_new_pool()?;
    let mut mount = server.mount(options)?;
    let mut load = Load::new(Path::new(AT), Path::new(LOGS), WRITERS, 2)?;
    let mut all = Vec::<Seen>::new();
    let mut degraded = 0;
    for cycle in 0..cycles {
        let pause = longest * (cycle * 7 % cycles + 1) / cycles;
        let seen = load.work(|_| {
            std::thread::sleep(Duration::from_millis(700));
            server.signal("-STOP")?;
            std::thread::sleep(pause);
            if pause > bound {
                // Who still waits should not: on a failure this is seen.
                print!("{cycle}: {}", waits()?);
            }
            server.signal("-CONT")?;
            let start = Instant::now();
            sys::wait_for("the mount to heal", bound, || {
                mount.attribute("health").is_ok_and(|health| health == "HEALTHY")
            })?;
            measure::recovered("the mount", start)
        })?;
        ensure!(
            seen.longest() < bound,
            "cycle {cycle}, stopped for {pause:?}: {}",
            seen.slowest()
        );
        all.push(seen);
        degraded += mount.counter("degraded")?;
        mount = compare(&mut load, &server, mount)?;
    }
    let sum = |of: fn(&Seen) -> u64| all.iter().map(of).sum::<u64>();
    tell(&format!(
        "stop storm: {cycles} stops, {degraded} of them noticed; {} calls, {} failed, longest {:?}",
        sum(|seen| seen.answered),
        sum(|seen| seen.failed.len() as u64),
        all.iter().map(Seen::longest).max().unwrap_or_default()
    ))?;
    ensure!(degraded > 0, "no stop was long enough to be noticed");
    mount.unmount()?;
    server.stop_and_check()
}

/// Compares the tree with the books: as it is cached, as the server has it, and after another mount.
fn compare(load: &mut Load, server: &Server, mount: Mount) -> Result<Mount> {
    load.compare()?;
    drop_caches()?;
    load.compare()?;
    ensure!(mount.counter("hostile")? == 0);
    let mount = mount.again(server)?;
    load.compare()?;
    Ok(mount)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent).div_ceil(100) - 1]
}

/// Where threads of this process stand in the mount's module.
fn waits() -> Result<String> {
    let mut found = String::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let stack = std::fs::read_to_string(thread?.path().join("stack")).unwrap_or_default();
        if stack.contains("[vexfs]") {
            found.push_str(&stack);
            found.push('\n');
        }
    }
    Ok(found)
}

/// Says it where figures of a test that passes can be found too: the log of the console.
fn tell(figures: &str) -> Result<()> {
    println!("{figures}");
    Ok(std::fs::write("/dev/kmsg", figures)?)
}

// The ordinary run has time for each of these two on one kernel.

#[lab_guest::test(modules = ["vexfs"], kernels = "7.x,debug", timeout = 300, memory = 3072)]
fn writers_do_not_notice_that_their_server_is_killed_and_replaced() -> Result<()> {
    kills(CHUNK, LOOSE_STALL)
}

#[lab_guest::test(modules = ["vexfs"], timeout = 3600, memory = 3072, stress = true)]
fn writers_do_not_notice_three_hundred_kills_of_their_server() -> Result<()> {
    kills(300, STALL)
}

#[lab_guest::test(modules = ["vexfs"], kernels = "6.12,debug", timeout = 300, memory = 3072)]
fn a_server_that_stands_still_costs_writers_time_and_errors_and_no_bytes() -> Result<()> {
    stops(2, "timeout=1000", Duration::from_secs(6), Duration::from_secs(10))
}

#[lab_guest::test(modules = ["vexfs"], timeout = 3600, memory = 3072, stress = true)]
fn a_server_that_stands_still_forty_times_costs_no_bytes() -> Result<()> {
    // Calls give up after 12.5 s; what stands still for 20 s the lab takes for a hang.
    stops(40, "", Duration::from_secs(60), Duration::from_secs(20))
}
