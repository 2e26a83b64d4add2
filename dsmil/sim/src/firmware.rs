// SPDX-License-Identifier: MIT OR Apache-2.0

//! The firmware: executes commands, samples sensors, and does wrong what it is told to.
//!
//! [`Firmware::run`] does everything that is due at a time; the caller calls it after each doorbell and no later than
//! it says, and raises as many interrupts as it asks for. What it chooses (latencies, tokens, noise) follows from the
//! seed alone.

use std::collections::VecDeque;
use std::time::Duration;

use dsmil::layout::{
    ABORT, ABORT_ACK, ANSWER_CHECK, ANSWER_DATA, ANSWER_SEQUENCE, ANSWER_STATUS, ARGUMENT, CHUNK_SIZE, COMMAND,
    DATA_HIGH, DATA_LOW, DEVICE_CAPABILITIES, DEVICE_ID, DEVICE_MAGIC, GROUPS, HEARTBEAT, MAGIC, MAGIC_VALUE, Opcode,
    PRESENCE, PRESENCE_GENERATION, REGION_BASE, RESET, RESET_ACK, Registers, SENSOR_TABLE, SENSORS, SEQUENCE, STOP,
    STOP_ACK, Status, VERSION, VERSION_VALUE, check, device_chunk,
};
use dsmil::registry::{Mode, POSITIONS};
use dsmil::smi::TokenPosition;

use crate::fault::Fault;

/// How often sensors are sampled and the heartbeat counts.
pub const PERIOD: Duration = Duration::from_millis(20);
const SAMPLES_PER_SECOND: u32 = 50;
/// Where temperatures begin, in thousandths of a degree.
pub const ROOM: i32 = 45_000;
/// What noise adds to a temperature at most.
pub const NOISE: i32 = 200;

/// What the firmware is like.
#[derive(Debug, Clone, Copy)]
pub struct Character {
    /// Everything that is chosen follows from it.
    pub seed: u64,
    /// How many groups there are.
    pub mode: Mode,
    /// The longest an ordinary operation takes.
    pub latency: Duration,
}

impl Default for Character {
    fn default() -> Self {
        Self {
            seed: 0,
            mode: Mode::Full,
            latency: Duration::from_micros(300),
        }
    }
}

/// What [`Firmware::run`] wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Interrupts to raise.
    pub interrupts: u32,
    /// When to run again at the latest.
    pub next: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Firmware {
    character: Character,
    random: fastrand::Rng,
    tokens: Vec<[u32; TokenPosition::ALL.len()]>,
    unlocked: Vec<bool>,
    /// The last command that was begun; a doorbell for the same one changes nothing.
    begun: u32,
    operation: Option<Operation>,
    aborted: u32,
    reset: u32,
    stop: u32,
    sensors: [Sensor; SENSORS],
    sampled: Duration,
    faults: VecDeque<Fault>,
    dead_until: Duration,
    interrupts: u32,
}

#[derive(Debug)]
struct Operation {
    sequence: u32,
    /// `None`: never.
    due: Option<Duration>,
    ignores_abort: bool,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy)]
struct Sensor {
    temperature: i32,
    target: i32,
    /// Per period; 0 means at once.
    step: i32,
    stuck: bool,
}

impl Firmware {
    /// Starts the firmware in memory that may hold anything; afterwards a driver finds it there.
    pub fn start(character: Character, memory: &impl Registers) -> Self {
        let mut random = fastrand::Rng::with_seed(character.seed);
        let groups = usize::from(character.mode.groups());
        let tokens = (0..groups).map(|_| std::array::from_fn(|_| random.u32(..))).collect();
        memory.write(MAGIC, 0);
        for device in character.mode.all() {
            let chunk = device_chunk(device.index()) * CHUNK_SIZE;
            memory.write(chunk + DEVICE_ID, DEVICE_MAGIC + u32::from(device.number()));
            memory.write(chunk + DEVICE_CAPABILITIES, random.u32(..));
        }
        for word in 0..3 {
            let devices = character.mode.all().filter(|device| device.index() / 32 == word);
            let bits = devices.fold(0, |bits, device| bits | 1 << (device.index() % 32));
            memory.write(PRESENCE + 4 * word, bits);
        }
        memory.write(PRESENCE_GENERATION, memory.read(PRESENCE_GENERATION).wrapping_add(1));
        memory.write(VERSION, VERSION_VALUE);
        memory.write(GROUPS, u32::from(character.mode.groups()));
        // What an earlier firmware left unanswered stays so; the driver resets it.
        let begun = memory.read(SEQUENCE);
        for (acknowledgement, request) in [(STOP_ACK, STOP), (RESET_ACK, RESET), (ABORT_ACK, ABORT)] {
            memory.write(acknowledgement, memory.read(request));
        }
        let mut firmware = Self {
            character,
            random,
            tokens,
            unlocked: vec![false; groups],
            begun,
            operation: None,
            aborted: memory.read(ABORT),
            reset: memory.read(RESET),
            stop: memory.read(STOP),
            sensors: [Sensor {
                temperature: ROOM,
                target: ROOM,
                step: 0,
                stuck: false,
            }; SENSORS],
            sampled: Duration::ZERO,
            faults: VecDeque::new(),
            dead_until: Duration::ZERO,
            interrupts: 0,
        };
        firmware.sample(memory);
        memory.write(MAGIC, MAGIC_VALUE);
        firmware
    }

