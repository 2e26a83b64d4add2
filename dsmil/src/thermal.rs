// SPDX-License-Identifier: MIT OR Apache-2.0

//! How hot the device is, and what follows from it.
//!
//! | level | what is allowed |
//! |---|---|
//! | normal | everything |
//! | warm | SMI operations at a slower pace |
//! | critical | no SMI operations |
//! | emergency | nothing: the emergency stop is pulled, and is released by hand only |
//!
//! The hottest sensor decides. A level is entered at its threshold and left [`Thresholds::hysteresis`] below it, so a
//! temperature that trembles around a threshold changes nothing. A sensor that takes no samples, or reads what no
//! sensor can, is not trusted: then the level is at least critical.
//!
//! Nothing here reads a clock or a register.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layout::{Registers, SENSOR_TABLE, SENSORS};

/// How hot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Cool enough.
    Normal,
    /// Operations are spaced out.
    Warm,
    /// Operations are refused.
    Critical,
    /// Everything stops.
    Emergency,
}

/// Temperatures in thousandths of a degree Celsius. Rising, each more than a hysteresis above the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Where it gets warm.
    pub warm: i32,
    /// Where SMI ends.
    pub critical: i32,
    /// Where everything stops.
    pub emergency: i32,
    /// How far below its threshold a level is left.
    pub hysteresis: i32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warm: 75_000,
            critical: 90_000,
            emergency: 100_000,
            hysteresis: 3_000,
        }
    }
}

impl Thresholds {
    /// Themselves, if they do not contradict each other.
    pub fn checked(self) -> Result<Self> {
        let gap = |low: i32, high: i32| i64::from(high) - i64::from(low);
        if self.hysteresis <= 0 {
            return Err(Error::BadThresholds("the hysteresis must be above 0"));
        }
        if gap(self.warm, self.critical) <= self.hysteresis.into()
            || gap(self.critical, self.emergency) <= self.hysteresis.into()
        {
            return Err(Error::BadThresholds(
                "warm, critical and emergency must rise by more than the hysteresis",
            ));
        }
        if !PLAUSIBLE.contains(&self.warm) || !PLAUSIBLE.contains(&self.emergency) {
            return Err(Error::BadThresholds("they must be between -40 and 150 degrees"));
        }
        Ok(self)
    }

    /// The level of a temperature, seen from a level.
    fn level(&self, from: Level, temperature: i32) -> Level {
        let entered = |level: Level, threshold: i32| {
            let bound = if from >= level {
                threshold - self.hysteresis
            } else {
                threshold
            };
            // Left when it is below the bound, entered when it is at the threshold.
            temperature >= bound
        };
        if entered(Level::Emergency, self.emergency) {
            Level::Emergency
        } else if entered(Level::Critical, self.critical) {
            Level::Critical
        } else if entered(Level::Warm, self.warm) {
            Level::Warm
        } else {
            Level::Normal
        }
    }
}

/// What a sensor can read.
const PLAUSIBLE: std::ops::RangeInclusive<i32> = -40_000..=150_000;
/// A sensor that takes no sample for so long is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(1);
/// The least time between two operations while it is warm.
pub const WARM_PACE: Duration = Duration::from_millis(50);

/// What a sensor shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Thousandths of a degree Celsius.
    pub temperature: i32,
    /// Samples taken since the firmware started; wraps.
    pub samples: u32,
}

/// What all sensors show.
pub type Readings = [Reading; SENSORS];

/// Reads all sensors.
pub fn read(registers: &impl Registers) -> Readings {
    std::array::from_fn(|sensor| Reading {
        temperature: registers.read(SENSOR_TABLE + 8 * sensor).cast_signed(),
        samples: registers.read(SENSOR_TABLE + 8 * sensor + 4),
    })
}

/// A sensor as the monitor knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sensor {
    /// Its last reading.
    pub reading: Reading,
    /// Whether it is to be believed.
    pub trusted: bool,
}

/// See the module. Times are the caller's, from any fixed beginning.
#[derive(Debug, Clone)]
pub struct Monitor {
    thresholds: Thresholds,
    level: Level,
    sensors: [Sensor; SENSORS],
    /// When each sensor last took a sample.
    fresh: [Duration; SENSORS],
    begun: bool,
}

impl Monitor {
    /// A monitor that has seen nothing yet: until it has, the level is critical.
    pub fn new(thresholds: Thresholds) -> Result<Self> {
        let unseen = Sensor {
            reading: Reading {
                temperature: 0,
                samples: 0,
            },
            trusted: false,
        };
        Ok(Self {
            thresholds: thresholds.checked()?,
            level: Level::Critical,
            sensors: [unseen; SENSORS],
            fresh: [Duration::ZERO; SENSORS],
            begun: false,
        })
    }

    /// Takes the sensors' readings. Returns the level if it changed.
    pub fn update(&mut self, readings: &Readings, now: Duration) -> Option<Level> {
        let begun = self.begun;
        for ((sensor, fresh), reading) in self.sensors.iter_mut().zip(&mut self.fresh).zip(readings) {
            if !begun || reading.samples != sensor.reading.samples {
                *fresh = now;
            }
            *sensor = Sensor {
                reading: *reading,
                trusted: now.saturating_sub(*fresh) < STUCK_AFTER && PLAUSIBLE.contains(&reading.temperature),
            };
        }
        self.begun = true;
        let from = if begun { self.level } else { Level::Normal };
        let mut level = self
            .hottest()
            .map_or(Level::Critical, |hottest| self.thresholds.level(from, hottest));
        if self.sensors.iter().any(|sensor| !sensor.trusted) {
            level = level.max(Level::Critical);
        }
        (std::mem::replace(&mut self.level, level) != level || !begun).then_some(level)
    }

    /// How hot it is.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The hottest of the sensors that can be believed.
    pub fn hottest(&self) -> Option<i32> {
        self.sensors
            .iter()
            .filter(|sensor| sensor.trusted)
            .map(|sensor| sensor.reading.temperature)
            .max()
    }

    /// What an operation is refused with at a level that blocks it.
    pub fn refusal(&self) -> Error {
        match self.hottest() {
            Some(hottest) if self.thresholds.level(self.level, hottest) >= Level::Critical => Error::Hot(hottest),
            _ => Error::HeatUnknown,
        }
    }

    /// All sensors.
    pub fn sensors(&self) -> &[Sensor; SENSORS] {
        &self.sensors
    }

    /// The thresholds.
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }
}

#[cfg(test)]
mod tests;
