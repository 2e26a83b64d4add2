// SPDX-License-Identifier: MIT OR Apache-2.0

//! Times a filesystem's service, in a machine. Prints JSON.
//!
//! - `lab-service outages KILLS DIRTY TYPE SERVER…`: seconds of each outage
//! - `lab-service return TYPE END SERVER…`: until it is mounted, and of use; `END` is a shell command that ends the server
//! - `lab-service command WORD…`: seconds that a command takes

use anyhow::{Context, Result, bail};
use lab_guest::service::{self, Outage};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("an argument is missing");
    let task = next()?;
    let found = match task.as_str() {
        "outages" => {
            let outage = Outage {
                kills: next()?.parse().context("KILLS is a number")?,
                dirty: next()?.parse().context("DIRTY is a number")?,
            };
            let kind = next()?;
            let server: Vec<_> = arguments.collect();
            serde_json::to_string(&service::outages(outage, &kind, &server)?)?
        }
        "return" => {
            let (kind, end) = (next()?, next()?);
            let server: Vec<_> = arguments.collect();
            serde_json::to_string(&service::returned(&kind, &end, &server)?)?
        }
        "command" => {
            let words: Vec<_> = arguments.collect();
            serde_json::to_string(&service::command(&words)?)?
        }
        other => bail!("there is no task {other:?}"),
    };
    println!("{found}");
    Ok(())
}
