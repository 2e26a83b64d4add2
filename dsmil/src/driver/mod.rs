// SPDX-License-Identifier: MIT OR Apache-2.0

//! One device, driven: everything below put together.
//!
//! Somebody must call [`Driver::poll`] after every interrupt and when the time that it returns has passed:
//! [`Service`] is a thread that does, `dsmild` does it from its event loop. All else may be called from any thread at
//! any time; nothing here waits for the firmware but [`Driver::stop`] and [`Driver::release`], and those for 5 ms at
//! most.
//!
//! **Locks.** `state` is held for handfuls of register accesses, never while waiting. The emergency stop takes effect
//! before it asks for any lock.

mod attach;
mod estop;
mod service;

use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use estop::{STOP_BOUND, Stopped};
pub use service::Service;

use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::layout::{self, GONE, HEARTBEAT, MAGIC, PRESENCE, PRESENCE_GENERATION, Registers};
use crate::memory::{self, Chunk, Region};
use crate::power::{Hook, Power};
use crate::registry::{Change, DEVICES, Device, DeviceId, Happening, Mode, Registry, State};
use crate::smi::{Engine, Figures, Request, Retry, Ticket, Timeout};
use crate::thermal::{self, Level, Monitor, Sensor, Thresholds, WARM_PACE};
use crate::transport::Transport;

/// How often sensors and presence are looked at.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(100);
/// How often a device without interrupt is looked at while an operation is under way.
const POLLED_PERIOD: Duration = Duration::from_millis(1);

/// How a device is driven.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Whether SMI operations are allowed at all.
    pub smi: bool,
    /// Chunks that may be mapped at a time.
    pub cap: usize,
    /// Thermal thresholds.
    pub thresholds: Thresholds,
    /// How often operations are tried.
    pub retry: Retry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            smi: true,
            cap: layout::CHUNKS,
            thresholds: Thresholds::default(),
            retry: Retry::default(),
        }
    }
}

/// See the module.
pub struct Driver {
    transport: Box<dyn Transport>,
    region: Region,
    control: Chunk,
    registry: Registry,
    gate: Gate,
    /// Counts emergency stops, so that a release sees one that came while it was under way.
    stops: AtomicU32,
    begun: Instant,
    smi: bool,
    state: Mutex<Inner>,
}

struct Inner {
    engine: Engine,
    thermal: Monitor,
    power: Power,
    presence_generation: u32,
    sampled: Duration,
    link: bool,
}

/// What is known of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Which.
    pub device: DeviceId,
    /// Its state.
    pub state: State,
    /// The address of its chunk, as the firmware counts.
    pub address: u64,
    /// Its capabilities; 0 while it is offline.
    pub capabilities: u32,
}

/// The driver's figures.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, told as they are")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Of SMI operations.
    pub smi: Figures,
    /// Chunks mapped now.
    pub chunks_mapped: usize,
    /// Chunks mapped since the beginning.
    pub chunk_maps: u64,
    /// Chunks unmapped to make room.
    pub chunk_evictions: u64,
    /// The firmware's sign of life.
    pub heartbeat: u32,
    /// How hot it is.
    pub level: Level,
    /// The hottest trusted sensor.
    pub hottest: Option<i32>,
    /// Whether the emergency stop is in force.
    pub stopped: bool,
    /// Whether the device is suspended.
    pub suspended: bool,
    /// Whether the device is there.
    pub link: bool,
    /// Whether the firmware is given up for now.
    pub hung: bool,
    /// Devices in use.
    pub active: usize,
    /// Devices that are there.
    pub present: usize,
}

impl Driver {
    /// Submits a request. It is refused at once when the device cannot carry it out now.
    pub fn submit(&self, request: Request, timeout: Timeout) -> Result<Ticket> {
        if !self.smi {
            return Err(Error::SmiDisabled);
        }
        let ticket = {
            let mut state = self.state.lock();
            self.admit(&state)?;
            state.engine.submit(request, timeout)?
        };
        // The mailbox is free most of the time: then this rings the doorbell on the submitter's own time.
        self.poll();
        Ok(ticket)
    }

