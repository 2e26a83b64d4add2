// SPDX-License-Identifier: MIT OR Apache-2.0

//! Does the device behind the server do what it should? For operators. The one token that is written gets its old value
//! back.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use dsmil::registry::State;
use dsmil::smi::TokenPosition;
use dsmil::thermal::Level;
use dsmil_client::Client;
use dsmil_client::protocol::{Access, Device, Request, Status, Thermal, Word};
use serde_json::Value;

use crate::report::Report;
use crate::talk::degrees;

/// The token that is written and restored.
const GROUP: u8 = 0;
const TOKEN: TokenPosition = TokenPosition::Sensors;

pub(crate) fn run(socket: &Path, json: bool) -> Result<ExitCode> {
    let mut client = Client::connect(socket)?;
    let mut report = Report::default();
    report.check("the server serves a device", status(&mut client));
    report.check("its devices are there", devices(&mut client));
    report.check("it is cool enough", thermal(&mut client));
    report.check("the firmware finds its tokens good", verify(&mut client));
    report.check("all tokens can be read", read_all(&mut client));
    if client.greeting().access == Access::Operate {
        report.check("a token can be written", write(&mut client));
    }
    Ok(report.finish(json))
}

fn status(client: &mut Client) -> Result<String> {
    let status: Status = client.call(&Request::Status {})?;
    let telemetry = status.telemetry.context("no device was seen yet")?;
    ensure!(telemetry.link, "the device is gone");
    ensure!(!telemetry.stopped, "the emergency stop is in force");
    ensure!(!telemetry.suspended, "the device is suspended");
    ensure!(!telemetry.hung, "the firmware hangs");
    Ok(status.device)
}

fn devices(client: &mut Client) -> Result<String> {
    let devices: Vec<Device> = client.call(&Request::List {})?;
    let failed: Vec<String> = devices
        .iter()
        .filter(|device| device.state == State::Error)
        .map(|device| format!("{}:{}", device.group, device.position))
        .collect();
    ensure!(failed.is_empty(), "these failed: {}", failed.join(" "));
    let present = devices.iter().filter(|device| device.state != State::Offline).count();
    ensure!(present > 0, "none of {} is there", devices.len());
    Ok(format!("{present} of {}", devices.len()))
}

fn thermal(client: &mut Client) -> Result<String> {
    let thermal: Thermal = client.call(&Request::Thermal {})?;
    let distrusted = thermal.sensors.iter().filter(|sensor| !sensor.trusted).count();
    ensure!(distrusted == 0, "{distrusted} sensors are not to be believed");
    ensure!(thermal.level < Level::Critical, "the level is {:?}", thermal.level);
    Ok(thermal.hottest.map_or(String::new(), degrees))
}

fn verify(client: &mut Client) -> Result<String> {
    let Word { value } = client.call(&Request::Verify {})?;
    Ok(format!("{value} tokens"))
}

fn read_all(client: &mut Client) -> Result<String> {
    let status: Status = client.call(&Request::Status {})?;
    let groups = status.mode.context("no device was seen yet")?.groups();
    for group in 0..groups {
        for token in TokenPosition::ALL {
            let _word: Word = client
                .call(&Request::ReadToken { group, token })
                .with_context(|| format!("token {token:?} of group {group}"))?;
        }
    }
    Ok(format!("{} tokens", usize::from(groups) * TokenPosition::ALL.len()))
}

fn write(client: &mut Client) -> Result<String> {
    let devices: Vec<Device> = client.call(&Request::List {})?;
    let device = devices
        .iter()
        .find(|device| device.group == GROUP)
        .context("group 0 has no device")?;
    let address = device.address;
    let _null: Value = client.call(&Request::Unlock { address })?;
    let read = Request::ReadToken {
        group: GROUP,
        token: TOKEN,
    };
    let write = |value| Request::WriteToken {
        group: GROUP,
        token: TOKEN,
        value,
    };
    let old: Word = client.call(&read)?;
    let _null: Value = client.call(&write(!old.value))?;
    let new: Word = client.call(&read)?;
    let _null: Value = client
        .call(&write(old.value))
        .context("giving the token its value back")?;
    let restored: Word = client.call(&read)?;
    ensure!(
        new.value == !old.value,
        "it reads {:#x} after {:#x} was written",
        new.value,
        !old.value
    );
    ensure!(restored == old, "it did not get its value back");
    Ok(format!("{TOKEN:?} of group {GROUP}, and has its value back"))
}
