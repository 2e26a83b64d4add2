// SPDX-License-Identifier: MIT OR Apache-2.0

//! `dsmil-sim`: plays the firmware, and tells another `dsmil-sim` what to do wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use dsmil::registry::Mode;
use dsmil_sim::firmware::Character;
use dsmil_sim::{Fault, Settings, Simulator, control};

#[derive(Parser)]
#[command(name = "dsmil-sim", version, about = "Play the DSMIL firmware", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a simulated device until killed; prints the device's address once drivers can connect
    Serve(Serve),
    /// Make a simulator do something wrong, e.g. '{"fault":"late","millis":80}'
    Fault {
        /// The simulator's control socket
        #[arg(long)]
        control: PathBuf,
        /// The fault, as JSON; faults without parameters by their name alone
        fault: String,
    },
}

#[derive(Args)]
struct Serve {
    /// Where drivers (sim:PATH) and QEMU (ivshmem-doorbell) connect; the control socket is beside it
    #[arg(long)]
    socket: PathBuf,
    /// Everything the firmware chooses follows from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// 72 devices instead of 84
    #[arg(long)]
    legacy: bool,
    /// The longest an ordinary operation takes, in microseconds
    #[arg(long, default_value_t = 300)]
    latency: u64,
    /// Share this file instead of memory of its own
    #[arg(long)]
    memory: Option<PathBuf>,
    /// Look at the mailbox so often, in microseconds, for devices without doorbell
    #[arg(long)]
    poll: Option<u64>,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dsmil-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(arguments) => {
            let settings = Settings {
                memory: arguments.memory,
                poll: arguments.poll.map(Duration::from_micros),
                character: Character {
                    seed: arguments.seed,
                    mode: if arguments.legacy { Mode::Legacy } else { Mode::Full },
                    latency: Duration::from_micros(arguments.latency),
                },
                ..Settings::at(arguments.socket)
            };
            let simulator = Simulator::start(settings)?;
            println!("sim:{}", simulator.socket().display());
            simulator.wait();
            anyhow::bail!("the simulator ended by itself")
        }
        Command::Fault { control, fault } => control::inject(&control, parse(&fault)?),
    }
}

fn parse(text: &str) -> Result<Fault> {
    let json = if text.starts_with('{') {
        text.to_owned()
    } else {
        serde_json::json!({ "fault": text }).to_string()
    };
    Ok(serde_json::from_str(&json)?)
}
