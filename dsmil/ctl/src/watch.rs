// SPDX-License-Identifier: MIT OR Apache-2.0

//! The live view: a line of figures once a second, and events when they happen.
//!
//! Two connections: on one the server sends events by itself, the other is asked for figures.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use dsmil_client::Client;
use dsmil_client::protocol::{Request, Status};
use serde_json::{Value, json};

use crate::talk::{degrees, event_line};

pub(crate) fn run(socket: &Path, updates: Option<u64>, json: bool) -> Result<ExitCode> {
    let mut figures = Client::connect(socket)?;
    let mut events = Client::connect(socket)?;
    let past: Vec<Value> = figures.call(&Request::Events { after: 0 })?;
    let newest = past.last().and_then(|event| event["number"].as_u64()).unwrap_or(0);
    // Ends with the process.
    std::thread::spawn(move || {
        let mut event: Result<Value, _> = events.call(&Request::Watch { after: newest });
        while let Ok(value) = event {
            if json {
                println!("{}", json!({ "event": value }));
            } else {
                println!("{}", event_line(&value));
            }
            event = events.follow();
        }
    });
    let mut last = 0;
    for update in 0.. {
        if updates.is_some_and(|updates| update >= updates) {
            break;
        }
        if update > 0 {
            std::thread::sleep(Duration::from_secs(1));
        }
        let status: Status = figures.call(&Request::Status {})?;
        if json {
            println!("{}", json!({ "status": status }));
            continue;
        }
        let telemetry = status.telemetry.context("the server has not seen a device yet")?;
        let done = telemetry.smi.succeeded + telemetry.smi.failed;
        let rate = done.saturating_sub(if update == 0 { done } else { last });
        last = done;
        println!(
            "{:?} {:>8}  {} active  {rate} op/s  {} failed  {} hangs{}{}",
            telemetry.level,
            telemetry.hottest.map_or("?".to_owned(), degrees),
            telemetry.active,
            telemetry.smi.failed,
            telemetry.smi.hangs,
            if telemetry.stopped { "  STOPPED" } else { "" },
            if telemetry.link { "" } else { "  GONE" },
        );
    }
    Ok(ExitCode::SUCCESS)
}
