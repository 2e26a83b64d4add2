// SPDX-License-Identifier: MIT OR Apache-2.0

//! `main` of an executable that holds lab tests.
//!
//! | arguments | effect |
//! |---|---|
//! | `--lab-list` | the tests as one JSON array of [`TestInfo`](crate::registry::TestInfo) |
//! | `--lab-run NAME [--kernel K]` | runs one test; its last line on stdout is `lab-verdict: ` and a JSON [`Verdict`] |
//! | anything else (`cargo test`) | says how the tests are run, runs none |
//!
//! Exit codes of `--lab-run`: 0 passed, 77 skipped, 1 failed, 2 no such test. The verdict line carries the reason.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use crate::kmod;
use crate::registry::{self, Body, Test, Verdict};

/// Starts the line that carries the verdict.
pub const VERDICT_PREFIX: &str = "lab-verdict: ";
/// Exit code of a skipped test, as Automake has it.
pub const EXIT_SKIPPED: u8 = 77;

/// Runs the executable's command line.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--lab-list"] => list(),
        ["--lab-run", name] => run(name, ""),
        ["--lab-run", name, "--kernel", kernel] => run(name, kernel),
        _ => {
            let count = registry::tests().len();
            println!("{count} lab tests not run here: `cargo xtask test --vm` boots the machines they need");
            ExitCode::SUCCESS
        }
    }
}

fn list() -> ExitCode {
    let infos: Vec<_> = registry::tests().into_iter().map(Test::info).collect();
    match serde_json::to_string(&infos) {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot list the tests: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, kernel: &str) -> ExitCode {
    let tests = registry::tests();
    let Some(test) = tests.into_iter().find(|test| test.full_name() == name) else {
        eprintln!("no lab test is called {name:?}; --lab-list shows them");
        return ExitCode::from(2);
    };
    let verdict = guarded(test, kernel);
    let code = match &verdict {
        Verdict::Passed => ExitCode::SUCCESS,
        Verdict::Skipped(_) => ExitCode::from(EXIT_SKIPPED),
        Verdict::Failed(reason) => {
            eprintln!("{name}: {reason}");
            ExitCode::FAILURE
        }
    };
    match serde_json::to_string(&verdict) {
        Ok(json) => println!("{VERDICT_PREFIX}{json}"),
        Err(error) => eprintln!("cannot report the verdict: {error}"),
    }
    code
}

/// Modules in, the test, modules out. A module that cannot be unloaded fails a test that passed otherwise.
fn guarded(test: &Test, kernel: &str) -> Verdict {
    let body = match test.body {
        Body::Host(body) => return catch(|| body(kernel)),
        Body::Guest(body) => body,
    };
    let mut loaded = Vec::new();
    let mut verdict = Verdict::Passed;
    for module in test.meta.modules {
        match kmod::load(module, "") {
            Ok(()) => loaded.push(*module),
            Err(error) => {
                verdict = Verdict::Failed(format!("before the test: {error:#}"));
                break;
            }
        }
    }
    if verdict == Verdict::Passed {
        verdict = catch(body);
    }
    for module in loaded.into_iter().rev() {
        if kmod::is_loaded(module)
            && let Err(error) = kmod::unload(module)
            && verdict == Verdict::Passed
        {
            verdict = Verdict::Failed(format!("after the test: {error:#}"));
        }
    }
    verdict
}

fn catch(body: impl FnOnce() -> Verdict) -> Verdict {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(verdict) => verdict,
        Err(payload) => {
            let text = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("panicked with something that is not text");
            Verdict::Failed(format!("panicked: {text}"))
        }
    }
}
