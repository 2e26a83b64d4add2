// SPDX-License-Identifier: MIT OR Apache-2.0

//! Figures of time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dsmil::layout::{ANSWER_DATA, ANSWER_SEQUENCE, ARGUMENT, COMMAND, CONTROL_CHUNK, Opcode, Registers, SEQUENCE};
use dsmil::memory::Region;
use dsmil::smi::{Request, Retry, Timeout, Token, TokenPosition};
use dsmil::{Config, Driver, Service};
use dsmil_sim::{Fault, Simulator, control};
use serde_json::{Value, json};

use crate::{Place, at_once, quantiles};

/// Longer than any operation may take.
const LONG: Duration = Duration::from_secs(5);
/// Simulators side by side, so that ten thousand hangs of 50 ms take less than an hour.
const PARALLEL: usize = 16;

fn read(driver: &Driver) -> Result<Request> {
    Ok(Request::Read(Token::new(driver.mode(), 0, TokenPosition::Power)?))
}

fn attach(place: &Place, retry: Retry) -> Result<Driver> {
    let config = Config {
        retry,
        ..Config::default()
    };
    Ok(Driver::attach(place.device.open()?, config)?)
}

pub(crate) fn latency(place: &Place) -> Result<Value> {
    let bare = bare_loop(place)?;
    let polled = polled(place)?;
    let service = Service::start(attach(place, Retry::default())?)?;
    let request = read(service.driver())?;
    let mut times = Vec::with_capacity(place.count);
    for _ in 0..place.count {
        let start = Instant::now();
        let ticket = service.submit(request, Timeout::MAX)?;
        ticket.wait(LONG).context("an operation did not end")??;
        times.push(start.elapsed());
    }
    Ok(json!({ "bare_loop": bare, "driver_polled": polled, "driver_with_thread": quantiles::of(times) }))
}

/// The protocol and nothing else: no deadline, no check, no interrupt.
fn bare_loop(place: &Place) -> Result<Value> {
    let transport = place.device.open()?;
    let region = Region::new(transport.source()?, 1);
    let control = region.chunk(CONTROL_CHUNK)?;
    let mut sequence = Registers::read(&control, SEQUENCE);
    let mut times = Vec::with_capacity(place.count);
    for _ in 0..place.count {
        sequence = sequence.checked_add(1).unwrap_or(1);
        let start = Instant::now();
        Registers::write(&control, COMMAND, Opcode::Read as u32);
        Registers::write(&control, ARGUMENT, 0);
        Registers::write(&control, SEQUENCE, sequence);
        transport.ring();
        while Registers::read(&control, ANSWER_SEQUENCE) != sequence {
            ensure!(start.elapsed() < LONG, "the firmware does not answer");
            std::hint::spin_loop();
        }
        std::hint::black_box(Registers::read(&control, ANSWER_DATA));
        times.push(start.elapsed());
    }
    Ok(quantiles::of(times))
}

/// The driver, by a caller who spins.
fn polled(place: &Place) -> Result<Value> {
    let driver = attach(place, Retry::default())?;
    let request = read(&driver)?;
    let mut times = Vec::with_capacity(place.count);
    for _ in 0..place.count {
        let start = Instant::now();
        let ticket = driver.submit(request, Timeout::MAX)?;
        let outcome = loop {
            if let Some(outcome) = ticket.peek() {
                break outcome;
            }
            driver.poll();
        };
        outcome?;
        times.push(start.elapsed());
    }
    Ok(quantiles::of(times))
}

pub(crate) fn interrupt(place: &Place) -> Result<Value> {
    let service = Service::start(attach(place, Retry::default())?)?;
    let request = read(service.driver())?;
    let control = service.driver().region().chunk(CONTROL_CHUNK)?;
    let begun = Instant::now();
    let (ending, wanted) = (AtomicBool::new(false), AtomicU32::new(0));
    let seen = parking::Slot::default();
    let times = std::thread::scope(|scope| -> Result<Vec<Duration>> {
        // Sees the answer as soon as memory shows it, without waiting for the interrupt.
        scope.spawn(|| {
            while !ending.load(Ordering::Acquire) {
                let sequence = wanted.load(Ordering::Acquire);
                if sequence != 0 && Registers::read(&control, ANSWER_SEQUENCE) == sequence {
                    seen.set(begun.elapsed());
                    wanted.store(0, Ordering::Release);
                }
                std::hint::spin_loop();
            }
        });
        let mut times = Vec::with_capacity(place.count);
        for _ in 0..place.count {
            let next = Registers::read(&control, SEQUENCE).checked_add(1).unwrap_or(1);
            wanted.store(next, Ordering::Release);
            let ticket = service.submit(request, Timeout::MAX)?;
            ticket.wait(LONG).context("an operation did not end")??;
            let done = begun.elapsed();
            while wanted.load(Ordering::Acquire) != 0 {
                std::thread::yield_now();
            }
            // The observer may be put off by others; then it was the waiting thread that was first.
            times.push(done.saturating_sub(seen.get()));
        }
        ending.store(true, Ordering::Release);
        Ok(times)
    });
    ending.store(true, Ordering::Release);
    Ok(quantiles::of(times?))
}