    /// Does something wrong, now or at the next operation.
    pub fn inject(&mut self, fault: Fault, now: Duration, memory: &impl Registers) {
        match fault {
            Fault::Dead { millis } => self.dead_until = now + Duration::from_millis(millis),
            Fault::SpuriousInterrupts { count } => self.interrupts += count,
            Fault::StuckSensor { sensor } => {
                if let Some(sensor) = self.sensors.get_mut(sensor) {
                    sensor.stuck = true;
                }
            }
            Fault::Heat { sensor, to, per_second } => {
                if let Some(sensor) = self.sensors.get_mut(sensor) {
                    let step = per_second.div_ceil(SAMPLES_PER_SECOND);
                    sensor.target = to;
                    sensor.step = step.cast_signed();
                }
            }
            Fault::Unplug { device } => self.set_presence(device, false, memory),
            Fault::Plug { device } => self.set_presence(device, true, memory),
            Fault::Clear => {
                self.faults.clear();
                self.dead_until = Duration::ZERO;
                for sensor in &mut self.sensors {
                    *sensor = Sensor {
                        temperature: ROOM,
                        target: ROOM,
                        step: 0,
                        stuck: false,
                    };
                }
            }
            of_an_operation => self.faults.push_back(of_an_operation),
        }
    }

    fn set_presence(&mut self, device: usize, present: bool, memory: &impl Registers) {
        if device >= self.character.mode.devices() {
            return;
        }
        let (word, bit) = (PRESENCE + 4 * (device / 32), 1 << (device % 32));
        let bits = memory.read(word);
        memory.write(word, if present { bits | bit } else { bits & !bit });
        memory.write(PRESENCE_GENERATION, memory.read(PRESENCE_GENERATION).wrapping_add(1));
        self.interrupts += 1;
    }

    /// Does everything that is due.
    pub fn run(&mut self, now: Duration, memory: &impl Registers) -> Due {
        if now < self.dead_until {
            let interrupts = std::mem::take(&mut self.interrupts);
            return Due {
                interrupts,
                next: self.dead_until,
            };
        }
        if now >= self.sampled + PERIOD {
            self.sampled = now;
            self.sample(memory);
            memory.write(HEARTBEAT, memory.read(HEARTBEAT).wrapping_add(1));
        }
        self.obey(memory);
        self.begin(now, memory);
        if let Some(operation) = &self.operation
            && operation.due.is_some_and(|due| now >= due)
        {
            self.finish(memory);
        }
        let due = self.operation.as_ref().and_then(|operation| operation.due);
        let sample = self.sampled + PERIOD;
        Due {
            interrupts: std::mem::take(&mut self.interrupts),
            next: due.map_or(sample, |due| due.min(sample)),
        }
    }

    /// Stop, reset and abort.
    fn obey(&mut self, memory: &impl Registers) {
        let stop = memory.read(STOP);
        if stop != self.stop {
            self.stop = stop;
            if stop % 2 == 1 {
                self.operation = None;
            }
            memory.write(STOP_ACK, stop);
            self.interrupts += 1;
        }
        let reset = memory.read(RESET);
        if reset != self.reset {
            self.reset = reset;
            self.operation = None;
            // The mailbox is idle: what stands in it is answered, whatever it was.
            self.begun = memory.read(SEQUENCE);
            memory.write(RESET_ACK, reset);
            self.interrupts += 1;
        }
        let abort = memory.read(ABORT);
        if abort != self.aborted && !self.operation.as_ref().is_some_and(|operation| operation.ignores_abort) {
            self.aborted = abort;
            let under_way = self
                .operation
                .take_if(|operation| operation.sequence == abort)
                .is_some();
            let not_begun = abort != self.begun && abort == memory.read(SEQUENCE);
            if under_way || not_begun {
                self.begun = abort;
                answer(memory, abort, Status::Aborted, 0);
            }
            memory.write(ABORT_ACK, abort);
            self.interrupts += 1;
        }
    }

