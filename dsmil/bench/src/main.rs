// SPDX-License-Identifier: MIT OR Apache-2.0

//! `dsmil-bench`: figures of the driver, one JSON document a line. `cargo xtask bench dsmil` runs it here and in a machine.
//!
//! | figure | what is measured |
//! |---|---|
//! | `latency` | reading a token: by a bare loop on mapped memory, by the driver polled, by the driver with its thread |
//! | `interrupt` | from the moment the answer stands in memory until the waiting thread has it |
//! | `stop` | the emergency stop, from the call until it is safe and until it returns: under load, and during a hang |
//! | `hang` | from an operation's deadline until the hang is noticed |
//! | `memory` | resident memory with all chunks read through, and with a cap |
//!
//! Without `--device` it starts a simulator of its own, whose firmware answers at once.

mod figures;
mod memory;
mod quantiles;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use dsmil::transport::Address;
use dsmil_sim::firmware::Character;
use dsmil_sim::{Settings, Simulator};
use serde_json::json;

/// Measure the DSMIL driver.
#[derive(Parser)]
#[command(name = "dsmil-bench", version, max_term_width = 100)]
struct Cli {
    /// /dev/uioN, or sim: and a path [default: a simulator of its own]
    #[arg(long)]
    device: Option<Address>,
    /// The simulator's control socket, for figures that need a fault
    #[arg(long)]
    control: Option<PathBuf>,
    /// Operations for each figure
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// What to measure [default: everything that can be measured there]
    figures: Vec<Figure>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    Latency,
    Interrupt,
    Stop,
    Hang,
    Memory,
}

/// Where it is measured.
#[derive(Debug, Clone)]
struct Place {
    device: Address,
    control: Option<PathBuf>,
    count: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let directory = tempfile::tempdir()?;
    let own = match &cli.device {
        Some(_) => None,
        None => Some(Simulator::start(at_once(directory.path().join("sim")))?),
    };
    let place = match (cli.device, &own) {
        (Some(device), _) => Place {
            device,
            control: cli.control,
            count: cli.count,
        },
        (None, Some(own)) => Place {
            device: Address::Sim(own.socket().to_owned()),
            control: Some(own.socket().with_extension("control")),
            count: cli.count,
        },
        (None, None) => anyhow::bail!("there is neither a device nor a simulator"),
    };
    let wants = |figure| cli.figures.is_empty() || cli.figures.contains(&figure);
    let print = |figure: &str, value: serde_json::Value| {
        println!(
            "{}",
            json!({ "figure": figure, "device": place.device.to_string(), "value": value })
        );
    };
    if wants(Figure::Latency) {
        print("latency", figures::latency(&place)?);
    }
    if wants(Figure::Interrupt) {
        print("interrupt", figures::interrupt(&place)?);
    }
    if wants(Figure::Stop) {
        print("stop", figures::stop(&place)?);
    }
    if wants(Figure::Memory) {
        print("memory", memory::resident(&place)?);
    }
    if cli.figures.contains(&Figure::Hang) || own.is_some() && cli.figures.is_empty() {
        print("hang", figures::hang(cli.count)?);
    }
    Ok(())
}

/// A simulator whose firmware takes no time: what is left is the driver's and the link's.
fn at_once(socket: PathBuf) -> Settings {
    Settings {
        character: Character {
            latency: Duration::ZERO,
            ..Character::default()
        },
        ..Settings::at(socket)
    }
}
