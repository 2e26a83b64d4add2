// SPDX-License-Identifier: MIT OR Apache-2.0

//! Does a timed work on files: `lab-work WORK AMOUNT PLACE…`. Prints how long it took, as JSON.

use std::path::PathBuf;

use anyhow::{Context, Result};
use lab_guest::work::Work;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: lab-work WORK AMOUNT PLACE…");
    let work: Work = next()?.parse()?;
    let amount = next()?.parse().context("AMOUNT is a number")?;
    let mut places = vec![PathBuf::from(next()?)];
    places.extend(arguments.map(PathBuf::from));
    println!("{}", serde_json::to_string(&work.time(&places, amount)?)?);
    Ok(())
}
