// SPDX-License-Identifier: MIT OR Apache-2.0

//! Listing block devices.

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use ublk_server::daemon::holders;
use ublk_server::daemon::protocol::TargetSpec;
use ublk_server::device::State;

use crate::figures::{bytes, plain};
use crate::show;
use crate::ublk::{self, Known};

/// List block devices, and what they are made of.
#[derive(Args)]
#[command(after_help = "Changes: nothing.

Examples:
  vexfs-ublk list
  vexfs-ublk list --json")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, json: bool) -> Result<()> {
    let devices = ublk::all()?;
    if json {
        show::document(json!({ "devices": devices.iter().map(document).collect::<Vec<_>>() }));
    } else if devices.is_empty() {
        println!("there are no devices");
    } else {
        print!("{}", table(&devices));
    }
    Ok(())
}

/// What a device is, for programs.
pub(crate) fn document(known: &Known) -> Value {
    let survey = &known.survey;
    json!({
        "device": known.path(),
        "id": survey.id,
        "state": state(known),
        "size": survey.size.get(),
        "queues": survey.queues,
        "depth": survey.depth,
        "process": survey.pid,
        "recoverable": survey.identity.is_some(),
        "backing": known.record.as_ref().map(|record| record.backing.clone()),
        "spec": known.record.as_ref().map(|record| record.spec.clone()),
        "users": holders::of(survey.id),
    })
}

fn state(known: &Known) -> &'static str {
    known.state().name()
}

/// A line per device.
pub(crate) fn table(devices: &[Known]) -> String {
    let header = ["DEVICE", "TARGET", "OF", "SIZE", "STATE", "SERVER", "USED BY"];
    let mut rows = vec![header.map(str::to_owned)];
    for known in devices {
        let record = known.record.as_ref();
        let of = record.map_or_else(
            || "unknown".to_owned(),
            |record| match &record.spec.target {
                TargetSpec::Volume { path } => format!("{}:{path}", record.backing.name()),
                _ => record.backing.name(),
            },
        );
        let users = holders::of(known.survey.id);
        rows.push([
            known.path(),
            record.map_or("unknown", |record| record.spec.target.name()).to_owned(),
            plain(&of),
            bytes(known.survey.size.get()),
            state(known).to_owned(),
            match known.state() {
                State::Live => known.survey.pid.to_string(),
                _ => "-".to_owned(),
            },
            match users.as_slice() {
                [] => "-".to_owned(),
                [one] => plain(one),
                [first, others @ ..] => format!("{} and {} more", plain(first), others.len()),
            },
        ]);
    }
    show::aligned(&rows)
}