    /// Whether operations are accepted now.
    fn admit(&self, state: &Inner) -> Result<()> {
        if self.gate.is_shut() {
            return Err(Error::Stopped);
        }
        if !state.link {
            return Err(Error::Gone);
        }
        if state.power.is_suspended() {
            return Err(Error::Suspended);
        }
        if state.thermal.level() >= Level::Critical {
            return Err(state.thermal.refusal());
        }
        Ok(())
    }

    /// Does everything there is to do now. Returns how long nothing more needs to be done without an interrupt.
    pub fn poll(&self) -> Duration {
        let mut state = self.state.lock();
        let now = self.begun.elapsed();
        if state.link && (self.transport.is_gone() || Registers::read(&self.control, MAGIC) == GONE) {
            self.lost(&mut state);
        }
        if !state.link {
            return SAMPLE_PERIOD;
        }
        let mut emergency = None;
        if now >= state.sampled + SAMPLE_PERIOD {
            state.sampled = now;
            emergency = self.sample_heat(&mut state, now);
        }
        self.follow_presence(&mut state);
        let Inner { engine, .. } = &mut *state;
        engine.poll(now, &self.control, &self.gate, &*self.transport);
        for sequence in engine.take_hangs() {
            tracing::warn!(sequence, "an SMI operation hangs and is aborted");
            self.registry.record(Happening::Hang { sequence });
        }
        let mut wait = (state.sampled + SAMPLE_PERIOD).saturating_sub(now);
        if let Some(at) = state.engine.next_poll() {
            wait = wait.min(at.saturating_sub(now));
        }
        if self.transport.interrupt().is_none() && !state.engine.is_idle() {
            wait = wait.min(POLLED_PERIOD);
        }
        drop(state);
        if let Some(temperature) = emergency {
            self.stop(&format!("temperature {} °C", temperature / 1000));
        }
        wait
    }

    /// Returns the temperature if it calls for the emergency stop.
    fn sample_heat(&self, state: &mut Inner, now: Duration) -> Option<i32> {
        let readings = thermal::read(&self.control);
        let level = state.thermal.update(&readings, now)?;
        let temperature = state.thermal.hottest().unwrap_or(i32::MAX);
        self.registry.record(Happening::Thermal { level, temperature });
        tracing::info!(?level, temperature, "thermal level");
        let pace = if level == Level::Normal {
            Duration::ZERO
        } else {
            WARM_PACE
        };
        state.engine.set_pace(pace);
        if level >= Level::Critical {
            state.engine.fail_all(&state.thermal.refusal());
        }
        (level == Level::Emergency).then_some(temperature)
    }

    fn follow_presence(&self, state: &mut Inner) {
        let generation = Registers::read(&self.control, PRESENCE_GENERATION);
        if generation == state.presence_generation {
            return;
        }
        state.presence_generation = generation;
        for device in self.registry.mode().all() {
            let (word, bit) = (device.index() / 32, device.index() % 32);
            let present = Registers::read(&self.control, PRESENCE + 4 * word) >> bit & 1 == 1;
            let known = self.registry.state(device) != State::Offline;
            let outcome = match (known, present) {
                (false, true) => self.bring_up(device),
                (true, false) => self.registry.apply(device, Change::Remove).map(drop),
                _ => Ok(()),
            };
            if let Err(error) = outcome {
                tracing::warn!(%device, %error, "a device was plugged in or pulled and could not be followed");
            }
        }
    }

    /// Looks at a device that was plugged in. One that does not answer as it should is known as failed.
    fn bring_up(&self, device: DeviceId) -> Result<()> {
        let device = Device::claim(&self.registry, device)?.attach()?;
        let chunk = self.region.chunk(layout::device_chunk(device.id().index()))?;
        let expected = layout::DEVICE_MAGIC + u32::from(device.id().number());
        if chunk.register(DEVICE_ID).get() == expected {
            device.initialized().map(drop)
        } else {
            device.fail().map(drop)
        }
    }

    fn lost(&self, state: &mut Inner) {
        tracing::warn!("the device is gone");
        state.link = false;
        state.engine.fail_all(&Error::Gone);
        for device in self.registry.mode().all() {
            if self.registry.state(device) != State::Offline {
                // Cannot be refused: every other state allows it.
                let _offline = self.registry.apply(device, Change::Remove);
            }
        }
        self.registry.record(Happening::Link { up: false });
    }

