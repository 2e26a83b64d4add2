// SPDX-License-Identifier: MIT OR Apache-2.0

//! One question, one answer.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use dsmil::smi::TokenPosition;
use dsmil_client::Client;
use dsmil_client::protocol::{Device, Request, Status, Stopped, Text, Thermal, Word};
use serde_json::Value;

#[derive(Subcommand)]
pub(crate) enum Question {
    /// All devices and their states
    List,
    /// One device
    Show(Place),
    /// Put a device in use
    Activate(Place),
    /// Take a device out of use
    Deactivate(Place),
    /// Read a token
    ReadToken {
        /// The group, 0 to 6
        group: u8,
        /// Which of the group's tokens
        token: TokenName,
    },
    /// Write a token, whose region must be unlocked
    WriteToken {
        /// The group, 0 to 6
        group: u8,
        /// Which of the group's tokens
        token: TokenName,
        /// The new value, decimal or 0x…
        #[arg(value_parser = number::<u32>)]
        value: u32,
    },
    /// Unlock the region that holds an address
    Unlock {
        /// The address, decimal or 0x…
        #[arg(value_parser = number::<u64>)]
        address: u64,
    },
    /// Have the firmware check all tokens
    Verify,
    /// Sensors, thresholds and level
    Thermal,
    /// Pull the emergency stop
    Estop {
        /// Why, for the log
        #[arg(default_value = "by hand")]
        reason: String,
    },
    /// Release the emergency stop
    Resume,
    /// What has happened
    Events {
        /// Only after this number
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// The driver's figures
    Status,
    /// The driver's figures for Prometheus
    Metrics,
    /// Suspend the device
    Suspend,
    /// Wake it
    Wake,
}

#[derive(clap::Args)]
pub(crate) struct Place {
    /// The group, 0 to 6
    group: u8,
    /// The position in the group, 0 to 11
    position: u8,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TokenName {
    Power,
    Memory,
    Storage,
    Sensors,
}

impl From<TokenName> for TokenPosition {
    fn from(name: TokenName) -> Self {
        match name {
            TokenName::Power => Self::Power,
            TokenName::Memory => Self::Memory,
            TokenName::Storage => Self::Storage,
            TokenName::Sensors => Self::Sensors,
        }
    }
}

/// A number as people write it.
fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let value = parsed.map_err(|error| error.to_string())?;
    T::try_from(value).map_err(|_| "the number is too large".to_owned())
}

impl Question {
    fn request(&self) -> Request {
        match *self {
            Self::List => Request::List {},
            Self::Show(Place { group, position }) => Request::Show { group, position },
            Self::Activate(Place { group, position }) => Request::Activate { group, position },
            Self::Deactivate(Place { group, position }) => Request::Deactivate { group, position },
            Self::ReadToken { group, token } => Request::ReadToken {
                group,
                token: token.into(),
            },
            Self::WriteToken { group, token, value } => Request::WriteToken {
                group,
                token: token.into(),
                value,
            },
            Self::Unlock { address } => Request::Unlock { address },
            Self::Verify => Request::Verify {},
            Self::Thermal => Request::Thermal {},
            Self::Estop { ref reason } => Request::Stop { reason: reason.clone() },
            Self::Resume => Request::Resume {},
            Self::Events { after } => Request::Events { after },
            Self::Status => Request::Status {},
            Self::Metrics => Request::Metrics {},
            Self::Suspend => Request::Suspend {},
            Self::Wake => Request::Wake {},
        }
    }

