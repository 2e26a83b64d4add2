// SPDX-License-Identifier: MIT OR Apache-2.0

//! Taking a device over, in whatever state its last driver left it.

use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Config, Driver, Inner};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::layout::{
    CONTROL_CHUNK, GONE, GROUPS, MAGIC, MAGIC_VALUE, PRESENCE_GENERATION, Registers, STOP, VERSION, VERSION_VALUE,
};
use crate::memory::{Chunk, Region};
use crate::power::Power;
use crate::registry::{Mode, Registry};
use crate::smi::Engine;
use crate::thermal::Monitor;
use crate::transport::Transport;

impl Driver {
    /// Takes the device over.
    ///
    /// - A command that nobody waits for any more is dropped before the first new one.
    /// - An emergency stop that was in force stays in force.
    pub fn attach(transport: Box<dyn Transport>, config: Config) -> Result<Self> {
        let thermal = Monitor::new(config.thresholds)?;
        let region = Region::new(transport.source()?, config.cap);
        let control = region.chunk(CONTROL_CHUNK)?;
        let mode = identify(&control)?;
        let gate = Gate::new();
        if Registers::read(&control, STOP) % 2 == 1 {
            gate.shut();
        }
        let engine = Engine::new(config.retry, &control);
        // Any other value makes the first poll look at all devices.
        let presence_generation = Registers::read(&control, PRESENCE_GENERATION).wrapping_sub(1);
        let driver = Self {
            transport,
            region,
            control,
            registry: Registry::new(mode),
            gate,
            stops: AtomicU32::new(0),
            begun: Instant::now(),
            smi: config.smi,
            state: Mutex::new(Inner {
                engine,
                thermal,
                power: Power::default(),
                presence_generation,
                sampled: Duration::ZERO,
                link: true,
            }),
        };
        {
            let mut state = driver.state.lock();
            let now = driver.begun.elapsed();
            let emergency = driver.sample_heat(&mut state, now);
            drop(state);
            if emergency.is_some() {
                driver.stop("temperature");
            }
        }
        driver.poll();
        Ok(driver)
    }
}

fn identify(control: &Chunk) -> Result<Mode> {
    match Registers::read(control, MAGIC) {
        MAGIC_VALUE => {}
        GONE => return Err(Error::Gone),
        other => {
            return Err(Error::NotOurs(format!(
                "no firmware answers: the magic is {other:#010x}, not {MAGIC_VALUE:#010x}"
            )));
        }
    }
    let version = Registers::read(control, VERSION);
    if version != VERSION_VALUE {
        return Err(Error::NotOurs(format!(
            "the firmware's interface has version {version}, this driver knows {VERSION_VALUE}"
        )));
    }
    let groups = Registers::read(control, GROUPS);
    Mode::from_groups(groups).ok_or_else(|| Error::NotOurs(format!("the firmware has {groups} groups, not 6 or 7")))
}
