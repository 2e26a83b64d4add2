// SPDX-License-Identifier: MIT OR Apache-2.0

//! Which tests there are.
//!
//! An integration test named `vm` has the lab's harness; every other test executable has Rust's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab_guest::registry::TestInfo;
use serde_json::Value;

use super::Case;
use crate::host::command::{Cmd, command};
use crate::host::progress::Step;
use crate::host::workspace;

/// Name of the integration tests that have the lab's harness.
pub const LAB_TARGET: &str = "vm";

/// A test executable.
#[derive(Debug, Clone)]
pub struct Executable {
    /// The package it belongs to.
    pub package: String,
    /// The package's folder.
    pub folder: PathBuf,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it has the lab's harness.
    pub lab: bool,
}

/// Cargo, in this workspace.
pub fn cargo() -> Cmd {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).dir(workspace::root())
}

/// Builds all test executables of the workspace.
pub fn build() -> Result<Vec<Executable>> {
    let step = Step::start("building the tests");
    let mut executables = Vec::new();
    cargo()
        .args([
            "test",
            "--workspace",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        .lines(|line| match serde_json::from_str::<Value>(line) {
            Ok(message) => executables.extend(executable(&message)),
            Err(_) => step.now(line.trim().to_owned()),
        })
        .context("building the tests")?;
    step.done();
    Ok(executables)
}

fn executable(message: &Value) -> Option<Executable> {
    let is_test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let path = PathBuf::from(message["executable"].as_str().filter(|_| is_test)?);
    let manifest = Path::new(message["manifest_path"].as_str()?);
    // Package ids are made for Cargo; the manifest's folder is how people know a package here.
    let folder = manifest.parent()?;
    let name = folder.strip_prefix(workspace::root()).ok()?;
    let lab = message["target"]["name"] == LAB_TARGET && message["target"]["kind"][0] == "test";
    Some(Executable {
        package: name.to_string_lossy().replace('/', "-"),
        folder: folder.to_owned(),
        path,
        lab,
    })
}

/// The tests an executable holds.
pub fn list(executable: &Executable) -> Result<Vec<Case>> {
    let case = |name: &str, lab| Case {
        package: executable.package.clone(),
        name: name.to_owned(),
        folder: executable.folder.clone(),
        executable: executable.path.clone(),
        lab,
    };
    let ask = |arguments: &[&str]| {
        command(&executable.path)
            .args(arguments)
            .dir(workspace::root())
            .read()
            .with_context(|| format!("listing the tests of {}", executable.package))
    };
    if executable.lab {
        let infos: Vec<TestInfo> = serde_json::from_str(&ask(&["--lab-list"])?).with_context(|| {
            format!(
                "{} lists its tests in a way this runner does not know",
                executable.path.display()
            )
        })?;
        return Ok(infos
            .into_iter()
            .map(|info| case(&info.name.clone(), Some(info)))
            .collect());
    }
    let listing = ask(&["--list", "--format", "terse"])?;
    Ok(listing
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|name| case(name, None))
        .collect())
}