    /// Puts a device in use; one that is in use already stays so.
    pub fn activate(&self, device: DeviceId) -> Result<DeviceInfo> {
        if !self.state.lock().link {
            return Err(Error::Gone);
        }
        if self.registry.state(device) != State::Active {
            self.registry.apply(device, Change::Activate)?;
        }
        self.info(device)
    }

    /// Takes a device out of use.
    pub fn deactivate(&self, device: DeviceId) -> Result<DeviceInfo> {
        self.registry.apply(device, Change::Deactivate)?;
        self.info(device)
    }

    /// What is known of a device.
    pub fn info(&self, device: DeviceId) -> Result<DeviceInfo> {
        let state = self.registry.state(device);
        let capabilities = if state == State::Offline {
            0
        } else {
            let chunk = self.region.chunk(layout::device_chunk(device.index()))?;
            chunk.register(DEVICE_CAPABILITIES).get()
        };
        Ok(DeviceInfo {
            device,
            state,
            address: crate::smi::RegionAddress::of_device(device).get(),
            capabilities,
        })
    }

    /// Suspends: no new operations, then the hooks in order, then the interrupt is left alone.
    /// Refused while an operation is under way.
    pub fn suspend(&self) -> Result<()> {
        let mut state = self.state.lock();
        if !state.engine.is_idle() {
            return Err(Error::PowerRefused {
                hook: "SMI".into(),
                reason: "an operation is under way".into(),
            });
        }
        state.power.suspend()?;
        self.region.trim();
        self.registry.record(Happening::Power { suspended: true });
        Ok(())
    }

    /// Resumes, in the reverse order; devices may have changed meanwhile.
    pub fn resume(&self) -> Result<()> {
        let mut state = self.state.lock();
        if Registers::read(&self.control, MAGIC) != layout::MAGIC_VALUE {
            self.lost(&mut state);
            return Err(Error::Gone);
        }
        self.transport.rearm()?;
        state.power.resume();
        state.presence_generation = state.presence_generation.wrapping_sub(1);
        self.registry.record(Happening::Power { suspended: false });
        drop(state);
        self.poll();
        Ok(())
    }

    /// Adds a part that is told of suspend and resume.
    pub fn add_hook(&self, hook: impl Hook + 'static) {
        self.state.lock().power.add(hook);
    }

    /// The devices.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many groups there are.
    pub fn mode(&self) -> Mode {
        self.registry.mode()
    }

    /// The device's memory.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// How the device is reached.
    pub fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    /// Whether the device is there.
    pub fn is_linked(&self) -> bool {
        self.state.lock().link
    }

    /// All sensors, as they were sampled last.
    pub fn sensors(&self) -> Vec<Sensor> {
        self.state.lock().thermal.sensors().to_vec()
    }

    /// The thermal thresholds.
    pub fn thresholds(&self) -> Thresholds {
        self.state.lock().thermal.thresholds()
    }

    /// All figures.
    pub fn telemetry(&self) -> Telemetry {
        let memory::Figures {
            mapped,
            maps,
            evictions,
        } = self.region.figures();
        let state = self.state.lock();
        Telemetry {
            smi: state.engine.figures(),
            chunks_mapped: mapped,
            chunk_maps: maps,
            chunk_evictions: evictions,
            heartbeat: Registers::read(&self.control, HEARTBEAT),
            level: state.thermal.level(),
            hottest: state.thermal.hottest(),
            stopped: self.gate.is_shut(),
            suspended: state.power.is_suspended(),
            link: state.link,
            hung: state.engine.is_hung(),
            active: self.registry.count(State::Active),
            present: DEVICES - self.registry.count(State::Offline),
        }
    }
}

const DEVICE_ID: memory::Register<u32, { layout::DEVICE_ID }> = memory::Register::new();
const DEVICE_CAPABILITIES: memory::Register<u32, { layout::DEVICE_CAPABILITIES }> = memory::Register::new();

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("transport", &self.transport.describe())
            .field("telemetry", &self.telemetry())
            .finish_non_exhaustive()
    }
}