    fn begin(&mut self, now: Duration, memory: &impl Registers) {
        let sequence = memory.read(SEQUENCE);
        if sequence == self.begun || self.stop % 2 == 1 {
            return;
        }
        self.begun = sequence;
        let longest = u64::try_from(self.character.latency.as_nanos()).unwrap_or(u64::MAX);
        let ordinary = Duration::from_nanos(self.random.u64(..=longest));
        let fault = self.faults.pop_front();
        let due = match fault {
            Some(Fault::Hang | Fault::HangHard) => None,
            Some(Fault::Late { millis }) => Some(now + Duration::from_millis(millis)),
            _ => Some(now + ordinary),
        };
        self.operation = Some(Operation {
            sequence,
            due,
            ignores_abort: fault == Some(Fault::HangHard),
            fault,
        });
    }

    fn finish(&mut self, memory: &impl Registers) {
        let Some(operation) = self.operation.take() else { return };
        let (status, data) = if operation.fault == Some(Fault::Fail) {
            (Status::Fault, 0)
        } else {
            match self.execute(memory) {
                Ok(data) => (Status::Ok, data),
                Err(status) => (status, 0),
            }
        };
        answer(memory, operation.sequence, status, data);
        match operation.fault {
            Some(Fault::Corrupt) => memory.write(ANSWER_DATA, data ^ 1 << self.random.u32(..32)),
            Some(Fault::Duplicate) => {
                answer(memory, operation.sequence, status, data);
                self.interrupts += 1;
            }
            Some(Fault::LostInterrupt) => return,
            _ => {}
        }
        self.interrupts += 1;
    }

    fn execute(&mut self, memory: &impl Registers) -> Result<u32, Status> {
        let opcode = Opcode::from_word(memory.read(COMMAND)).ok_or(Status::Invalid)?;
        let data = memory.read(DATA_LOW);
        match opcode {
            Opcode::Read => self.token(memory).map(|(_, token)| *token),
            Opcode::Write => {
                let (unlocked, token) = self.token(memory)?;
                if !unlocked {
                    return Err(Status::Locked);
                }
                *token = data;
                Ok(0)
            }
            Opcode::Unlock => {
                let address = u64::from(memory.read(DATA_HIGH)) << 32 | u64::from(data);
                let offset = address.checked_sub(REGION_BASE).ok_or(Status::Invalid)?;
                let chunk = usize::try_from(offset).map_err(|_| Status::Invalid)? / CHUNK_SIZE;
                let device = chunk.checked_sub(1).ok_or(Status::Invalid)?;
                let group = device / usize::from(POSITIONS);
                *self.unlocked.get_mut(group).ok_or(Status::Invalid)? = true;
                Ok(0)
            }
            Opcode::Verify => u32::try_from(self.tokens.len() * TokenPosition::ALL.len()).map_err(|_| Status::Fault),
        }
    }

    /// The token that the argument names, and whether it may be written.
    fn token(&mut self, memory: &impl Registers) -> Result<(bool, &mut u32), Status> {
        let argument = memory.read(ARGUMENT);
        let group = usize::try_from(argument >> 8).map_err(|_| Status::Invalid)?;
        let position = TokenPosition::ALL
            .into_iter()
            .position(|position| u32::from(position.device_position()) == argument & 0xff)
            .ok_or(Status::Invalid)?;
        let unlocked = *self.unlocked.get(group).ok_or(Status::Invalid)?;
        let token = self.tokens.get_mut(group).and_then(|tokens| tokens.get_mut(position));
        Ok((unlocked, token.ok_or(Status::Invalid)?))
    }

    fn sample(&mut self, memory: &impl Registers) {
        for (index, sensor) in self.sensors.iter_mut().enumerate() {
            let noise = self.random.i32(-NOISE..=NOISE);
            if sensor.stuck {
                continue;
            }
            let distance = sensor.target.saturating_sub(sensor.temperature);
            sensor.temperature += if sensor.step == 0 {
                distance
            } else {
                distance.clamp(-sensor.step, sensor.step)
            };
            let place = SENSOR_TABLE + 8 * index;
            memory.write(place, sensor.temperature.saturating_add(noise).cast_unsigned());
            memory.write(place + 4, memory.read(place + 4).wrapping_add(1));
        }
    }
}

fn answer(memory: &impl Registers, sequence: u32, status: Status, data: u32) {
    memory.write(ANSWER_STATUS, status as u32);
    memory.write(ANSWER_DATA, data);
    memory.write(ANSWER_CHECK, check(sequence, status as u32, data));
    memory.write(ANSWER_SEQUENCE, sequence);
}