/// A time that one thread writes and another reads.
mod parking {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    #[derive(Default)]
    pub(super) struct Slot(AtomicU64);

    impl Slot {
        pub(super) fn set(&self, time: Duration) {
            // Nanoseconds of 500 years fit.
            self.0
                .store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
        }

        pub(super) fn get(&self) -> Duration {
            Duration::from_nanos(self.0.load(Ordering::Acquire))
        }
    }
}

pub(crate) fn stop(place: &Place) -> Result<Value> {
    let service = Service::start(attach(place, Retry { attempts: 1 })?)?;
    let request = read(service.driver())?;
    let ending = AtomicBool::new(false);
    let under_load = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !ending.load(Ordering::Acquire) {
                    match service.submit(request, Timeout::MIN) {
                        // Whether it ended well or was stopped does not matter here.
                        Ok(ticket) => drop(ticket.wait(LONG)),
                        Err(_stopped) => std::thread::sleep(Duration::from_micros(100)),
                    }
                }
            });
        }
        let stops = stops(&service, place.count / 2, || Ok(()));
        ending.store(true, Ordering::Release);
        stops
    })?;
    let Some(control) = &place.control else {
        return Ok(json!({ "under_load": under_load }));
    };
    let mut hanging = Vec::new();
    let during_hang = stops(&service, place.count / 10, || {
        control::inject(control, Fault::HangHard)?;
        hanging.push(service.submit(request, Timeout::MAX)?);
        Ok(())
    })?;
    Ok(json!({ "under_load": under_load, "during_hang": during_hang }))
}

fn stops(service: &Service, count: usize, mut before: impl FnMut() -> Result<()>) -> Result<Value> {
    let (mut safe, mut returned, mut unconfirmed) = (Vec::new(), Vec::new(), 0);
    for _ in 0..count {
        before()?;
        std::thread::sleep(Duration::from_micros(500));
        let start = Instant::now();
        let stopped = service.driver().stop("measuring");
        returned.push(start.elapsed());
        safe.push(stopped.safe_after);
        unconfirmed += u32::from(!stopped.acknowledged);
        while service.driver().release("measuring").is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(json!({ "safe": quantiles::of(safe), "returned": quantiles::of(returned), "unconfirmed": unconfirmed }))
}

/// Every operation hangs; how late is that noticed, and never early?
pub(crate) fn hang(count: usize) -> Result<Value> {
    let each = count.div_ceil(PARALLEL);
    let directory = tempfile::tempdir()?;
    let results: Vec<Result<Hangs>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL)
            .map(|number| {
                let socket = directory.path().join(format!("sim{number}"));
                scope.spawn(move || hang_on(&Simulator::start(at_once(socket))?, each))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
            .collect()
    });
    let mut all = Hangs::default();
    for result in results {
        let one = result?;
        all.late.extend(one.late);
        all.early += one.early;
        all.not_scheduled += one.not_scheduled;
        all.noticed_late = all.noticed_late.max(one.noticed_late);
    }
    let over = all.late.iter().filter(|&&time| time > Duration::from_millis(5)).count();
    Ok(json!({
        "until_the_waiting_thread_knows": quantiles::of(all.late), "more_than_5_ms": over, "early": all.early,
        "noticed_late_max_us": all.noticed_late.as_micros(), "simulator_not_scheduled": all.not_scheduled,
    }))
}

/// One simulator's share.
#[derive(Default)]
struct Hangs {
    /// From the deadline until the waiting thread had the error: noticing, the abort and its acknowledgement among it.
    late: Vec<Duration>,
    /// Operations that ended before their deadline.
    early: usize,
    /// The longest from a deadline until the engine noticed.
    noticed_late: Duration,
    /// Times that this machine did not let the simulator run for so long that it counted as hung.
    not_scheduled: usize,
}

fn hang_on(simulator: &Simulator, count: usize) -> Result<Hangs> {
    let place = Place {
        device: dsmil::transport::Address::Sim(simulator.socket().to_owned()),
        control: None,
        count,
    };
    let service = Service::start(attach(&place, Retry { attempts: 1 })?)?;
    let request = read(service.driver())?;
    let mut hangs = Hangs::default();
    while hangs.late.len() < count {
        simulator.inject(Fault::Hang)?;
        let start = Instant::now();
        let submitted = service.submit(request, Timeout::MIN);
        let issued = Instant::now();
        let outcome = submitted.and_then(|ticket| ticket.wait(LONG).unwrap_or(Err(dsmil::Error::FirmwareHung)));
        match outcome {
            Err(dsmil::Error::TimedOut { .. }) => {
                hangs.early += usize::from(start.elapsed() < Timeout::MIN.get());
                hangs.late.push(issued.elapsed().saturating_sub(Timeout::MIN.get()));
            }
            Err(dsmil::Error::FirmwareHung) => {
                hangs.not_scheduled += 1;
                simulator.inject(Fault::Clear)?;
                std::thread::sleep(Duration::from_millis(100));
            }
            other => anyhow::bail!("an operation that hangs ended so: {other:?}"),
        }
    }
    hangs.noticed_late = service.driver().telemetry().smi.hang_lateness_max;
    Ok(hangs)
}
