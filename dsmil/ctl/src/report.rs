// SPDX-License-Identifier: MIT OR Apache-2.0

//! A list of checks and how they went, for people and for programs.

use std::process::ExitCode;

use serde::Serialize;

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    passed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// All checks.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    checks: Vec<Check>,
}

impl Report {
    /// Notes a check; an error fails it, a value is its detail.
    pub(crate) fn check(&mut self, name: impl Into<String>, outcome: anyhow::Result<String>) {
        let passed = outcome.is_ok();
        let detail = outcome.unwrap_or_else(|error| format!("{error:#}"));
        self.checks.push(Check {
            name: name.into(),
            passed,
            detail,
        });
    }

    fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// Prints all of it.
    pub(crate) fn finish(&self, json: bool) -> ExitCode {
        if json {
            println!(
                "{}",
                serde_json::json!({ "passed": self.passed(), "checks": self.checks })
            );
        } else {
            for check in &self.checks {
                let word = if check.passed { "ok  " } else { "FAIL" };
                let gap = if check.detail.is_empty() { "" } else { ": " };
                println!("{word} {}{gap}{}", check.name, check.detail);
            }
        }
        if self.passed() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
