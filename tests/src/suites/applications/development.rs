// SPDX-License-Identifier: MIT OR Apache-2.0

//! git and cargo: this project is cloned, built and tested inside the filesystem, without a network.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::super::Session;
use super::super::session::ROOMY;
use super::super::tree;
use crate::host::command::{Cmd, command};
use crate::host::workspace;

/// What makes up the repository: the workspace, without what it builds.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

pub(super) fn git_finds_in_it_what_it_committed(session: &Session) -> Result<()> {
    let bare = repository(session)?;
    session.with_target(ROOMY, |target| {
        let clone = target.directory().join("clone");
        clone_to(&bare, &clone)?;
        git(&clone).args(["fsck", "--full", "--strict"]).run()?;
        git(&clone).args(["switch", "--quiet", "--create", "work"]).run()?;
        fs::write(clone.join("README.md"), "changed\n")?;
        git(&clone)
            .args(["commit", "--quiet", "--all", "--message", "change"])
            .run()?;
        git(&clone).args(["gc", "--quiet"]).run()?;
        git(&clone).args(["switch", "--quiet", "main"]).run()?;
        target.remount()?;
        git(&clone).args(["fsck", "--full", "--strict"]).run()?;
        let status = git(&clone).args(["status", "--porcelain"]).read()?;
        ensure!(status.is_empty(), "the clone is not what was committed:\n{status}");
        Ok(())
    })
}

pub(super) fn cargo_builds_in_it(session: &Session) -> Result<()> {
    let bare = repository(session)?;
    session.with_target(ROOMY, |target| {
        let clone = target.directory().join("clone");
        clone_to(&bare, &clone)?;
        // The quick run builds the smallest crate with dependencies, the full one the engine with its tests.
        let (package, tests) = session.pick(("lab-guest", &["--lib"][..]), ("vexfs", &["--lib"][..]));
        cargo(&clone).args(["build", "--package", package]).run()?;
        cargo(&clone).args(["test", "--package", package]).args(tests).run()?;
        let before = tree::digest(&clone)?;
        target.remount()?;
        ensure!(
            tree::digest(&clone)? == before,
            "the clone reads otherwise after the filesystem was mounted anew"
        );
        // Nothing changed, so cargo finds all of it fresh: every time it compares has been kept.
        let said = cargo(&clone).args(["build", "--package", package, "--verbose", "--color", "never"]);
        let mut compiled = Vec::new();
        said.lines(|line| compiled.extend(line.trim_start().starts_with("Compiling").then(|| line.to_owned())))?;
        ensure!(
            compiled.is_empty(),
            "cargo built again what had not changed: {}",
            compiled.join(", ")
        );
        println!("{} files in the clone", before.len());
        Ok(())
    })
}

fn clone_to(bare: &Path, clone: &Path) -> Result<()> {
    let parent = clone.parent().context("a clone lies somewhere")?;
    git(parent).args(["clone", "--quiet"]).arg(bare).arg(clone).run()
}

/// A bare repository with this workspace as its one commit, outside of the target.
fn repository(session: &Session) -> Result<std::path::PathBuf> {
    let source = session.scratch().join("source");
    fs::create_dir(&source)?;
    for entry in fs::read_dir(workspace::root()).context("listing the workspace")? {
        let entry = entry?;
        if !LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
            command("cp").arg("-r").arg(entry.path()).arg(&source).run()?;
        }
    }
    git(&source).args(["init", "--quiet", "--initial-branch=main"]).run()?;
    git(&source).args(["add", "--all"]).run()?;
    git(&source).args(["commit", "--quiet", "--message", "all"]).run()?;
    let bare = session.scratch().join("bare.git");
    git(&source)
        .args(["clone", "--quiet", "--bare"])
        .arg(&source)
        .arg(&bare)
        .run()?;
    Ok(bare)
}

/// git without anything of the user's.
fn git(directory: &Path) -> Cmd {
    let mut git = command("git")
        .dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (name, value) in [("NAME", "suite"), ("EMAIL", "suite@localhost")] {
        git = git
            .env(&format!("GIT_AUTHOR_{name}"), value)
            .env(&format!("GIT_COMMITTER_{name}"), value);
    }
    git
}

fn cargo(directory: &Path) -> Cmd {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .dir(directory)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TARGET_DIR", directory.join("target"))
}