    /// The answer for people.
    fn show(&self, value: Value) -> Result<()> {
        match self {
            Self::List => serde_json::from_value::<Vec<Device>>(value)?.iter().for_each(device),
            Self::Show(_) | Self::Activate(_) | Self::Deactivate(_) => device(&serde_json::from_value(value)?),
            Self::ReadToken { .. } => {
                let Word { value } = serde_json::from_value(value)?;
                println!("{value:#010x}");
            }
            Self::Verify => {
                let Word { value } = serde_json::from_value(value)?;
                println!("{value} tokens are good");
            }
            Self::Thermal => thermal(&serde_json::from_value(value)?),
            Self::Estop { .. } => {
                let stopped: Stopped = serde_json::from_value(value)?;
                println!("stopped, safe after {} µs", stopped.safe_after_us);
                if !stopped.acknowledged {
                    println!("the firmware did not confirm it");
                }
            }
            Self::Events { .. } => {
                for event in serde_json::from_value::<Vec<Value>>(value)? {
                    println!("{}", event_line(&event));
                }
            }
            Self::Status => status(&serde_json::from_value(value)?),
            Self::Metrics => {
                let Text { text } = serde_json::from_value(value)?;
                print!("{text}");
            }
            Self::WriteToken { .. } | Self::Unlock { .. } | Self::Resume | Self::Suspend | Self::Wake => {
                println!("done");
            }
        }
        Ok(())
    }
}

pub(crate) fn run(question: &Question, socket: &Path, json: bool) -> Result<ExitCode> {
    let mut client = Client::connect(socket)?;
    let value: Value = client.call(&question.request())?;
    if json {
        println!("{value}");
    } else {
        question.show(value)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn device(device: &Device) {
    println!(
        "{:>2}:{:<2} {:12} {:#010x}  {:08x}",
        device.group,
        device.position,
        format!("{:?}", device.state).to_lowercase(),
        device.address,
        device.capabilities
    );
}

/// Thousandths of a degree as degrees.
pub(crate) fn degrees(thousandths: i32) -> String {
    format!("{:.1} °C", f64::from(thousandths) / 1000.0)
}

fn thermal(thermal: &Thermal) {
    let hottest = thermal.hottest.map_or("unknown".to_owned(), degrees);
    println!("{:?}, hottest {hottest}", thermal.level);
    for (number, sensor) in thermal.sensors.iter().enumerate() {
        let note = if sensor.trusted { "" } else { "  not to be believed" };
        println!("sensor {number}  {:>9}{note}", degrees(sensor.reading.temperature));
    }
    let t = &thermal.thresholds;
    println!(
        "warm {}, critical {}, emergency {}, hysteresis {}",
        degrees(t.warm),
        degrees(t.critical),
        degrees(t.emergency),
        degrees(t.hysteresis)
    );
}

/// An event for people: its number, its name, and what it carries.
pub(crate) fn event_line(event: &Value) -> String {
    let fields = event.as_object().into_iter().flatten();
    let rest: Vec<String> = fields
        .filter(|(key, _)| *key != "number" && *key != "event")
        .map(|(key, value)| format!("{key}={}", value.as_str().map_or(value.to_string(), str::to_owned)))
        .collect();
    let name = event["event"].as_str().unwrap_or_default();
    format!("{:>6}  {name:8} {}", event["number"], rest.join(" "))
}

fn status(status: &Status) {
    println!("{}, {} clients", status.device, status.clients);
    let Some(t) = &status.telemetry else {
        println!("no device yet");
        return;
    };
    let facts = [
        (!t.link, "gone"),
        (t.stopped, "stopped"),
        (t.suspended, "suspended"),
        (t.hung, "firmware hung"),
    ];
    let facts: Vec<&str> = facts
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|&(_, fact)| fact)
        .collect();
    println!(
        "{}",
        if facts.is_empty() {
            "in order".to_owned()
        } else {
            facts.join(", ")
        }
    );
    println!("devices   {} present, {} active", t.present, t.active);
    println!(
        "chunks    {} mapped, {} mapped so far, {} unmapped for room",
        t.chunks_mapped, t.chunk_maps, t.chunk_evictions
    );
    let hottest = t.hottest.map_or("unknown".to_owned(), degrees);
    println!("thermal   {:?}, {hottest}", t.level);
    let s = &t.smi;
    println!(
        "SMI       {} submitted, {} succeeded, {} failed",
        s.submitted, s.succeeded, s.failed
    );
    println!(
        "          {} hangs, {} late, {} damaged, {} retries, {} resets",
        s.hangs, s.late, s.corrupt, s.retries, s.resets
    );
}
