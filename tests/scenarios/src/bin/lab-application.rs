// SPDX-License-Identifier: MIT OR Apache-2.0

//! The application of [`lab_scenarios::application`] as a program:
//! `lab-application [--look] DIRECTORY SEED PROMISED…`, one number for each worker.

use std::process::ExitCode;

use anyhow::{Context, Result};
use lab_scenarios::application;

fn run() -> Result<()> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let only_look = words.first().is_some_and(|word| word == "--look");
    if only_look {
        words.remove(0);
    }
    let [directory, seed, promised @ ..] = &words[..] else {
        anyhow::bail!("usage: lab-application [--look] DIRECTORY SEED PROMISED…");
    };
    let number = |word: &String| word.parse().with_context(|| format!("{word:?} is no number"));
    let promised: Vec<u64> = promised.iter().map(number).collect::<Result<_>>()?;
    application::run(directory.as_ref(), number(seed)?, &promised, only_look)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
